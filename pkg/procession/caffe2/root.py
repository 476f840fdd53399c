"""The package `caffe2` itself."""

__path__: list[str] = []
