"""The gradients of random nets with branches and loops are their derivatives, on every path."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.properties.derivatives import FLAGS, PARAMETERS, build, meaning, programs

from procession import GradientError, LocalSession, ProcessSession
from procession.graph import names

PATHS = [dict(zip(FLAGS, each, strict=True)) for each in itertools.product([True, False], repeat=2)]
STEP = 1e-30
values = st.fixed_dictionaries({name: st.floats(-1.5, 1.5, width=16) for name in PARAMETERS})


def derivative(program, at, flags, name):
    return meaning(program, {**at, name: complex(at[name], STEP)}, flags).imag / STEP


def check(session, program, at, careful=True):
    with names.fresh():
        net, loss = build(program, careful)
        gradients = net.AddGradientOperators([loss])
    workspace = session.workspace()
    for flags in PATHS:
        for name, value in flags.items():
            workspace.feed_blob(name, np.array(value))
        for name, value in at.items():
            workspace.feed_blob(name, np.float64([value]))
        session.run(net)
        result = workspace.fetch_blob(str(loss)).item()
        assert result == pytest.approx(meaning(program, at, flags).real, rel=1e-9, abs=1e-9)
        for name in PARAMETERS:
            found = workspace.fetch_blob(str(gradients[name])) if name in gradients else 0.0
            expected = derivative(program, at, flags, name)
            assert np.shape(found) in ((), (1,))
            assert float(np.sum(found)) == pytest.approx(expected, rel=1e-7, abs=1e-9), name


# A branch that adds to the gradient that comes in, which is called as its sum would be.
NAMED_ALIKE = (
    ("p", "p"),
    [
        ("if", "f", [("do", "a", "Sin", ("a",))], [("do", "b", "Sin", ("a",))]),
        ("do", "a", "Add", ("a", "a")),
        ("do", "a", "Tanh", ("a",)),
    ],
)


@given(programs(), values)
@example(NAMED_ALIKE, {"p": 0.25, "q": 0.5})
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_in_this_process(program, at):
    with LocalSession() as session:
        check(session, program, at)


@given(programs(), values)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_right_or_refused(program, at):
    with LocalSession() as session:
        try:
            check(session, program, at, careful=False)
        except GradientError as error:
            if "copy it first" not in str(error):
                raise


@given(programs(), values)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_in_a_worker_process(program, at):
    with ProcessSession(timeout=60) as session:
        check(session, program, at)
