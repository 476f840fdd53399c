"""`--plot`: the table as points, on scales that grow by factors of ten."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from bench.case import Result
from bench.report import shown, title

UNITS = {"seconds": "seconds", "rate": "per second", "bytes": "bytes"}
COLOURS = {"ours": "#1f5f99", "limit": "#7a9a3c", "other": "#b8b8b8"}


def check() -> None:
    """Raise when there is nothing to draw with.

    Raises:
        ModuleNotFoundError: matplotlib is missing; the message says how to get it.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ModuleNotFoundError(
            "--plot needs matplotlib, which comes with the extra 'bench': "
            "pip install 'procession[bench]'"
        )


def plot(results: Sequence[Result], file: Path) -> None:
    """Draw each case as a chart of its own, one below the other."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    bars = [len(result.figures) for result in results]
    figure, charts = pyplot.subplots(
        len(results),
        figsize=(9, 0.32 * sum(bars) + 1.1 * len(results)),
        height_ratios=[each + 1 for each in bars],
        layout="constrained",
        squeeze=False,
    )
    for result, chart in zip(results, charts[:, 0], strict=True):
        names = list(result.figures)[::-1]
        values = [result.median(name) for name in names]
        asks = [result.case.asks[name] for name in names]
        kinds = [
            "ours" if ask.side == "procession" else "limit" if ask.limit else "other"
            for ask in asks
        ]
        # No bars: on a scale without a zero their lengths would mean nothing.
        chart.scatter(
            values, range(len(names)), c=[COLOURS[kind] for kind in kinds], s=45, zorder=3
        )
        chart.grid(axis="y", color="#e6e6e6")
        chart.set_xlabel(UNITS[result.case.unit], fontsize=8)
        chart.set_ylim(-0.7, len(names) - 0.3)
        chart.set_yticks(range(len(names)), [title(result, name) for name in names])
        chart.set_xscale("log")
        chart.set_xlim(min(values) / 2, max(values) * 4)
        chart.xaxis.set_minor_formatter(ticker.NullFormatter())
        chart.set_title(result.case.what, loc="left", fontsize=10)
        chart.tick_params(labelsize=8)
        for place, value in enumerate(values):
            text = shown(value, result.case.unit)
            chart.annotate(
                text, (value, place), (6, 0), textcoords="offset points", va="center", fontsize=8
            )
        for goal in result.case.goals:
            if goal.against is None or goal.against not in result.figures:
                limit = None if goal.against else goal.bound
            else:
                limit = goal.bound * result.median(goal.against)
            if limit is not None:
                line = chart.axvline(limit, color="#c03020", linestyle="--", linewidth=1)
                line.set_label("goal")
                chart.legend(handles=[line], loc="lower right", fontsize=8)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)
