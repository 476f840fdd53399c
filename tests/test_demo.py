"""The demo, as a newcomer runs it, only shorter."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "train_digits.py"
EPOCH = re.compile(r"^ +(\d+) +(\d+\.\d+) +(\d\.\d+) +\d+\.\d+$", re.MULTILINE)


def demo(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


def numbers(text: str) -> list[tuple[str, ...]]:
    """(epoch, loss, accuracy) of every line of an epoch."""
    return EPOCH.findall(text)


@cache
def whole() -> str:
    return demo()


def test_it_learns_on_two_nodes():
    text = whole()
    lines = text.splitlines()
    assert len(numbers(text)) == 20
    accuracy = re.fullmatch(r"held-out accuracy (\d\.\d+) on 2 nodes", lines[-1])
    assert accuracy is not None
    assert float(accuracy[1]) >= 0.95
    losses = [float(loss) for _, loss, _ in numbers(text)]
    assert losses[-1] < 0.2 < 1 < losses[0]
    processes = re.findall(r"^node\d: process (\d+), .* bytes in shared memory", text, re.MULTILINE)
    assert len(set(processes)) == 2
    shipped, shared = re.search(
        r"^shipped ([\d,]+) bytes of plans in all; ([\d,]+) bytes in shared memory", text, re.M
    ).groups()
    assert int(shipped.replace(",", "")) > 0
    assert int(shared.replace(",", "")) > 0


def test_equal_seeds_give_equal_numbers_and_others_do_not():
    again, other = (demo("--epochs", "2", "--seed", seed) for seed in ("0", "4"))
    assert numbers(whole())[:2] == numbers(again) != numbers(other)


@pytest.mark.parametrize("nodes", ["1", "3"])
def test_other_numbers_of_nodes(nodes):
    text = demo("--nodes", nodes, "--epochs", "2")
    assert len(numbers(text)) == 2
    assert re.search(rf"on {nodes} nodes?$", text.rstrip())


def test_the_same_graph_in_this_process():
    local, spread = demo("--local", "--epochs", "3"), demo("--epochs", "3")
    pairs = zip(numbers(local), numbers(spread), strict=True)
    for (_, loss, accuracy), (_, its_loss, its_accuracy) in pairs:
        # The number of BLAS threads differs, and with it the order of summing.
        np.testing.assert_allclose(float(loss), float(its_loss), atol=2e-3)
        np.testing.assert_allclose(float(accuracy), float(its_accuracy), atol=0.01)
