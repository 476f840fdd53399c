"""scripts/bench: what it measures is not looked at here, but that it measures, and what it says."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

LIB = Path(__file__).parents[2] / "scripts" / "lib"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The modules of scripts/lib/bench, which is not installed."""
    monkeypatch.syspath_prepend(LIB)
    names = ["case", "command", "pairs", "peers", "plot", "report"]
    return SimpleNamespace(**{name: importlib.import_module(f"bench.{name}") for name in names})


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(LIB / "bench"), *arguments],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.mark.parametrize(
    ("subcommand", "cases"),
    [
        ("roundtrip", ["one_node", "two_nodes", "function", "local", "message_bytes"]),
        ("fetch", ["sizes", "peers"]),
        ("feed", ["feed", "fill"]),
        ("startup", ["first", "further"]),
        ("throughput", ["waiting", "at_once", "functions"]),
        (
            "training",
            [
                *(f"step_{batch}" for batch in (1, 16, 64, 256)),
                *(f"step_{batch}_one_thread" for batch in (1, 16, 64, 256)),
                "cnn_64",
                "cnn_64_one_thread",
            ],
        ),
        (
            "collectives",
            [
                "barrier",
                *(f"allreduce_{size}" for size in (4 << 10, 256 << 10, 4 << 20, 64 << 20)),
                *(f"allreduce_nodes_{nodes}" for nodes in (4, 8, 16)),
                *(f"parallel_{batch}" for batch in (16, 64, 256)),
            ],
        ),
        ("scale", ["open", "open_each", "run_each", "close", "close_each", "uss"]),
    ],
)
def test_a_subcommand_without_peers(subcommand: str, cases: list[str], tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    done = run(subcommand, "--quick", "--rounds", "1", "--peers", "none", "--json", str(file))
    assert (done.stderr, done.returncode) == ("", 0), done.stdout
    document = json.loads(file.read_text(encoding="utf-8"))
    assert document["command"] == subcommand
    assert document["machine"]["peers"] == {}
    assert [case["case"] for case in document["cases"]] == cases
    for case in document["cases"]:
        assert case["what"] in done.stdout
        assert case["failed"] == {}
        for side in case["sides"].values():
            assert side["title"] in done.stdout
            assert len(side["rounds"]) == 1
            assert side["median"] > 0
        for goal in case["goals"]:
            least = goal["goal"].startswith("at least")
            assert f"goal {goal['goal']}" in done.stdout
            assert least == (case["unit"] == "rate")


def test_several_subcommands_in_one_run(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    options = ["--quick", "--rounds", "1", "--peers", "none", "--json", str(file)]
    done = run("fetch", "feed", *options)
    assert (done.stderr, done.returncode) == ("", 0), done.stdout
    document = json.loads(file.read_text(encoding="utf-8"))
    assert document["command"] == "fetch feed"
    assert [case["case"] for case in document["cases"]] == ["sizes", "peers", "feed", "fill"]
    done = run("feed", "language")
    assert done.returncode == 2
    assert "language is measured by itself" in done.stderr


def test_peers_that_come_with_python_take_part(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    done = run("feed", "--quick", "--peers", "futures", "--json", str(file))
    assert (done.stderr, done.returncode) == ("", 0), done.stdout
    case = json.loads(file.read_text(encoding="utf-8"))["cases"][0]
    assert list(case["sides"]) == ["procession", "copy", "futures"]
    sides = case["sides"]
    # The ratio is that of the pairs, which were measured one after the other.
    ratios = [
        ours / theirs
        for ours, theirs in zip(
            sides["procession"]["rounds"], sides["futures"]["rounds"], strict=True
        )
    ]
    assert sides["futures"]["ours_as_multiple"] == pytest.approx(sum(ratios) / 2)
    assert sides["procession"]["ours_as_multiple"] is None


def test_language_keeps_its_own_options() -> None:
    done = run("language", "--rounds", "0")
    assert done.returncode == 2
    assert "--rounds is at least 1" in done.stderr
    assert "--caffe2" in run("language", "--help").stdout


def test_a_case_of_language() -> None:
    done = subprocess.run(
        [sys.executable, str(LIB / "bench" / "language_cases.py"), "procession", "small"],
        capture_output=True,
        text=True,
        timeout=110,
        check=True,
    )
    assert min(json.loads(done.stdout)) > 0


def test_all_sides_train_the_same(bench: Any) -> None:
    """Peers that are not here are left out."""
    pairs = bench.pairs.Pairs([], 1, 0.0)
    names = ["local", "procession", "hand"]
    names += [name for name in ("caffe2", "torch") if bench.peers.PEERS[name].installed()]
    try:
        for model, batch in (("mlp", 1), ("mlp", 16), ("cnn", 4)):
            options: dict[str, Any] = {"budget": 0.0, "batch": batch, "check": True}
            if model != "mlp":
                names = [name for name in names if name != "hand"]
                options["model"] = model
            losses = {name: pairs.ask(name, "step", **options) for name in names}
            assert losses["local"][-1] < losses["local"][0]
            for name, found in losses.items():
                assert found == pytest.approx(losses["local"], rel=1e-4), (name, model)
    finally:
        pairs.close()


def test_a_side_with_an_interpreter_of_its_own(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    caffe2 = bench.peers.PEERS["caffe2"]
    monkeypatch.delenv("PROCESSION_CAFFE2_PYTHON", raising=False)
    assert not caffe2.installed()
    assert "set PROCESSION_CAFFE2_PYTHON" in caffe2.way(sys.executable)
    assert "pip install 'torch'" in bench.peers.PEERS["torch"].way(sys.executable)
    # That a side is asked there is seen by one that cannot answer.
    python, told = tmp_path / "python", tmp_path / "told"
    python.write_text(f'#!/bin/sh\necho "$OMP_NUM_THREADS" > {told}\nexit 3\n')
    python.chmod(0o700)
    monkeypatch.setenv("PROCESSION_CAFFE2_PYTHON", str(python))
    assert caffe2.installed()
    assert caffe2.version() is None
    case = bench.case.Case(
        "some", "something", {"caffe2": bench.case.Ask("caffe2", "step", {"batch": 1}, threads=5)}
    )
    pairs = bench.pairs.Pairs(["caffe2"], 1, 0.0)
    try:
        result = pairs.measure(case)
    finally:
        pairs.close()
    assert result.figures == {}
    assert result.failed["caffe2"].startswith("ended with 3")
    assert told.read_text() == "5\n"


def test_a_side_of_several_processes(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    launcher, told = tmp_path / "launcher", tmp_path / "told"
    launcher.write_text(f'#!/bin/sh\necho "$1 $2" > {told}\n')
    side = bench.peers.Side("some", launcher=("sh", str(launcher), "-n", "{ranks}"))
    monkeypatch.setitem(bench.peers.SIDES, "pipe", side)
    asks = {"pipe": bench.case.Ask("pipe", "roundtrip", fresh=True, ranks=7)}
    pairs = bench.pairs.Pairs([], 1, 0.0)
    try:
        result = pairs.measure(bench.case.Case("some", "something", asks))
    finally:
        pairs.close()
    assert result.failed["pipe"].startswith("ended with 0")
    assert told.read_text() == "-n 7\n"


# Peers.


@pytest.mark.parametrize(
    ("peers", "message"),
    [
        ("Ray", "there is no peer 'Ray': did you mean 'ray'?"),
        ("loki,ray", "there is no peer 'loki': did you mean 'loky'?"),
        ("spark", "there is no peer 'spark': it is one of futures, loky"),
        (",", "name peers"),
    ],
)
def test_a_peer_that_does_not_exist(peers: str, message: str) -> None:
    done = run("roundtrip", "--peers", peers)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""


def test_a_peer_that_is_not_installed_is_skipped_by_name(
    bench: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = bench.peers.Side("Absent", "procession_has_no_such_module", "absent[all]")
    monkeypatch.setitem(bench.peers.PEERS, "absent", absent)
    assert bench.command.main(["feed", "--quick", "--rounds", "1", "--peers", "absent"]) == 0
    printed = capsys.readouterr().out
    assert "skipped: absent (not installed: " in printed
    assert "pip install 'absent[all]')" in printed
    assert "feed_blob" in printed


def test_all_peers_are_meant_when_none_is_named(bench: Any) -> None:
    assert bench.peers.chosen(None) == list(bench.peers.PEERS)
    assert bench.peers.chosen("none") == []
    assert bench.peers.chosen("ray, futures,ray") == ["ray", "futures"]
    here, missing = bench.peers.split(bench.peers.PEERS)
    assert "futures" in here
    assert sorted([*here, *missing]) == sorted(bench.peers.PEERS)


def test_a_side_that_fails_is_left_out_and_named(bench: Any) -> None:
    case = bench.case.Case(
        "some",
        "something",
        {
            "good": bench.case.Ask("pipe", "roundtrip", {"nodes": 1}),
            "bad": bench.case.Ask("pipe", "no_such_thing"),
        },
    )
    pairs = bench.pairs.Pairs([], rounds=2, budget=0.001)
    try:
        result = pairs.measure(case)
    finally:
        pairs.close()
    assert len(result.figures["good"]) == 2
    assert list(result.failed) == ["bad"]
    assert "no_such_thing" in result.failed["bad"]
    assert "failed: AttributeError" in bench.report.table(result)[-1]


# Figures, goals, and what is shown of them.


def result_of(bench: Any, unit: str, *goals: Any) -> Any:
    asks = {
        "procession": bench.case.Ask("procession", "x"),
        "large": bench.case.Ask("procession", "x", title="large"),
        "pipe": bench.case.Ask("pipe", "x"),
    }
    case = bench.case.Case("some", "something", asks, goals, unit)
    figures = {
        "procession": [[1.0, 2.0, 9.0], [4.0]],
        "large": [[3.0], [3.0]],
        "pipe": [[4.0], [16.0]],
    }
    return bench.case.Result(case, figures)


def test_ratios_are_those_of_pairs(bench: Any) -> None:
    result = result_of(bench, "seconds")
    assert result.median("procession") == 3.0
    assert result.median("pipe") == 10.0
    assert result.multiple("pipe") == pytest.approx((2 / 4 + 4 / 16) / 2)
    assert result.multiple("large") is None


@pytest.mark.parametrize(
    ("unit", "goal", "line", "text"),
    [
        ("seconds", (0.4, "pipe"), 3, "goal at most 0.4x: met"),
        ("seconds", (0.3, "pipe"), 3, "goal at most 0.3x: MISSED"),
        ("rate", (0.3, "pipe"), 3, "goal at least 0.3x: met"),
        ("rate", (0.4, "pipe"), 3, "goal at least 0.4x: MISSED"),
        ("seconds", (3.0,), 1, "goal at most 3.00 s: met"),
        ("bytes", (2.0,), 1, "goal at most 2 B: MISSED"),
        (
            "seconds",
            (2.0, "procession", "large"),
            2,
            "goal at most 2x of ProcessSession, is 1.12x: met",
        ),
    ],
)
def test_goals(bench: Any, unit: str, goal: tuple[Any, ...], line: int, text: str) -> None:
    result = result_of(bench, unit, bench.case.Goal(*goal))
    lines = bench.report.table(result)
    assert lines[line].endswith(text)
    assert sum("goal" in each for each in lines) == 1


def test_a_goal_for_what_was_not_measured_is_not_judged(bench: Any) -> None:
    result = result_of(bench, "seconds", bench.case.Goal(0.1, "pipe"))
    del result.figures["pipe"]
    assert not any("goal" in line for line in bench.report.table(result))
    assert bench.report.plain(result)["goals"] == []


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (3.21e-6, "seconds", "3.2 us"),
        (123e-6, "seconds", "123 us"),
        (0.0123, "seconds", "12.3 ms"),
        (2.5, "seconds", "2.50 s"),
        (12345.6, "rate", "12,346/s"),
        (187.0, "bytes", "187 B"),
        (5.5 * 2**20, "bytes", "5.50 MiB"),
    ],
)
def test_figures_for_people(bench: Any, value: float, unit: str, text: str) -> None:
    assert bench.report.shown(value, unit) == text


def test_variables_that_libraries_heed_are_told(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in filter(bench.report.heeded, list(os.environ)):
        monkeypatch.delenv(name)
    machine = bench.report.machine([])
    assert machine["variables"] == {}
    assert "\n" not in bench.report.header(machine)
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("PROCESSION_OTHER", "1")
    machine = bench.report.machine([])
    assert machine["variables"] == {"OPENBLAS_CORETYPE": "Haswell"}
    assert bench.report.header(machine).endswith("\nset: OPENBLAS_CORETYPE=Haswell")


# The picture.


def test_a_picture_without_matplotlib(
    bench: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench.plot.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="2"):
        bench.command.main(["feed", "--plot", "picture.png"])
    assert "the extra 'bench'" in capsys.readouterr().err


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed")
def test_a_picture(tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    done = run("feed", "--quick", "--rounds", "1", "--peers", "none", "--plot", str(file))
    assert (done.stderr, done.returncode) == ("", 0), done.stdout
    assert file.read_bytes().startswith(b"\x89PNG")
