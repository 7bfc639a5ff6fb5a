"""Further: distorted digits, and the convolutional network."""

from functools import partial

import numpy as np
import pytest
from conftest import assert_gradient, assert_seeded, finite_difference, with_weights

pytestmark = pytest.mark.filterwarnings("error")


# --- Distorted digits -------------------------------------------------------------


@pytest.mark.parametrize("shape", [(14, 14), (9, 16)])
@pytest.mark.parametrize("reach", [0.0, 0.8, 2.5, 60.0])
def test_warp_is_linear_between_pixels(nb, rng, shape, reach):
    """A pixel's share falls linearly to 0 at a distance of 1; outside, all is 0."""
    images = rng.random((3, *shape), dtype=np.float32)
    field = rng.uniform(-reach, reach, (2, 3, shape[0] * shape[1])).astype(np.float32)
    given = images.copy(), field.copy()
    places = np.indices(shape).reshape(2, 1, -1) + field.astype(float)
    rows, columns = (
        np.maximum(1 - abs(place[..., None] - np.arange(size)), 0)
        for place, size in zip(places, shape, strict=True)
    )
    expected = np.einsum("npi,nij,npj->np", rows, images, columns, optimize=True)
    found = nb.warp(images, field)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    for array, copy in zip((images, field), given, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize(
    ("shape", "sigma"), [((28, 28), None), ((20, 41), 4.0), ((9, 5), 6.0)]
)
def test_displacement_basis(nb, shape, sigma):
    """Bumps give a sd of 1 at each pixel, also at the edges, and are smooth over sigma:
    noise spread by a Gaussian is correlated as exp(-distance^2 / 4 sigma^2)."""
    given, sigma = ({}, 6.0) if sigma is None else ({"sigma": sigma}, sigma)
    basis = nb.displacement_basis(shape, **given)
    assert basis.dtype == np.float32
    bumps, affine = np.split(basis.astype(float), [len(basis) - 3])
    covariance = bumps.T @ bumps
    np.testing.assert_allclose(np.diag(covariance), 1, atol=1e-5)
    row, column = places = np.indices(shape).reshape(2, -1)
    distance = np.linalg.norm(places[:, :, None] - places[:, None], axis=0)
    expected = np.exp(-(distance**2) / (4 * sigma**2))
    inner = np.all(
        [(p >= sigma) & (p < n - sigma) for p, n in zip(places, shape, strict=True)], 0
    )
    np.testing.assert_allclose(covariance[inner], expected[inner], atol=0.06)
    middle = (np.array(shape) - 1) / 2
    expected = [row - middle[0], column - middle[1], np.ones(row.size)]
    np.testing.assert_allclose(affine, expected, rtol=1e-6)


@pytest.fixture
def fields(nb, monkeypatch):
    """The coefficients (basis, axes, images) that distorted_minibatch draws."""
    shape, displacements, warp = (20, 16), [], nb.warp

    def recorded(images, displacement):
        displacements.append(displacement)
        return warp(images, displacement)

    monkeypatch.setattr(nb, "warp", recorded)
    x = np.ones((900, 20 * 16), np.float32)
    for _ in nb.distorted_minibatch(
        x, np.arange(900), 300, np.random.default_rng(0), shape
    ):
        pass
    displacement = np.concatenate(displacements, axis=1)
    assert displacement.dtype == np.float32
    basis = nb.displacement_basis(shape).astype(float)
    flat = displacement.reshape(1800, -1).astype(float)
    coefficients = np.linalg.lstsq(basis.T, flat.T, rcond=None)[0]
    np.testing.assert_allclose(coefficients.T @ basis, flat, atol=1e-4)
    return coefficients.reshape(len(basis), 2, 900)


def test_sizes_of_the_distortions(nb, fields):
    """Bumps normal, affine part uniform; a digit moves and bends by a few pixels."""
    bumps, affine = fields[:-3], fields[-3:]
    assert bumps.std(axis=(0, 2)) == pytest.approx([nb.ELASTIC] * 2, rel=0.03)
    assert abs(bumps.mean()) < 0.03
    assert np.abs(bumps).max() > 3 * nb.ELASTIC
    for values, largest in zip(affine, nb.AFFINE, strict=True):
        assert np.abs(values).max(axis=1) == pytest.approx([largest] * 2, rel=0.02)
        assert values.std(axis=1) == pytest.approx([largest / 3**0.5] * 2, rel=0.06)
        assert abs(values.mean()) < 0.06 * largest
    assert 0.5 < nb.ELASTIC < 2
    assert nb.AFFINE[0] == nb.AFFINE[1] < 0.3
    assert 0.5 <= nb.AFFINE[2] <= 2


def test_distortions_are_independent(fields):
    """Of the two axes, of one another, and of those of other images."""
    rows = fields.reshape(-1, 900)
    correlations = np.corrcoef(rows) - np.eye(len(rows))
    assert np.abs(correlations).max() < 0.2
    assert np.linalg.matrix_rank(fields.reshape(len(fields), -1)) == len(fields)
    assert len(np.unique(rows.T.round(4), axis=0)) == 900


def test_every_image_once_and_with_its_label(nb, rng):
    """An image of one grey keeps it in the middle."""
    x = np.repeat(np.linspace(0.1, 1, 25, dtype=np.float32)[:, None], 99, axis=1)
    batches = list(nb.distorted_minibatch(x, np.arange(25), 10, rng, shape=(11, 9)))
    assert [len(order) for _, order in batches] == [10, 10, 5]
    seen, order = map(np.concatenate, zip(*batches, strict=True))
    assert seen.dtype == np.float32
    assert seen.shape == (25, 99)
    assert sorted(order) == list(range(25)) != list(order)
    middles = seen.reshape(-1, 11, 9)[:, 5, 4]
    np.testing.assert_allclose(middles, x[order, 0], rtol=1e-5)


def test_distortions_are_new_each_time_and_from_the_generator(nb, rng):
    x, y = np.repeat(rng.random((1, 80), dtype=np.float32), 6, axis=0), np.arange(6)

    def distorted(rng):
        batches = nb.distorted_minibatch(x, y, 3, np.random.default_rng(rng), (10, 8))
        return np.concatenate([images for images, _ in batches])

    assert_seeded(distorted)
    seen = np.concatenate([x[:1], distorted(rng), distorted(rng)])
    different = np.abs(seen[:, None] - seen).mean(axis=2)
    assert different[~np.eye(13, dtype=bool)].min() > 0.02


# --- The convolutional network ----------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 3, 2, 5), (1, 3, 2, 5), (0, 3, 2, 5)])
def test_flatten(nb, rng, shape):
    layer, x = nb.Flatten(), rng.standard_normal(shape)
    rows = layer.forward(x)
    np.testing.assert_array_equal(
        rows, np.reshape([maps.ravel() for maps in x], (shape[0], 30)), strict=True
    )
    for need_input_grad in True, False:
        np.testing.assert_array_equal(layer.backward(rows, need_input_grad), x)


@pytest.fixture
def convnet(nb, rng):
    """A ConvNet in float64, for images of 13 x 16 pixels in 4 classes; biases not 0."""
    network = nb.ConvNet(rng, np.float64, (13, 16), 4)
    for layer in network.weighted():
        layer.b[:] = 0.1 * rng.standard_normal(layer.b.shape)
    return network


@pytest.fixture
def digits(rng):
    """Six images of 13 x 16 pixels, flat, and their labels."""
    return rng.random((6, 13 * 16)), rng.integers(0, 4, 6)


def convolved(x, layer):
    """A convolution of stride 2, from windows of the images."""
    view = np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(2, 3))
    out = np.einsum("ncijuv,ocuv->noij", view[:, :, ::2, ::2], layer.W, optimize=True)
    return out + layer.b[:, None, None]


def test_scores_of_the_convnet(convnet, digits):
    """13 x 16 pixels, with a margin of 1, become maps of 6 x 7, then of 1 x 2."""
    first, second, third, fourth = convnet.weighted()
    x = np.pad(digits[0].reshape(6, 1, 13, 16), [(0, 0), (0, 0), (1, 1), (1, 1)])
    hidden = np.maximum(convolved(np.maximum(convolved(x, first), 0), second), 0)
    hidden = np.maximum(hidden.reshape(6, -1) @ third.W + third.b, 0)
    expected = hidden @ fourth.W + fourth.b
    np.testing.assert_allclose(convnet.forward(digits[0]), expected, atol=1e-12)
    shapes = [layer.W.shape for layer in convnet.weighted()]
    assert shapes == [(16, 1, 5, 5), (48, 16, 5, 5), (48 * 1 * 2, 128), (128, 4)]


def test_gradients_of_the_convnet(nb, rng, convnet, digits):
    """Along random directions: all parts of a gradient are in each of the slopes."""
    (x, y), lam = digits, 0.02

    def objective():
        penalty = sum(np.sum(layer.W**2) for layer in convnet.weighted())
        return nb.loss_function(y, convnet.forward(x)) + lam * penalty

    convnet.backward(nb.loss_backward(y, convnet.forward(x)), lam)
    for layer in convnet.weighted():
        for name in "W", "b":
            value, grad = getattr(layer, name), getattr(layer, f"grad_{name}")
            directions = rng.standard_normal((5, *value.shape))

            def along(steps, layer=layer, name=name, value=value, ways=directions):
                moved = value + np.tensordot(steps, ways, axes=1)
                return with_weights(layer, name, moved, objective)

            slopes = np.tensordot(directions, grad, axes=grad.ndim)
            numerical = finite_difference(along, np.zeros(5), h=1e-7)
            assert_gradient(slopes, numerical, bound=1e-6)


@pytest.mark.parametrize(
    ("given", "dtype", "pixels", "classes"),
    [
        ({}, np.float32, 28 * 28, 10),
        ({"shape": (11, 40), "class_count": 3}, np.float32, 11 * 40, 3),
        ({"dtype": np.float64}, np.float64, 28 * 28, 10),
    ],
)
def test_convnet_keeps_its_dtype(nb, rng, given, dtype, pixels, classes):
    network = nb.ConvNet(**given)
    for count in 1, 5:
        scores = network.forward(rng.random((count, pixels)).astype(dtype))
        assert scores.shape == (count, classes)
    network.backward(scores, 0.1)
    arrays = scores, *(array for pair in network.parameters() for array in pair)
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}
    assert len(arrays) == 17


@pytest.mark.parametrize(
    ("index", "inputs"), [(0, 1 * 25), (1, 16 * 25), (2, 48 * 25), (3, 128)]
)
def test_weights_of_the_convnet(nb, index, inputs):
    def weights(rng):
        return nb.ConvNet(rng).weighted()[index].W

    assert_seeded(weights)
    assert weights(0).std() == pytest.approx(np.sqrt(2 / inputs), rel=0.1)


@pytest.mark.parametrize("shape", [(2, 392), (1, 28, 27), (4, 196)])
def test_images_of_another_size(nb, shape):
    with pytest.raises(ValueError, match=rf"into shape \({shape[0]},1,28,28\)"):
        nb.ConvNet().forward(np.zeros(shape, np.float32))


def test_images_too_small_for_the_convnet(nb):
    with pytest.raises(ValueError, match="smaller than the window"):
        nb.ConvNet(shape=(10, 28))


def test_convnet_learns_by_heart(nb, rng):
    part = nb.Part(rng.random((12, 144), dtype=np.float32), np.arange(12) % 3, "some")
    make_model = partial(nb.ConvNet, shape=(12, 12), class_count=3)
    run = nb.fit(make_model, part, epochs=60, batch_size=6, learning_rate=0.1)
    assert run.history["some"][0].accuracy < run.train.accuracy == 1
