"""Random programs of smooth operators with branches and loops: as nets, and what they mean.

A program works on variables. Its branches and bodies read them, change them, overwrite them
unread, or leave them alone. What it means is computed by plain Python, on numbers of any kind, so
on complex ones, too: the derivative is the imaginary part of the result over that of the input.
"""

import cmath

from hypothesis import strategies as st

from procession.graph.builder import NetBuilder
from procession.graph.ops import ops
from procession.operators.datatype import DataType

PARAMETERS = ("p", "q")
"""Blobs from outside; `p` is a variable as well."""
VARIABLES = ("a", "b", "p")
FLAGS = ("f", "g")

UNARY = {"Sin": cmath.sin, "Tanh": cmath.tanh, "Sqr": lambda x: cmath.sin(x) ** 2}
BINARY = {"Add": lambda x, y: x + y, "Mul": lambda x, y: cmath.sin(x) * y}


@st.composite
def programs(draw):
    """(what `a` and `b` start with, body)."""
    starts = tuple(draw(st.sampled_from(["p", "q", "constant"])) for _ in "ab")
    return starts, draw(bodies(2, top=True))


@st.composite
def bodies(draw, depth, top=False, loops=False):
    """Statements; what a net has written, it reads when it writes it again."""
    own = set(VARIABLES) if top else set()
    made = []
    for _ in range(draw(st.integers(1, 3))):
        kinds = ["do", "do", "if", "while"] if depth else ["do"]
        kind = draw(st.sampled_from(["if", "while"] if top and not made else kinds))
        if kind == "do":
            made.append(draw(assignments(own)))
        elif kind == "if":
            then, other = (bodies(depth - 1, loops=loops) for _ in range(2))
            tests = [*FLAGS, "later"] if loops else FLAGS
            made.append(("if", draw(st.sampled_from(tests)), draw(then), draw(st.none() | other)))
        else:
            inner = draw(bodies(depth - 1, loops=True))
            asked = draw(st.none() | assignments(set()))
            made.append(("while", draw(st.integers(0, 3)), inner, asked))
        own |= written([made[-1]])
    return made


@st.composite
def assignments(draw, own):
    """("do", target, operator, operands)."""
    target = draw(st.sampled_from(VARIABLES))
    kind = draw(st.sampled_from([*UNARY, *BINARY]))
    operands = [draw(st.sampled_from([*VARIABLES, "q"])) for _ in range(1 + (kind in BINARY))]
    if target in own:
        operands[0] = target
    return "do", target, kind, tuple(operands)


def written(body):
    found = set()
    for kind, *rest in body:
        if kind == "do":
            found.add(rest[0])
        elif kind == "if":
            found |= written(rest[1]) | written(rest[2] or ())
        else:
            found |= written(rest[1]) | written([rest[2]] if rest[2] else ())
    return found


# What it means.


def meaning(program, values, flags):
    """The loss, of these parameters and on this path."""
    starts, body = program
    known = {**values, "constant": 0.7}
    known.update(zip("ab", (known[each] for each in starts), strict=True))
    early = cmath.sin(known["p"])
    _run(body, known, flags, 0)
    return early + sum(cmath.sin(known[each]) for each in VARIABLES)


def _run(body, known, flags, turn):
    for kind, *rest in body:
        if kind == "do":
            target, what, operands = rest
            function = UNARY.get(what) or BINARY[what]
            known[target] = function(*(known[each] for each in operands))
        elif kind == "if":
            test, then, other = rest
            taken = turn > 1 if test == "later" else flags[test]
            _run(then if taken else other or (), known, flags, turn)
        else:
            times, inner, asked = rest
            for each in range(times + 1):
                _run([asked] if asked else (), known, flags, turn)
                if each < times:
                    _run(inner, known, flags, each + 1)


# As a net.


def build(program, careful=True):
    """The net, and its loss. One that is careful reads copies, as a gradient needs what was read.

    One that is not may overwrite what a gradient needs.
    """
    starts, body = program
    with NetBuilder(_use_control_ops=True, initial_scope=[*PARAMETERS, *FLAGS]) as builder:
        blobs = {
            "constant": ops.Const([0.7], dtype=DataType.DOUBLE),
            **{each: each for each in "pqfg"},
        }
        early = ops.Sin(ops.Copy("p"))
        blobs.update(zip("ab", [ops.Copy(blobs[each]) for each in starts], strict=True))
        _add(body, blobs, None, _copy if careful else str)
        loss = ops.Sum([early, *(ops.Sin(blobs[each]) for each in VARIABLES)])
    return builder.get()[0], loss


def _copy(blob):
    # Into the net that is being built then.
    return ops.Copy(blob)


def _assign(target, kind, operands, blobs, read):
    inputs = [read(blobs[each]) for each in operands]
    if kind in ("Mul", "Sqr"):
        inputs[0] = ops.Sin(inputs[0])
    if kind == "Tanh":
        ops.Copy(ops.Tanh(inputs), [blobs[target]])
    else:
        getattr(ops, kind)(inputs, [blobs[target]])


def _add(body, blobs, turn, read):
    for kind, *rest in body:
        if kind == "do":
            _assign(*rest, blobs, read)
        elif kind == "if":
            test, then, other = rest
            condition = ops.GT([turn, ops.Const(1)]) if test == "later" else blobs[test]
            with ops.IfNet(condition):
                _add(then, blobs, turn, read)
            if other is not None:
                with ops.Else():
                    _add(other, blobs, turn, read)
        else:
            times, inner, asked = rest
            count = ops.Const(0)
            with ops.WhileNet():
                with ops.Condition():
                    if asked:
                        _assign(*asked[1:], blobs, read)
                    ops.LT([count, ops.Const(times)])
                ops.Add([count, ops.Const(1)], [count])
                _add(inner, blobs, count, read)
