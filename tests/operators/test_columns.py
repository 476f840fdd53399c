"""How many images are taken at a time, and in which order, is not to be seen in the results."""

import threading

import numpy as np
import pytest
from tests.operators.make import f32

from procession.operators import columns
from procession.testing.gradcheck import run_operator

CASES = [
    ((20, 3, 7, 6), (4, 3, 3, 2), {"kernels": [3, 2], "stride": 2, "pad": 1}),
    ((20, 4, 6, 40), (4, 2, 2, 2), {"kernel": 2, "group": 2}),
    ((18, 2, 5), (3, 2, 2), {"kernel": 2, "dilation": 2}),
    ((17, 3, 4, 4), (2, 3, 1, 1), {"kernel": 1}),
    ((3, 4, 8, 9), (6, 2, 1, 1), {"kernel": 1, "group": 2}),
    ((2, 3, 6, 5), (3, 1, 3, 3), {"kernel": 3, "group": 3, "pad": 1}),
]


def everything(images, kernels, arguments):
    """The convolution and its gradient, and the same of the transposed one."""
    random = np.random.default_rng(3)
    x, w, b = (
        random.normal(size=shape).astype(np.float32) for shape in (images, kernels, kernels[:1])
    )
    y = run_operator("Conv", x, w, b, **arguments)
    made = [y, *run_operator("ConvGradient", x, w, y, **arguments)]
    if not {"dilation", "dilations"} & arguments.keys():
        z = run_operator("ConvTranspose", y, w, **arguments)
        made += [z, *run_operator("ConvTransposeGradient", y, w, z, **arguments)]
    return made


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case[0]))
@pytest.mark.parametrize("chunk", [1, 5000])
def test_chunks_do_not_matter(case, chunk, monkeypatch):
    want = everything(*case)
    monkeypatch.setattr(columns, "CHUNK", chunk)
    for one, other in zip(everything(*case), want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("images", "kernels", "arguments"),
    [
        ((2, 3, 7, 6), (4, 3, 3, 2), {"kernels": [3, 2], "pads": [1, 0, 2, 1]}),
        ((1, 4, 6, 7), (4, 2, 3, 3), {"kernel": 3, "group": 2, "dilations": [1, 2]}),
        ((3, 2, 5, 9), (3, 2, 2, 3), {"kernels": [2, 3], "stride_h": 1, "stride_w": 3}),
        ((2, 2, 4, 3, 5), (3, 2, 2, 2, 3), {"kernels": [2, 2, 3], "strides": [2, 1, 2]}),
    ],
)
def test_stages_do_not_matter(images, kernels, arguments, monkeypatch):
    made = everything(images, kernels, arguments)
    monkeypatch.setattr(columns, "SEVERAL", 1)
    for one, other in zip(made, everything(images, kernels, arguments), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_images_do_not_see_each_other():
    # 20 images are taken in another order than one is.
    x, w = f32(20, 3, 5, 5), f32(2, 3, 2, 2)
    together = run_operator("Conv", x, w, kernel=2)
    for image, made in zip(x, together, strict=True):
        alone = run_operator("Conv", image[np.newaxis], w, kernel=2)
        np.testing.assert_allclose(alone[0], made, rtol=1e-4, atol=1e-5)


def test_threads_have_their_own_memory():
    inputs = [(f32(4, 3, 9, 9), f32(5, 3, 3, 3)) for _ in range(4)]
    want = [run_operator("Conv", x, w, kernel=3) for x, w in inputs]
    wrong = []

    def work(number):
        for _ in range(50):
            made = run_operator("Conv", *inputs[number], kernel=3)
            if not np.array_equal(made, want[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert not any(thread.is_alive() for thread in threads)


def test_memory_that_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(columns, "CHUNK", 1000)
    monkeypatch.setattr(columns, "_local", type("Local", (), {})())
    run_operator("Conv", f32(1, 3, 20, 20), f32(5, 3, 3, 3), kernel=3)
    run_operator("Conv", f32(1, 1, 5, 5), f32(1, 1, 3, 3), kernel=3, pad=1)
    kept = vars(columns._local)
    assert "columns" in kept  # of some rows of places at a time
    assert all(memory.nbytes <= 4000 for memory in kept.values())
