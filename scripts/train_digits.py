"""Train a classifier of handwritten digits, data-parallel, on a worker process per node.

Each node keeps its own shard of the images, and its own copy of the parameters, in its global
workspace. One compiled task group trains all nodes at once for an epoch; then the parameters are
fetched without a copy, averaged, and fed back ("local SGD").

    scripts/demo [--nodes N] [--epochs N] [--seed N] [--local]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from procession import (
    LocalSession,
    NameScope,
    Net,
    Node,
    ProcessSession,
    Session,
    Task,
    TaskGroup,
    TaskOutput,
    WorkspaceType,
    execution_step,
)

DIGITS = Path(__file__).parent / "data" / "digits.npz"
HIDDEN, CLASSES = 64, 10
BATCH = 32
LEARNING_RATE, MOMENTUM = 0.05, 0.9
PARAMETERS = ("w1", "b1", "w2", "b2")


def load(seed: int) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """(images, labels) to train on and (images, labels) held out, a fifth, in random order."""
    with np.load(DIGITS) as digits:
        images = digits["images"].reshape(-1, 64).astype(np.float32) / 16
        labels = digits["labels"].astype(np.int32)
    order = np.random.default_rng(seed).permutation(len(images))
    images, labels = images[order], labels[order]
    held_out = len(images) // 5
    return (images[held_out:], labels[held_out:]), (images[:held_out], labels[:held_out])


def batches(seed: int) -> Callable[[Any, Any], None]:
    """Picks the next batch of a shard; made anew on each node, where it remembers its place."""
    random = np.random.default_rng(seed)
    order = np.array([], np.int64)

    def next_batch(inputs: Any, outputs: Any) -> None:
        nonlocal order
        images, labels = (tensor.data for tensor in inputs)
        if len(order) < BATCH:
            order = random.permutation(len(images))
        chosen, order = order[:BATCH], order[BATCH:]
        outputs[0].feed(images[chosen])
        outputs[1].feed(labels[chosen])

    return next_batch


def initial_net(seed: int) -> Net:
    """Writes the parameters, the same on every node, and what the updates need."""
    net = Net("initial")
    net.set_rand_seed(seed)
    net.XavierFill([], "w1", shape=[HIDDEN, 64])
    net.XavierFill([], "w2", shape=[CLASSES, HIDDEN])
    net.ConstantFill([], "b1", shape=[HIDDEN])
    net.ConstantFill([], "b2", shape=[CLASSES])
    for parameter in PARAMETERS:
        net.ConstantFill(parameter, f"{parameter}_momentum", value=0.0)
    net.Const(LEARNING_RATE, "learning_rate")
    return net


def model(net: Net, images: Any, labels: Any) -> tuple[Any, Any]:
    """64 - 64 - 10: adds the operators, and returns the blobs (class probabilities, loss)."""
    hidden = net.FC([images, "w1", "b1"], "hidden")
    net.Relu(hidden, hidden)
    scores = net.FC([hidden, "w2", "b2"], "scores")
    return net.SoftmaxWithLoss([scores, labels], ["probabilities", "loss"])


def training_step(shard_size: int, seed: int) -> Any:
    """An epoch on one node: as many batches as fit, and the losses summed up in `total`."""
    begin = Net("begin")
    begin.Const(0.0, "total")
    read = Net("read")
    batch = read.Python((batches, [seed], {}))(["images", "labels"], ["batch", "batch_labels"])
    train = Net("train")
    _, loss = model(train, *batch)
    gradients = train.AddGradientOperators([loss])
    train.Add(["total", loss], "total")
    for parameter in PARAMETERS:
        blobs = [gradients[parameter], f"{parameter}_momentum"]
        train.MomentumSGDUpdate(
            [*blobs, "learning_rate", parameter], [*blobs, parameter], momentum=MOMENTUM
        )
    many = execution_step("batches", [read, train], num_iter=max(1, shard_size // BATCH))
    return execution_step("epoch", [execution_step("begin", begin), many])


def accuracy_net() -> Net:
    """Measures the parameters on the held-out images."""
    net = Net("accuracy")
    with NameScope("held_out"):
        images, labels = net.AddScopedExternalInputs("images", "labels")
    probabilities, _ = model(net, images, labels)
    net.Accuracy([probabilities, labels], "accuracy")
    return net


def train(session: Session, nodes: list[str], epochs: int, seed: int) -> float:
    """Train, printing a line an epoch; returns the accuracy at the end."""
    (images, labels), held_out = load(seed)
    shards = np.array_split(np.arange(len(images)), len(nodes))

    with TaskGroup(WorkspaceType.GLOBAL) as initial:
        for node in nodes:
            with Node(node):
                Task(step=initial_net(seed))
    losses: list[TaskOutput] = []
    with TaskGroup(WorkspaceType.GLOBAL) as epoch:
        for number, (node, shard) in enumerate(zip(nodes, shards, strict=True)):
            with Node(node):
                task = Task(step=training_step(len(shard), seed + number), outputs=["total"])
                losses += task.outputs()
    with TaskGroup() as measure, Node(nodes[0]):
        accuracy = Task(step=accuracy_net(), outputs=["accuracy"]).outputs()[0]

    for node, shard in zip(nodes, shards, strict=True):
        session.workspace(node).feed_blob("images", images[shard])
        session.workspace(node).feed_blob("labels", labels[shard])
    for name, value in zip(("images", "labels"), held_out, strict=True):
        session.workspace(nodes[0]).feed_blob(f"held_out/{name}", value)
    session.run(initial)
    compiled = session.compile(epoch)

    print("epoch   loss   held-out accuracy   seconds")
    steps = sum(max(1, len(shard) // BATCH) for shard in shards)
    for number in range(1, epochs + 1):
        began = time.perf_counter()
        session.run(compiled)
        for parameter in PARAMETERS:
            copies = [session.workspace(node).fetch_blob(parameter) for node in nodes]
            average = np.mean(copies, axis=0, dtype=np.float32)
            for node in nodes:
                session.workspace(node).feed_blob(parameter, average)
        session.run(measure)
        loss = sum(float(output.fetch()) for output in losses) / steps
        seconds = time.perf_counter() - began
        print(f"{number:5}   {loss:.4f}   {accuracy.fetch():17.4f}   {seconds:7.3f}")
    return float(accuracy.fetch())


def main() -> None:
    """Read the command line, train, sum up."""
    parser = argparse.ArgumentParser(description="Train a classifier of handwritten digits.")
    parser.add_argument("--nodes", type=int, default=2, help="how many nodes (default 2)")
    parser.add_argument("--epochs", type=int, default=20, help="how many epochs (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds give equal numbers")
    parser.add_argument("--local", action="store_true", help="run in this process")
    options = parser.parse_args()
    if options.nodes < 1 or options.epochs < 1:
        parser.error("--nodes and --epochs are numbers from 1 on")
    if options.seed < 0:
        parser.error("--seed is a number from 0 on")
    nodes = [f"node{number}" for number in range(1, options.nodes + 1)]

    session = LocalSession(isolate=True) if options.local else ProcessSession(nodes)
    with session:
        accuracy = train(session, nodes, options.epochs, options.seed)
        stats = session.stats()
    print()
    for node, used in stats.items():
        print(
            f"{node}: process {used.pid}, {used.runs} runs, {used.cpu_seconds:.2f} s of CPU, "
            f"{used.shared_bytes:,} bytes in shared memory, {used.plan_bytes:,} bytes of plans"
        )
    print(
        f"shipped {sum(used.plan_bytes for used in stats.values()):,} bytes of plans in all; "
        f"{sum(used.shared_bytes for used in stats.values()):,} bytes in shared memory"
    )
    print(f"held-out accuracy {accuracy:.4f} on {len(nodes)} node{'s'[: len(nodes) > 1]}")


if __name__ == "__main__":
    main()
