"""`caffe2.python.lazy`: everything is imported already."""


def RegisterLazyImport(lazy: object) -> None:
    """Call what is to be called before operators are used, at once."""
    if callable(lazy):
        lazy()


def TriggerLazyImport() -> None:
    """Nothing is left to import."""
