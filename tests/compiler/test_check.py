"""Which blobs a program reads and writes, and which it may not see."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procession import (
    BlobIsolationError,
    ExecutionStep,
    Net,
    Node,
    Plan,
    Task,
    TaskGroup,
    execution_step,
    final_output,
)
from procession.compiler.check import check_isolation, writes_of
from procession.compiler.lower import lower
from procession.graph import names


def net_of(*pairs, name="n"):
    """A net of Relus: "x>y" reads x and writes y."""
    net = Net(name)
    for pair in pairs:
        source, target = pair.split(">")
        if source:
            net.Relu(source, target)
        else:
            net.ConstantFill([], target)
    return net


def reads(runnable):
    [program] = lower(runnable, isolated=True).programs
    return set(program.reads)


def writes(runnable):
    [program] = lower(runnable, isolated=True).programs
    return set(program.writes)


# Reads and writes.


def test_a_net_reads_what_it_did_not_write():
    net = net_of("a>b", "b>c", "d>d", "c>a")
    assert reads(net) == {"a", "d"}
    assert writes(net) == {"a", "b", "c", "d"}


def test_later_steps_read_what_earlier_ones_wrote():
    plan = Plan(ExecutionStep("s", net_of("a>b")))
    plan.AddStep(ExecutionStep("t", [net_of("b>c"), net_of("e>f")]))
    assert reads(plan) == {"a", "e"}


def test_tasks_of_a_node_may_write_for_each_other():
    with TaskGroup() as group:
        Task(step=net_of("b>c"))
        Task(step=net_of("a>b"))
    assert reads(group) == {"a"}


def test_a_task_reads_what_it_only_writes_later_itself():
    with TaskGroup() as group:
        Task(step=net_of("b>c", "a>b"))
        Task(step=net_of("e>f"))
    assert reads(group) == {"a", "b", "e"}


def test_reads_name_their_task():
    with TaskGroup() as group:
        Task(step=net_of("a>b"), name="first")
        Task(step=net_of("e>f", "a>g"), name="second")
    [program] = lower(group, isolated=True).programs
    assert dict(program.reads) == {"a": "local/first", "e": "local/second"}


def test_outputs_are_read_unless_they_are_written():
    with TaskGroup() as group:
        Task(step=net_of(">a"), name="t", outputs=["a", "b"])
    [program] = lower(group, isolated=True).programs
    assert dict(program.reads) == {"b": "local/t"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"a"}),
        ({"num_iter": 3}, {"a"}),
        ({"num_iter": 1}, {"a"}),
        ({"create_workspace": True}, {"a"}),
        ({"num_concurrent_instances": 2}, {"a"}),
        ({"concurrent_substeps": True}, {"a"}),
        ({"num_iter": 0}, set()),
        ({"only_once": True}, set()),
        ({"run_every_ms": 1}, set()),
    ],
)
def test_only_certain_reads_count(options, expected):
    step = execution_step("s", net_of("a>b"), **options)
    assert reads(execution_step("around", [step])) == expected
    assert writes(step) == {"b"}


def test_behind_a_stop_blob_nothing_is_certain():
    step = execution_step("s", [net_of("a>b"), net_of("c>d")], should_stop_blob="stop")
    assert reads(step) == {"a", "stop"}


def test_an_uncertain_step_does_not_make_the_next_one_uncertain():
    first = execution_step("first", net_of("a>b"), num_iter=0)
    second = ExecutionStep("second", net_of("c>d"))
    assert reads(execution_step("s", [first, second])) == {"c"}


def test_what_an_uncertain_step_may_write_may_be_there():
    first = execution_step("first", net_of("a>b"), only_once=True)
    assert reads(execution_step("s", [first, net_of("b>c", "d>e")])) == {"d"}


def test_concurrent_parts_may_write_for_each_other():
    parts = [net_of("b>c"), net_of("a>b"), net_of("e>e")]
    step = execution_step("s", parts, concurrent_substeps=True)
    assert reads(step) == {"a", "e"}
    assert reads(execution_step("t", [step, net_of("c>f")])) == {"a", "e"}


def test_a_report_net_may_write_from_the_beginning_on():
    step = execution_step("s", net_of("a>b", "c>d"), report_net=net_of("z>a"), report_interval=1)
    assert reads(step) == {"c"}
    assert writes(step) == {"a", "b", "d"}


def test_writes_of_nested_steps():
    inner = execution_step("i", [net_of("a>b"), net_of("b>c")])
    [program] = lower(execution_step("s", [inner, net_of("x>y")]), isolated=True).programs
    [task] = program.tasks
    assert writes_of(task.step) == {"b", "c", "y"}
    assert writes_of(task.step.body[0]) == {"b", "c"}
    assert writes_of(task.step.body[0].body[0]) == {"b"}


BLOBS = "abcd"
pairs = st.tuples(st.sampled_from(BLOBS), st.sampled_from(BLOBS)).map(">".join)
bodies = st.recursive(
    st.lists(pairs, min_size=1, max_size=4),
    lambda inner: st.tuples(st.integers(0, 2), st.lists(inner, min_size=1, max_size=3)),
    max_leaves=5,
)


def lowered(body):
    """Nested lists as a step: a list of pairs is a net, a tuple is a number of iterations."""
    if isinstance(body, list):
        return ExecutionStep("net", net_of(*body))
    iterations, parts = body
    return execution_step("loop", [lowered(part) for part in parts], num_iter=iterations)


def interpret(body, there, missing):
    if isinstance(body, list):
        for pair in body:
            source, target = pair.split(">")
            if source not in there:
                missing.add(source)
            there.add(target)
        return
    iterations, parts = body
    for _ in range(iterations):
        for part in parts:
            interpret(part, there, missing)


@settings(max_examples=200, deadline=None)
@given(body=bodies)
def test_reads_are_what_a_run_would_miss(body):
    missing = set()
    interpret(body, set(), missing)
    with names.fresh():
        found = reads(lowered(body))
    skips = any_zero(body)
    # A loop that never runs may have written, for all that is looked at.
    assert found <= missing
    if not skips:
        assert found == missing


def any_zero(body):
    return isinstance(body, tuple) and (body[0] == 0 or any(map(any_zero, body[1])))


@settings(max_examples=100, deadline=None)
@given(bodies=st.lists(st.lists(pairs, min_size=1, max_size=4), min_size=1, max_size=3))
def test_tasks_miss_what_no_order_of_them_gives(bodies):
    with names.fresh(), TaskGroup() as group:
        for body in bodies:
            Task(step=net_of(*body))
    missing = set()
    for body in bodies:
        others = [pair for other in bodies if other is not body for pair in other]
        # At best all others have ended before.
        interpret(body, {pair.split(">")[1] for pair in others}, missing)
    assert reads(group) == missing


# Isolation.


def two_nodes(first, second, outputs=None):
    with TaskGroup() as group:
        with Node("n1"):
            Task(step=first, name="one")
        with Node("n2"):
            Task(step=second, name="two", outputs=outputs)
    return group


def test_a_blob_that_another_node_makes_is_refused():
    group = two_nodes(net_of(">made"), net_of("made>mine"))
    with pytest.raises(BlobIsolationError) as caught:
        lower(group, isolated=True)
    error = caught.value
    assert isinstance(error, RuntimeError)
    assert (error.blob, error.task, error.reader, error.owner) == ("made", "n2/two", "n2", "n1")
    for word in ("'made'", "'n2/two'", "'n2'", "'n1'", 'session.workspace("n2").feed_blob("made"'):
        assert word in str(error)


def test_the_order_of_tasks_does_not_matter():
    with TaskGroup() as group:
        Task(step=net_of("made>mine"), node="n2")
        Task(step=net_of(">made"), node="n1")
    with pytest.raises(BlobIsolationError, match="only node 'n1' has"):
        lower(group, isolated=True)


def test_sessions_that_share_everything_do_not_refuse():
    group = two_nodes(net_of(">made"), net_of("made>mine"))
    assert lower(group, isolated=False).nodes == ("n1", "n2")


def test_an_output_of_another_nodes_blob_is_refused():
    with pytest.raises(BlobIsolationError, match="reads blob 'made'"):
        lower(two_nodes(net_of(">made"), net_of(">other"), outputs="made"), isolated=True)
    with TaskGroup() as group:
        Task(step=net_of(">made"), node="n1")
        with Node("n2"):
            final_output("made")
    with pytest.raises(BlobIsolationError, match="on node 'n2' reads blob 'made'"):
        lower(group, isolated=True)


def test_a_read_inside_a_step_is_refused():
    step = execution_step("s", [execution_step("t", net_of("made>mine"), num_iter=3)])
    with pytest.raises(BlobIsolationError):
        lower(two_nodes(net_of(">made"), step), isolated=True)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        # Each node has a blob of that name, from an earlier run.
        (["w>w"], ["w>w"]),
        (["w>w"], ["w>x"]),
        # Each makes its own.
        ([">x", "x>y"], [">x", "x>y"]),
        # Read first, and made afterwards: it is in the reader's own workspace.
        ([">x"], ["x>y", "y>x"]),
        # Nobody makes it: the run will tell.
        (["a>b"], ["a>c"]),
        (["a>b"], ["c>d"]),
    ],
)
def test_what_is_not_refused(first, second):
    group = two_nodes(net_of(*first), net_of(*second))
    assert lower(group, isolated=True).nodes == ("n1", "n2")


def test_another_task_of_the_same_node_may_write_it():
    with TaskGroup() as group:
        Task(step=net_of(">made"), node="n1")
        Task(step=net_of("made>mine"), node="n2")
        Task(step=net_of(">made"), node="n2")
    assert lower(group, isolated=True).nodes == ("n1", "n2")


def test_a_declared_input_is_the_nodes_own():
    reader = Net("reader")
    reader.AddExternalInput("made")
    reader.Relu("made", "mine")
    assert lower(two_nodes(net_of(">made"), reader), isolated=True).nodes == ("n1", "n2")
    # The declaration of one node is none for another.
    with TaskGroup() as group:
        Task(step=net_of(">made"), node="n1")
        Task(step=reader, node="n2")
        Task(step=net_of("made>mine"), node="n3")
    with pytest.raises(BlobIsolationError) as caught:
        lower(group, isolated=True)
    assert caught.value.reader == "n3"


def test_a_declared_input_survives_cloning_and_appending():
    reader = Net("reader")
    reader.AddExternalInput("made")
    reader.Relu("made", "mine")
    for net in (reader.Clone("copy"), Net("around").AppendNet(reader)):
        assert lower(two_nodes(net_of(">made"), net), isolated=True).nodes == ("n1", "n2")


def test_an_uncertain_read_is_left_to_the_run():
    step = execution_step("s", net_of("made>mine"), only_once=True)
    assert lower(two_nodes(net_of(">made"), step), isolated=True).nodes == ("n1", "n2")


def test_the_owner_is_who_makes_it():
    """Of two nodes that write a blob, one that needs it first is not its maker."""

    def program(node, reads, writes):
        return SimpleNamespace(node=node, reads=dict.fromkeys(reads, "t"), writes=set(writes))

    reader, updater = program("r", ["b"], []), program("u", ["b"], ["b"])
    check_isolation([reader, updater], {})
    maker = program("m", [], ["b"])
    with pytest.raises(BlobIsolationError) as caught:
        check_isolation([updater, reader, maker], {})
    assert (caught.value.reader, caught.value.owner) == ("r", "m")
    check_isolation([updater, reader, maker], {"r": frozenset("b")})
