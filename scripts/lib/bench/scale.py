"""`scripts/bench scale`: hundreds of nodes, and what each costs."""

from __future__ import annotations

from collections.abc import Iterator

from bench.case import Ask, Case, Goal, Result
from bench.pairs import Pairs, tell

MIB = 1 << 20
SIDES = {"procession": "ProcessSession", "limit": "bare NumPy children, raw Pipes"}


def results(pairs: Pairs, quick: bool) -> Iterator[Result]:
    """Sessions of growing size: all costs of each come from the same session."""
    sizes = [2, 4] if quick else [16, 64, 256]
    for side in SIDES:  # what is started once for all of them
        pairs.ask(side, "scale", budget=0.0, nodes=1)
    measured: dict[tuple[str, int], list[dict[str, float]]] = {}
    for number in range(pairs.rounds):
        for nodes in sizes:
            for side in SIDES:
                tell(f"{nodes} nodes: {side}, round {number + 1} of {pairs.rounds}")
                answer = pairs.ask(side, "scale", budget=pairs.budget, nodes=nodes)
                measured.setdefault((side, nodes), []).append(answer)
    tell("")
    most = sizes[-1]
    for key, what, per_node, unit, bound in (
        ("open", "open", False, "seconds", 5.0),
        ("open", "open, for each node", True, "seconds", None),
        ("run", "one run on all, for each node", True, "seconds", 60e-6),
        ("close", "close", False, "seconds", 2.0),
        ("close", "close, for each node", True, "seconds", None),
        ("uss", "own memory (USS) of an idle node", False, "bytes", 8.0 * MIB),
    ):
        asks, figures = {}, {}
        for side, title in SIDES.items():
            for nodes in reversed(sizes):
                name = f"{side}_{nodes}"
                asks[name] = Ask(
                    side,
                    "scale",
                    {"nodes": nodes},
                    f"{nodes} nodes: {title}",
                    ours=f"procession_{nodes}",
                )
                divisor = nodes if per_node else 1
                figures[name] = [[each[key] / divisor] for each in measured[side, nodes]]
        goals = () if quick or bound is None else (Goal(bound, ours=f"procession_{most}"),)
        case = Case(
            key + "_each" * per_node,
            f"sessions of {most} and fewer nodes: {what}",
            asks,
            goals,
            unit,
        )
        yield Result(case, figures)
