"""Caffe2's own tests, if there are any: PROCESSION_CAFFE2_SUITES is a folder of `*_test.py`.

They are run as they are, and again with worker processes behind their sessions.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import procession

FOLDER = os.environ.get("PROCESSION_CAFFE2_SUITES")

_ONLY_HERE = {
    # It counts in this process how often a function was called.
    "net_builder_test.py": ["test_multi_instance_python_op"],
}
"""Tests that cannot pass when operators run elsewhere."""

PLUGIN = """\
import procession.caffe2
from caffe2.python.session import LocalSession
LocalSession.processes = True
"""


@pytest.mark.skipif(FOLDER is None, reason="PROCESSION_CAFFE2_SUITES names no folder")
@pytest.mark.parametrize("plugin", ["procession.caffe2", "with_processes"])
def test_the_suites_pass(plugin: str, tmp_path: Path) -> None:
    (tmp_path / "with_processes.py").write_text(PLUGIN, encoding="utf-8")
    package = Path(procession.__file__).resolve().parents[1]
    deselected = [
        name for names in _ONLY_HERE.values() for name in names if plugin == "with_processes"
    ]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", plugin]
    command += ["-k", " and ".join(f"not {name}" for name in deselected)] if deselected else []
    done = subprocess.run(
        [*command, *sorted(map(str, Path(FOLDER).resolve().glob("*_test.py")))],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(package), str(tmp_path)])},
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
