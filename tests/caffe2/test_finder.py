"""Importing caffe2, running scripts, and being a plugin of pytest."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import procession.caffe2
from procession.caffe2 import finder

PACKAGES = Path(procession.caffe2.__file__).resolve().parents[2]


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(PACKAGES)},
    )


@pytest.mark.parametrize("name", finder.existing())
def test_each_module_can_be_imported_under_both_names(name: str) -> None:
    module = importlib.import_module(name)
    assert module is importlib.import_module(f"procession.{name}")
    assert module.__name__ == module.__spec__.name == f"procession.{name}"
    assert module.__doc__


def test_a_module_that_does_not_exist_says_so_by_name() -> None:
    with pytest.raises(
        ModuleNotFoundError, match=r"caffe2\.python\.record_queue does not exist"
    ) as caught:
        importlib.import_module("caffe2.python.record_queue")
    assert "caffe2.python.queue_util" in str(caught.value)
    assert str(caught.value).count("caffe2.python.") == 4
    assert "docs/caffe2.md" in str(caught.value)
    assert caught.value.name == "caffe2.python.record_queue"
    with pytest.raises(ImportError, match=r"nearest are caffe2\.python\.workspace, "):
        importlib.import_module("caffe2.python.workspaces")


def test_another_caffe2_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "caffe2").mkdir()
    (tmp_path / "caffe2/__init__.py").touch()
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import caffe2, procession.caffe2"
    done = python("-c", code, cwd=tmp_path)
    assert done.returncode == 1
    assert "ImportError: another caffe2 is imported already" in done.stderr


def test_installing_twice_changes_nothing() -> None:
    before = list(sys.meta_path)
    finder.install()
    assert sys.meta_path == before


SCRIPT = """\
import sys
import helper
from caffe2.python import core, workspace
from caffe2.python.session import LocalSession

workspace.FeedBlob("x", helper.ONES)
net = core.Net("net")
net.Add(["x", "x"], "y")
net.Python(helper.process)([], ["pid"])
LocalSession().run(net)
workspace.RunNetOnce(net)
print(__name__, sys.argv[1:], workspace.FetchBlob("y"), workspace.FetchBlob("pid") == helper.PID)
if "fail" in sys.argv:
    net.Relu("nope", "z")
    LocalSession().run(net)
sys.exit(3)
"""

HELPER = """\
import os
import numpy as np

ONES, PID = np.ones(2, np.float32), os.getpid()


def process(inputs, outputs):
    outputs[0].feed(np.array(os.getpid()))
"""


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/script.py").write_text(SCRIPT, encoding="utf-8")
    (tmp_path / "elsewhere/helper.py").write_text(HELPER, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(("option", "here"), [([], True), (["--processes"], False)])
def test_a_script_runs_as_it_is(scripts: Path, option: list[str], here: bool) -> None:
    done = python(
        "-m", "procession.caffe2", *option, "elsewhere/script.py", "a", "--processes", cwd=scripts
    )
    assert done.stderr == ""
    assert done.stdout == f"__main__ ['a', '--processes'] [2. 2.] {here}\n"
    assert done.returncode == 3


def test_a_module_runs_as_it_is(scripts: Path) -> None:
    done = python("-m", "procession.caffe2", "-m", "script", "a", cwd=scripts / "elsewhere")
    assert (done.stdout, done.returncode) == ("__main__ ['a'] [2. 2.] True\n", 3)


def test_the_traceback_of_a_script_begins_in_the_script(scripts: Path) -> None:
    done = python("-m", "procession.caffe2", "elsewhere/script.py", "fail", cwd=scripts)
    assert done.returncode == 1
    begin, first = done.stderr.splitlines()[:2]
    assert begin == "Traceback (most recent call last):"
    assert 'script.py", line 15, in <module>' in first
    assert "runpy" not in done.stderr
    assert "[enforce fail] no blob 'nope'" in done.stderr


def test_what_cannot_be_read_shows_nothing_of_who_runs_it(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("x = 1\ndef f(:\n", encoding="utf-8")
    done = python("-m", "procession.caffe2", "broken.py", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == '  File "broken.py", line 2'
    assert "SyntaxError" in done.stderr
    done = python("-m", "procession.caffe2", "-m", "missing_module", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "python -m procession.caffe2: No module named missing_module\n"


def test_ctrl_c_shows_nothing_of_who_runs_the_script(tmp_path: Path) -> None:
    text = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    (tmp_path / "waits.py").write_text(text + "signal.raise_signal(signal.SIGINT)\n", "utf-8")
    done = python("-m", "procession.caffe2", "waits.py", cwd=tmp_path)
    assert done.returncode == -signal.SIGINT
    assert 'waits.py", line 3, in <module>' in done.stderr.splitlines()[1]
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"
    assert "runpy" not in done.stderr


def test_a_script_is_needed(tmp_path: Path) -> None:
    for arguments in ([], ["--processes"]):
        done = python("-m", "procession.caffe2", *arguments, cwd=tmp_path)
        assert (done.returncode, "which script?" in done.stderr) == (2, True)
    done = python("-m", "procession.caffe2", "nope.py", cwd=tmp_path)
    assert (done.returncode, "'nope.py'" in done.stderr) == (2, True)
