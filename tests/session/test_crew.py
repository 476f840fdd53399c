"""Crew: jobs in threads, also when no more threads can be started."""

from __future__ import annotations

import threading

import pytest

from procession.session.crew import Crew


def test_a_job_waits_for_a_thread_when_there_can_be_no_more(monkeypatch):
    crew = Crew()
    begun, go_on, done = threading.Event(), threading.Event(), threading.Semaphore(0)

    def first() -> None:
        begun.set()
        assert go_on.wait(20)
        done.release()

    crew.do(first)
    assert begun.wait(20)
    with monkeypatch.context() as patch:

        def no_more(self):
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", no_more)
        for _ in range(5):
            crew.do(done.release)
        go_on.set()
        for _ in range(6):
            assert done.acquire(timeout=20)
        crew.do(done.release)
        assert done.acquire(timeout=20)
    crew.close()


def test_without_any_thread_it_says_so(monkeypatch):
    def no_more(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more)
    with pytest.raises(RuntimeError, match="start new thread"):
        Crew().do(print)
