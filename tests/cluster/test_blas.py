from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from procession.cluster import blas
from procession.cluster.launch import METHODS, start_worker

HERE = Path(__file__).parent

tellable = pytest.mark.skipif(blas.blas_threads() is None, reason="this BLAS cannot be asked")
linux = pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")


@pytest.fixture
def restored() -> Iterator[None]:
    before = blas.blas_threads()
    yield
    if before is not None:
        blas.limit_threads(before)


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for variable in blas.THREAD_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.syspath_prepend(str(HERE))
    return monkeypatch


def in_worker(method: str, environment: dict[str, str]) -> tuple[int | None, int]:
    """The BLAS threads of a worker: what it says, and those beside Python's own, counted."""
    worker = start_worker("targets:threads", b"", method=method, environment=environment)
    try:
        assert worker.connection.poll(30)
        return worker.connection.recv()
    finally:
        worker.kill()
        worker.join(30)
        worker.close()


@tellable
@pytest.mark.usefixtures("restored")
def test_limit_goes_down_and_up() -> None:
    for n in (1, 3, 2, 1):
        blas.limit_threads(n)
        assert blas.blas_threads() == n


def test_limit_of_nothing() -> None:
    with pytest.raises(ValueError, match="not 0"):
        blas.limit_threads(0)


def test_cores() -> None:
    assert 1 <= blas.cores() <= (os.cpu_count() or 1)


def test_environment_names_them_all() -> None:
    assert blas.thread_environment(3) == {
        "OPENBLAS_NUM_THREADS": "3",
        "MKL_NUM_THREADS": "3",
        "OMP_NUM_THREADS": "3",
        "BLIS_NUM_THREADS": "3",
        "VECLIB_MAXIMUM_THREADS": "3",
        "NUMEXPR_NUM_THREADS": "3",
    }


@pytest.mark.parametrize(
    ("environ", "threads"),
    [
        ({}, None),
        ({"HOME": "4"}, None),
        ({"NUMEXPR_NUM_THREADS": "4"}, None),  # no BLAS
        ({"OMP_NUM_THREADS": "4"}, 4),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": " 2 "}, 2),
        ({"OPENBLAS_NUM_THREADS": "", "MKL_NUM_THREADS": "0", "OMP_NUM_THREADS": "x"}, None),
    ],
)
def test_choice_of_the_user(environ: dict[str, str], threads: int | None) -> None:
    assert blas.user_threads(environ) == threads
    assert blas.user_has_chosen(environ) == (threads is not None)


@linux
@tellable
@pytest.mark.parametrize("method", METHODS)
class TestInWorkers:
    def test_cap_of_one(self, method: str, environ: pytest.MonkeyPatch) -> None:
        assert in_worker(method, blas.thread_environment(1)) == (1, 0)

    def test_no_cap(self, method: str, environ: pytest.MonkeyPatch) -> None:
        assert in_worker(method, {}) == (blas.cores(), blas.cores() - 1)

    @pytest.mark.skipif(blas.cores() < 2, reason="one core")
    def test_cap_above_that_of_the_server(self, method: str, environ: pytest.MonkeyPatch) -> None:
        assert in_worker(method, blas.thread_environment(2)) == (2, 1)

    @pytest.mark.parametrize("choice", [1, min(2, blas.cores())])
    def test_the_users_choice(self, method: str, environ: pytest.MonkeyPatch, choice: int) -> None:
        environ.setenv("OPENBLAS_NUM_THREADS", str(choice))
        assert blas.user_has_chosen(os.environ)
        assert in_worker(method, {}) == (choice, choice - 1)

    def test_more_than_there_are_cores(self, method: str, environ: pytest.MonkeyPatch) -> None:
        threads, _ = in_worker(method, blas.thread_environment(blas.cores() + 1))
        assert threads == blas.cores()
