import pytest
from tests.operators.recordings import RECORDED, check, replay


@pytest.mark.parametrize(
    "recorded",
    list(replay(RECORDED / "activation.npz")),
    ids=lambda each: f"{each.operator}-{each.id}",
)
def test_is_what_caffe2_makes(recorded):
    check(recorded, rtol=1e-4, atol=1e-5)
