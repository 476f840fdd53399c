"""scripts/stress: a short soak with kills, the report, and the model that blobs are held to."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

LIB = Path(__file__).parents[2] / "scripts" / "lib"
SEED = 20
SIGKILLED = "SIGKILL"
MODULES = ["inside", "killer", "leftovers", "model", "report", "watchdog"]


@pytest.fixture
def stress(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The modules of scripts/lib/stress, which is not installed."""
    monkeypatch.syspath_prepend(LIB)
    return SimpleNamespace(**{n: importlib.import_module(f"stress.{n}") for n in MODULES})


def run(*arguments: str, timeout: float = 110) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(LIB / "stress"), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_a_short_soak(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    done = run("--kills", "20", "--coordinators", "2", "--seed", str(SEED), "--json", str(file))
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    report = json.loads(file.read_text(encoding="utf-8"))
    assert f"seed={SEED}" in done.stdout
    assert report["options"]["seed"] == SEED
    assert report["what"] == []
    assert set(report["problems"].values()) == {0}
    assert sum(report["kills"].values()) >= 20
    assert sum(report["signals"].values()) == sum(report["kills"].values())
    assert sum(report["coordinator_kills"].values()) == 2
    assert sum(report["operations"].values()) > 20
    assert report["values_compared"] > 100
    told = report["seconds_from_kill_to_error"], report["seconds_from_next_call_to_error"]
    assert 0 < sum(each["count"] for each in told) <= sum(report["kills"].values())
    assert "all right" in done.stdout.splitlines()[-1]


def test_equal_seeds_do_the_same(tmp_path: Path) -> None:
    counts = []
    for number in range(2):
        file = tmp_path / f"{number}.json"
        done = run("--kills", "0", "--operations", "60", "--seed", str(SEED), "--json", str(file))
        assert done.returncode == 0, done.stdout
        report = json.loads(file.read_text(encoding="utf-8"))
        # How many values are compared depends on what a cancelled run had done by then.
        counts.append((report["operations"], report["kills"]))
    assert counts[0] == counts[1]
    assert counts[0][1] == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kills", "-1"], "--kills is at least 0"),
        (["--nodes", "0"], "--nodes is at least 1"),
        (["--on-node-failure", "retry"], "invalid choice: 'retry'"),
        (["--json", "/no/such/directory/file"], "No such file"),
    ],
)
def test_options_that_make_no_sense(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""


# The report.


@pytest.mark.parametrize(
    ("percent", "wanted"), [(0, 1), (50, 50), (99, 99), (99.5, 100), (100, 100), (1, 1)]
)
def test_percentiles_are_values_that_occurred(stress: Any, percent: float, wanted: int) -> None:
    values = [*range(100, 50, -1), *range(1, 51)]
    assert stress.report.percentile(values, percent) == wanted


def test_no_values_have_no_percentiles(stress: Any) -> None:
    assert stress.report.percentile([7.0], 99) == 7.0
    with pytest.raises(ValueError, match="no values"):
        stress.report.percentile([], 50)


def test_the_bound_that_a_soak_gives(stress: Any) -> None:
    assert stress.report.rate_bound(1000) == pytest.approx(0.003)
    assert stress.report.rate_bound(1) == 1.0
    # It is a bit above what nothing in N trials shows with 95%.
    assert (1 - stress.report.rate_bound(1000)) ** 1000 < 0.05


def report_of(stress: Any) -> Any:
    report = stress.report.Report(seed=7)
    report.operations.update(feed=3, fetch=2)
    report.kills.update(idle=1, computing=2)
    report.signals.update(SIGKILL=3)
    report.took(0.004, "SIGKILL while computing", True)
    report.took(0.009, "SIGKILL while writing", True)
    report.took(0.001, "SIGKILL while idle", False)
    report.seconds = 12.0
    return report


def test_a_report_without_problems(stress: Any, tmp_path: Path) -> None:
    report = report_of(stress)
    text = "\n".join(report.lines())
    assert report.exit_code == 0
    assert "kill to error, a call waiting (2): p50 4.0 ms, p99 9.0 ms, max 9.0 ms" in text
    assert "next call to error, none waiting (1): p50 1.0 ms" in text
    assert "the slowest, 9.0 ms: SIGKILL while writing" in text
    # All that the kills are to have hit is named, be it 0.
    assert "kills         3: starting 0, idle 1, unpickling 0, computing 2, writing 0" in text
    assert "3 kills of workers: fewer than 1 of them go wrong (95%), in 12 s" in text
    assert all(f"{kind:28}     0" in text for kind in stress.report.PROBLEMS)
    report.write(tmp_path / "report.json")
    document = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert document["exit_code"] == 0
    assert document["options"] == {"seed": 7}
    assert document["seconds_from_kill_to_error"] == {
        "count": 2, "p50": 0.004, "p99": 0.009, "max": 0.009
    }  # fmt: skip
    assert document["problems"] == dict.fromkeys(stress.report.PROBLEMS, 0)


@pytest.mark.parametrize("number", range(9))
def test_any_problem_is_a_failure(stress: Any, number: int) -> None:
    report = report_of(stress)
    kind = stress.report.PROBLEMS[number]
    report.wrong(kind, "such and such")
    report.interrupted = True
    assert report.exit_code == 1
    lines = report.lines()
    assert f"{kind}: such and such" in lines
    assert lines[-1] == "FAILED: 1 problems in 12 s"
    assert report.plain()["problems"][kind] == 1


def test_many_problems_are_not_all_shown(stress: Any) -> None:
    report = report_of(stress)
    for number in range(30):
        report.wrong("wrong bytes", f"number {number}")
    assert "... and 10 more" in report.lines()
    assert len(report.plain()["what"]) == 30


def test_an_interrupted_soak_is_no_failure(stress: Any) -> None:
    report = report_of(stress)
    report.interrupted = True
    assert report.exit_code == 130
    assert report.verdict().startswith("interrupted; all right so far")


# The model.


def arrays(*values: float) -> list[Any]:
    return [np.full((2,), float(value)) for value in values]


def test_what_is_written_is_what_must_be_found(stress: Any) -> None:
    model = stress.model.NodeModel()
    (one, two), absent, torn = arrays(1, 2), stress.model.ABSENT, stress.model.TORN
    assert model.found("x", absent)
    model.write("x", one)
    assert model.has("x")
    assert model.value("x") is one
    assert model.tensors() == model.known() == ["x"]
    assert model.found("x", one.copy())
    assert not model.found("x", two)
    model.write("x", one)
    assert not model.found("x", one.astype(np.float32))
    model.write("x", one)
    assert not model.found("x", one.reshape(2, 1))
    model.write("x", one)
    assert not model.found("x", torn)
    model.write("x", one)
    assert not model.found("x", absent)
    model.write("x", absent)
    assert model.known() == []


def test_what_an_interrupted_operation_may_leave(stress: Any) -> None:
    Change, torn = stress.model.Change, stress.model.TORN  # noqa: N806
    before, half, after, other = arrays(1, 2, 3, 4)
    change = {"x": Change(after, lambda: [half]), "y": Change(after, tears=False)}

    def fresh(died: bool) -> Any:
        model = stress.model.NodeModel()
        model.write("x", before)
        model.write("z", before)
        model.interrupt(change, died)
        return model

    for value in (before, half, after, torn):
        assert fresh(True).found("x", value)
    assert not fresh(True).found("x", other)
    assert not fresh(False).found("x", torn)
    assert fresh(True).found("y", stress.model.ABSENT)
    assert not fresh(True).found("y", torn)
    assert not fresh(True).found("z", after)
    # What was found stays.
    model = fresh(True)
    assert model.value("x") is None
    assert not model.has("x")
    assert model.found("x", half)
    assert not model.found("x", after)
    model = fresh(True)
    assert model.found("x", torn)
    assert model.torn() == ["x"]
    model.write("x", other)
    assert model.torn() == []
    assert model.found("x", other)


def test_objects_go_with_their_process(stress: Any) -> None:
    model = stress.model.NodeModel()
    plain = {"a": [1, 2.5, None, (b"x", "y")], 3: {True}}
    strings = np.array(["a", "b"], object)
    model.write("plain", plain)
    model.write("array", np.zeros(3))
    model.write("strings", strings)
    model.write("thing", stress.inside.Thing(1))
    model.write("inside", [stress.inside.Thing(1)])
    model.lose_objects()
    assert model.torn() == ["inside", "thing"]
    assert model.found("plain", {"a": [1, 2.5, None, (b"x", "y")], 3: {True}})
    assert model.found("strings", strings.copy())
    assert not stress.model.is_plain(np.array([stress.inside.Thing(1)], object))


def test_the_names_of_a_workspace(stress: Any) -> None:
    model = stress.model.NodeModel()
    one, two = arrays(1, 2)
    model.write("there", one)
    model.interrupt({"maybe": stress.model.Change(two)}, died=True)
    model.write("torn", stress.model.TORN)
    assert model.wrong_names(["there"]) == []
    assert model.wrong_names(["there", "maybe"]) == []
    assert model.wrong_names(["maybe"]) == ["there is not listed"]
    assert model.wrong_names(["there", "torn"]) == ["torn is listed, and is torn"]
    assert model.wrong_names(["there", "new"]) == ["new is listed, and is absent"]


# The killer.


@pytest.fixture
def killer(stress: Any) -> Any:
    killer = stress.killer.Killer()
    yield killer
    killer.close()


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])


def test_the_killer_kills_and_says_when(killer: Any) -> None:
    process = sleeper()
    before = time.monotonic_ns()
    killer.arm("kill", process.pid, "SIGTERM", 0.001)
    shot = killer.fired()
    assert process.wait(30) == -signal.SIGTERM
    assert (shot.pid, shot.signal, shot.mode) == (process.pid, "SIGTERM", "kill")
    assert before + 1_000_000 <= shot.moment <= time.monotonic_ns()
    assert not killer.armed
    assert killer.fired(0) is None


def test_the_killer_misses_who_is_gone(killer: Any) -> None:
    process = sleeper()
    process.kill()
    process.wait()
    killer.arm("kill", process.pid, SIGKILLED, 0)
    assert killer.fired().moment == 0


def test_the_killer_has_one_shot_at_a_time(killer: Any) -> None:
    process = sleeper()
    killer.arm("kill", process.pid, SIGKILLED, 0)
    with pytest.raises(RuntimeError, match="under way"):
        killer.arm("kill", process.pid, SIGKILLED, 0)
    killer.fired()
    process.wait()


def test_the_killer_kills_a_child_that_comes_later(killer: Any) -> None:
    killer.arm("newborn", os.getpid(), SIGKILLED, 0)
    process = sleeper()
    assert killer.fired().pid == process.pid
    assert process.wait(30) == -signal.SIGKILL


# The watchdog.


def test_a_hang_ends_the_process_and_shows_where() -> None:
    code = """if True:
        import sys, threading
        sys.path.insert(0, sys.argv[1])
        from stress.watchdog import Watchdog
        watchdog = Watchdog(0.2, lambda what: print("told:", what))
        for number in range(3):
            watchdog.begin(f"operation {number}")
            watchdog.end()
        watchdog.begin("a long one")

        def this_is_where_it_hangs():
            threading.Event().wait()

        this_is_where_it_hangs()
    """
    done = subprocess.run(
        [sys.executable, "-c", code, str(LIB)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == "told: a long one took more than 0.2 s\n"
    assert "HANG: a long one has taken" in done.stderr
    assert "this_is_where_it_hangs" in done.stderr


# What is left behind.


def test_marked_processes_are_found_and_waited_for(
    stress: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    leftovers = stress.leftovers
    monkeypatch.setenv(leftovers.MARK, "this test")
    process = sleeper()
    monkeypatch.delenv(leftovers.MARK)
    other = sleeper()
    assert process.pid in leftovers.marked("this test")
    assert other.pid not in leftovers.marked("this test")
    assert leftovers.wait_for_end("this test", set(), time.monotonic()) == {process.pid}
    assert leftovers.wait_for_end("this test", {process.pid}, time.monotonic() + 60) == set()
    process.kill()
    process.wait()
    assert leftovers.wait_for_end("this test", set(), time.monotonic() + 60) == set()
    other.kill()
    other.wait()
