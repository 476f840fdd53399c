import inspect

import numpy as np
import pytest

from procession.operators import REGISTRY
from procession.operators.windows import WINDOW, key, takes, transposed_window, window


def laid(size, **given):
    return window("Conv", (1, 1, *size), key(given))


@pytest.mark.parametrize(
    ("size", "given", "places", "head"),
    [
        ((7, 6), {"kernel": 3}, (5, 4), (0, 0)),
        ((7, 6), {"kernel": 3, "stride": 2, "pads": [1, 0, 0, 1]}, (3, 3), (1, 0)),
        ((7,), {"kernels": [3], "dilations": [2]}, (3,), (0,)),
        ((7, 6), {"kernel": 3, "stride": 2, "legacy_pad": 1}, (3, 2), (0, 0)),
        # As large as the image, divided by the stride: where it is odd, more of it is behind.
        ((7, 6), {"kernel": 3, "stride": 2, "legacy_pad": 2}, (4, 3), (1, 0)),
        # Less than no border: the image is not seen from its beginning.
        ((6, 7), {"kernel": 1, "stride": 3, "legacy_pad": 2}, (2, 3), (-1, 0)),
        # Rounded up; but the last window may not begin in the border.
        ((6, 7), {"kernel": 3, "stride": 2, "legacy_pad": 3}, (3, 3), (0, 0)),
        ((4, 4), {"kernel": 2, "stride": 2, "legacy_pad": 3, "pad": 1}, (3, 3), (1, 1)),
        ((5, 5), {"kernel": 2, "stride": 3, "legacy_pad": 3, "pad": 1}, (2, 2), (1, 1)),
        ((3, 3), {"kernel": 2, "stride": 4, "legacy_pad": 3, "pad": 1}, (1, 1), (1, 1)),
        ((4, 5), {"global_pooling": 1}, (1, 1), (0, 0)),
    ],
)
def test_places_and_borders(size, given, places, head):
    made = laid(size, **given)
    assert (made.places, made.head) == (places, head)


@pytest.mark.parametrize("given", [{"pad": 1}, {"stride": 2}, {"dilation": 2}])
def test_global_pooling_is_of_everything(given):
    with pytest.raises(ValueError, match="global_pooling is without"):
        laid((4, 4), global_pooling=1, **given)


def test_what_a_window_sees_adds_up():
    made = laid((5, 7), kernel=2, stride=2, pads=[1, 0, 0, 0])
    assert made.reach == (6, 6)
    assert made.bordered
    assert not made.covering
    assert made.apart
    bordered = np.zeros((2, 3, *made.reach), int)
    for _, after_one, after_two in made.offsets:
        bordered[0][after_one] += 1
        bordered[after_two][1] += 1
    assert (bordered == 1).all()
    assert np.zeros(made.reach)[made.inner].shape == np.zeros(made.image)[made.seen].shape == (5, 6)


def test_transposed_window_takes_the_places_that_there_are():
    made = transposed_window(
        "ConvTranspose", (1, 1, 3, 4), key({"kernel": 2, "stride": 2, "adj": 2})
    )
    assert made.places == (3, 4)
    assert made.image == (8, 10)


def test_windows_are_worked_out_once():
    assert laid((5, 5), kernels=[2, 2]) is laid((5, 5), kernels=np.array([2, 2]))


def test_tables_become_part_of_a_kernel():
    @takes(WINDOW)
    def kernel(x, *, own=1, **given):
        """Something.

        Raises:
            ValueError: Never.
        """

    parameters = inspect.signature(kernel).parameters
    assert [*parameters] == ["x", "own", *WINDOW]
    assert parameters["stride"].default == 1
    first, args, raises = kernel.__doc__.split("\n\n")
    assert first == "Something."
    assert args.startswith("Args:\n    kernel: How far")
    assert raises == "Raises:\n    ValueError: Never."


@pytest.mark.parametrize("name", ["Conv", "ConvTransposeGradient", "MaxPool3D", "LpPool"])
def test_operators_know_and_explain_their_arguments(name):
    definition = REGISTRY[name]
    assert {"kernel", "stride_h", "pad_t", "order"} <= set(definition.arguments)
    assert "given" not in definition.arguments
    assert definition.arguments["order"] == "NCHW"
    for argument in definition.arguments:
        assert f"    {argument}: " in definition.documentation


@pytest.mark.parametrize(
    "given",
    [
        {"kernel": 3, "pad": 1},
        {"kernels": [3, 2], "stride": 2, "dilation": 2, "pads": [3, 1, 4, 0]},
        {"kernel": 1, "stride": 3, "legacy_pad": 2},
    ],
)
def test_strips_see_what_the_whole_window_sees(given):
    whole = laid((9, 8), **given)
    image = np.arange(1, 73).reshape(9, 8)

    def seen(window):
        bordered = np.zeros(window.reach, int)
        bordered[window.inner] = image[window.seen]
        return np.stack([bordered[region[1:]] for _, region, _ in window.offsets])

    for start in range(whole.places[0]):
        for stop in range(start + 1, whole.places[0] + 1):
            strip = seen(whole.strip(start, stop))
            np.testing.assert_array_equal(strip, seen(whole)[:, start:stop])
