"""`caffe2.python.serialized_test.serialized_test_util`: `given` and `SerializedTestCase`.

In Caffe2 a test made with these is also held against results that were kept in files. There are no
such files here: what is left is the check against the test's own reference.
"""

from __future__ import annotations

import unittest
from collections.abc import Callable
from typing import Any

import hypothesis

from procession.caffe2.python import hypothesis_test_util as hu


def given(*args: Any, **kwargs: Any) -> Callable[[Any], Any]:
    """`hypothesis.given` with one example, which is the same in each run."""

    def decorate(test: Any) -> Any:
        drawn: Any = hypothesis.given(*args, **kwargs)
        seeded: Any = hypothesis.seed(0)
        return seeded(hu.settings(max_examples=1, deadline=None)(drawn(test)))

    return decorate


class SerializedTestCase(hu.HypothesisTestCase):
    """A `HypothesisTestCase`: its checks are all there are."""


def testWithArgs() -> None:
    """Run the tests of the script. The options that Caffe2 adds for its files are unknown."""
    unittest.main()
