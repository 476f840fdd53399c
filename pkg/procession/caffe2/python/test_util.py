"""`caffe2.python.test_util`: what tests of operators share."""

from __future__ import annotations

import os
import unittest
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from procession.caffe2.python import _import_c_extension as C
from procession.caffe2.python import core, workspace


def rand_array(*dims: int) -> Any:
    """A float32 array of numbers from -0.5 to 0.5."""
    return np.asarray(np.random.rand(*dims) - 0.5, np.float32)


def randBlob(name: Any, type: Any, *dims: int, **kwargs: Any) -> None:
    """Feed a blob with numbers from `offset` (0) to `offset` + 1."""
    values = np.asarray(np.random.rand(*dims)).astype(type)
    workspace.FeedBlob(name, values + kwargs.get("offset", 0.0))


def randBlobFloat32(name: Any, *dims: int, **kwargs: Any) -> None:
    """`randBlob` of float32."""
    randBlob(name, np.float32, *dims, **kwargs)


def randBlobsFloat32(names: Iterable[Any], *dims: int, **kwargs: Any) -> None:
    """`randBlobFloat32` for several blobs."""
    for name in names:
        randBlobFloat32(name, *dims, **kwargs)


def numOps(net: Any) -> int:
    """How many operators a net has."""
    return len(net.Proto().op)


def str_compare(a: str | bytes, b: str | bytes, encoding: str = "utf8") -> bool:
    """Whether two texts are the same, be they str or bytes."""
    first, second = (x.decode(encoding) if isinstance(x, bytes) else x for x in (a, b))
    return first == second


def get_default_test_flags() -> list[str]:
    """What `TestCase` hands to `GlobalInit`."""
    return ["caffe2", "--caffe2_log_level=0"]


def caffe2_flaky(test_method: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a test that fails sometimes: it runs only if CAFFE2_RUN_FLAKY_TESTS is 1."""
    test_method.__caffe2_flaky__ = True  # type: ignore[attr-defined]
    return test_method


def is_flaky_test_mode() -> bool:
    """Whether only the tests run that fail sometimes."""
    return os.getenv("CAFFE2_RUN_FLAKY_TESTS", "0") == "1"


class TestCase(unittest.TestCase):
    """A test that begins and ends with an empty workspace."""

    ws: Any

    @classmethod
    def setUpClass(cls) -> None:
        """Set up what there is to be set up."""
        workspace.GlobalInit(get_default_test_flags())
        core.SetEnginePref({}, {})

    def setUp(self) -> None:
        """Make `ws`, a workspace of the test's own, and reset the current one."""
        flaky = getattr(getattr(self, self._testMethodName), "__caffe2_flaky__", False)
        if bool(flaky) != is_flaky_test_mode():
            raise unittest.SkipTest("for the other mode of CAFFE2_RUN_FLAKY_TESTS")
        self.ws = C.Workspace()
        workspace.ResetWorkspace()

    def tearDown(self) -> None:
        """Reset the current workspace."""
        workspace.ResetWorkspace()
