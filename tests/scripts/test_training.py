"""The scripts that train, as a newcomer runs them, only shorter."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
EPOCH = re.compile(r"^ +(\d+) +(\d+\.\d+) +(\d\.\d+) +\d+\.\d+$", re.M)


def command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(SCRIPTS / f"train_{name}.py"), *arguments]


def run(name: str, *arguments: str) -> str:
    python, *rest = command(name, *arguments)
    strict = [python, "-X", "dev", "-W", "error", *rest]
    done = subprocess.run(strict, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


def figures(text: str) -> np.ndarray:
    """Loss and accuracy of each epoch."""
    return np.array([[float(loss), float(accuracy)] for _, loss, accuracy in EPOCH.findall(text)])


def accuracy(text: str, nodes: str) -> float:
    found = re.search(rf"^held-out accuracy (\d\.\d+) on {nodes}$", text, re.M)
    assert found is not None
    return float(found[1])


@pytest.mark.parametrize(
    ("name", "arguments", "least"),
    [
        ("mlp", (), 0.96),
        ("cnn", (), 0.98),
        ("embedding", ("--epochs", "1"), 0.94),
    ],
)
def test_it_learns_on_two_nodes(name: str, arguments: tuple[str, ...], least: float) -> None:
    text = run(name, *arguments)
    assert accuracy(text, "2 nodes") >= least
    losses = figures(text)[:, 0]
    assert losses[-1] <= losses[0]


@pytest.mark.parametrize(("name", "epochs"), [("mlp", "3"), ("cnn", "1"), ("embedding", "1")])
def test_the_number_of_nodes_makes_no_difference(name: str, epochs: str) -> None:
    ways = [("1", ()), ("2", ("--local",))]
    if name == "mlp":
        ways += [("2", ()), ("4", ())]
    found = []
    for nodes, local in ways:
        text = run(name, "--epochs", epochs, "--nodes", nodes, *local)
        accuracy(text, "1 node" if nodes == "1" else f"{nodes} nodes")
        found.append(figures(text))
    assert len(found[0]) == int(epochs)
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=3e-3)


def test_equal_seeds_give_equal_numbers_and_others_do_not() -> None:
    arguments = ("--epochs", "1", "--local", "--nodes", "1", "--seed")
    first, second, other = (figures(run("mlp", *arguments, seed)) for seed in ("3", "3", "4"))
    assert (first == second).all()
    assert first[0, 0] != other[0, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--nodes", "0"), "numbers from 1 on"),
        (("--nodes", "3"), "has to divide the batch of 64"),
        (("--seed", "-1"), "from 0 on"),
    ],
)
def test_options(arguments: tuple[str, ...], message: str) -> None:
    done = subprocess.run(
        command("mlp", *arguments), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert message in done.stderr


def test_the_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra 'cli' is not installed")
    file = tmp_path / "loss.png"
    arguments = command("mlp", "--epochs", "2", "--local", "--plot", str(file))
    subprocess.run(arguments, check=True, capture_output=True, timeout=120)
    assert file.read_bytes().startswith(b"\x89PNG")


def test_a_bar_on_a_terminal() -> None:
    pytest.importorskip("tqdm", reason="the extra 'cli' is not installed")
    mine, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    try:
        done = subprocess.Popen(command("mlp", "--epochs", "2", "--local"), stdout=its, stderr=its)
        os.close(its)
        text = b""
        while True:
            try:
                text += os.read(mine, 1 << 16)
            except OSError:
                # Nobody has the other end any more.
                break
        assert done.wait(60) == 0
    finally:
        os.close(mine)
    assert b"2/2" in text
    assert b"held-out accuracy" in text
    assert not EPOCH.search(text.decode())
