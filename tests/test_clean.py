"""`python -m procession clean`: what it lists, removes, and leaves alone."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from procession.__main__ import main
from procession.blobs import owner
from procession.blobs.segment import Segment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="owners are in /dev/shm")

NOBODY = 999_999_999
DEAD = f"{owner.PREFIX}{NOBODY}-dead......"
LIVING = f"{owner.PREFIX}{NOBODY}-living...."


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like /dev/shm, and is nobody else's."""
    monkeypatch.setattr(owner, "DIRECTORY", str(tmp_path))
    return tmp_path


@pytest.fixture
def dead(place: Path) -> str:
    for name, size in ((DEAD, 0), (f"{DEAD}-aaaaaaaaaaa", 12_345), (f"{DEAD}-bbbbbbbbbbb", 1)):
        (place / name).write_bytes(bytes(size))
        three_hours_ago = time.time() - 3 * 3600 - 60
        os.utime(place / name, (three_hours_ago, three_hours_ago))
    return DEAD


@pytest.fixture
def living(place: Path) -> Iterator[str]:
    with open(place / LIVING, "x") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        (place / f"{LIVING}-ccccccccccc").write_bytes(bytes(7))
        yield LIVING


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main([*arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out.splitlines()


def test_it_says_what_it_removed_and_what_it_left_alone(
    place: Path, dead: str, living: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, "clean") == [
        f"{dead}: process {NOBODY} is dead; 2 segments, 12,346 bytes, 3 hours old",
        f"  {dead}-aaaaaaaaaaa  12,345 bytes",
        f"  {dead}-bbbbbbbbbbb  1 byte",
        "Removed 2 segments of 1 session owner that died: 12,346 bytes.",
        "Left alone:",
        f"  {living}: process {NOBODY} lives; 1 segment, 7 bytes, 0 seconds old",
    ]
    assert sorted(os.listdir(place)) == [living, f"{living}-ccccccccccc"]


@pytest.mark.parametrize("option", ["--dry-run", "-n"])
def test_a_dry_run_lists_the_same_and_removes_nothing(
    place: Path, dead: str, living: str, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    before = sorted(os.listdir(place))
    dry = said(capsys, "clean", option)
    assert sorted(os.listdir(place)) == before
    assert [line.replace("Would remove", "Removed") for line in dry] == said(capsys, "clean")
    assert dry[3].startswith("Would remove 2 segments")


def test_nothing_to_do(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "clean") == [f"Nothing to clean up in {place}."]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")
def test_another_user_s_are_left_alone(
    place: Path, dead: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in os.listdir(place):
        os.chown(place / name, 65534, 65534)
    nothing, heading, line = said(capsys, "clean")
    assert (nothing, heading) == (f"Nothing to clean up in {place}.", "Left alone:")
    assert line.startswith(f"  {dead}: of another user, 65534; 2 segments, 12,346 bytes")
    assert len(os.listdir(place)) == 3


def test_without_a_command_it_tells_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys)
    assert lines[0].startswith("usage: python -m procession")
    assert any(re.match(r" +clean +\w", line) for line in lines)


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["cleen"])
    assert caught.value.code == 2
    assert "'clean'" in capsys.readouterr().err


def test_as_people_call_it() -> None:
    """In the real place, where this process has a segment, and others may have theirs."""
    one = Segment.create(4096)
    done = subprocess.run(
        [sys.executable, "-m", "procession", "clean", "--dry-run"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    mine = one.name.rpartition("-")[0]
    (line,) = [line for line in done.stdout.splitlines() if mine in line]
    assert line.startswith(f"  {mine}: process {os.getpid()} lives; 1 segment, 4,096 bytes, ")
    one.unlink()
