"""Random programs mean the same everywhere: in every session, in a plain interpreter, in Caffe2."""

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.properties.building import build
from tests.properties.programs import NAMES, bodies, meaning

from procession import LocalSession, ProcessSession, WorkspaceType, core
from procession.graph import builder, names, ops, task

HOUSE = SimpleNamespace(core=core, net_builder=builder, task=task, ops=ops.ops)
CAFFE2 = os.environ.get("PROCESSION_CAFFE2_PYTHON")


def run(session, programs):
    """What the variables of each program hold in the end; each program is a node's."""
    with names.fresh():
        with task.TaskGroup() as group:
            outputs = [
                build(HOUSE, program, NAMES, f"n{index}", f"t{index}")[1]
                for index, program in enumerate(programs)
            ]
        session.run(group)
        return [
            {name: int(output.fetch()) for name, output in zip(NAMES, each, strict=True)}
            for each in outputs
        ]


@given(bodies())
@settings(max_examples=60, deadline=None)
def test_in_this_process(program):
    with LocalSession() as session:
        assert run(session, [program]) == [meaning(program)]


@given(st.lists(bodies(), min_size=2, max_size=3))
@settings(max_examples=30, deadline=None)
def test_nodes_beside_each_other(programs):
    with LocalSession(isolate=True) as session:
        assert run(session, programs) == [meaning(program) for program in programs]


@pytest.fixture(scope="module")
def processes():
    with ProcessSession(["n0", "n1"], timeout=60) as session:
        yield session


@given(st.lists(bodies(), min_size=2, max_size=2))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_in_worker_processes(processes, programs):
    assert run(processes, programs) == [meaning(program) for program in programs]


@pytest.mark.parametrize("kind", [WorkspaceType.PRIVATE, WorkspaceType.GLOBAL])
@given(program=bodies())
@settings(max_examples=30, deadline=None)
def test_again_and_again(kind, program):
    # A second run of the same group starts from where it started before. In a workspace that stays
    # it is a generated function after some runs.
    with LocalSession() as session, names.fresh():
        with task.TaskGroup(kind) as group:
            _, outputs = build(HOUSE, program, NAMES)
        for _ in range(5):
            session.run(group)
            got = {name: int(output.fetch()) for name, output in zip(NAMES, outputs, strict=True)}
            assert got == meaning(program)


@pytest.mark.skipif(not CAFFE2, reason="PROCESSION_CAFFE2_PYTHON names no interpreter with Caffe2")
def test_as_in_caffe2():
    programs = []

    @given(bodies())
    @settings(max_examples=150, deadline=None)
    def collect(program):
        programs.append(program)

    collect()
    script = Path(__file__).with_name("building.py")
    done = subprocess.run(
        [CAFFE2, str(script)],
        input=json.dumps({"programs": programs, "names": NAMES}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    for program, values in zip(programs, results, strict=True):
        assert dict(zip(NAMES, values, strict=True)) == meaning(program), program


def test_the_interpreter_itself():
    program = [
        ["set", "v0", 2],
        ["count", 3, "v1", [["do", "v0", "Mul", "v0", "v0"], ["stop", ["GT", "v0", "v1"]]]],
        ["if", [[["LT", "v0", "v1"], [["set", "v2", 1]]]], [["new", "n4", "Add", "v0", "v0"]]],
        ["step", 2, [["do", "v3", "Add", "v3", "v0"]]],
    ]
    assert meaning(program) == {"v0": 4, "v1": 0, "v2": 0, "v3": 8}
