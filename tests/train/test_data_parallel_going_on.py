"""A training on several nodes that is broken off goes on as if it had not been."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.train.parallel import (
    SESSIONS,
    close,
    feed,
    fetched,
    mlp,
    names,
    points,
    seeded,
    state,
    trained,
)

from procession import LocalSession, NodeDiedError, ProcessSession
from procession.train import (
    DataParallel,
    ModelHelper,
    build_adam,
    data_parallel,
    load,
    save,
    state_blobs,
)


def adam(model: ModelHelper) -> None:
    build_adam(model, 0.05, policy="step", stepsize=2, gamma=0.5)


def everything(training: DataParallel) -> list[str]:
    return state_blobs(training.model)


@pytest.mark.parametrize("kind", SESSIONS)
def test_from_a_file_on_another_number_of_nodes(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    batches = [points(seed) for seed in range(6)]
    expected = trained(1, seeded(mlp), adam, batches, everything)
    training = data_parallel(seeded(mlp), names(2), adam)
    with SESSIONS[kind]() as session:
        session.run(training.init)
        for batch in batches[:3]:
            feed(session, training, batch)
            session.run(training.step)
        save(path, session.workspace(training.nodes[0]), training.model)
    later = data_parallel(mlp, names(4), adam)
    with SESSIONS[kind]() as session:
        session.run(later.init)
        load(path, session.workspace(later.nodes[0]), later.model)
        session.run(later.sync)
        after = []
        for batch in batches[3:]:
            feed(session, later, batch)
            session.run(later.step)
            after.append(state(session, later, everything(later)))
    close(after, expected[3:])
    assert after[-1]["optimizer_iteration"].item() == 6


def reading(rank: int, fatal: str) -> Callable[[Any, Any], None]:
    """Made where it is run: whoever finds the file in its way takes that away, and dies."""

    def next_batch(inputs: Any, outputs: Any) -> None:
        for output, value in zip(outputs, points(3, 16).values(), strict=True):
            output.feed(value)
        if rank == 1 and os.path.exists(fatal):
            os.unlink(fatal)
            os.kill(os.getpid(), signal.SIGKILL)

    return next_batch


def from_reader(fatal: Path) -> Callable[[ModelHelper, int, int], None]:
    def read(model: ModelHelper, shard: int, shards: int) -> None:
        model.net.Python((reading, (shard, str(fatal)), {}))([], ["x", "label"])

    return read


def test_a_node_that_dies_in_the_middle(tmp_path: Path) -> None:
    fatal = tmp_path / "fatal"
    training = data_parallel(mlp, names(2), adam, read=from_reader(fatal), steps=3)
    with ProcessSession(training.nodes) as session:
        session.run(training.init)
        session.run(training.step)
        fatal.touch()
        with pytest.raises(NodeDiedError, match="'n1'") as raised:
            session.run(training.step)
        assert raised.value.node == "n1"
        # The other one has not gone on without it.
        count = session.workspace("n0").fetch_blob("optimizer_iteration")
        assert count.item() == 3


def test_it_goes_on_with_a_new_process(tmp_path: Path) -> None:
    path, fatal = tmp_path / "state.npz", tmp_path / "fatal"
    training = data_parallel(mlp, names(2), adam, read=from_reader(fatal), steps=3)
    with ProcessSession(training.nodes, on_node_failure="restart") as session:
        session.run(training.init)
        session.run(training.step)
        save(path, session.workspace("n0"), training.model)
        fatal.touch()
        with pytest.raises(NodeDiedError):
            session.run(training.step)
        session.run(training.init)
        load(path, session.workspace("n0"), training.model)
        session.run(training.sync)
        session.run(training.step)
        after = state(session, training, everything(training))
    assert after["optimizer_iteration"].item() == 6
    with ProcessSession(training.nodes) as session:
        session.run(training.init)
        load(path, session.workspace("n0"), training.model)
        session.run(training.sync)
        session.run(training.step)
        expected = state(session, training, everything(training))
    assert all((after[blob] == expected[blob]).all() for blob in expected)


def test_what_the_input_keeps_is_the_nodes_own() -> None:
    def read(model: ModelHelper, shard: int, shards: int) -> None:
        turn = model.param_init_net.ConstantFill([], "turn", shape=[1], value=100.0 * shard)
        one = model.param_init_net.ConstantFill([], "one", shape=[1], value=1.0)
        model.net.Add([turn, one], turn)

    training = data_parallel(mlp, names(2), adam, read=read)
    with LocalSession(isolate=True) as session:
        session.run(training.init)
        feed(session, training, points())
        session.run(training.step)
        session.run(training.sync)
        assert [turn.item() for turn in fetched(session, training, "turn")] == [1, 101]
