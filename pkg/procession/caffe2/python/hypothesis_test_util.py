"""`caffe2.python.hypothesis_test_util`: property tests of operators. Needs hypothesis."""

from __future__ import annotations

import contextlib
import copy
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

try:
    import hypothesis
    import hypothesis.extra.numpy
    import hypothesis.strategies as st
except ImportError as error:
    raise ImportError("hypothesis_test_util needs hypothesis: pip install hypothesis") from error

from procession.caffe2.proto import caffe2_pb2
from procession.caffe2.python import core, device_checker, gradient_checker, test_util, workspace

_ENDED = ("min_satisfying_examples", "timeout")
"""Settings that old tests give and hypothesis does not know any more."""


def is_sandcastle() -> bool:
    """Whether the tests run on a certain build machine."""
    return os.getenv("SANDCASTLE") == "1"


def is_travis() -> bool:
    """Whether the tests run on a certain build machine."""
    return "TRAVIS" in os.environ


def to_float32(x: Any) -> float:
    """The nearest number that a float32 can hold."""
    return float(struct.unpack("f", struct.pack("f", float(x)))[0])


def settings(*args: Any, **kwargs: Any) -> Any:
    """`hypothesis.settings`; what that does not know any more is left out."""
    if "timeout" in kwargs:
        kwargs.setdefault("deadline", kwargs["timeout"] * 1000)
    return hypothesis.settings(*args, **{k: v for k, v in kwargs.items() if k not in _ENDED})


def floats(*args: Any, **kwargs: Any) -> Any:
    """`strategies.floats`, of 32 bits if nothing else is said."""
    if "width" not in kwargs:
        kwargs["width"] = 32
        for bound in ("min_value", "max_value"):
            if kwargs.get(bound) is not None:
                kwargs[bound] = to_float32(kwargs[bound])
    return st.floats(*args, **kwargs)


for _profile, _examples in (("sandcastle", 50), ("dev", 10), ("debug", 1000)):
    hypothesis.settings.register_profile(
        _profile,
        derandomize=_profile == "sandcastle",
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
        database=None,
        max_examples=_examples,
        deadline=50000 if _profile == "debug" else 10000,
    )
hypothesis.settings.load_profile(os.getenv("CAFFE2_HYPOTHESIS_PROFILE", "dev"))


# Strategies.


def dims(min_value: int = 1, max_value: int = 5) -> Any:
    """Lengths of a dimension."""
    return st.integers(min_value=min_value, max_value=max_value)


def elements_of_type(dtype: Any = np.float32, filter_: Any = None) -> Any:
    """Numbers of a type: from -1 to 1, or not negative, or truth values."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        elements = floats(min_value=-1.0, max_value=1.0, width=kind.itemsize * 8)
    elif kind.kind == "i":
        elements = st.integers(min_value=0, max_value=int(np.iinfo(kind).max))
    elif kind.kind == "b":
        elements = st.booleans()
    else:
        raise ValueError(f"give the elements for arrays of {kind}")
    return elements if filter_ is None else elements.filter(filter_)


def arrays(dims: Any, dtype: Any = np.float32, elements: Any = None, unique: bool = False) -> Any:
    """Arrays of a shape."""
    if elements is None:
        elements = elements_of_type(dtype)
    return hypothesis.extra.numpy.arrays(dtype, tuple(dims), elements=elements, unique=unique)


def _shapes(min_dim: int, max_dim: int, **kwargs: Any) -> Any:
    return st.lists(dims(**kwargs), min_size=min_dim, max_size=max_dim)


def tensor(
    min_dim: int = 1,
    max_dim: int = 4,
    dtype: Any = np.float32,
    elements: Any = None,
    unique: bool = False,
    **kwargs: Any,
) -> Any:
    """Arrays of any shape."""
    shapes = _shapes(min_dim, max_dim, **kwargs)
    return shapes.flatmap(lambda shape: arrays(shape, dtype, elements, unique))


def tensor1d(
    min_len: int = 1, max_len: int = 64, dtype: Any = np.float32, elements: Any = None
) -> Any:
    """Arrays of one dimension."""
    return tensor(1, 1, dtype, elements, min_value=min_len, max_value=max_len)


def tensors(
    n: int,
    min_dim: int = 1,
    max_dim: int = 4,
    dtype: Any = np.float32,
    elements: Any = None,
    **kwargs: Any,
) -> Any:
    """Lists of n arrays of one shape."""
    return _shapes(min_dim, max_dim, **kwargs).flatmap(
        lambda shape: st.lists(arrays(shape, dtype, elements), min_size=n, max_size=n)
    )


def tensors1d(
    n: int, min_len: int = 1, max_len: int = 64, dtype: Any = np.float32, elements: Any = None
) -> Any:
    """Lists of n arrays of one dimension and one length."""
    return tensors(n, 1, 1, dtype, elements, min_value=min_len, max_value=max_len)


def segment_ids(size: int, is_sorted: bool) -> Any:
    """Numbers of segments, one for each of so many rows."""
    if size == 0:
        return st.just(np.empty(0, np.int32))
    if not is_sorted:
        return arrays([size], np.int32, st.integers(min_value=0, max_value=2 * size))
    steps = arrays([size], np.int32, st.integers(min_value=0, max_value=1))
    return steps.map(lambda step: np.cumsum(step, dtype=np.int32) - step[0])


def lengths(
    size: int, min_segments: int | None = None, max_segments: int | None = None, **kwargs: Any
) -> Any:
    """Lengths of segments that have so many rows together."""
    least = 0 if min_segments is None else min_segments
    most = size if max_segments is None else max_segments
    if size == 0 and most == 0:
        return st.just(np.empty(0, np.int32))

    def between(borders: list[int]) -> Any:
        return np.diff(np.sort(np.array([0, *borders, size], np.int32)))

    borders = st.integers(min_value=max(least - 1, 0), max_value=most - 1).flatmap(
        lambda count: st.lists(
            st.integers(min_value=0, max_value=size), min_size=count, max_size=count
        )
    )
    return borders.map(between)


def _with_rows(allow_empty: bool, min_dim: int, max_dim: int, **kwargs: Any) -> Any:
    """Shapes, whose first dimension may be 0 if that is allowed."""
    empty = st.booleans() if allow_empty else st.just(False)
    return st.tuples(empty, _shapes(min_dim, max_dim, **kwargs))


def segmented_tensor(
    min_dim: int = 1,
    max_dim: int = 4,
    dtype: Any = np.float32,
    is_sorted: bool = True,
    elements: Any = None,
    segment_generator: Callable[..., Any] = segment_ids,
    allow_empty: bool = False,
    **kwargs: Any,
) -> Any:
    """(array, segments of its rows)."""
    return (
        _with_rows(allow_empty, min_dim, max_dim, **kwargs)
        .map(lambda drawn: [0, *drawn[1]] if drawn[0] else drawn[1])
        .flatmap(
            lambda shape: st.tuples(
                arrays(shape, dtype, elements), segment_generator(shape[0], is_sorted=is_sorted)
            )
        )
    )


def lengths_tensor(
    min_segments: int | None = None, max_segments: int | None = None, *args: Any, **kwargs: Any
) -> Any:
    """(array, lengths of segments of its rows)."""

    def generate(size: int, **more: Any) -> Any:
        return lengths(size, min_segments, max_segments, **more)

    kwargs["segment_generator"] = generate
    return segmented_tensor(*args, **kwargs)


def sparse_segmented_tensor(
    min_dim: int = 1,
    max_dim: int = 4,
    dtype: Any = np.float32,
    is_sorted: bool = True,
    elements: Any = None,
    allow_empty: bool = False,
    segment_generator: Callable[..., Any] = segment_ids,
    itype: Any = np.int64,
    **kwargs: Any,
) -> Any:
    """(array, indices of rows of it, segments of these)."""

    def sized(drawn: tuple[bool, list[int]]) -> Any:
        empty, shape = drawn
        count = st.just(0) if empty else st.integers(min_value=1, max_value=shape[0])
        return st.tuples(st.just(shape), count)

    def generate(drawn: tuple[list[int], int]) -> Any:
        shape, count = drawn
        rows = st.integers(min_value=0, max_value=shape[0] - 1)
        return st.tuples(
            arrays(shape, dtype, elements),
            arrays([count], itype, rows),
            segment_generator(count, is_sorted=is_sorted),
        )

    return _with_rows(allow_empty, min_dim, max_dim, **kwargs).flatmap(sized).flatmap(generate)


def sparse_lengths_tensor(**kwargs: Any) -> Any:
    """(array, indices of rows of it, lengths of segments of these)."""
    return sparse_segmented_tensor(segment_generator=lengths, **kwargs)


# Devices: there is the CPU.

cpu_do = caffe2_pb2.DeviceOption()
cuda_do = caffe2_pb2.DeviceOption(device_type=caffe2_pb2.CUDA)
hip_do = caffe2_pb2.DeviceOption(device_type=caffe2_pb2.HIP)
gpu_do = caffe2_pb2.DeviceOption(device_type=workspace.GpuDeviceType)
device_options = [cpu_do]
expanded_device_options = [cpu_do]


def device_checker_device_options() -> Any:
    """The list of all devices."""
    return st.just(device_options)


def gradient_checker_device_option() -> Any:
    """One of all devices."""
    return st.sampled_from(device_options)


gcs = gcs_cpu_only = gcs_no_hip = {
    "gc": gradient_checker_device_option(),
    "dc": device_checker_device_options(),
}
gcs_cuda_only = gcs_gpu_only = {"gc": st.nothing(), "dc": st.nothing()}


@contextlib.contextmanager
def temp_workspace(name: str | bytes = "temp_ws") -> Iterator[None]:
    """Have another workspace be the current one inside, and reset it after."""
    with workspace.WorkspaceGuard(name):
        yield
        workspace.ResetWorkspace()


def _placed(op: Any, option: Any) -> Any:
    placed = copy.deepcopy(op)
    placed.device_option.CopyFrom(option)
    return placed


def _feed(op: Any, inputs: Sequence[Any], option: Any, options: Mapping[str, Any] | None) -> None:
    if len(op.input) > len(inputs):
        raise ValueError(f"{op.type} has {len(op.input)} inputs, and {len(inputs)} are given")
    for name, value in zip(op.input, inputs, strict=False):
        workspace.FeedBlob(name, value, (options or {}).get(name, option))


def runOpBenchmark(
    device_option: Any,
    op: Any,
    inputs: Sequence[Any],
    input_device_options: Mapping[str, Any] | None = None,
    iterations: int = 10,
) -> list[float]:
    """Milliseconds that an operator takes; see `workspace.BenchmarkNet`."""
    placed = _placed(op, device_option)
    net = caffe2_pb2.NetDef(name=op.name or "test", op=[placed])
    with temp_workspace():
        _feed(placed, inputs, device_option, input_device_options)
        workspace.CreateNet(net)
        return workspace.BenchmarkNet(net.name, 1, iterations, True)


def runOpOnInput(
    device_option: Any,
    op: Any,
    inputs: Sequence[Any],
    input_device_options: Mapping[str, Any] | None = None,
) -> list[Any]:
    """What an operator makes of inputs."""
    placed = _placed(op, device_option)
    with temp_workspace():
        _feed(placed, inputs, device_option, input_device_options)
        workspace.RunOperatorOnce(placed)
        return workspace.FetchBlobs(placed.output)


class HypothesisTestCase(test_util.TestCase):
    """A test with checks for operators."""

    def assertDeviceChecks(
        self,
        device_options: Sequence[Any],
        op: Any,
        inputs: Sequence[Any],
        outputs_to_check: Sequence[int],
        input_device_options: Mapping[str, Any] | None = None,
        threshold: float = 0.01,
    ) -> None:
        """An operator makes the same on all devices."""
        checker = device_checker.DeviceChecker(threshold, device_options)
        self.assertTrue(checker.CheckSimple(op, inputs, outputs_to_check, input_device_options))

    def assertGradientChecks(
        self,
        device_option: Any,
        op: Any,
        inputs: Sequence[Any],
        outputs_to_check: int,
        outputs_with_grads: Sequence[int],
        grad_ops: Any = None,
        threshold: float = 0.005,
        stepsize: float = 0.05,
        input_device_options: Mapping[str, Any] | None = None,
        ensure_outputs_are_inferred: bool = False,
    ) -> None:
        """An operator's gradient by input number `outputs_to_check` agrees with differences."""
        checker = gradient_checker.GradientChecker(
            stepsize, threshold, device_option, "gradient_check", input_device_options
        )
        good, gradient, estimate = checker.CheckSimple(
            op,
            inputs,
            outputs_to_check,
            outputs_with_grads,
            grad_ops=grad_ops,
            input_device_options=input_device_options,
            ensure_outputs_are_inferred=ensure_outputs_are_inferred,
        )
        self.assertEqual(gradient.shape, estimate.shape)
        self.assertTrue(good, f"the gradient by {op.input[outputs_to_check]} is wrong")

    def assertReferenceChecks(
        self,
        device_option: Any,
        op: Any,
        inputs: Sequence[Any],
        reference: Callable[..., Any],
        input_device_options: Mapping[str, Any] | None = None,
        threshold: float = 1e-4,
        output_to_grad: str | None = None,
        grad_reference: Callable[..., Any] | None = None,
        atol: float | None = None,
        outputs_to_check: Sequence[int] | None = None,
        ensure_outputs_are_inferred: bool = False,
    ) -> list[Any]:
        """An operator makes what `reference(*inputs)` returns.

        With `grad_reference`, its gradient by each input is what that function makes of the
        gradient of `output_to_grad`, the outputs and the inputs.
        """
        placed = _placed(op, device_option)
        with temp_workspace():
            _feed(placed, inputs, device_option, input_device_options)
            net = core.Net("opnet")
            net.Proto().op.extend([placed])
            shapes, _ = workspace.InferShapesAndTypes([net])
            workspace.RunNetOnce(net)
            wanted = reference(*inputs)
            if not isinstance(wanted, (tuple, list)):
                raise RuntimeError("a reference returns a tuple or a list of arrays")
            if not outputs_to_check:
                self.assertEqual(len(wanted), len(placed.output))
                outputs_to_check = range(len(placed.output))
            found = []
            for index, good in zip(outputs_to_check, wanted, strict=False):
                name = placed.output[index]
                value = workspace.FetchBlob(name)
                self._assert_same(name, value, good, threshold, atol)
                if ensure_outputs_are_inferred:
                    self.assertEqual(shapes.get(name), list(value.shape))
                found.append(value)
            if grad_reference is not None:
                if output_to_grad is None:
                    raise AssertionError("a grad_reference needs output_to_grad")
                with core.DeviceScope(device_option):
                    self._assert_gradients(
                        placed, inputs, wanted, output_to_grad, grad_reference, threshold
                    )
            return found

    @staticmethod
    def _assert_same(
        name: str, value: Any, good: Any, threshold: float, atol: float | None = None
    ) -> None:
        if value.dtype.kind in "SO":
            np.testing.assert_array_equal(value, good, err_msg=name)
        else:
            absolute = threshold if atol is None else atol
            np.testing.assert_allclose(value, good, rtol=threshold, atol=absolute, err_msg=name)

    def _assert_gradients(
        self,
        op: Any,
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        output_to_grad: str,
        reference: Callable[..., Any],
        threshold: float,
    ) -> None:
        value = workspace.FetchBlob(output_to_grad)
        name = f"{output_to_grad}_grad"
        operators, gradients = core.GradientRegistry.GetBackwardPass([op], {output_to_grad: name})
        wanted = reference(value, outputs, inputs)
        workspace.FeedBlob(name, value)
        workspace.RunOperatorsOnce(operators)
        self.assertEqual(len(wanted), len(inputs))
        for blob, good in zip(op.input, wanted, strict=False):
            gradient = gradients.get(blob)
            if not gradient:
                self.assertIsNone(good)
            elif isinstance(gradient, core.GradientSlice):
                values, indices = good
                self._assert_same(
                    str(gradient.values),
                    workspace.FetchBlob(str(gradient.values)),
                    values,
                    threshold,
                )
                if indices is not None:
                    found = workspace.FetchBlob(str(gradient.indices))
                    self._assert_same(str(gradient.indices), found, indices, 1e-4)
            else:
                self._assert_same(
                    str(gradient), workspace.FetchBlob(str(gradient)), good, threshold
                )

    def assertValidationChecks(
        self,
        device_option: Any,
        op: Any,
        inputs: Sequence[Any],
        validator: Callable[..., Any],
        input_device_options: Mapping[str, Any] | None = None,
        as_kwargs: bool = True,
        init_net: Any = None,
    ) -> None:
        """Hand inputs and outputs of an operator to a function.

        Args:
            device_option: Where to run.
            op: The operator.
            inputs: Arrays.
            validator: The function.
            input_device_options: Where inputs are to be fed.
            as_kwargs: Hand them over by their blobs' names; otherwise as `inputs` and `outputs`.
            init_net: A net to run before.
        """
        names = [*op.input, *op.output]
        if as_kwargs and len(set(names)) < len(names):
            raise AssertionError("a blob is there twice: use as_kwargs=False")
        placed = _placed(op, device_option)
        with temp_workspace():
            _feed(placed, inputs, device_option, input_device_options)
            if init_net:
                workspace.RunNetOnce(init_net)
            workspace.RunOperatorOnce(placed)
            outputs = workspace.FetchBlobs(placed.output)
            if as_kwargs:
                validator(**dict(zip(names, [*inputs, *outputs], strict=True)))
            else:
                validator(inputs=inputs, outputs=outputs)

    def assertRunOpRaises(
        self,
        device_option: Any,
        op: Any,
        inputs: Sequence[Any],
        input_device_options: Mapping[str, Any] | None = None,
        exception: Any = (Exception,),
        regexp: str | None = None,
    ) -> None:
        """Running the operator raises an exception, with a message that fits."""
        placed = _placed(op, device_option)
        with temp_workspace():
            _feed(placed, inputs, device_option, input_device_options)
            if regexp is None:
                self.assertRaises(exception, workspace.RunOperatorOnce, placed)
            else:
                self.assertRaisesRegex(exception, regexp, workspace.RunOperatorOnce, placed)
