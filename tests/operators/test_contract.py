"""What the registry promises about kernels, asked of every operator there is."""

import copy
import pickle

import numpy as np
import pytest
from tests.operators.samples import SAMPLES

from procession.operators import REGISTRY
from procession.operators.cursor import TreeCursor
from procession.operators.handles import AtomicBool, Counter, Mutex, Timer
from procession.operators.queue import BlobsQueue
from procession.operators.registry import WRITTEN
from procession.operators.world import World
from procession.runtime.workspace import Workspace
from procession.testing.gradcheck import KernelContext

OPERATORS = sorted(REGISTRY)
CASES = [
    pytest.param(name, sample, id=f"{name}-{index}")
    for name, samples in SAMPLES.items()
    for index, sample in enumerate(samples)
]

# These run nets, or are about the scopes that nets run in: they mean nothing on their own.
CONTROL = {"CreateScope", "Do", "HasScope", "If", "While"}
# So do messages, which somebody else has to send, or receive.
CONTROL |= {"SendTensor", "ReceiveTensor"}
# These always fail, so there is nothing to be sampled.
FAILING = {"Fail", "ThrowException"}
CLOCKS = {"TimerGet", "TimerGetAndEnd", "WallClockTime"}
HANDLES = (AtomicBool, BlobsQueue, Counter, Mutex, Timer, TreeCursor)

# What these compute does not take its type from their inputs.
OWN_TYPE = {"Cast", "Print"} | {name for name in REGISTRY if name.endswith("Fill")}


def cases(keep):
    return [case for case in CASES if keep(*case.values)]


def is_float(x):
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


IN_PLACE = cases(
    lambda name, sample: (
        "out" in REGISTRY[name].requests and all(isinstance(x, np.ndarray) for x in sample.inputs)
    )
)
IN_PLACES = cases(
    lambda name, sample: (
        "outs" in REGISTRY[name].requests and all(isinstance(x, np.ndarray) for x in sample.inputs)
    )
)
FLOATS = cases(
    lambda name, sample: name not in OWN_TYPE and any(is_float(x) for x in sample.inputs)
)


def call(name, inputs, sample, **requests):
    definition = REGISTRY[name]
    arguments = dict(sample.arguments)
    inputs = [copy.copy(x) if isinstance(x, HANDLES) else x for x in inputs]
    if "rng" in definition.requests:
        requests["rng"] = np.random.default_rng(3)
    if "context" in definition.requests:
        count = definition.min_outputs if sample.n_outputs is None else sample.n_outputs
        if definition.max_outputs is None and sample.n_outputs is None:
            count = 1
        read = tuple(f"in{index}" for index in range(len(inputs)))
        written = tuple(f"out{index}" for index in range(count))
        requests["context"] = KernelContext(read, written)
        if name == "DestroyCommonWorld":
            requests["context"] = KernelContext(read, read)
        if name in ("Free", "GetAllBlobNames"):
            workspace = Workspace()
            for blob, x in zip(read, inputs, strict=True):
                workspace.feed_blob(blob, x)
            requests["context"] = KernelContext(read, read or written, workspace)
    if "outs" in definition.requests and sample.n_outputs is not None:
        requests.setdefault("outs", (None,) * sample.n_outputs)
    return definition.kernel(*inputs, **arguments, **requests)


def results(name, inputs, sample):
    result = call(name, inputs, sample)
    if result is None:
        return ()
    return result if isinstance(result, tuple) else (result,)


def frozen(inputs):
    """Copies that cannot be written to."""
    copies = [x.copy() if isinstance(x, np.ndarray) else x for x in inputs]
    for x in copies:
        if isinstance(x, np.ndarray):
            x.flags.writeable = False
    return copies


def same(actual, expected):
    if isinstance(expected, (*HANDLES, World)):
        assert repr(actual) == repr(expected)
    elif isinstance(expected, (np.ndarray, np.generic)):
        assert actual.dtype == expected.dtype
        assert actual.shape == expected.shape
        np.testing.assert_array_equal(actual, expected)
    else:
        assert actual == expected


def test_every_operator_has_a_sample():
    assert set(OPERATORS) - CONTROL <= set(SAMPLES) <= set(OPERATORS)
    assert {name for name, samples in SAMPLES.items() if not samples} == FAILING


@pytest.mark.parametrize("name", OPERATORS)
def test_is_documented(name):
    first = REGISTRY[name].documentation.split("\n")[0]
    assert first.endswith("."), first
    assert len(first) > 10


@pytest.mark.parametrize("name", OPERATORS)
def test_definition_pickles_by_name(name):
    # Not by value: the kernel that a worker finds is its own.
    assert pickle.loads(pickle.dumps(REGISTRY[name])).kernel is REGISTRY[name].kernel


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_sample_fits_the_definition(name, sample):
    definition = REGISTRY[name]
    assert len(sample.inputs) >= definition.min_inputs
    assert definition.max_inputs is None or len(sample.inputs) <= definition.max_inputs
    assert set(sample.arguments) <= set(definition.arguments)


DIFFERENTIABLE = cases(
    lambda name, sample: bool(
        REGISTRY[name].rules(len(sample.inputs), sample.arguments, sample.n_outputs)
    )
)


@pytest.mark.parametrize(("name", "sample"), DIFFERENTIABLE)
def test_gradient_rules_name_what_there_is(name, sample):
    definition = REGISTRY[name]
    rules = definition.rules(len(sample.inputs), sample.arguments, sample.n_outputs)
    known = {f"I{index}" for index in range(len(sample.inputs))}
    outputs = sample.n_outputs or definition.min_outputs or 1
    known |= {f"O{index}" for index in range(outputs)} | {f"GO{index}" for index in range(outputs)}
    for rule in rules:
        assert set(rule.inputs) <= known, rule
        known |= set(rule.outputs)
        for symbol in rule.outputs:
            assert symbol.startswith("GI"), rule
            assert int(symbol[2:].partition("_")[0]) < len(sample.inputs), rule
        if rule.type is None:
            # An alias, or the indices and values of a sparse one.
            assert len(rule.inputs) in (1, 2)
            assert len(rule.outputs) == 1
            continue
        used = REGISTRY[rule.type]
        assert used.min_inputs <= len(rule.inputs), rule
        assert used.max_inputs is None or len(rule.inputs) <= used.max_inputs, rule
        assert used.min_outputs <= len(rule.outputs), rule
        assert used.max_outputs is None or len(rule.outputs) <= used.max_outputs, rule
        assert set(rule.arguments or {}) <= set(used.arguments), rule


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_number_of_outputs(name, sample, capsys):
    definition = REGISTRY[name]
    made = len(results(name, sample.inputs, sample))
    assert made >= definition.min_outputs
    assert definition.max_outputs is None or made <= definition.max_outputs
    assert sample.n_outputs in (None, made)


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_inputs_are_neither_written_nor_given_away(name, sample, capsys):
    inputs = frozen(sample.inputs)
    made = results(name, inputs, sample)
    for result in made:
        for x in inputs:
            if result is WRITTEN:
                continue
            if isinstance(x, np.ndarray):
                assert not np.may_share_memory(result, x)
            elif not isinstance(x, str):
                assert result is not x
    # Nor are two outputs one array: a net writes to each on its own.
    arrays = [result for result in made if isinstance(result, np.ndarray)]
    for index, result in enumerate(arrays):
        for other in arrays[index + 1 :]:
            assert not np.may_share_memory(result, other)


STEADY = cases(lambda name, sample: name not in CLOCKS)


@pytest.mark.parametrize(("name", "sample"), STEADY)
def test_strides_do_not_matter(name, sample, capsys):
    expected = results(name, sample.inputs, sample)
    spread = []
    for x in sample.inputs:
        if isinstance(x, np.ndarray) and x.ndim:
            wide = np.zeros(tuple(2 * length for length in x.shape), x.dtype)
            view = wide[tuple(slice(None, None, 2) for _ in x.shape)]
            view[...] = x
            x = view
        spread.append(x)
    actual = results(name, spread, sample)
    for one, other in zip(actual, expected, strict=True):
        if is_float(other):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        else:
            same(one, other)


@pytest.mark.parametrize(("name", "sample"), IN_PLACE)
def test_out_is_used_and_right(name, sample):
    expected = call(name, sample.inputs, sample)
    out = np.full(expected.shape, 17, expected.dtype)
    actual = call(name, frozen(sample.inputs), sample, out=out)
    assert actual is out
    same(actual, expected)


@pytest.mark.parametrize(("name", "sample"), IN_PLACE)
def test_out_may_be_an_input(name, sample):
    expected = call(name, sample.inputs, sample)
    for index, x in enumerate(sample.inputs):
        if x.shape == expected.shape and x.dtype == expected.dtype:
            inputs = frozen(sample.inputs)
            inputs[index] = x.copy()
            same(call(name, inputs, sample, out=inputs[index]), expected)


def given_outs(name, inputs, sample, outs):
    """The results, checked: each is one's own of `outs`, or has nothing to do with any array."""
    made = call(name, inputs, sample, outs=outs)
    assert type(made) is tuple
    for index, result in enumerate(made):
        if outs[index] is None or result is not outs[index]:
            for other in (*inputs, *outs, *made[:index]):
                assert other is None or not np.may_share_memory(result, other)
    return made


@pytest.mark.parametrize(("name", "sample"), IN_PLACES)
def test_outs_are_used_and_right(name, sample):
    expected = call(name, sample.inputs, sample)
    count = len(expected)
    used = [False] * count
    # All of them, none, and all but one.
    for missing in [(), range(count), *((index,) for index in range(count))]:
        outs = tuple(
            None if index in missing else np.full(each.shape, 17, each.dtype)
            for index, each in enumerate(expected)
        )
        made = given_outs(name, frozen(sample.inputs), sample, outs)
        assert len(made) == count
        for index in range(count):
            same(made[index], expected[index])
            used[index] |= made[index] is outs[index] is not None
    assert any(used)


@pytest.mark.parametrize(("name", "sample"), IN_PLACES)
def test_outs_may_be_the_inputs_that_are_declared(name, sample):
    expected = call(name, sample.inputs, sample)
    pairs = [
        (read, written)
        for read, written in sorted(REGISTRY[name].in_place)
        if read < len(sample.inputs)
        and written < len(expected)
        and sample.inputs[read].shape == expected[written].shape
        and sample.inputs[read].dtype == expected[written].dtype
    ]
    for chosen in [pairs, *([pair] for pair in pairs)]:
        inputs = frozen(sample.inputs)
        outs = [np.full(each.shape, 17, each.dtype) for each in expected]
        reads, writes = set(), set()
        for read, written in chosen:
            if read not in reads and written not in writes:
                reads.add(read)
                writes.add(written)
                outs[written] = sample.inputs[read].copy()
                # What a kernel reads is a view that cannot be written to.
                inputs[read] = outs[written].view()
                inputs[read].flags.writeable = False
        for actual, wanted in zip(
            call(name, inputs, sample, outs=tuple(outs)), expected, strict=True
        ):
            same(actual, wanted)


@pytest.mark.parametrize(("name", "sample"), FLOATS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_keep_their_width(name, sample, dtype, capsys):
    wide = [x.astype(dtype) if is_float(x) else x for x in sample.inputs]
    for result in results(name, wide, sample):
        if isinstance(result, (np.ndarray, np.generic)) and result.dtype.kind == "f":
            assert result.dtype == dtype


@pytest.mark.parametrize(("name", "sample"), STEADY)
def test_is_repeatable(name, sample, capsys):
    first, second = (results(name, sample.inputs, sample) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        same(one, other)
