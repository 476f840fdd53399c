"""Lines: who may use which node, against a plain model, and with threads."""

from __future__ import annotations

import random
import threading
from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from procession import SessionBusyError, SessionClosedError
from procession.session.lines import Lines, Turn

NODES = ["a", "b", "c"]
SOME = st.lists(st.sampled_from(NODES), min_size=1, max_size=3, unique=True)


class LinesMachine(RuleBasedStateMachine):
    """The model: all turns in the order of their coming, and who has begun."""

    turns = Bundle("turns")

    def __init__(self) -> None:
        super().__init__()
        self.lines = Lines()
        self.order: list[Turn] = []
        self.told: list[Turn] = []

    def turn(self, nodes, anywhere=False) -> Turn:
        turn = Turn(nodes, begin=lambda: self.told.append(turn), anywhere=anywhere)
        turn.thread = id(turn)  # each from a thread of its own
        self.order.append(turn)
        self.lines.enter(turn)
        return turn

    @rule(target=turns, nodes=SOME)
    def wants_all(self, nodes):
        return self.turn(nodes)

    @rule(target=turns, nodes=SOME)
    def wants_any(self, nodes):
        return self.turn(nodes, anywhere=True)

    @rule(turn=turns)
    def leaves(self, turn):
        self.lines.leave(turn)
        if turn in self.order:
            self.order.remove(turn)

    @rule(turn=turns)
    def withdraws(self, turn):
        begun = turn in self.lines.running
        assert self.lines.withdraw(turn) is not begun
        if not begun and turn in self.order:
            self.order.remove(turn)

    @rule(turn=turns)
    def is_called_off(self, turn):
        stopped = []
        self.lines.call_off(turn, stopped.append)
        assert stopped == ([turn] if turn in self.lines.running else [])

    @invariant()
    def a_node_serves_one(self):
        busy = [node for turn in self.lines.running for node in turn.nodes]
        assert len(busy) == len(set(busy))

    @invariant()
    def only_those_that_are_there_have_begun(self):
        assert self.lines.running <= set(self.order)
        assert len(self.told) == len(set(self.told))
        assert self.lines.running <= set(self.told)

    @invariant()
    def nobody_waits_for_nobody(self):
        busy = {node for turn in self.lines.running for node in turn.nodes}
        claimed: set[str] = set()
        wanted = {node for turn in self.order if not turn.anywhere for node in turn.nodes}
        for turn in self.order:
            if turn in self.lines.running:
                continue
            if turn.anywhere:
                # It begins where nobody is and nobody else waits.
                assert set(turn.nodes) <= busy | wanted
                continue
            # Somebody who came before is at one of its nodes, or waits for one.
            assert set(turn.nodes) & (busy | claimed)
            claimed.update(turn.nodes)

    @invariant()
    def those_that_came_first_come_first(self):
        for node in NODES:
            here = [t for t in self.order if node in t.nodes and not t.anywhere]
            begun = [turn in self.lines.running for turn in here]
            assert begun == sorted(begun, reverse=True)


LinesMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
TestAgainstTheModel = LinesMachine.TestCase


def in_background(job) -> threading.Thread:
    thread = threading.Thread(target=job, daemon=True)
    thread.start()
    return thread


class TestThreads:
    def test_each_has_its_nodes_alone(self):
        seed = random.randrange(1 << 30)
        print("seed", seed)
        lines = Lines()
        inside = dict.fromkeys(NODES, 0)
        wrong = []

        def work(number):
            chance = random.Random(seed + number)
            for _ in range(200):
                anywhere = chance.random() < 0.3
                turn = Turn(chance.sample(NODES, chance.randint(1, 3)), anywhere=anywhere)
                try:
                    lines.enter(turn)
                    for node in turn.nodes:
                        inside[node] += 1
                        if inside[node] != 1:
                            wrong.append(node)
                    for node in turn.nodes:
                        inside[node] -= 1
                finally:
                    lines.leave(turn)

        threads = [in_background(lambda n=n: work(n)) for n in range(8)]
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert not wrong
        assert not lines.running

    def test_one_that_gives_up_waiting_lets_the_next_through(self):
        lines = Lines()
        first, second, third = (Turn(["a"]) for _ in range(3))
        lines.enter(first)
        first.thread = None
        second.thread = 1
        lines.enter(second, timeout=0.01)
        assert second not in lines.running
        third.begin = (begun := threading.Event()).set
        lines.enter(third)
        lines.leave(second)
        assert not begun.is_set()
        lines.leave(first)
        assert begun.is_set()

    def test_a_thread_does_not_wait_for_itself(self):
        lines = Lines()
        turn = Turn(["a", "b"])
        lines.enter(turn)
        again = Turn(["b", "c"])
        with pytest.raises(SessionBusyError):
            lines.enter(again)
        lines.leave(again)
        lines.leave(turn)
        other = Turn(["c", "b"])
        lines.enter(other)
        assert other in lines.running

    def test_a_signal_in_the_middle_is_refused(self):
        lines = Lines()

        def handler():
            with pytest.raises(SessionBusyError):
                lines.enter(Turn(["b"]))

        # `begin` is called where a signal handler may be as well.
        lines.enter(Turn(["a"], begin=handler))


class TestClosing:
    def test_refuses_who_waits_and_waits_for_who_is_inside(self):
        lines = Lines()
        turn = Turn(["a"])
        lines.enter(turn)
        refused, began = [], threading.Event()

        def wait():
            mine = Turn(["a"])
            began.set()
            try:
                lines.enter(mine)
            except SessionClosedError:
                refused.append(mine)
            finally:
                lines.leave(mine)

        thread = in_background(wait)
        background = Turn(["a", "b"], begin=lambda: None)
        lines.enter(background)
        assert began.wait(20)
        while len(lines._lines["a"]) < 3:
            threading.Event().wait(0.001)
        assert lines.close() == [background]
        thread.join(20)
        assert len(refused) == 1
        with pytest.raises(SessionClosedError):
            lines.enter(Turn(["c"]))
        # Not by its own thread, which would wait for itself.
        assert lines.in_turn()
        assert lines.empty()
        waited = []
        other = in_background(lambda: waited.append(lines.empty(20)))
        lines.leave(turn)
        other.join(20)
        assert waited == [True]

    def test_somebody_inside_too_long(self):
        lines = Lines()
        turn = Turn(["a"])
        turn.thread = 1
        lines.enter(turn)
        lines.close()
        assert not lines.empty(0.01)
        lines.leave(turn)
        assert lines.empty()

    def test_leaving_a_place_that_was_half_taken(self):
        lines = Lines()
        turn = Turn(["a", "b"], begin=lambda: None, anywhere=True)
        # As Ctrl-C may leave it, between the two.
        lines._anywhere.append(turn)
        lines._lines["a"] = deque([turn])
        lines.leave(turn)
        assert not lines._anywhere
        after = Turn(["a"], begin=lambda: None)
        lines.enter(after)
        assert after in lines.running
