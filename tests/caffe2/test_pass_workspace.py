"""A Python operator's function in a script: it may import caffe2, and use its workspace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import numpy as np
from caffe2.python import core, workspace
from caffe2.python.net_builder import ops
from caffe2.python.session import LocalSession
from caffe2.python.task import Node, Task, TaskGroup, final_output


def function(inputs, outputs, ws):
    from caffe2.python import workspace

    assert isinstance(workspace.CurrentWorkspace(), str)
    ws.create_blob("made").feed(np.float32([1, 2]))
    net = core.Net("inner")
    net.Add(["made", "made"], "doubled")
    ws.run(net)
    workspace.C.Workspace(ws).create_net(net).run()
    outputs[0].feed(ws.fetch_blob("doubled"))


net = core.Net("net")
net.Python(function, pass_workspace=True)([], ["out"])
with TaskGroup() as group:
    with Node("far"):
        with Task():
            ops.net(net)
            output = final_output(core.BlobReference("out"))
session = LocalSession()
session.run(group)
print(output.fetch().tolist())
"""


@pytest.mark.parametrize("mode", [[], ["--processes"]])
def test_a_function_imports_caffe2_and_runs_nets(mode: list[str], tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "procession.caffe2", *mode, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout == "[2.0, 4.0]\n"
