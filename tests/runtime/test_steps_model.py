"""Steps do what their model says: the model by itself, and Executable held against it."""

import random
import sys
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, event, given, reject, settings
from hypothesis import strategies as st
from tests.runtime import steps_model
from tests.runtime.nets import PATIENCE, call, execute
from tests.runtime.steps_model import NetModel, StepModel, TooLargeError, a_trace, all_traces

from procession import OperatorError, Workspace, execution_step
from procession.compiler.lower import lower
from procession.runtime.executor import Executable
from procession.runtime.monitor import Deadline

# The model by itself.


def allows(*question):
    """What the model says; an example of hypothesis that is too large for it is passed over."""
    try:
        return steps_model.allows(*question)
    except TooLargeError:
        reject()


def step(*parts, name="s", **options):
    """A step of nets (given as names) or steps."""
    models = tuple(NetModel(part) if isinstance(part, str) else part for part in parts)
    return StepModel(name, models, **options)


def stopper(name, after=1, blob="stop"):
    return NetModel(name, writes=blob, after=after)


def traces(model, **blobs):
    return {"".join(trace) for trace, failed in all_traces(model, blobs)}


ONE_BY_ONE = [
    (step("a", "b"), "ab"),
    (step("a", "b", iterations=2), "abab"),
    (step("a", iterations=0), ""),
    (step(iterations=3), ""),
    (step(step("a", iterations=2), step("b"), iterations=2), "aabaab"),
    # The stop blob is read behind each net or substep, not before the first and not within.
    (step("a", stopper("s", 3), "b", stop="stop"), "asbasbas"),
    (step(step("a"), step(stopper("s", 2)), step("b"), stop="stop"), "asbas"),
    (step(step(stopper("s"), "a", iterations=3), step("b"), stop="stop"), "sasasa"),
    (step(step(stopper("s"), "a", stop="stop"), step("b"), stop="stop"), "s"),
    # `only_once`: in a whole run, or with a stop blob one iteration each time.
    (step(step("a", only_once=True, iterations=2, name="o"), step("b"), iterations=3), "aabbb"),
    (step(step("a", stopper("s", 9), only_once=True, stop="stop"), iterations=3), "asasas"),
    (step(step(stopper("s"), "a", only_once=True, stop="stop"), iterations=3), "sss"),
    # A step's workspace lasts as long as the step does; a blob made in it is gone then.
    (
        step(
            step(step(stopper("s"), create_workspace=True), step("a"), stop="stop"),
            name="outer",
            iterations=1,
        ),
        None,
    ),
    (step(step("t", recurs=True), step("a"), iterations=2), "aat"),
    (step("a", report=NetModel("r"), iterations=0), "r"),
    (step(step("a", report=NetModel("r"), iterations=2), iterations=2), "aaraar"),
]


@pytest.mark.parametrize(("model", "trace"), ONE_BY_ONE)
def test_without_threads_there_is_one_trace(model, trace):
    if trace is None:
        # Nobody else sees the blob that was to stop the loop: it never ends.
        assert allows(step(model.parts[0].parts[0]), "s", {})
        assert not allows(model, "s", {})
        assert not allows(model, "sasasa", {})
        return
    assert traces(model) == {trace}
    assert allows(model, trace, {})
    assert not allows(model, trace + "x", {})
    assert not trace or not allows(model, trace[:-1], {})


def test_a_stop_blob_that_is_true_from_the_beginning():
    assert traces(step("a", "b", stop="stop"), stop=True) == {"a"}
    assert traces(step("a", "b", stop="stop", only_once=True), stop=False) == {"ab"}


def test_a_blob_that_is_there_is_written_where_it_is():
    inner = step(stopper("s"), create_workspace=True)
    assert traces(step(inner, step("a"), stop="stop"), stop=False) == {"s"}


def test_at_once():
    both = step(step("a", "b"), step("x"), concurrent=True)
    assert traces(both) == {"abx", "axb", "xab"}
    # An iteration ends when all have.
    assert traces(step(step("a"), step("b"), concurrent=True, iterations=2)) == {
        "abab",
        "abba",
        "baab",
        "baba",
    }


def test_instances_are_copies_of_substeps():
    twice = step(step("a"), step("b"), instances=2)
    assert traces(twice) == {"aabb", "abab", "abba", "baab", "baba", "bbaa"}
    assert traces(step("a", "b", instances=2)) == {"aabb", "abab"}


def test_only_once_among_instances():
    model = step(step(step("a", only_once=True, name="o"), step("b")), instances=2)
    # Who comes second does not wait for the first.
    assert traces(model) == {"abb", "bab"}


def test_a_loop_beside_what_stops_it():
    model = step(step("a", stop="stop"), step(stopper("s")), concurrent=True)
    # A loop runs at least once, and goes on until the write is visible.
    for possible in ("as", "asa", "sa", "saa", "aaas", "aaasaaa"):
        assert allows(model, possible, {"stop": False})
    for impossible in ("s", "a", "", "ass"):
        assert not allows(model, impossible, {"stop": False})


def test_a_failure_ends_everything_once_it_is_noticed():
    model = step(step(NetModel("f", fails_at=1), "x"), step("a", "b"), concurrent=True)
    assert {failed for _, failed in all_traces(model, {})} == {"f"}
    assert traces(model) == {"f", "af", "abf", "fa", "fab", "afb"}
    assert not allows(model, "fab", {})
    assert allows(model, "fab", {}, "f")
    late = step(NetModel("f", fails_at=2), iterations=3)
    assert all_traces(late, {}) == {(("f", "f"), "f")}


# Random steps.


BLOBS = ("p", "q")


@st.composite
def net_models(draw, names):
    kind = draw(st.sampled_from(["plain", "plain", "plain", "plain", "writes", "fails"]))
    name = f"n{next(names)}"
    if kind == "writes":
        return NetModel(name, writes=draw(st.sampled_from(BLOBS)), after=draw(st.integers(1, 3)))
    if kind == "fails":
        # Most of these never come to it.
        return NetModel(name, fails_at=draw(st.integers(1, 8)))
    return NetModel(name)


@st.composite
def step_models(draw, names, events=24, threads=4, depth=3):
    """A step of at most about so many events, and so many threads at once."""
    options = {"create_workspace": draw(st.integers(0, 4)) == 4}
    kind = draw(st.sampled_from(["once", "once", "count", "stop", "only_once"]))
    times = 1
    if kind == "count":
        times = options["iterations"] = draw(st.sampled_from([2, 3, 1, 0]))
    elif kind == "only_once":
        options["only_once"] = True
    elif kind == "stop":
        options["stop"] = draw(st.sampled_from(BLOBS))
        options["only_once"] = draw(st.booleans())
        # It has to end: see below.
        times = 1 if options["only_once"] else 3
    events //= max(times, 1)
    if draw(st.integers(0, 5)) == 5:
        events -= 1
        options["report"] = draw(net_models(names))
    if draw(st.integers(0, 4)) == 4 and threads > 1:
        options["instances"] = 2
        threads, events = threads // 2, events // 2
    ends = options.get("stop") if times == 3 else None
    parts = []
    if depth == 0 or events < 4 or draw(st.integers(0, 2)) == 0:
        for _ in range(draw(st.integers(1, max(1, min(3, events))))):
            parts.append(draw(net_models(names)))
        if ends is not None:
            after = draw(st.integers(1, 3))
            parts.append(NetModel(f"n{next(names)}", writes=ends, after=after))
    else:
        count = draw(st.integers(1, 3))
        options["concurrent"] = draw(st.booleans()) and 1 < count <= threads
        at_once = count if options["concurrent"] or "instances" in options else 1
        for _ in range(count):
            share = step_models(names, events // count, max(1, threads // at_once), depth - 1)
            part = draw(share)
            if part.stop is None and draw(st.integers(0, 5)) == 5:
                part = StepModel(**{**vars(part), "recurs": True})
            parts.append(part)
        if ends is not None:
            stops = NetModel(f"n{next(names)}", writes=ends, after=draw(st.integers(1, 3)))
            parts.append(StepModel(f"s{next(names)}", (stops,)))
    return StepModel(f"s{next(names)}", tuple(parts), **options)


@st.composite
def models(draw):
    names = iter(range(10_000))
    return draw(step_models(names))


EXAMPLES = 100
blobs = st.dictionaries(st.sampled_from(BLOBS), st.booleans())
ages = 3600 * 1000


class Recorder:
    """Makes of a model what it is a model of, which records what happens."""

    def __init__(self):
        self.trace = []
        self.counts = {}
        self.lock = threading.Lock()

    def net(self, model):
        def run(inputs, outputs):
            with self.lock:
                self.trace.append(model.name)
                count = self.counts[model.name] = self.counts.get(model.name, 0) + 1
            if model.fails_at == count:
                raise ZeroDivisionError(f"<{model.name}>")
            if model.writes is not None:
                outputs[0].feed(np.array(count >= model.after))

        outputs = [] if model.writes is None else [model.writes]
        return call(run, outputs=outputs, name=model.name)

    def step(self, model):
        parts = [self.net(p) if isinstance(p, NetModel) else self.step(p) for p in model.parts]
        report = None if model.report is None else self.net(model.report)
        return execution_step(
            model.name,
            parts,
            num_iter=model.iterations,
            should_stop_blob=model.stop,
            only_once=model.only_once,
            concurrent_substeps=model.concurrent,
            num_concurrent_instances=model.instances,
            create_workspace=model.create_workspace,
            run_every_ms=ages if model.recurs else None,
            report_net=report,
            report_interval=None if report is None else ages / 1000,
        )


bounded = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@bounded
@given(model=models(), fed=blobs, seed=st.integers(0, 99))
def test_the_model_allows_what_it_does(model, fed, seed):
    trace, failed = a_trace(model, fed, random.Random(seed).choice)
    event(f"events: {len(trace) // 4 * 4}")
    assert allows(model, trace, fed, failed)
    assert not allows(model, trace, fed, "nobody")
    # Nothing can be left out at the end, and nothing be added.
    assert not allows(model, [*trace, "more"], fed, failed)
    if failed is None and trace and not loops(model):
        assert not allows(model, trace[:-1], fed)


def loops(model):
    """Whether anything in it runs until a blob says so."""
    steps = [part for part in model.parts if isinstance(part, StepModel)]
    return model.stop is not None or any(map(loops, steps))


def written(model):
    """The blobs that it may write."""
    if isinstance(model, NetModel):
        return {model.writes}
    return set().union(*map(written, model.parts), *map(written, filter(None, [model.report])))


@pytest.fixture(scope="module")
def hasty():
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@bounded
@given(model=models(), fed=blobs)
def test_steps_do_what_the_model_allows(hasty, model, fed):
    # A step cannot stop by a blob that nobody will ever make.
    fed = {name: False for name in BLOBS if name not in written(model)} | fed
    threads = set(threading.enumerate())
    workspace = Workspace()
    for name, value in fed.items():
        workspace.feed_blob(name, value)
    recorder = Recorder()
    failed = None
    try:
        execute(recorder.step(model), workspace)
    except OperatorError as error:
        failed = str(error.__cause__).strip("<>")
    event(f"events: {len(recorder.trace) // 4 * 4}, {'failed' if failed else 'ended well'}")
    assert allows(model, recorder.trace, fed, failed)
    assert set(workspace.names()) <= set(BLOBS)
    assert set(threading.enumerate()) == threads


# What depends on the threads' order cannot be made smaller.
@settings(bounded, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(model=models(), fed=blobs)
def test_steps_do_so_in_every_run(hasty, model, fed):
    # From the third run on they are generated functions.
    fed = {name: False for name in BLOBS if name not in written(model)} | fed
    workspace = Workspace()
    for name, value in fed.items():
        workspace.feed_blob(name, value)
    recorder = Recorder()
    executable = Executable(lower(recorder.step(model), isolated=False).merged)
    for _ in range(5):
        failed = None
        try:
            executable.run(workspace, Deadline(timeout=PATIENCE))
        except OperatorError as error:
            failed = str(error.__cause__).strip("<>")
        assert allows(model, recorder.trace, fed, failed)
        recorder.trace.clear()
        recorder.counts.clear()
        fed = {name: bool(workspace.fetch_blob(name)) for name in workspace.names()}


@pytest.mark.parametrize(("model", "trace"), [case for case in ONE_BY_ONE if case[1] is not None])
def test_steps_do_what_is_written_down(model, trace):
    recorder = Recorder()
    execute(recorder.step(model), Workspace())
    assert "".join(recorder.trace) == trace
