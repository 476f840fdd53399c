"""What the scripts that train have in common: options, batches, progress, the figures at the end.

Every script has data, a model, and an optimizer. An epoch is one run of the step of
`procession.train.data_parallel`: on each node, an operator there makes the node's part of each
batch. Batches are the same for any number of nodes.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from lib.plot import FORMATS, Course, plot, why_not

from procession import LocalSession, Node, ProcessSession, Session, Task, TaskGroup, WorkspaceType
from procession.cluster import blas
from procession.train import DataParallel, ModelHelper, data_parallel

Arrays = dict[str, Any]
"""Name -> an array with an element for each example."""
HELD_OUT, CHANCE = "held_out", "chance"
INTERRUPTED, UNHEARD = 130, 141
"""What a shell says of a command that Ctrl-C has ended, and of one whose reader has gone."""
BLAS_THREADS = 1
"""Of each node: products of a batch are too small for a second thread to pay, and where other
processes compute, too, each of them would wait for it."""


@dataclass(frozen=True)
class Recipe:
    """What a script trains."""

    data: Callable[[int], tuple[Arrays, Arrays]]
    """Of a seed: the examples to train on, and those held out. It is called on each node."""
    build: Callable[[ModelHelper, str], tuple[Any, Any]]
    """Adds the forward pass, given a prefix of its inputs' names: class probabilities, loss."""
    optimize: Callable[[ModelHelper], Any]
    """Gives a model its optimizer."""
    blobs: tuple[str, ...]
    """The blobs that the model reads; the last is the label."""
    collate: Callable[[Arrays], tuple[Any, ...]]
    """Makes their values of some examples. Those of a batch have two random numbers each, too."""
    batch: int = 64
    """How many examples are in a batch, of all nodes together."""


def digits(seed: int) -> tuple[Arrays, Arrays]:
    """Handwritten digits, 8 x 8 pixels from 0 to 1; a fifth is held out."""
    with np.load(Path(__file__).parents[1] / "data" / "digits.npz") as stored:
        images = stored["images"].astype(np.float32) / 16
        labels = stored["labels"].astype(np.int32)
    return split({"image": images, "label": labels}, seed)


def split(examples: Arrays, seed: int) -> tuple[Arrays, Arrays]:
    """Examples in random order: those to train on, and a fifth, which is held out."""
    count = len(examples["label"])
    order = np.random.default_rng(seed).permutation(count)
    held_out = count // 5
    return (
        {name: values[order[held_out:]] for name, values in examples.items()},
        {name: values[order[:held_out]] for name, values in examples.items()},
    )


def batches(recipe: Recipe, seed: int, shard: int, shards: int) -> Callable[[Any, Any], None]:
    """A function that makes a node's part of one batch after the other.

    It is made where it is used. Place p of all batches has every example number p, p + batch, ...,
    in an order that is another one in each epoch. So a node, which has some of the places, keeps
    its shard of the examples only, and batches do not depend on how many nodes there are.
    """
    share = recipe.batch // shards
    places = np.arange(shard * share, (shard + 1) * share)
    examples, _ = recipe.data(seed)
    length = len(examples["label"]) // recipe.batch
    rows = np.arange(length)[:, None] * recipe.batch + places
    kept = {name: values[rows] for name, values in examples.items()}
    turn, order, chance = 0, rows, rows

    def next_batch(inputs: Any, outputs: Any) -> None:
        nonlocal turn, order, chance
        epoch, number = divmod(turn, length)
        if number == 0:
            each = [np.random.default_rng((seed, epoch, place)) for place in places]
            order = np.stack([random.permutation(length) for random in each], axis=1)
            chance = np.stack([random.random((length, 2)) for random in each], axis=1)
        turn += 1
        chosen = order[number], np.arange(share)
        batch = {name: array[chosen] for name, array in kept.items()}
        values = recipe.collate({**batch, CHANCE: chance[number]})
        for output, value in zip(outputs, values, strict=True):
            output.feed(value)

    return next_batch


class Measure:
    """Measures the parameters on the examples that are held out, on the first node."""

    def __init__(self, recipe: Recipe, training: DataParallel, seed: int) -> None:
        self._recipe = recipe
        self._seed = seed
        self._node = training.nodes[0]
        model = ModelHelper("measure", param_model=training.model)
        probabilities, _ = recipe.build(model, f"{HELD_OUT}/")
        accuracy = model.net.Accuracy(
            [probabilities, f"{HELD_OUT}/{recipe.blobs[-1]}"], f"{HELD_OUT}/accuracy"
        )
        with TaskGroup(WorkspaceType.GLOBAL) as self._group, Node(self._node):
            self._output = Task(step=model.net, outputs=[accuracy]).outputs()[0]

    def feed(self, session: Session) -> None:
        """Give the node the examples."""
        _, examples = self._recipe.data(self._seed)
        for name, value in zip(self._recipe.blobs, self._recipe.collate(examples), strict=True):
            session.workspace(self._node).feed_blob(f"{HELD_OUT}/{name}", value)

    def run(self, session: Session) -> float:
        """The accuracy."""
        session.run(self._group)
        return float(self._output.fetch())


def options(recipe: Recipe, description: str, epochs: int) -> argparse.Namespace:
    """Read the command line. What cannot be done ends the script, before it does anything."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--nodes",
        type=int,
        default=2,
        help=f"how many nodes; the batch of {recipe.batch} examples has to be divisible by it "
        "(default 2)",
    )
    parser.add_argument(
        "--epochs", type=int, default=epochs, help=f"how many epochs (default {epochs})"
    )
    parser.add_argument("--seed", type=int, default=0, help="equal seeds give equal numbers")
    parser.add_argument("--local", action="store_true", help="run in this process")
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help=f"draw loss and accuracy, as {', '.join(FORMATS)}",
    )
    given = parser.parse_args()
    if given.nodes < 1 or given.epochs < 1:
        parser.error("--nodes and --epochs are numbers from 1 on")
    if recipe.batch % given.nodes:
        divisors = [str(n) for n in range(1, recipe.batch + 1) if recipe.batch % n == 0]
        parser.error(
            f"--nodes has to divide the batch of {recipe.batch} examples: it may be "
            f"{', '.join(divisors)}"
        )
    if given.seed < 0:
        parser.error("--seed is a number from 0 on")
    if given.plot is not None:
        why = why_not(given.plot)
        if why is not None:
            parser.error(f"--plot {why}")
    return given


def say(line: str) -> None:
    """Print a line. Where nobody reads any more, as behind `| head`, the script ends."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        # What is left in the buffer would have Python complain at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(UNHEARD) from None


@contextmanager
def progress(epochs: int) -> Iterator[Callable[[int, float, float, float], None]]:
    """What is told after each epoch: a bar on a terminal that has tqdm, a line otherwise."""
    if sys.stdout.isatty() and importlib.util.find_spec("tqdm") is not None:
        from tqdm import tqdm

        with tqdm(total=epochs, unit="epoch", file=sys.stdout) as bar:

            def advance(epoch: int, loss: float, accuracy: float, seconds: float) -> None:
                bar.set_postfix_str(f"loss {loss:.4f}, held-out accuracy {accuracy:.4f}")
                bar.update()

            yield advance
        return
    say("epoch   loss   held-out accuracy   seconds")
    yield lambda epoch, loss, accuracy, seconds: say(
        f"{epoch:5}   {loss:.4f}   {accuracy:17.4f}   {seconds:7.3f}"
    )


def train(recipe: Recipe, given: argparse.Namespace, course: Course) -> None:
    """Train on the nodes, and tell of each epoch."""
    names = [f"node{number}" for number in range(1, given.nodes + 1)]
    examples, _ = recipe.data(given.seed)

    def read(model: ModelHelper, shard: int, shards: int) -> None:
        make = batches, (recipe, given.seed, shard, shards), {}
        model.net.Python(make)([], list(recipe.blobs))

    def build(model: ModelHelper) -> Any:
        model.param_init_net.set_rand_seed(given.seed + 1)
        return recipe.build(model, "")[1]

    training = data_parallel(
        build,
        names,
        recipe.optimize,
        read=read,
        steps=len(examples["label"]) // recipe.batch,
        metrics=["loss"],
    )
    measure = Measure(recipe, training, given.seed)
    with open_session(names, given.local) as session:
        session.run(training.init)
        measure.feed(session)
        compiled = session.compile(training.step)
        with progress(given.epochs) as advance:
            for epoch in range(1, given.epochs + 1):
                began = time.perf_counter()
                session.run(compiled)
                seconds = time.perf_counter() - began
                loss, accuracy = training.mean("loss"), measure.run(session)
                course.append((loss, accuracy))
                advance(epoch, loss, accuracy, seconds)


def open_session(names: list[str], local: bool) -> Session:
    """A session of these nodes."""
    if local:
        blas.limit_threads(BLAS_THREADS)
        return LocalSession(isolate=True)
    return ProcessSession(names, threads_per_node=BLAS_THREADS)


def main(recipe: Recipe, description: str, epochs: int) -> NoReturn:
    """Do what the command line asks for: train, say how well, draw it.

    Ctrl-C ends the training; what there is by then is told and drawn all the same.
    """
    try:
        sys.exit(follow(recipe, options(recipe, description, epochs)))
    except KeyboardInterrupt:
        # While nothing was there yet, or a second one.
        sys.exit(INTERRUPTED)


def follow(recipe: Recipe, given: argparse.Namespace) -> int:
    """Do what the options ask for; returns the exit code."""
    course: Course = []
    try:
        train(recipe, given, course)
        code = 0
    except KeyboardInterrupt:
        code = INTERRUPTED
    count = "1 node" if given.nodes == 1 else f"{given.nodes} nodes"
    result = f"held-out accuracy {course[-1][1]:.4f} on {count}" if course else "nothing learned"
    if code:
        # Ctrl-C ends what reads standard output, too, such as tee.
        print(
            f"interrupted after {len(course)} of {given.epochs} epochs: {result}", file=sys.stderr
        )
    else:
        say(result)
    if given.plot is not None and course:
        try:
            plot(given.plot, course)
        except OSError as error:
            print(f"cannot write {str(given.plot)!r}: {error.strerror}", file=sys.stderr)
            return code or 1
    return code
