"""`caffe2.python.hypothesis_test_util`: property tests of operators. Needs hypothesis."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

try:
    import hypothesis
    import hypothesis.strategies as st
except ImportError as error:
    raise ImportError("hypothesis_test_util needs hypothesis: pip install hypothesis") from error

from procession.caffe2.proto import caffe2_pb2
from procession.caffe2.python import _import_c_extension as C
from procession.caffe2.python import device_checker, gradient_checker, test_util, workspace
from procession.testing import references, running
from procession.testing.strategies import (
    arrays,
    dims,
    elements_of_type,
    floats,
    lengths,
    lengths_tensor,
    segment_ids,
    segmented_tensor,
    sparse_lengths_tensor,
    sparse_segmented_tensor,
    tensor,
    tensor1d,
    tensors,
    tensors1d,
    to_float32,
)

__all__ = [
    "HypothesisTestCase",
    "arrays",
    "cpu_do",
    "cuda_do",
    "device_checker_device_options",
    "device_options",
    "dims",
    "elements_of_type",
    "expanded_device_options",
    "floats",
    "gcs",
    "gcs_cpu_only",
    "gcs_cuda_only",
    "gcs_gpu_only",
    "gcs_no_hip",
    "gpu_do",
    "gradient_checker_device_option",
    "hip_do",
    "is_sandcastle",
    "is_travis",
    "lengths",
    "lengths_tensor",
    "runOpBenchmark",
    "runOpOnInput",
    "segment_ids",
    "segmented_tensor",
    "settings",
    "sparse_lengths_tensor",
    "sparse_segmented_tensor",
    "temp_workspace",
    "tensor",
    "tensor1d",
    "tensors",
    "tensors1d",
    "to_float32",
]

_ENDED = ("min_satisfying_examples", "timeout")
"""Settings that old tests give and hypothesis does not know any more."""


def is_sandcastle() -> bool:
    """Whether the tests run on a certain build machine."""
    return os.getenv("SANDCASTLE") == "1"


def is_travis() -> bool:
    """Whether the tests run on a certain build machine."""
    return "TRAVIS" in os.environ


def settings(*args: Any, **kwargs: Any) -> Any:
    """`hypothesis.settings`; what that does not know any more is left out."""
    if "timeout" in kwargs:
        kwargs.setdefault("deadline", kwargs["timeout"] * 1000)
    return hypothesis.settings(*args, **{k: v for k, v in kwargs.items() if k not in _ENDED})


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
def temp_workspace(name: str | bytes = b"temp_ws") -> Iterator[None]:
    """Have another workspace be the current one inside, and reset it after."""
    with workspace.WorkspaceGuard(name):
        yield
        workspace.ResetWorkspace()


def runOpBenchmark(
    device_option: Any,
    op: Any,
    inputs: Sequence[Any],
    input_device_options: Mapping[str, Any] | None = None,
    iterations: int = 10,
) -> list[float]:
    """Milliseconds that an operator takes; see `workspace.BenchmarkNet`."""
    with temp_workspace():
        current = C.Workspace.current
        return running.benchmark_in(
            current, op, inputs, device_option, input_device_options, iterations
        )


def runOpOnInput(
    device_option: Any,
    op: Any,
    inputs: Sequence[Any],
    input_device_options: Mapping[str, Any] | None = None,
) -> list[Any]:
    """What an operator makes of inputs."""
    with temp_workspace():
        current = C.Workspace.current
        return running.run_in(current, op, inputs, device_option, input_device_options)


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
        with temp_workspace():
            return references.check_reference(
                C.Workspace.current,
                op,
                inputs,
                reference,
                threshold=threshold,
                atol=atol,
                output_to_grad=output_to_grad,
                grad_reference=grad_reference,
                outputs_to_check=outputs_to_check,
                ensure_outputs_are_inferred=ensure_outputs_are_inferred,
                device_option=device_option,
                input_device_options=input_device_options,
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
        with temp_workspace():
            references.check_validation(
                C.Workspace.current,
                op,
                inputs,
                validator,
                as_kwargs=as_kwargs,
                init_net=init_net,
                device_option=device_option,
                input_device_options=input_device_options,
            )

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
        with temp_workspace():
            current = C.Workspace.current
            placed = running.placed(op, device_option)
            running.feed_all(current, placed.input, inputs, device_option, input_device_options)
            if regexp is None:
                self.assertRaises(exception, current.run, placed)
            else:
                self.assertRaisesRegex(exception, regexp, current.run, placed)
