"""Errands: what is done to the end, whoever is interrupted while waiting."""

from __future__ import annotations

import gc
import signal
import threading
import weakref

import pytest

from procession.cluster.errand import Errand

LONG = 30.0


class TestErrand:
    def test_it_is_done_once(self):
        done = []
        errand = Errand(lambda: done.append(1) or "result")
        assert [errand.run(), errand.run()] == ["result", "result"]
        assert done == [1]

    def test_what_it_raises_is_raised_each_time(self):
        def fail() -> None:
            raise ValueError("on purpose")

        errand = Errand(fail)
        for _ in range(2):
            with pytest.raises(ValueError, match="on purpose"):
                errand.run()

    def test_what_it_raises_keeps_its_cause(self):
        def fail() -> None:
            raise ValueError("on purpose") from OSError(24, "why")

        with pytest.raises(ValueError, match="on purpose") as caught:
            Errand(fail).run()
        assert isinstance(caught.value.__cause__, OSError)

    def test_the_main_thread_leaves_it_to_another(self):
        assert Errand(threading.get_ident).run() != threading.get_ident()

    def test_others_and_workers_do_it_themselves(self):
        assert Errand(threading.get_ident, interruptible=False).run() == threading.get_ident()
        found = []
        thread = threading.Thread(
            target=lambda: found.extend([Errand(threading.get_ident).run(), threading.get_ident()])
        )
        thread.start()
        thread.join(LONG)
        assert found[0] == found[1]

    def test_it_goes_on_when_the_one_who_waits_is_interrupted(self):
        begun, go = threading.Event(), threading.Event()

        def job() -> str:
            begun.set()
            go.wait(LONG)
            return "result"

        errand = Errand(job)

        def interrupt() -> None:
            begun.wait(LONG)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            errand.run()
        thread.join(LONG)
        go.set()
        assert errand.run() == "result"

    @pytest.mark.parametrize("interruptible", [True, False])
    def test_what_it_raised_keeps_nobody_alive(self, interruptible):
        class Something:
            pass

        def fail() -> None:
            raise ValueError("on purpose")

        errand = Errand(fail, interruptible)

        def ask() -> weakref.ref[Something]:
            something = Something()
            with pytest.raises(ValueError, match="on purpose"):
                errand.run()
            return weakref.ref(something)

        asked = ask()
        gc.collect()
        assert asked() is None
