"""ProcessSession: tensors live in shared memory, which is used again and given back."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from tests.session.process_nodes import run_on, segments

from procession import (
    Net,
    NodeDiedError,
    OutOfSharedMemoryError,
    ProcessSession,
)
from procession.testing.session_contract import constant

MIB = 1 << 20


class TestSharedMemory:
    def test_small_tensors_need_none(self, session):
        session.workspace("a").feed_blob("x", np.zeros(4095, np.uint8))
        assert session.stats()["a"].shared_bytes == 0

    def test_tensors_of_4_kib_and_more_live_there(self, session):
        session.workspace("a").feed_blob("x", np.zeros(4096, np.uint8))
        assert session.stats()["a"].shared_bytes >= 4096
        run_on(session, "b", constant("net", "x", np.zeros(2000)))
        assert session.stats()["b"].shared_bytes >= 8000

    def test_fetching_copies_nothing(self, session):
        session.workspace("a").feed_blob("x", np.arange(10_000))
        first = session.workspace("a").fetch_blob("x")
        second = session.workspace("a").fetch_blob("x")
        assert np.shares_memory(first, second)

    def test_memory_is_used_again(self, session):
        net = Net("net")
        net.Add(["x", net.Const(1.0)], ["x"])
        session.workspace("a").feed_blob("x", np.zeros(MIB, np.float32))
        held = session.workspace("a").fetch_blob("x")
        run_on(session, "a", net)
        taken = session.stats()["a"].shared_bytes
        for _ in range(20):
            held = session.workspace("a").fetch_blob("x")
            run_on(session, "a", net)
        assert held[0] == 20
        assert session.stats()["a"].shared_bytes == taken

    def test_what_is_let_go_of_is_handed_back(self, session):
        workspace = session.workspace("a")
        for size in range(1, 12):
            workspace.feed_blob("x", np.zeros(size * MIB, np.uint8))
        assert session.stats()["a"].shared_bytes < 40 * MIB

    def test_a_memory_limit(self):
        with ProcessSession(memory_limit=3 * MIB) as session:
            workspace = session.workspace("a")
            workspace.feed_blob("x", np.zeros(2 * MIB, np.uint8))
            with pytest.raises(OutOfSharedMemoryError, match="memory limit") as caught:
                workspace.feed_blob("y", np.zeros(2 * MIB, np.uint8))
            assert isinstance(caught.value, MemoryError)
            assert (caught.value.limit, caught.value.node) == (3 * MIB, "a")
            net = Net("net")
            net.Add(["x", "x"], "z")
            with pytest.raises(OutOfSharedMemoryError, match=r"operator Add\(x, x\) -> z"):
                run_on(session, "a", net)
            assert not workspace.has_blob("z")
            session.workspace("b").feed_blob("y", np.zeros(2 * MIB, np.uint8))
            workspace.remove_blob("x")
            workspace.feed_blob("y", np.ones(2 * MIB, np.uint8))
            assert workspace.fetch_blob("y").all()

    def test_what_the_machine_has_not(self, session):
        status = os.statvfs("/dev/shm")
        too_much = status.f_blocks * status.f_frsize + MIB
        value = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (too_much,), (0,))
        before = segments()
        with pytest.raises(OutOfSharedMemoryError, match="shared memory is full") as caught:
            session.workspace("a").feed_blob("x", value)
        assert caught.value.needed >= too_much
        assert segments() - before == segments() - before
        run_on(session, "a", constant("net", "y", 1))
        assert session.workspace("a").names() == ["y"]

    def test_only_the_coordinator_has_names_to_clean_up(self, session):
        before = segments()
        session.workspace("a").feed_blob("x", np.zeros(MIB))
        array = session.workspace("a").fetch_blob("x")
        assert len(segments() - before) > 0
        session.close()
        assert segments() == before
        assert array.sum() == 0

    def test_a_fetched_array_outlives_its_worker(self, session):
        session.workspace("a").feed_blob("x", np.arange(10_000))
        array = session.workspace("a").fetch_blob("x")
        os.kill(session.stats()["a"].pid, signal.SIGKILL)
        with pytest.raises(NodeDiedError):
            session.workspace("a").fetch_blob("x")
        np.testing.assert_array_equal(array, np.arange(10_000))
