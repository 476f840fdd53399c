"""Nodes of which one has made a step, or half of it, that another has not do not go on so."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.train.parallel import SESSIONS, feed, fetched, mlp, names, points, seeded, state

from procession import OperatorError, RunCancelledError, RunTimeoutError, Session
from procession.train import (
    DataParallel,
    ModelHelper,
    build_adam,
    build_sgd,
    data_parallel,
    load,
    save,
    state_blobs,
)

DEADLINE = 20_000
"""Milliseconds."""
NOT_ALIKE = "have not the same state"


class Stage:
    """What nodes and the test tell each other while a run is under way: by pipes with a name."""

    def __init__(self, folder: Path) -> None:
        self.here, self.go, self.how = (str(folder / name) for name in ("here", "go", "how"))
        for pipe in (self.here, self.go):
            os.mkfifo(pipe)
        # What is written stays there as long as somebody has it open.
        self.files = [os.open(pipe, os.O_RDWR) for pipe in (self.here, self.go)]

    def act(self, how: str) -> None:
        """From the next step on, what nodes do at that place: "", "raise" or "wait"."""
        Path(self.how).write_text(how)

    def are_there(self, count: int) -> None:
        for _ in range(count):
            taken(self.here, DEADLINE)

    def let_go(self) -> None:
        os.write(self.files[1], b".")

    def close(self) -> None:
        for file in self.files:
            os.close(file)


def taken(pipe: str, milliseconds: int) -> bool:
    """Whether something came within that time."""
    file = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        poll = select.poll()
        poll.register(file, select.POLLIN)
        return bool(poll.poll(milliseconds)) and bool(os.read(file, 1))
    finally:
        os.close(file)


def acting(rank: int, here: str, go: str, how: str) -> Callable[[Any, Any], None]:
    def act(inputs: Any, outputs: Any) -> None:
        order = Path(how).read_text()
        if not order:
            return
        if rank == 1 and order == "raise":
            assert taken(here, DEADLINE)
            raise RuntimeError("no room left")
        file = os.open(here, os.O_WRONLY)
        os.write(file, b".")
        os.close(file)
        if rank == 1:
            taken(go, DEADLINE if order == "wait" else int(order))

    return act


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    made.act("")
    yield made
    made.close()


def on_stage(stage: Stage, **options: Any) -> DataParallel:
    """Between the reduction and the update each node does as the stage says."""
    rank = iter(range(2))

    def optimize(model: ModelHelper) -> None:
        model.net.Python((acting, (next(rank), stage.here, stage.go, stage.how), {}))([], [])
        build_adam(model, 0.05)

    return data_parallel(seeded(mlp), names(2), optimize, **options)


def everything(training: DataParallel) -> list[str]:
    return state_blobs(training.model)


def breaks_off_by_error(session: Session, training: DataParallel, stage: Stage) -> None:
    stage.act("raise")
    with pytest.raises(OperatorError, match="no room left"):
        session.run(training.step)


def breaks_off_by_cancel(session: Session, training: DataParallel, stage: Stage) -> None:
    stage.act("wait")
    future = session.run_async(training.step)
    stage.are_there(2)
    session.cancel()
    stage.let_go()
    with pytest.raises(RunCancelledError) as raised:
        future.result(DEADLINE / 1000)
    assert not raised.value.killed


def breaks_off_by_timeout(session: Session, training: DataParallel, stage: Stage) -> None:
    stage.act("1300")
    with pytest.raises(RunTimeoutError) as raised:
        session.run(training.step, timeout=1.0)
    assert not raised.value.killed


BREAKS: dict[str, Callable[[Session, DataParallel, Stage], None]] = {
    "error": breaks_off_by_error,
    "cancel": breaks_off_by_cancel,
    "timeout": breaks_off_by_timeout,
}


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize("kind", SESSIONS)
def test_a_run_that_was_broken_off(kind: str, how: str, stage: Stage) -> None:
    training = on_stage(stage)
    with SESSIONS[kind]() as session:
        session.run(training.init)
        feed(session, training, points())
        session.run(training.step)
        BREAKS[how](session, training, stage)
        stage.act("")
        before = fetched(session, training, "hidden_w")
        with pytest.raises(OperatorError, match=NOT_ALIKE) as raised:
            session.run(training.step)
        assert "node 'n1': at step 1, broken off in the middle" in str(raised.value)
        assert "Run `sync` of it: all go on from the state of 'n0'" in str(raised.value)
        # Nothing has changed but that the world may be lost.
        with pytest.raises(OperatorError):
            session.run(training.step)
        after = fetched(session, training, "hidden_w")
        assert all((one == other).all() for one, other in zip(before, after, strict=True))
        session.run(training.sync)
        assert (state(session, training, everything(training))["hidden_w"] == before[0]).all()
        session.run(training.step)
        state(session, training, everything(training))


@pytest.mark.parametrize("kind", SESSIONS)
def test_sync_makes_a_world_that_was_lost_anew(kind: str, stage: Stage) -> None:
    training = on_stage(stage, metrics="loss", steps=3)
    with SESSIONS[kind]() as session:
        session.run(training.init)
        feed(session, training, points())
        # The first goes on to the next step, and waits for the other one there.
        stage.act("wait")
        future = session.run_async(training.step)
        stage.are_there(2)
        session.cancel()
        stage.let_go()
        with pytest.raises(RunCancelledError):
            future.result(DEADLINE / 1000)
        stage.act("")
        with pytest.raises(OperatorError):
            session.run(training.step)
        session.run(training.sync)
        session.run(training.step)
        state(session, training, everything(training))
        assert training.mean("loss") > 0


@pytest.mark.parametrize("kind", SESSIONS)
def test_a_file_that_was_given_to_one_alone(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    training = data_parallel(mlp, names(3), lambda model: build_sgd(model, 0.1))
    with SESSIONS[kind]() as session:
        session.run(training.init)
        feed(session, training, points(1, 36))
        session.run(training.step)
        save(path, session.workspace("n0"), training.model)
        session.run(training.step)
        load(path, session.workspace("n0"), training.model)
        with pytest.raises(OperatorError, match=NOT_ALIKE) as raised:
            session.run(training.step)
        for node, step in (("n0", 1), ("n1", 2), ("n2", 2)):
            assert f"node {node!r}: at step {step}\n" in str(raised.value)
        session.run(training.sync)
        session.run(training.step)
        assert state(session, training, everything(training))["optimizer_iteration"].item() == 2
        # To all alike is as good.
        for node in training.nodes:
            load(path, session.workspace(node), training.model)
        session.run(training.step)
        state(session, training, everything(training))


def test_init_begins_anew(stage: Stage) -> None:
    training = on_stage(stage)
    with SESSIONS["local"]() as session:
        session.run(training.init)
        feed(session, training, points())
        breaks_off_by_error(session, training, stage)
        stage.act("")
        session.run(training.init)
        session.run(training.step)
        assert state(session, training, everything(training))["optimizer_iteration"].item() == 1


def test_without_a_counter_of_steps(stage: Stage) -> None:
    rank = iter(range(2))

    def optimize(model: ModelHelper) -> None:
        model.net.Python((acting, (next(rank), stage.here, stage.go, stage.how), {}))([], [])
        for param, gradient in model.param_to_grad.items():
            model.net.Sub([param, gradient], param)

    training = data_parallel(seeded(mlp), names(2), optimize)
    with SESSIONS["local"]() as session:
        session.run(training.init)
        feed(session, training, points())
        session.run(training.step)
        breaks_off_by_cancel(session, training, stage)
        stage.act("")
        with pytest.raises(OperatorError, match="'n1': at a step, broken off in the middle"):
            session.run(training.step)
        session.run(training.sync)
        session.run(training.step)
        state(session, training, everything(training))
