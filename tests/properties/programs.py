"""Random programs: how they are made up, and what they mean, one statement after the other.

A program is plain lists, so that it can be shown, shrunk and sent to another interpreter:

    ["set", out, value]                 out = value
    ["do", out, operator, a, b]         out = a operator b
    ["new", name, operator, a, b]       the same, to a blob that is new and has no name of its own
    ["loop", times, body]
    ["count", times, out, body]         a loop that adds its number to `out` before each body
    ["step", times, body]               the body as a step of its own, which runs so often
    ["if", [[test, body], ...], last]   the first body whose test holds, else `last`
    ["scope", name, body]
    ["stop", test]                      leave the innermost loop, behind this statement

A test is [comparison, a, b]. The variables `NAMES` hold whole numbers from the beginning on.
"""

import numpy as np
from hypothesis import strategies as st

NAMES = ("v0", "v1", "v2", "v3")
ARITHMETIC = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}
COMPARISONS = {"LT": np.less, "GT": np.greater, "EQ": np.equal, "NE": np.not_equal}


class Stop(Exception):  # noqa: N818 - a signal, not a mistake
    """The innermost loop is over."""


def interpret(body, values):
    """Do what a body says to the values, a dict of name to number."""
    for statement in body:
        kind, *rest = statement
        if kind == "set":
            values[rest[0]] = np.int64(rest[1])
        elif kind in ("do", "new"):
            out, operator, a, b = rest
            with np.errstate(over="ignore"):
                values[out] = ARITHMETIC[operator](values[a], values[b])
        elif kind in ("loop", "step", "count"):
            times, inner = rest[0], rest[-1]
            try:
                for number in range(times):
                    if kind == "count":
                        values[rest[1]] = values[rest[1]] + number
                    interpret(inner, values)
            except Stop:
                pass
        elif kind == "if":
            for test, inner in rest[0]:
                if holds(test, values):
                    interpret(inner, values)
                    break
            else:
                interpret(rest[1], values)
        elif kind == "scope":
            interpret(rest[1], values)
        elif kind == "stop" and holds(rest[0], values):
            raise Stop


def holds(test, values):
    """Whether a test is true."""
    comparison, a, b = test
    return bool(COMPARISONS[comparison](values[a], values[b]))


def meaning(program):
    """The values of all variables after a program."""
    values = dict.fromkeys(NAMES, np.int64(0))
    interpret(program, values)
    return {name: int(values[name]) for name in NAMES}


@st.composite
def bodies(draw, depth=3, in_loop=False, known=NAMES):
    """A list of statements."""
    known = list(known)
    body = []
    kinds = ["set", "do", "do", "new"]
    if depth:
        kinds += ["loop", "count", "step", "if", "if", "scope"]
    if in_loop:
        kinds.append("stop")
    any_known = st.sampled_from(known)

    def test():
        return [draw(st.sampled_from(sorted(COMPARISONS))), draw(any_known), draw(any_known)]

    def inner(in_loop):
        return draw(bodies(depth - 1, in_loop, tuple(known)))

    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(kinds))
        if kind == "set":
            body.append(["set", draw(st.sampled_from(NAMES)), draw(st.integers(-3, 3))])
        elif kind in ("do", "new"):
            operands = [draw(st.sampled_from(sorted(ARITHMETIC))), draw(any_known), draw(any_known)]
            out = draw(st.sampled_from(NAMES)) if kind == "do" else f"n{len(known)}"
            body.append([kind, out, *operands])
            if kind == "new":
                known.append(out)
                any_known = st.sampled_from(known)
        elif kind == "loop":
            body.append(["loop", draw(st.integers(0, 3)), inner(True)])
        elif kind == "count":
            times = draw(st.integers(0, 3))
            body.append(["count", times, draw(st.sampled_from(NAMES)), inner(True)])
        elif kind == "step":
            body.append(["step", draw(st.integers(1, 3)), inner(False)])
        elif kind == "scope":
            body.append(["scope", draw(st.sampled_from("ab")), inner(False)])
        elif kind == "stop":
            body.append(["stop", test()])
        else:
            branches = [[test(), inner(False)] for _ in range(draw(st.integers(1, 3)))]
            body.append(["if", branches, inner(False) if draw(st.booleans()) else []])
    return body
