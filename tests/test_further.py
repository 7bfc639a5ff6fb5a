"""Gaussian blur, distorted digits, the fast convolution, and the tests for comparing models."""

import numpy as np
import pytest
from scipy import ndimage


@pytest.mark.parametrize(("size", "sigma"), [(3, 0.5), (5, 1.0), (9, 2.0)])
def test_blur_is_scipys_in_the_interior(nb, rng, size, sigma):
    images = rng.random((2, 3, 20, 23))
    ours, radius = nb.blur(images, size, sigma), size // 2
    theirs = ndimage.gaussian_filter(images, (0, 0, sigma, sigma), radius=(0, 0, radius, radius))
    inside = np.s_[..., radius:-radius, radius:-radius]
    assert ours.shape == images.shape
    assert np.abs(ours - theirs)[inside].max() <= 1e-10


def test_gaussian_filters_are_normalised_and_centred(nb):
    weights = nb.gaussian_filters(5, 1.2)
    assert weights.shape == (3, 3, 5, 5)
    assert weights.sum(axis=(2, 3)) == pytest.approx(np.eye(3))
    assert np.allclose(weights, weights[..., ::-1, ::-1])
    assert weights[0, 0].argmax() == 12


def test_blur_keeps_a_constant_image(nb):
    assert nb.blur(np.full((1, 3, 8, 9), 0.3), 7, 1.5) == pytest.approx(0.3)


@pytest.mark.parametrize("shape", [(28, 28), (20, 33), (41, 17)])
@pytest.mark.parametrize("reach", [0.0, 2.5, 60.0])
def test_warp_is_scipys_bilinear_interpolation(nb, rng, shape, reach):
    images = rng.random((3, *shape), dtype=np.float32)
    field = rng.uniform(-reach, reach, (2, 3, shape[0] * shape[1])).astype(np.float32)
    places = np.indices(shape)[:, None] + field.reshape(2, 3, *shape).astype(float)
    expected = [
        ndimage.map_coordinates(image.astype(float), place, order=1, mode="grid-constant")
        for image, place in zip(images, places.swapaxes(0, 1), strict=True)
    ]
    assert nb.warp(images, field) == pytest.approx(np.reshape(expected, (3, -1)), abs=1e-5)


def test_elastic_fields_have_unit_size_and_are_smooth(nb, rng):
    basis = nb.elastic_basis((28, 28), 6.0)
    fields = rng.standard_normal((4000, len(basis))) @ basis
    assert fields.std(axis=0) == pytest.approx(1, abs=0.06)
    steps = np.diff(fields.reshape(-1, 28, 28), axis=2)
    assert steps.std() < 0.25


def test_distorted_minibatches_cover_every_sample_once(nb, rng):
    x, y = rng.random((25, 30), dtype=np.float32), np.arange(25)
    batches = list(nb.distorted_minibatch(x, y, 10, rng, shape=(5, 6)))
    assert [len(labels) for _, labels in batches] == [10, 10, 5]
    assert sorted(np.concatenate([labels for _, labels in batches])) == list(range(25))
    assert all(b.dtype == np.float32 and b.shape == (len(labels), 30) for b, labels in batches)
    again = list(nb.distorted_minibatch(x, y, 10, rng, shape=(5, 6)))
    assert not np.array_equal(again[0][0], batches[0][0])


def test_labels_follow_their_distorted_images(nb, rng):
    x = np.repeat(np.linspace(0.1, 1, 10, dtype=np.float32)[:, None], 81, axis=1)
    ((batch, order),) = nb.distorted_minibatch(x, np.arange(10), 10, rng, shape=(9, 9))
    centre = batch.reshape(-1, 9, 9)[:, 4, 4]
    assert centre == pytest.approx(x[order, 0], abs=1e-6)


@pytest.mark.parametrize("kernel_size", [1, 2, (3, 5)])
@pytest.mark.parametrize("stride", [1, 3, (2, 1)])
@pytest.mark.parametrize("padding", [0, (0, 2)])
@pytest.mark.parametrize("dilation", [1, 3])
def test_fast_convolution_equals_the_naive_one(nb, rng, kernel_size, stride, padding, dilation):
    layers = [
        cls(2, 3, kernel_size, True, stride, padding, dilation, dtype=np.float64)
        for cls in (nb.Convolution_Layer, nb.Fast_Convolution_Layer)
    ]
    layers[1].set_weights(layers[0].W, layers[0].b)
    x = rng.standard_normal((3, 2, 14, 15))
    naive, fast = (layer.forward(x) for layer in layers)
    assert fast == pytest.approx(naive, abs=1e-12)
    grad = rng.standard_normal(naive.shape)
    by_W = [layer.backward(grad) for layer in layers]
    assert by_W[1] == pytest.approx(by_W[0], abs=1e-11)
    assert layers[1].grad_input == pytest.approx(layers[0].grad_input, abs=1e-11)
    assert layers[1].grad_b == pytest.approx(layers[0].grad_b, abs=1e-11)


def test_pure_python_loops_are_the_convolution(nb, rng):
    x, layer = rng.random((2, 6, 7)), nb.Convolution_Layer(2, 3, (2, 3), dtype=np.float64)
    loops = np.reshape(nb.python_correlate(x, layer.W), (3, 5, 5))
    assert loops == pytest.approx(layer.forward(x[None])[0])


def test_mcnemar_counts_and_exact_p(nb):
    a = np.array([True] * 8 + [False] * 2 + [True, False])
    b = np.array([False] * 8 + [True] * 2 + [True, False])
    only_a, only_b, p = nb.mcnemar(a, b)
    assert (only_a, only_b) == (8, 2)
    assert p == pytest.approx(2 * sum((1, 10, 45)) / 2**10)
    assert nb.mcnemar(a, a) == (0, 0, 1.0)
