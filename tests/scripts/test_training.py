"""The scripts that train, as a newcomer runs them, only shorter."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import pty
import re
import runpy
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
LEARNING: dict[str, tuple[str, ...]] = {
    "mlp": (),
    "cnn": ("--epochs", "8"),
    "embedding": ("--epochs", "1"),
}
"""Script -> options with which it learns something."""
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


def assert_alike(found: np.ndarray, expected: np.ndarray) -> None:
    """See that sums in another order are all the difference.

    Where a sign or a largest element hangs on rounding, a step goes another way, and at first the
    next steps make that more.
    """
    np.testing.assert_allclose(found[..., 0], expected[..., 0], atol=0.01)
    # Some of the examples lie on the border of two classes.
    np.testing.assert_allclose(found[..., 1], expected[..., 1], atol=0.03)


@cache
def learning(name: str) -> str:
    """What a script says on two nodes, as long as it takes to learn something."""
    return run(name, *LEARNING[name])


@cache
def alone(name: str) -> str:
    """What it says on one."""
    return run(name, "--epochs", "1", "--nodes", "1")


@pytest.mark.parametrize(("name", "least"), [("mlp", 0.96), ("cnn", 0.97), ("embedding", 0.94)])
def test_it_learns_on_two_nodes(name: str, least: float) -> None:
    text = learning(name)
    assert accuracy(text, "2 nodes") >= least
    losses = figures(text)[:, 0]
    assert losses[-1] <= losses[0]


@pytest.mark.parametrize("name", LEARNING)
def test_the_number_of_nodes_makes_no_difference(name: str) -> None:
    accuracy(alone(name), "1 node")
    (first,) = figures(alone(name))
    assert_alike(figures(learning(name))[0], first)


def test_nor_does_it_whether_they_are_processes() -> None:
    expected = figures(learning("mlp"))[:3]
    for nodes in ("2", "4"):
        text = run("mlp", "--epochs", "3", "--nodes", nodes, *(["--local"] if nodes == "2" else []))
        accuracy(text, f"{nodes} nodes")
        assert_alike(figures(text), expected)


def test_equal_seeds_give_equal_numbers_and_others_do_not() -> None:
    arguments = ("--epochs", "1", "--nodes", "1", "--seed")
    first = figures(alone("mlp"))
    second, other = (figures(run("mlp", *arguments, seed)) for seed in ("0", "4"))
    assert (first == second).all()
    assert first[0, 0] != other[0, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--nodes", "0"), "numbers from 1 on"),
        (("--nodes", "3"), "has to divide the batch of 64 examples: it may be 1, 2, 4, 8,"),
        (("--seed", "-1"), "from 0 on"),
        (("--plot", str(SCRIPTS)), "--plot needs"),
    ],
)
def test_options(arguments: tuple[str, ...], message: str) -> None:
    done = subprocess.run(
        command("mlp", *arguments), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_the_help_says_which_numbers_of_nodes_there_are() -> None:
    done = subprocess.run(
        command("cnn", "--help"), capture_output=True, text=True, timeout=60, check=True
    )
    assert "the batch of 64 examples has to be divisible by it" in " ".join(done.stdout.split())


def test_what_cannot_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    why_not = runpy.run_path(str(SCRIPTS / "lib" / "plot.py"))["why_not"]
    there, new = tmp_path / "there.svg", tmp_path / "NEW.PNG"
    there.write_text("kept")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    assert why_not(there) is None
    assert why_not(new) is None
    assert there.read_text() == "kept"
    assert not new.exists()
    for file, why in [
        (tmp_path, "is a directory"),
        (tmp_path / "loss", "has to end in .png, .svg, .pdf"),
        (tmp_path / "loss.txt", "has to end in .png, .svg, .pdf"),
        (tmp_path / "nowhere" / "loss.png", "No such file or directory"),
        (there / "loss.png", "Not a directory"),
    ]:
        assert why in why_not(file)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'procession[cli]'" in why_not(new)


@pytest.fixture
def started() -> Iterator[Any]:
    """Starts a script that would train for long, and waits for the first epoch's line."""
    scripts = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        line = command("mlp", "--epochs", "100000", *arguments)
        # A command in the background of a shell has Ctrl-C ignored, and so have its children.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            script = subprocess.Popen(
                line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        finally:
            signal.signal(signal.SIGINT, before)
        scripts.append(script)
        assert script.stdout is not None
        assert script.stdout.readline().startswith("epoch ")
        assert EPOCH.match(script.stdout.readline())
        return script

    yield start
    for script in scripts:
        with script:
            script.kill()


@pytest.mark.parametrize("local", [("--local",), ()])
def test_ctrl_c_tells_and_draws_what_there_is(
    tmp_path: Path, local: tuple[str, ...], started: Any
) -> None:
    file = tmp_path / "loss.png"
    drawn = bool(local) and importlib.util.find_spec("matplotlib") is not None
    script = started(*local, *(("--plot", str(file)) if drawn else ()))
    script.send_signal(signal.SIGINT)
    _, errors = script.communicate(timeout=60)
    assert re.fullmatch(
        r"interrupted after \d+ of 100000 epochs: held-out accuracy 0\.\d+ on 2 nodes\n", errors
    )
    assert script.returncode == 130
    assert file.exists() == drawn


def test_it_ends_quietly_when_nobody_reads_any_more(started: Any) -> None:
    script = started("--local")
    script.stdout.close()
    assert (script.stderr.read(), script.wait(60)) == ("", 141)


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
