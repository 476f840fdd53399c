"""How many threads NumPy's BLAS uses in this process: read it, set it, and who decides.

Several workers that each start one BLAS thread per core only get in each other's way,
so a worker is given a cap. Two ways lead there, and both are needed:

- environment variables, which a BLAS reads once, when it is loaded: for spawned workers,
  for libraries that are loaded later, and for processes that the worker starts;
- a call into the loaded library: for workers that are forked from a server which has
  loaded NumPy long ago, with one thread (see `forkserver`).

A user who has set one of the variables has chosen, and the choice wins over our cap.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy

# The ones that a BLAS reads, the most specific first.
_BLAS_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "OMP_NUM_THREADS",
)
THREAD_VARIABLES = (*_BLAS_VARIABLES, "NUMEXPR_NUM_THREADS")

# Functions that set and get the number of threads, and the integer they take. OpenBLAS
# gets a prefix, a suffix or both when it is built to live beside another OpenBLAS.
_FUNCTIONS: tuple[tuple[str, str, Any], ...] = (
    ("scipy_openblas_set_num_threads64_", "scipy_openblas_get_num_threads64_", ctypes.c_int),
    ("scipy_openblas_set_num_threads", "scipy_openblas_get_num_threads", ctypes.c_int),
    ("openblas_set_num_threads64_", "openblas_get_num_threads64_", ctypes.c_int),
    ("openblas_set_num_threads", "openblas_get_num_threads", ctypes.c_int),
    ("MKL_Set_Num_Threads", "MKL_Get_Max_Threads", ctypes.c_int),
    ("bli_thread_set_num_threads", "bli_thread_get_num_threads", ctypes.c_ssize_t),
)


class _Library(NamedTuple):
    set_threads: Callable[[int], object]
    get_threads: Callable[[], int]


def limit_threads(n: int) -> None:
    """Make NumPy's BLAS use `n` threads from now on, be that fewer or more than before.

    Where the BLAS offers no such call (Apple's Accelerate, a reference BLAS) nothing
    happens, and `blas_threads` gives None.
    """
    if n < 1:
        raise ValueError(f"a BLAS needs at least one thread, not {n}")
    for library in _libraries():
        library.set_threads(n)


def blas_threads() -> int | None:
    """The number of threads that NumPy's BLAS uses, or None where it cannot be asked."""
    return max((library.get_threads() for library in _libraries()), default=None)


def thread_environment(n: int) -> dict[str, str]:
    """The variables that hold every common BLAS, OpenMP and numexpr to `n` threads."""
    return dict.fromkeys(THREAD_VARIABLES, str(n))


def user_threads(environ: Mapping[str, str]) -> int | None:
    """The number of BLAS threads that `environ` asks for, or None if it does not say.

    The most specific variable decides. One that is no positive number is passed over, as
    the libraries do.
    """
    for variable in _BLAS_VARIABLES:
        # OpenMP allows "4,2": four threads outside, two in each of them.
        first = environ.get(variable, "").split(",")[0].strip()
        if first.isdecimal() and int(first) > 0:
            return int(first)
    return None


def user_has_chosen(environ: Mapping[str, str]) -> bool:
    """Whether the user has set a number of BLAS threads, which then wins over our cap."""
    return user_threads(environ) is not None


def cores() -> int:
    """The number of cores that this process may use, which can be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@lru_cache(maxsize=1)
def _libraries() -> tuple[_Library, ...]:
    found = []
    for path in sorted(set(_paths())):
        try:
            # NOLOAD: get hold of what NumPy has loaded, never bring in another one.
            handle = ctypes.CDLL(path, mode=os.RTLD_NOW | getattr(os, "RTLD_NOLOAD", 0))
        except OSError:
            continue  # not loaded, or replaced on disk since
        for set_name, get_name, integer in _FUNCTIONS:
            if hasattr(handle, set_name) and hasattr(handle, get_name):
                set_threads, get_threads = handle[set_name], handle[get_name]
                set_threads.argtypes, set_threads.restype = [integer], None
                get_threads.argtypes, get_threads.restype = [], integer
                found.append(_Library(set_threads, get_threads))
                break
    return tuple(found)


def _paths() -> Iterator[str]:
    """Files of this process that may be a BLAS."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        # Not Linux. Wheels carry their libraries in one of these folders.
        package = Path(numpy.__file__).parent
        for folder in (package / ".dylibs", package.parent / "numpy.libs"):
            yield from map(str, folder.glob("*"))
        return
    for line in maps.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and any(word in fields[5] for word in ("blas", "mkl", "blis")):
            yield fields[5]
