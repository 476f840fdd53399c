import numpy as np
import pytest

from procession.testing.gradcheck import run_operator

X = np.arange(12, dtype=np.float32).reshape(1, 6, 2)


def test_channels_of_groups_take_turns():
    y = run_operator("ChannelShuffle", X, group=2)
    assert (y[0, :, 0] / 2).tolist() == [0, 3, 1, 4, 2, 5]
    np.testing.assert_array_equal(run_operator("ChannelShuffleGradient", y, group=2), X)
    last = run_operator("ChannelShuffle", X.transpose(0, 2, 1), group=2, order="NHWC")
    np.testing.assert_array_equal(last.transpose(0, 2, 1), y)
    with pytest.raises(ValueError, match="6 channels cannot be cut into 4 groups"):
        run_operator("ChannelShuffle", X, group=4)


def test_blocks_there_and_back():
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    y = run_operator("SpaceToBatch", x)
    assert y[:, 0].tolist() == [x[0, 0, i::2, j::2].tolist() for i in (0, 1) for j in (0, 1)]
    np.testing.assert_array_equal(run_operator("BatchToSpace", y), x)
    padded = run_operator("SpaceToBatch", x, block_size=3, pad=1)
    assert padded.shape == (9, 1, 2, 2)
    np.testing.assert_array_equal(run_operator("BatchToSpace", padded, block_size=3, pad=1), x)


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        ("SpaceToBatch", (1, 1, 3, 4), {}, "block_size=2 does not divide images of 3 x 4"),
        ("BatchToSpace", (3, 1, 2, 2), {}, "3 batches are no whole blocks of 2 x 2"),
        ("BatchToSpace", (4, 1, 1, 1), {"pad": 1}, "nothing is left"),
        ("SpaceToBatch", (1, 4, 4), {}, "images have four dimensions"),
        ("BatchToSpace", (4, 1, 2, 2), {"order": "NHWC"}, "the order is 'NCHW'"),
        ("SpaceToBatch", (1, 1, 4, 4), {"pad": -1}, "pad=-1 is negative"),
    ],
)
def test_errors(name, shape, options, message):
    with pytest.raises(ValueError, match=message):
        run_operator(name, np.zeros(shape, np.float32), **options)
