"""What one would take instead of Procession, by the names that `--peers` takes."""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import os
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Side:
    """Somebody who takes part: Procession, a limit of the machine, or a peer.

    Attributes:
        title: What the table calls it.
        module: What must be importable; None for what comes with Python.
        package: What to install for it.
        launcher: What its interpreter is started with; {ranks} is how many of it.
        variable: The environment variable that names its interpreter, if it needs one of its own.
    """

    title: str
    module: str | None = None
    package: str | None = None
    launcher: tuple[str, ...] = ()
    variable: str | None = None

    def installed(self) -> bool:
        """Whether its interpreter is named, or this one can import it."""
        if self.variable is not None:
            return bool(os.environ.get(self.variable))
        return self.module is None or importlib.util.find_spec(self.module) is not None

    def way(self, python: str) -> str:
        """What to do to have it take part."""
        if self.variable is not None:
            return f"not named: set {self.variable} to a Python that has it"
        return f"not installed: {python} -m pip install {self.package!r}"

    def version(self) -> str | None:
        """The version of its package, if it is in this interpreter."""
        if self.module is None or self.variable is not None:
            return None
        return importlib.metadata.version(self.module)


PEERS = {
    "futures": Side("concurrent.futures"),
    "loky": Side("loky", "loky", "loky"),
    "torch": Side("torch RPC", "torch", "torch"),
    "gloo": Side("torch.distributed (gloo)", "torch", "torch"),
    "mpi": Side("MPI (mpi4py)", "mpi4py", "mpi4py mpich", ("mpiexec", "-n", "{ranks}")),
    "ray": Side("Ray actor", "ray", "ray"),
    "dask": Side("Dask actor", "distributed", "dask[distributed]"),
    "caffe2": Side("Caffe2", "caffe2", variable="PROCESSION_CAFFE2_PYTHON"),
}
ALWAYS = {
    "procession": Side("ProcessSession"),
    "local": Side("LocalSession"),
    "hand": Side("NumPy by hand"),
    "limit": Side("the machine's limit"),
    "pipe": Side("raw Pipe"),
}
SIDES = {**ALWAYS, **PEERS}  # as Caffe2's Python has it


def chosen(text: str | None) -> list[str]:
    """The peers that `--peers` names; all of them when it is left out, none for "none".

    Raises:
        ValueError: One of the names is unknown; the message says which is meant.
    """
    if text is None:
        return list(PEERS)
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == ["none"]:
        return []
    for name in names:
        if name not in PEERS:
            close = difflib.get_close_matches(name.lower(), PEERS, 1, 0.5)
            meant = f"did you mean {close[0]!r}? " if close else ""
            raise ValueError(
                f"there is no peer {name!r}: {meant}it is one of {', '.join(PEERS)}, or none"
            )
    if not names:
        raise ValueError(f"name peers, as in ray,dask: {', '.join(PEERS)}, or none")
    return list(dict.fromkeys(names))


def split(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """The peers that are installed, and those that are not."""
    names = list(names)
    here = [name for name in names if PEERS[name].installed()]
    return here, [name for name in names if name not in here]
