"""Which operator makes which version of a blob: single assignment form of a net."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from procession.graph.proto import NetDef

Versioned = tuple[str, int]
"""A blob, and how often it was written before."""
Ssa = list[tuple[list[Versioned], list[Versioned]]]
"""For each operator what it reads and what it writes."""


def _operators(net: Any) -> Any:
    return (net if isinstance(net, NetDef) else net.Proto()).op


def get_ssa(net: Any, blob_versions: Mapping[str, int] | None = None) -> tuple[Ssa, dict[str, int]]:
    """A net's single assignment form, and every blob's last version. Caffe2: core.get_ssa.

    Args:
        net: A `Net` or a `NetDef`.
        blob_versions: Versions that blobs have before the net runs; 0 for all others.
    """
    versions = dict(blob_versions or {})
    ssa: Ssa = []
    for operator in _operators(net):
        read = [(blob, versions.setdefault(blob, 0)) for blob in operator.input]
        written = []
        for blob in operator.output:
            versions[blob] = versions.get(blob, 0) + 1
            written.append((blob, versions[blob]))
        ssa.append((read, written))
    return ssa, versions


def get_undefined_blobs(ssa: Ssa) -> set[str]:
    """The blobs that are read before they are written. Caffe2: core.get_undefined_blobs."""
    return {blob for read, _ in ssa for blob, version in read if version == 0}


def get_output_producers(ssa: Ssa) -> dict[Versioned, int]:
    """Versioned blob -> the number of the operator that writes it. Caffe2: the same."""
    return {value: index for index, (_, written) in enumerate(ssa) for value in written}


def get_op_ids_in_path(
    ssa: Ssa, blob_versions: Mapping[str, int], inputs: Iterable[Any], outputs: Iterable[Any]
) -> list[int]:
    """The numbers of the operators that `outputs` need, given `inputs`. Caffe2: the same.

    Args:
        ssa: What `get_ssa` returned, with `blob_versions`.
        blob_versions: Every blob's last version, which is the one that is meant.
        inputs: Blobs that need not be computed.
        outputs: Blobs that are wanted.
    """
    given = {(str(blob), blob_versions[str(blob)]) for blob in inputs}
    producers = get_output_producers(ssa)
    wanted = [(str(blob), blob_versions[str(blob)]) for blob in outputs]
    found: set[int] = set()
    while wanted:
        value = wanted.pop()
        producer = producers.get(value)
        if value in given or producer is None or producer in found:
            continue
        found.add(producer)
        wanted += ssa[producer][0]
    return sorted(found)
