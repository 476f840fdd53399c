"""What is left in /dev/shm by sessions that were killed, listed and removed, in words.

Behind `python -m procession clean`. Who counts as dead is settled in `owner`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from procession.blobs import owner
from procession.blobs.owner import Holding

_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"))


def clean(*, remove: bool) -> Iterator[str]:
    """Remove the segments of owners that are dead, or only list them.

    Args:
        remove: Whether to remove them.

    Yields:
        Lines for people: what was removed, with sizes and ages, what was left alone, and why.
    """
    found = owner.survey(remove=remove)
    orphans = [one for one in found if one.dead]
    others = [one for one in found if not one.dead]
    for one in orphans:
        yield from _described(one)
    segments = sum(len(one.segments) for one in orphans)
    if orphans:
        nbytes = sum(sum(one.segments.values()) for one in orphans)
        what = f"{_count(segments, 'segment')} of {_count(len(orphans), 'session owner')} that died"
        yield f"{'Removed' if remove else 'Would remove'} {what}: {_count(nbytes, 'byte')}."
    else:
        yield f"Nothing to clean up in {owner.DIRECTORY}."
    if others:
        yield "Left alone:"
        for one in others:
            yield from _described(one, indent="  ", names=False)


def _described(one: Holding, indent: str = "", *, names: bool = True) -> Iterator[str]:
    nbytes = sum(one.segments.values())
    age = _age(time.time() - one.since) if one.since else "of unknown age"
    yield (
        f"{indent}{one.owner}: {one.why}; {_count(len(one.segments), 'segment')}, "
        f"{_count(nbytes, 'byte')}, {age}"
    )
    if names:
        for name, size in sorted(one.segments.items()):
            yield f"{indent}  {name}  {_count(size, 'byte')}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _age(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{_count(int(seconds // size), unit)} old"
    return f"{_count(max(0, int(seconds)), 'second')} old"
