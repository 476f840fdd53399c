"""Keeping gradients small, each by itself: between `AddGradientOperators` and `build_...`.

    GradientClipping("by_norm", clip_threshold=1.0)(model.net, grad_map=model.param_to_grad)

`build_sgd(..., max_gradient_norm=1.0)` and its like keep the norm of all together small.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from procession import BlobNotFoundError, BlobReference, GraphError, Net
from procession.core import DeviceOption, DeviceScope, GradientSlice
from procession.train.build import get_param_device


class NetModifier(ABC):
    """Adds operators to a net that is there. Caffe2: net_modifier.NetModifier."""

    @abstractmethod
    def modify_net(
        self,
        net: Net,
        init_net: Net | None = None,
        grad_map: Mapping[Any, Any] | None = None,
        blob_to_device: Mapping[str, Any] | None = None,
        modify_output_record: bool = False,
    ) -> None:
        """Add them.

        Args:
            net: The net.
            init_net: The one that is run once before.
            grad_map: Parameter -> its gradient.
            blob_to_device: Blob -> its device option.
            modify_output_record: Whether what is added belongs into the net's output record.
        """

    def __call__(
        self,
        net: Net,
        init_net: Net | None = None,
        grad_map: Mapping[Any, Any] | None = None,
        blob_to_device: Mapping[str, Any] | None = None,
        modify_output_record: bool = False,
    ) -> None:
        """`modify_net`."""
        self.modify_net(net, init_net, grad_map, blob_to_device, modify_output_record)


class GradientClipping(NetModifier):
    """Makes gradients smaller that are too large; sparse ones stay as they are.

    Args:
        grad_clip_method: "by_norm": one whose norm is above `clip_threshold` is scaled to it;
            "by_value": each element is brought between `clip_min` and `clip_max`.
        clip_norm_type: "l2_norm" or "l1_norm".
        clip_threshold: The largest norm.
        use_parameter_norm: The threshold is a multiple of the parameter's norm.
        compute_norm_ratio: With it: also divide the one norm by the other, in
            "`parameter`_norm_ratio".
        clip_max: The largest element.
        clip_min: The smallest element.
        blobs_to_include: Only these parameters; None: all.
        blobs_to_exclude: Not these.

    Raises:
        GraphError: There is no such method, or type of norm.

    Caffe2: gradient_clipping.GradientClipping.
    """

    L1_NORM: ClassVar[str] = "l1_norm"
    L2_NORM: ClassVar[str] = "l2_norm"
    BY_NORM: ClassVar[str] = "by_norm"
    BY_VALUE: ClassVar[str] = "by_value"
    GRAD_CLIP_METHODS: ClassVar[list[str]] = [BY_NORM, BY_VALUE]
    CLIP_GRADIENT_NORM_TYPES: ClassVar[list[str]] = [L2_NORM, L1_NORM]

    def __init__(
        self,
        grad_clip_method: str,
        clip_norm_type: str | None = "l2_norm",
        clip_threshold: float = 0.1,
        use_parameter_norm: bool = False,
        compute_norm_ratio: bool = False,
        clip_max: float = 1,
        clip_min: float = -1,
        blobs_to_include: Iterable[str | BlobReference] | None = None,
        blobs_to_exclude: Iterable[str | BlobReference] | None = None,
    ) -> None:
        if grad_clip_method not in self.GRAD_CLIP_METHODS:
            raise GraphError(f"gradients are clipped 'by_norm' or 'by_value': {grad_clip_method!r}")
        if clip_norm_type is None:
            clip_norm_type = self.L2_NORM
        if clip_norm_type not in self.CLIP_GRADIENT_NORM_TYPES:
            raise GraphError(f"clip_norm_type is 'l2_norm' or 'l1_norm', not {clip_norm_type!r}")
        self.grad_clip_method = grad_clip_method
        self.clip_norm_type = clip_norm_type
        self.clip_threshold = float(clip_threshold)
        self.use_parameter_norm = use_parameter_norm
        self.compute_norm_ratio = compute_norm_ratio
        self.clip_max = float(clip_max)
        self.clip_min = float(clip_min)
        self.blobs_to_include = None if blobs_to_include is None else list(blobs_to_include)
        self.blobs_to_exclude = list(blobs_to_exclude or ())

    def modify_net(
        self,
        net: Net,
        init_net: Net | None = None,
        grad_map: Mapping[Any, Any] | None = None,
        blob_to_device: Mapping[str, Any] | None = None,
        modify_output_record: bool = False,
    ) -> None:
        """Add the operators that clip; see `NetModifier.modify_net`.

        Raises:
            BlobNotFoundError: The net has no such parameter.
            GraphError: No gradients are given, or not that of a parameter to be included.
        """
        if grad_map is None:
            raise GraphError("which gradients? Give grad_map=model.param_to_grad")
        gradients = {str(param): grad for param, grad in grad_map.items()}
        chosen = gradients
        if self.blobs_to_include is not None:
            chosen = {}
            for name in map(str, self.blobs_to_include):
                if not net.BlobIsDefined(name):
                    raise BlobNotFoundError(f"net {net.Name()!r} has no parameter {name!r}")
                if name not in gradients:
                    raise GraphError(f"parameter {name!r} has no gradient to clip")
                chosen[name] = gradients[name]
        excluded = {str(blob) for blob in self.blobs_to_exclude}
        for name, gradient in chosen.items():
            if name in excluded or isinstance(gradient, GradientSlice):
                continue
            device = get_param_device(name, gradient, blob_to_device, DeviceOption(0))
            with DeviceScope(device):
                if self.grad_clip_method == self.BY_VALUE:
                    net.Clip([gradient], [gradient], max=self.clip_max, min=self.clip_min)
                else:
                    self._by_norm(net, BlobReference(name, net), gradient)

    def _by_norm(self, net: Net, param: BlobReference, gradient: Any) -> None:
        inputs = [gradient, self._norm(net, gradient)]
        if self.use_parameter_norm:
            inputs.append(self._norm(net, param))
            if self.compute_norm_ratio:
                out = net.NextScopedBlob(prefix=f"{param}_norm_ratio")
                net.Div(inputs[1:], [out])
        net.ClipTensorByScaling(inputs, [gradient], threshold=self.clip_threshold)

    def _norm(self, net: Net, blob: Any) -> Any:
        p = 2 if self.clip_norm_type == self.L2_NORM else 1
        norm = net.LpNorm([blob], net.NextScopedBlob(prefix=f"{blob}_l{p}_norm"), p=p)
        return net.Pow([norm], exponent=0.5) if p == 2 else norm
