import numpy as np
import pytest

from procession.testing.gradcheck import KernelContext, run_operator

X = np.float32([[-1, 0, 0.5], [1, 2, 3]])


def test_buckets():
    y = run_operator("Bucketize", X, boundaries=[0.0, 1.0, 2.0])
    assert y.dtype == np.int32
    assert y.tolist() == [[0, 0, 1], [1, 2, 3]]
    for wrong in ([1.0, 0.0], []):
        with pytest.raises(ValueError, match="not in ascending order"):
            run_operator("Bucketize", X, boundaries=wrong)


def test_histogram_goes_on():
    context = KernelContext(("x",), ("now", "all"))
    options = {"lower_bound": 0.0, "upper_bound": 2.0, "num_buckets": 2, "context": context}
    now, total = run_operator("AccumulateHistogram", X, **options)
    assert now.tolist() == total.tolist() == [1, 2, 1, 2]
    now, total = run_operator("AccumulateHistogram", X[0], **options)
    assert (now.tolist(), total.tolist()) == ([1, 2, 0, 0], [2, 4, 1, 2])


@pytest.mark.parametrize("options", [{"num_buckets": 0}, {"lower_bound": 1.0}])
def test_histogram_without_ranges(options):
    with pytest.raises(ValueError, match="AccumulateHistogram: num_buckets="):
        run_operator("AccumulateHistogram", X, **options)
