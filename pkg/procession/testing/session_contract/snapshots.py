"""What was fetched never changes; outputs are fetched after the run."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

from procession.errors import (
    BlobNotFoundError,
    OutputNotReadyError,
    RunnableTypeError,
)
from procession.graph.net import Net
from procession.graph.task import (
    Node,
    Task,
    TaskGroup,
    final_output,
)
from procession.session.base import Session
from procession.testing.session_contract.base import LARGE, SMALL, ContractBase, constant


class Snapshots(ContractBase):
    """Fetched arrays and task outputs."""

    @pytest.mark.parametrize("shape", [SMALL, LARGE, (300, 40), ()], ids=str)
    def test_what_is_fetched_never_changes(self, own_session: Session, shape: Any) -> None:
        own_session.workspace().feed_blob("x", np.zeros(shape, np.float32))
        net = Net("net")
        net.Add(["x", net.Const(1.0)], ["x"])
        fetched = []
        for _ in range(4):
            fetched.append(own_session.workspace().fetch_blob("x"))
            own_session.run(net)
        own_session.workspace().feed_blob("x", np.full(shape, 9, np.float32))
        for number, array in enumerate(fetched):
            np.testing.assert_array_equal(array, np.full(shape, number, np.float32))
        own_session.close()
        gc.collect()
        for number, array in enumerate(fetched):
            np.testing.assert_array_equal(array, np.full(shape, number, np.float32))

    @pytest.mark.parametrize("shape", [(), SMALL, LARGE, (0,)], ids=str)
    def test_what_is_fetched_cannot_be_written(self, session: Session, shape: Any) -> None:
        session.workspace().feed_blob("x", np.zeros(shape, np.float32))
        array = session.workspace().fetch_blob("x")
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 1

    def test_what_was_fed_is_a_copy(self, session: Session) -> None:
        for shape in (SMALL, LARGE):
            value = np.zeros(shape, np.float32)
            session.workspace().feed_blob("x", value)
            value[...] = 1
            np.testing.assert_array_equal(session.workspace().fetch_blob("x"), np.zeros(shape))

    def test_a_view_of_a_fetched_array_is_enough_to_keep_it(self, session: Session) -> None:
        session.workspace().feed_blob("x", np.arange(5000, dtype=np.float32))
        part = session.workspace().fetch_blob("x")[100:110]
        gc.collect()
        net = Net("net")
        net.Add(["x", net.Const(1.0)], ["x"])
        for _ in range(3):
            session.run(net)
        np.testing.assert_array_equal(part, np.arange(100, 110))

    def test_values_change_shape_and_kind(self, session: Session) -> None:
        workspace = session.workspace()
        net = Net("net")
        net.Add(["x", "x"], ["y"])
        for value in (
            np.ones(LARGE, np.float32),
            np.ones(SMALL, np.float32),
            np.ones((64, 64), np.float64),
            np.ones(LARGE, np.int64),
            np.ones((64, 64), np.float64),
        ):
            workspace.feed_blob("x", value)
            session.run(net)
            np.testing.assert_array_equal(workspace.fetch_blob("y"), 2 * value)
            assert workspace.fetch_blob("y").dtype == value.dtype
        workspace.feed_blob("x", "text")
        workspace.feed_blob("y", [1])
        assert workspace.fetch_blob("x") == "text"

    def test_outputs_can_be_fetched_after_the_run(self, session: Session) -> None:
        net = Net("net")
        one, two = net.Const(1), net.Const(np.arange(3000.0), "two")
        with TaskGroup() as group, Node("n"):
            task = Task(step=net, outputs=[one, [one, two]])
        session.run(group)
        single, both = task.outputs()
        assert single.fetch() == 1
        assert session.fetch_output(single) == 1
        first, second = both.fetch()
        assert first == 1
        np.testing.assert_array_equal(second, np.arange(3000.0))
        assert not second.flags.writeable
        np.testing.assert_array_equal(session.fetch_output(both)[1], second)

    def test_an_output_is_that_of_the_last_run(self, session: Session) -> None:
        session.workspace().feed_blob("x", np.zeros(LARGE, np.float32))
        net = Net("net")
        net.Add(["x", net.Const(1.0)], ["x"])
        task = Task(step=net, outputs=["x"])
        session.run(task)
        first = task.outputs()[0].fetch()
        session.workspace().feed_blob("x", np.full(LARGE, 10, np.float32))
        assert task.outputs()[0].fetch()[0] == 1
        session.run(task)
        assert task.outputs()[0].fetch()[0] == 11
        assert first[0] == 1

    def test_outputs_of_nodes_are_told_apart(self, session: Session) -> None:
        tasks = []
        with TaskGroup() as group:
            for number in (1, 2):
                with Node(f"n{number}"):
                    net = Net(f"net{number}")
                    value = net.Const(number, f"x{number}")
                    tasks.append(Task(step=net, outputs=[value]))
        session.run(group)
        assert [task.outputs()[0].fetch() for task in tasks] == [1, 2]

    def test_final_output(self, session: Session) -> None:
        net = Net("net")
        one = net.Const(1)
        with TaskGroup() as group:
            Task(step=net)
            output = final_output(one)
        session.run(group)
        assert output.fetch() == 1

    def test_outputs_before_the_run(self, session: Session) -> None:
        task = Task(step=constant("net", "x", 1), outputs=["x"])
        with pytest.raises(OutputNotReadyError):
            task.outputs()[0].fetch()
        with pytest.raises(OutputNotReadyError):
            session.fetch_output(task.outputs()[0])
        with pytest.raises(RunnableTypeError):
            session.fetch_output("x")  # type: ignore[arg-type]

    def test_an_output_that_nothing_writes(self, session: Session) -> None:
        task = Task(step=constant("net", "x", 1), outputs=["nobody"])
        with pytest.raises(BlobNotFoundError, match="nobody"):
            session.run(task)

    def test_outputs_outlive_the_session(self, own_session: Session) -> None:
        net = Net("net")
        net.Const(np.arange(3000.0), "x")
        task = Task(step=net, outputs=["x"])
        own_session.run(task)
        own_session.close()
        np.testing.assert_array_equal(task.outputs()[0].fetch(), np.arange(3000.0))
        np.testing.assert_array_equal(
            own_session.fetch_output(task.outputs()[0]), np.arange(3000.0)
        )
