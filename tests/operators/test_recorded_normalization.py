import pytest
from tests.operators.recordings import RECORDED, check, replay

from procession.operators import REGISTRY


@pytest.mark.parametrize(
    "recorded",
    list(replay(RECORDED / "normalization.npz")),
    ids=lambda each: f"{each.operator}-{each.id}",
)
def test_is_what_caffe2_makes(recorded):
    if "Gradient" in recorded.operator:
        # As in a net, a gradient is handed those of the operator's arguments that it knows.
        known = REGISTRY[recorded.operator].arguments
        arguments = {name: x for name, x in recorded.arguments.items() if name in known}
        recorded = recorded._replace(arguments=arguments)
    check(recorded, rtol=1e-4, atol=1e-5)
