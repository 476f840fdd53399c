"""For the tests of data parallelism: models, batches cut into shards, and training on nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from procession import LocalSession, ProcessSession, Session
from procession.train import DataParallel, ModelHelper, brew, data_parallel

SESSIONS: dict[str, Callable[[], Session]] = {
    "local": lambda: LocalSession(isolate=True),
    "process": ProcessSession,
}
Batch = dict[str, Any]


def names(size: int) -> list[str]:
    return [f"n{rank}" for rank in range(size)]


def points(seed: int = 1, length: int = 32) -> Batch:
    """Points of three classes."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 3, length).astype(np.int32)
    centers = 2 * np.eye(3, 4)
    return {
        "x": (centers[label] + random.normal(0, 0.5, (length, 4))).astype(np.float32),
        "label": label,
    }


def mlp(model: ModelHelper) -> Any:
    """Two layers; each node would begin with other parameters."""
    hidden = brew.relu(model, brew.fc(model, "x", "hidden", 4, 8), "bent")
    scores = brew.fc(model, hidden, "scores", 8, 3)
    _, loss = model.net.SoftmaxWithLoss([scores, "label"], ["p", "loss"])
    brew.accuracy(model, ["p", "label"], "accuracy")
    return loss


def seeded(build: Callable[[ModelHelper], Any], seed: int = 5) -> Callable[[ModelHelper], Any]:
    """The same with parameters that are the same each time."""

    def seeded_build(model: ModelHelper) -> Any:
        model.param_init_net.set_rand_seed(seed)
        return build(model)

    return seeded_build


def feed(session: Session, training: DataParallel, batch: Batch) -> None:
    """Each node its part of a batch; or, of a list of batches, its own."""
    for rank, node in enumerate(training.nodes):
        for blob, value in batch.items():
            parts = value if isinstance(value, list) else np.split(value, len(training.nodes))
            session.workspace(node).feed_blob(blob, parts[rank])


def fetched(session: Session, training: DataParallel, blob: str) -> list[Any]:
    return [np.array(session.workspace(node).fetch_blob(blob)) for node in training.nodes]


def state(session: Session, training: DataParallel, blobs: Sequence[str]) -> dict[str, Any]:
    """Blob -> its value, which has to be the same on all nodes, bit for bit."""
    found = {}
    for blob in blobs:
        values = fetched(session, training, blob)
        assert len({(value.shape, value.dtype, value.tobytes()) for value in values}) == 1, blob
        found[blob] = values[0]
    return found


def trained(
    size: int,
    build: Callable[[ModelHelper], Any],
    optimize: Callable[[ModelHelper], Any],
    batches: Sequence[Batch],
    blobs: Callable[[DataParallel], Sequence[str]],
    *,
    kind: str = "local",
    **options: Any,
) -> list[dict[str, Any]]:
    """The state after each step, which all nodes have to agree on."""
    training = data_parallel(build, names(size), optimize, **options)
    after = []
    with SESSIONS[kind]() as session:
        session.run(training.init)
        state(session, training, blobs(training))
        for batch in batches:
            feed(session, training, batch)
            session.run(training.step)
            after.append(state(session, training, blobs(training)))
    return after


def close(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    for one, other in zip(first, second, strict=True):
        assert list(one) == list(other)
        for blob, value in one.items():
            np.testing.assert_allclose(value, other[blob], rtol=2e-4, atol=2e-6, err_msg=blob)
