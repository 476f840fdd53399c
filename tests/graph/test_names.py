"""Which net, step and task names are taken."""

import threading

import pytest

from procession import Net, execution_step
from procession.graph import names


def test_names_are_numbered_from_the_second_on():
    assert [names.unique("net", "t") for _ in range(3)] == ["t", "t_1", "t_2"]


def test_kinds_do_not_meet():
    assert names.unique("net", "t") == "t"
    assert names.unique("step", "t") == "t"


def test_a_numbered_name_can_itself_be_taken():
    assert names.unique("net", "t_1") == "t_1"
    assert [names.unique("net", "t") for _ in range(2)] == ["t", "t_2"]
    assert names.unique("net", "t_1") == "t_1_1"


def test_reset_forgets():
    names.unique("net", "t")
    names.reset()
    assert names.unique("net", "t") == "t"


def test_fresh_gives_the_same_names_again():
    def build():
        net = Net("train")
        return [net.Name(), str(net.Add(["a", "b"])), execution_step("", net).Name()]

    with names.fresh():
        first = build()
    with names.fresh():
        assert build() == first == ["train", "train/Add", "step"]


def test_fresh_brings_back_what_was_taken_outside():
    names.unique("net", "outside")
    with names.fresh():
        assert names.unique("net", "outside") == "outside"
        with names.fresh():
            assert names.unique("net", "outside") == "outside"
        assert names.unique("net", "outside") == "outside_1"
        names.unique("net", "inside")
    assert names.unique("net", "outside") == "outside_1"
    assert names.unique("net", "inside") == "inside"


def test_fresh_brings_back_after_an_error():
    names.unique("net", "t")
    with pytest.raises(KeyError), names.fresh():
        raise KeyError
    assert names.unique("net", "t") == "t_1"


def test_threads_never_get_the_same_name():
    got = []
    barrier = threading.Barrier(4)

    def take():
        barrier.wait(10)
        got.extend(names.unique("net", "t") for _ in range(50))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(got)) == 200
