import numpy as np
import pytest
from tests.operators.recordings import RECORDED, Recorded, check, replay, write

X = np.float32([[-1.5, 2.0], [0.25, -4.0]])
RELU = Recorded("small", "Relu", [X], {}, [np.maximum(X, 0)])


def test_what_is_written_comes_back(tmp_path):
    words = np.array([b"one", b"three"], object)
    sliced = Recorded("words", "Slice", [words], {"starts": [1], "ends": [-1]}, [words[1:]])
    write(tmp_path / "some.npz", [RELU, sliced])
    first, second = replay(tmp_path / "some.npz")
    assert (first.id, first.operator, first.arguments) == ("small", "Relu", {})
    np.testing.assert_array_equal(first.inputs[0], X)
    assert first.outputs[0].dtype == np.float32
    assert second.arguments == {"starts": [1], "ends": [-1]}
    assert second.inputs[0].tolist() == [b"one", b"three"]
    assert second.inputs[0].dtype == object
    check(first)


@pytest.mark.parametrize(
    "expected",
    [np.maximum(X, 1), np.maximum(X, 0)[0], np.maximum(X, 0).astype(np.float64)],
    ids=["value", "shape", "dtype"],
)
def test_check_finds_what_differs(expected):
    with pytest.raises(AssertionError):
        check(RELU._replace(outputs=[expected]))


def test_ids_are_unique(tmp_path):
    with pytest.raises(ValueError, match="same id"):
        write(tmp_path / "some.npz", [RELU, RELU])


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.npz")), ids=lambda path: path.stem)
def test_every_recording_has_its_script_and_its_test(path):
    here = RECORDED.parent
    for texts in (here.glob("record/*.py"), here.glob("test_recorded_*.py")):
        assert any(path.stem in each.read_text() for each in texts)
