"""Draws how training went: the loss and the accuracy of each epoch. Needs matplotlib."""

from __future__ import annotations

import importlib.util
from pathlib import Path

Course = list[tuple[float, float]]
"""Of each epoch: the mean of the loss, and the accuracy behind it."""
FORMATS = (".png", ".svg", ".pdf")


def why_not(file: Path) -> str | None:
    """Why nothing can be drawn to a file; None if it can. A file that is there is left as it is."""
    if importlib.util.find_spec("matplotlib") is None:
        return "needs matplotlib, which comes with the extra 'cli': pip install 'procession[cli]'"
    if file.is_dir():
        return f"needs a file: {str(file)!r} is a directory"
    if file.suffix.lower() not in FORMATS:
        return f"cannot draw {str(file)!r}: it has to end in {', '.join(FORMATS)}"
    there = file.exists()
    try:
        file.open("ab").close()
        if not there:
            file.unlink()
    except OSError as error:
        return f"cannot write {str(file)!r}: {error.strerror}"
    return None


def plot(file: Path, course: Course) -> None:
    """Draw a course of an epoch or more."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(2, sharex=True, figsize=(6, 6))
    numbers = range(1, len(course) + 1)
    losses, accuracies = zip(*course, strict=True)
    above.semilogy(numbers, losses)
    above.set_ylabel("loss")
    below.plot(numbers, accuracies)
    below.set_ylabel("held-out accuracy")
    below.set_xlabel("epoch")
    below.xaxis.get_major_locator().set_params(integer=True)
    figure.tight_layout()
    figure.savefig(file)
