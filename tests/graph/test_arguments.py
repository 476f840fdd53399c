"""Arguments as messages, and the counter of runs."""

from __future__ import annotations

import numpy as np
import pytest

from procession import LocalSession, Net
from procession.graph.arguments import arguments_by_name, make_argument
from procession.graph.iteration import count_runs
from procession.graph.proto import Argument


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (3, 3),
        (2.5, 2.5),
        ("text", b"text"),
        (np.array([1, 2]), [1, 2]),
        (np.float32(0.5), 0.5),
        ([b"a", b"b"], [b"a", b"b"]),
    ],
)
def test_arguments_there_and_back(value: object, found: object) -> None:
    assert arguments_by_name([make_argument("name", value)]) == {"name": found}


def test_nets_are_arguments() -> None:
    net = Net("net").Proto()
    found = arguments_by_name([make_argument("one", net), make_argument("more", [net, net])])
    assert found == {"one": net, "more": [net, net]}


@pytest.mark.parametrize("value", [None, [None], [1, "a"], [[1]], 1j, object()], ids=repr)
def test_what_no_argument_can_be(value: object) -> None:
    with pytest.raises(ValueError, match="'name'"):
        make_argument("name", value)


def test_an_argument_without_a_value() -> None:
    made = [Argument(name="empty"), Argument(i=1), make_argument("list", [])]
    assert arguments_by_name(made) == {"empty": None, "list": None}
    assert arguments_by_name([]) == {}


def test_runs_are_counted_once_for_all_who_ask() -> None:
    init, net = Net("init"), Net("net")
    counter = count_runs(init, net, iter_val=5)
    assert count_runs(init, net) == counter
    assert [operator.type for operator in net.operators] == ["AtomicIter"]
    assert count_runs(init, net, "mine", "its_mutex") == "mine"
    session = LocalSession()
    session.run(init)
    for _ in range(3):
        session.run(net)
    counted = session.workspace().fetch_blob(counter)
    assert (counted.tolist(), counted.dtype) == ([8], np.int64)
    assert session.workspace().fetch_blob("mine").tolist() == [3]
