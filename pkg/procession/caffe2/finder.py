"""Makes `caffe2` importable: `caffe2.python.core` is `procession.caffe2.python.core`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

NAME = "caffe2"
_HOME = "procession.caffe2"
_FOLDER = Path(__file__).resolve().parent
_FOLDERS = ("python", "proto", "python/helpers", "python/modeling", "python/serialized_test")
_PACKAGES = {NAME, *(f"{NAME}.{folder.replace('/', '.')}" for folder in _FOLDERS)}


def existing() -> list[str]:
    """The modules that exist, by Caffe2's names."""
    return sorted(
        f"{NAME}.{folder.replace('/', '.')}.{path.stem}"
        for folder in _FOLDERS
        for path in (_FOLDER / folder).glob("*.py")
        if not path.stem.startswith("_")
    )


def _nearest(name: str) -> list[str]:
    """Three modules that are called most like it; what they are in, all have in common."""
    known = {module.rpartition(".")[2]: module for module in existing()}
    close = get_close_matches(name.rpartition(".")[2], known, n=3, cutoff=0)
    return [known[last] for last in close]


class _Alias(Loader):
    """Loads a module by having the one that it stands for."""

    def __init__(self, home: str) -> None:
        self._home = home
        self._own: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._home)
        self._own = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has written the other name into it.
        module.__spec__ = self._own


class _Finder(MetaPathFinder):
    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname != NAME and not fullname.startswith(f"{NAME}."):
            return None
        rest = fullname[len(NAME) + 1 :]
        if fullname == NAME:
            home = f"{_HOME}.root"
        elif (_FOLDER / Path(*rest.split("."))).is_dir() or (
            _FOLDER / Path(*rest.split(".")).with_suffix(".py")
        ).is_file():
            home = f"{_HOME}.{rest}"
        else:
            raise ModuleNotFoundError(
                f"{fullname} does not exist in Procession. The nearest are "
                f"{', '.join(_nearest(fullname))}; docs/caffe2.md lists all modules, as does "
                f"{__name__}.existing(), and what to use in place of others",
                name=fullname,
            )
        is_package = fullname in _PACKAGES
        return ModuleSpec(fullname, _Alias(home), is_package=is_package)


_finder = _Finder()


def install() -> None:
    """Have `import caffe2` find these modules, from here on.

    Raises:
        ImportError: Another caffe2 has been imported in this process.
    """
    known = sys.modules.get(NAME)
    if known is not None and not known.__name__.startswith(_HOME):
        raise ImportError(
            f"another caffe2 is imported already, from {getattr(known, '__file__', '?')}: "
            "import procession.caffe2 before it, or leave it out"
        )
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
