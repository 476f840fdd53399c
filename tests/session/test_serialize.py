"""Values as messages, beyond what the tests of workspaces use of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from procession.graph.proto import TensorProto
from procession.operators.datatype import DataType
from procession.session.serialize import listed_value, size_bytes, tensor_proto


@pytest.mark.parametrize(
    ("message", "value"),
    [
        (TensorProto(data_type=int(DataType.FLOAT), float_data=[1, 2, 3]), [1.0, 2.0, 3.0]),
        (TensorProto(data_type=int(DataType.INT64), int64_data=[7]), 7),
        (TensorProto(data_type=int(DataType.BYTE), byte_data=b"ab"), [97, 98]),
        (TensorProto(data_type=int(DataType.FLOAT)), []),
        (tensor_proto(np.array([[1, 2]])), [[1, 2]]),
    ],
)
def test_a_message_without_a_shape_is_a_list(message: TensorProto, value: Any) -> None:
    dims = list(message.dims)
    assert listed_value(message).tolist() == value
    assert list(message.dims) == dims


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (np.zeros((2, 3), np.float64), 48),
        (np.array([b"a", b"bcd"], object), 2 * 8 + 4),
        ("é", 2),
        (b"abc", 3),
        (None, 0),
        ({}, 0),
    ],
)
def test_sizes(value: Any, size: int) -> None:
    assert size_bytes(value) == size
