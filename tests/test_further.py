"""Gaussian blur, distorted digits, the convolutional network, and the test for comparing models."""

from functools import partial

import numpy as np
import pytest
from conftest import assert_gradient, assert_weight_gradient, finite_difference, with_weights
from scipy import ndimage


@pytest.mark.parametrize(("size", "sigma"), [(1, 1.0), (3, 0.5), (5, 1.0), (7, 1.5), (9, 2.0)])
def test_blur_is_scipys_up_to_the_edges(nb, rng, size, sigma):
    images, radius = rng.random((2, 3, 20, 23)), size // 2
    ours, sigmas = nb.blur(images, size, sigma), (0, 0, sigma, sigma)
    theirs = ndimage.gaussian_filter(images, sigmas, radius=(0, 0, radius, radius), mode="nearest")
    assert ours.shape == images.shape
    assert np.abs(ours - theirs).max() <= 1e-12


@pytest.mark.parametrize(("size", "sigma"), [(3, 0.4), (5, 1.2), (7, 1.5), (4, 1.0)])
def test_gaussian_filters_are_the_bell(nb, size, sigma):
    weights = nb.gaussian_filters(size, sigma)
    place = np.arange(size) - (size - 1) / 2
    bell = np.exp(-(place[:, None] ** 2 + place**2) / (2 * sigma**2))
    for o in range(3):
        for c in range(3):
            expected = bell / bell.sum() if o == c else 0 * bell
            np.testing.assert_allclose(weights[o, c], expected, atol=1e-15)
    assert weights.sum() == pytest.approx(3, rel=1e-14)


def test_gaussian_filters_are_normalised_and_centred(nb):
    weights = nb.gaussian_filters(5, 1.2)
    assert weights.shape == (3, 3, 5, 5)
    assert weights.sum(axis=(2, 3)) == pytest.approx(np.eye(3))
    assert np.allclose(weights, weights[..., ::-1, ::-1])
    assert weights[0, 0].argmax() == 12


def test_blur_keeps_a_constant_image(nb):
    assert nb.blur(np.full((1, 3, 8, 9), 0.3), 7, 1.5) == pytest.approx(0.3)


@pytest.mark.parametrize("shape", [(14, 14), (9, 16), (17, 6)])
@pytest.mark.parametrize("reach", [0.0, 0.8, 2.5, 60.0])
def test_warp_is_bilinear_interpolation(nb, rng, shape, reach):
    """By definition: a pixel's share falls linearly to 0 at a distance of 1; zeros outside."""
    images = rng.random((3, *shape), dtype=np.float32)
    field = rng.uniform(-reach, reach, (2, 3, shape[0] * shape[1])).astype(np.float32)
    places = np.indices(shape).reshape(2, 1, -1) + field.astype(float)
    rows, columns = (
        np.maximum(1 - abs(place[..., None] - np.arange(size)), 0)
        for place, size in zip(places, shape, strict=True)
    )
    expected = np.einsum("npi,nij,npj->np", rows, images, columns, optimize=True)
    found = nb.warp(images, field)
    assert found.dtype == np.float32 and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 7), (28, 28)])
def test_no_displacement_is_the_identity(nb, rng, shape):
    images = rng.random((3, *shape), dtype=np.float32)
    same = nb.warp(images, np.zeros((2, 3, shape[0] * shape[1]), np.float32))
    assert same.dtype == np.float32 and same.shape == (3, shape[0] * shape[1])
    np.testing.assert_array_equal(same.reshape(images.shape), images)


@pytest.mark.parametrize(("down", "right"), [(1, 0), (0, 1), (-2, 0), (0, -3), (2, -1), (9, 9)])
def test_whole_displacements_shift(nb, rng, down, right):
    """The pixel at (i, j) is read from (i + down, j + right); outside, the image is 0."""
    images = rng.random((2, 6, 8), dtype=np.float32)
    field = np.empty((2, 2, 48), np.float32)
    field[0], field[1] = down, right
    expected = np.zeros_like(images)
    for i, j in np.ndindex(6, 8):
        if 0 <= i + down < 6 and 0 <= j + right < 8:
            expected[:, i, j] = images[:, i + down, j + right]
    np.testing.assert_array_equal(nb.warp(images, field).reshape(images.shape), expected)


def test_every_image_has_its_own_displacement(nb, rng):
    images = np.repeat(rng.random((1, 6, 8), dtype=np.float32), 3, axis=0)
    field = np.zeros((2, 3, 48), np.float32)
    field[0, 1], field[1, 2] = 1, 1
    kept = images.copy(), field.copy()
    still, up, left = nb.warp(images, field).reshape(images.shape)
    np.testing.assert_array_equal(still, images[0])
    np.testing.assert_array_equal(up[:-1], images[0, 1:])
    np.testing.assert_array_equal(left[:, :-1], images[0, :, 1:])
    for array, copy in zip((images, field), kept, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("down", [0.25, -0.5])
def test_half_way_is_the_mean(nb, rng, down):
    images = rng.random((1, 7, 5), dtype=np.float32)
    field = np.zeros((2, 1, 35), np.float32)
    field[0] = down
    neighbour = images[0, 2:] if down > 0 else images[0, :-2]
    expected = (1 - abs(down)) * images[0, 1:-1] + abs(down) * neighbour
    np.testing.assert_allclose(nb.warp(images, field).reshape(7, 5)[1:-1], expected, atol=1e-6)


@pytest.mark.parametrize(("shape", "sigma"), [((28, 28), 6.0), ((20, 33), 4.0), ((9, 5), 6.0)])
def test_elastic_fields_have_unit_size(nb, rng, shape, sigma):
    """The variance of each pixel is the sum of squares over the basis: 1, also at the edges."""
    basis = nb.displacement_basis(shape, sigma)
    elastic = basis[:-3].astype(float)
    assert basis.dtype == np.float32 and basis.shape[1] == shape[0] * shape[1]
    np.testing.assert_allclose(np.sum(elastic**2, axis=0), 1, atol=1e-5)
    fields = rng.standard_normal((3000, len(elastic))) @ elastic
    assert fields.std(axis=0) == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize("sigma", [3.0, 6.0])
@pytest.mark.parametrize("axis", [0, 1])
def test_elastic_fields_are_smooth_over_sigma(nb, sigma, axis):
    """Noise spread by a Gaussian of sd sigma has a correlation of exp(-distance^2 / 4 sigma^2)."""
    shape = (31, 41)
    elastic = nb.displacement_basis(shape, sigma)[:-3].astype(float).reshape(-1, *shape)
    here = elastic[:, 15, 20]
    along = elastic[:, :, 20] if axis == 0 else elastic[:, 15]
    distance = np.arange(shape[axis]) - (15, 20)[axis]
    expected = np.exp(-(distance**2) / (4 * sigma**2))
    np.testing.assert_allclose(here @ along, expected, atol=0.04)


def test_sigma_is_six_pixels_unless_given(nb):
    default, six = nb.displacement_basis((28, 28)), nb.displacement_basis((28, 28), 6.0)
    np.testing.assert_array_equal(default, six)


@pytest.mark.parametrize("shape", [(28, 28), (5, 9), (6, 3)])
def test_affine_fields_are_row_column_and_constant(nb, shape):
    row, column, one = nb.displacement_basis(shape)[-3:].reshape(3, *shape)
    rows, columns = np.indices(shape)
    np.testing.assert_allclose(row, rows - (shape[0] - 1) / 2)
    np.testing.assert_allclose(column, columns - (shape[1] - 1) / 2)
    np.testing.assert_array_equal(one, 1)
    assert abs(row.mean()) < 1e-6 and abs(column.mean()) < 1e-6  # the centre stays


@pytest.fixture
def fields(nb, monkeypatch):
    """Coefficients (basis, axes and images) of the displacements of distorted_minibatch."""
    shape, displacements = (28, 24), []
    warp = nb.warp

    def recorded(images, displacement):
        displacements.append(np.array(displacement))
        return warp(images, displacement)

    monkeypatch.setattr(nb, "warp", recorded)
    x = np.ones((900, 28 * 24), np.float32)
    for _ in nb.distorted_minibatch(x, np.arange(900), 300, np.random.default_rng(0), shape):
        pass
    assert [d.shape for d in displacements] == [(2, 300, 28 * 24)] * 3
    basis = nb.displacement_basis(shape).astype(float)
    displacement = np.concatenate(displacements, axis=1).astype(float)
    return np.linalg.lstsq(basis.T, displacement.reshape(1800, -1).T, rcond=None)[0]


def test_sizes_of_the_distortions(nb, fields):
    elastic, affine = fields[:-3], fields[-3:]
    assert nb.ELASTIC == 1.2 and nb.AFFINE == (0.15, 0.15, 1.0)
    assert elastic.std() == pytest.approx(1.2, rel=0.02) and abs(elastic.mean()) < 0.03
    for values, largest in zip(affine, nb.AFFINE, strict=True):
        assert np.abs(values).max() == pytest.approx(largest, rel=0.02)
        assert np.abs(values).max() <= largest * 1.001
        assert values.std() == pytest.approx(largest / np.sqrt(3), rel=0.06)  # uniform
        assert abs(values.mean()) < 0.06 * largest


def test_distortions_of_the_axes_and_the_images_are_independent(fields):
    down, right = fields.reshape(len(fields), 2, 900).swapaxes(0, 1)
    assert np.abs([np.corrcoef(a, b)[0, 1] for a, b in zip(down, right, strict=True)]).max() < 0.2
    rows = np.concatenate([down, right]).T
    assert len(np.unique(rows.round(4), axis=0)) == 900


def test_distorted_images_differ_from_the_originals_and_each_time(nb, rng):
    x = np.repeat(rng.random((1, 20 * 20), dtype=np.float32), 8, axis=0)
    batches = list(nb.distorted_minibatch(x, np.arange(8), 4, rng, shape=(20, 20)))
    seen = np.concatenate([batch for batch, _ in batches] + [x[:1]])
    for i in range(9):
        for j in range(i):
            assert np.abs(seen[i] - seen[j]).mean() > 0.02


def test_distorted_images_are_still_alike(nb, rng):
    """A large blob stays where it is, up to the distortion's few pixels."""
    picture = np.zeros((28, 28), np.float32)
    picture[9:19, 9:19] = 1
    x = np.repeat(picture.reshape(1, -1), 200, axis=0)
    ((batch, _),) = nb.distorted_minibatch(x, np.arange(200), 200, rng, shape=(28, 28))
    weights = batch.reshape(200, 28, 28)
    centre = np.einsum("nij,kij->nk", weights, np.indices((28, 28))) / batch.sum(axis=1)[:, None]
    assert np.abs(centre.mean(axis=0) - 13.5).max() < 0.4
    assert np.all(np.abs(centre - 13.5) < 6)
    assert centre.std(axis=0).min() > 0.1 and centre.std(axis=0).max() < 2
    assert batch.min() >= 0 and batch.max() <= 1


def test_the_same_generator_distorts_alike(nb, rng):
    x, y = rng.random((12, 30), dtype=np.float32), np.arange(12)
    runs = (
        list(nb.distorted_minibatch(x, y, 5, np.random.default_rng(seed), (5, 6)))
        for seed in (1, 1, 2)
    )
    first, again, other = ([batch for batch, _ in run] for run in runs)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], other[0])


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


# --- The convolutional network -----------------------------------------------------------------


def test_convolution_hands_down_the_gradient_by_its_input(nb, rng):
    layer, fast = (
        kind(2, 3, 3, stride=2, padding=1, rng=rng, dtype=np.float64)
        for kind in (nb.Convolution, nb.Fast_Convolution_Layer)
    )
    fast.set_weights(layer.W, layer.b)
    x = rng.standard_normal((4, 2, 7, 8))
    grad = rng.standard_normal(layer.forward(x).shape)
    np.testing.assert_array_equal(layer.forward(x), fast.forward(x))
    grad_W = fast.backward(grad)
    np.testing.assert_array_equal(layer.backward(grad), fast.grad_input)
    assert layer.backward(grad, need_input_grad=False) is None
    np.testing.assert_array_equal(layer.grad_W, grad_W)
    np.testing.assert_array_equal(layer.grad_b, fast.grad_b)


@pytest.mark.parametrize("shape", [(4, 3, 2, 5), (1, 3, 2, 5), (0, 3, 2, 5)])
def test_flatten(nb, rng, shape):
    layer, x = nb.Flatten(), rng.standard_normal(shape)
    rows = layer.forward(x)
    assert rows.shape == (len(x), 30)
    for row, maps in zip(rows, x, strict=True):
        np.testing.assert_array_equal(row, maps.ravel())
    for need_input_grad in True, False:
        np.testing.assert_array_equal(layer.backward(rows, need_input_grad), x)


def objective(nb, network, x, y, lam):
    penalty = sum(np.sum(layer.W**2) for layer in network.weighted)
    return nb.loss_and_gradient(y, network.forward(x))[0] + lam * penalty


def with_biases(network, rng):
    """The network with biases that are not zero."""
    for layer in network.weighted:
        layer.b[...] = 0.1 * rng.standard_normal(layer.b.shape)
    return network


@pytest.mark.parametrize("lam", [0.0, 0.3])
def test_every_gradient_of_a_small_network(nb, rng, lam):
    first = nb.Convolution(1, 2, 3, stride=2, padding=1, rng=rng, dtype=np.float64)
    second = nb.Convolution(2, 3, 2, rng=rng, dtype=np.float64)
    top = nb.MLP(12, 5, 3, rng, np.float64).layers
    network = nb.Network([first, nb.ReLU(), second, nb.ReLU(), nb.Flatten(), *top])
    with_biases(network, rng)
    x, y = rng.standard_normal((4, 1, 6, 6)), rng.integers(0, 3, 4)
    network.backward(nb.loss_and_gradient(y, network.forward(x))[1], lam)
    for layer in network.weighted:
        for name in "W", "b":
            analytic = getattr(layer, f"grad_{name}")
            assert_weight_gradient(layer, name, analytic, lambda: objective(nb, network, x, y, lam))


@pytest.fixture
def convnet(nb, rng):
    """A small ConvNet in float64, for images of 13 x 16 pixels in 4 classes."""
    return with_biases(nb.ConvNet(rng, np.float64, (13, 16), 4), rng)


@pytest.fixture
def digits(rng):
    """Six images of 13 x 16 pixels, flat, and their labels."""
    return rng.random((6, 13 * 16)), rng.integers(0, 4, 6)


@pytest.mark.parametrize("lam", [0.0, 0.02])
def test_gradients_of_the_convnet(nb, rng, convnet, digits, lam):
    """Along random directions, each of an array's entries in many of them."""
    x, y = digits
    convnet.backward(nb.loss_and_gradient(y, convnet.forward(x))[1], lam)
    for layer in convnet.weighted:
        for name in "W", "b":
            value, grad = getattr(layer, name), getattr(layer, f"grad_{name}")
            directions = rng.standard_normal((8, *value.shape))

            def along(steps, layer=layer, name=name, value=value, directions=directions):
                moved = value + np.tensordot(steps, directions, axes=1)
                return with_weights(layer, name, moved, lambda: objective(nb, convnet, x, y, lam))

            slopes = np.tensordot(directions, grad, axes=grad.ndim)
            assert_gradient(slopes, finite_difference(along, np.zeros(8), h=1e-7), bound=1e-6)


def test_parameters_cover_all_four_weighted_layers(nb, convnet, digits):
    x, y = digits
    convnet.backward(nb.loss_and_gradient(y, convnet.forward(x))[1])
    kinds = " ".join(type(layer).__name__ for layer in convnet.layers)
    assert kinds == "Convolution ReLU Convolution ReLU Flatten Linear ReLU Linear"
    expected, shapes = [], []
    for layer in convnet.layers[::2][:2] + convnet.layers[5::2]:
        expected += [(layer.W, layer.grad_W), (layer.b, layer.grad_b)]
    for (value, grad), (W, own_grad) in zip(convnet.parameters(), expected, strict=True):
        assert value is W and grad is own_grad and grad.shape == value.shape
        shapes.append(value.shape)
    # 13 x 16 pixels: maps of 6 x 7, then of 1 x 2
    weights = [(16, 1, 5, 5), (48, 16, 5, 5), (48 * 1 * 2, 128), (128, 4)]
    assert shapes[::2] == weights and shapes[1::2] == [(16,), (48,), (128,), (4,)]


def convolved(x, layer):
    """A convolution of stride 2 by definition, from windows of the padded images."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(2, 3))[:, :, ::2, ::2]
    return np.einsum("ncijuv,ocuv->noij", windows, layer.W, optimize=True) + layer.b[:, None, None]


def test_scores_of_the_convnet(convnet, digits):
    """Flat pixels in, scores out; the first layer has a margin of one pixel."""
    first, second, third, fourth = convnet.weighted
    x = np.pad(digits[0].reshape(6, 1, 13, 16), [(0, 0), (0, 0), (1, 1), (1, 1)])
    hidden = np.maximum(convolved(np.maximum(convolved(x, first), 0), second), 0)
    hidden = np.maximum(hidden.reshape(6, -1) @ third.W + third.b, 0)
    expected = hidden @ fourth.W + fourth.b
    np.testing.assert_allclose(convnet.forward(digits[0]), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("given", "shape", "classes"),
    [({}, (28, 28), 10), ({"shape": (11, 40), "class_count": 3}, (11, 40), 3)],
)
def test_convnet_of_any_shape_stays_in_float32(nb, rng, given, shape, classes):
    network = nb.ConvNet(**given)
    for count in 0, 1, 5:
        x = rng.random((count, shape[0] * shape[1]), dtype=np.float32)
        scores = network.forward(x)
        assert scores.shape == (count, classes) and scores.dtype == np.float32
    network.backward(scores, 0.1)
    arrays = [array for pair in network.parameters() for array in pair]
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}


def test_images_too_small_for_the_convnet(nb):
    with pytest.raises(ValueError, match="smaller than the kernel"):
        nb.ConvNet(shape=(10, 28))


def test_convnet_starts_from_its_seed(nb):
    first, again, other = (nb.ConvNet(np.random.default_rng(seed)).weighted for seed in (1, 1, 2))
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a.W, b.W)
        assert not np.array_equal(a.W, c.W)
        assert a.W.std() == pytest.approx(np.sqrt(2 / (a.W.size / len(a.b))), rel=0.1)
        assert not a.b.any()
    assert not np.array_equal(nb.ConvNet().weighted[0].W, nb.ConvNet().weighted[0].W)


def test_one_training_step_of_the_convnet(nb, convnet, digits):
    """Each array moves against its gradient of the penalised loss, by the learning rate."""
    (x, y), rate, lam = digits, 0.05, 0.01
    before = [np.array(a) for layer in convnet.weighted for a in (layer.W, layer.b)]
    first = objective(nb, convnet, x, y, 0.0)
    hits = np.count_nonzero(convnet.forward(x).argmax(axis=1) == y)
    assert nb.take_step(convnet, x, y, rate, lam) == (pytest.approx(first, rel=1e-14), hits)
    after = [a for layer in convnet.weighted for a in (layer.W, layer.b)]
    grads = [grad for _, grad in convnet.parameters()]
    for old, new, grad in zip(before, after, grads, strict=True):
        assert np.abs(grad).max() > 1e-6
        np.testing.assert_allclose(new, old - rate * grad, rtol=0, atol=1e-15)
    assert objective(nb, convnet, x, y, 0.0) < first


def test_convnet_learns_by_heart(nb, rng):
    x, y = rng.random((12, 144), dtype=np.float32), np.arange(12) % 3
    make = partial(nb.ConvNet, shape=(12, 12), class_count=3)
    model, history = nb.fit(make, (x, y), epochs=60, batch_size=6, learning_rate=0.1)
    assert nb.evaluate(model, (x, y))[1] == 1 > history["train"][0][2]


def test_mcnemar_counts_and_exact_p(nb):
    a = np.array([True] * 8 + [False] * 2 + [True, False])
    b = np.array([False] * 8 + [True] * 2 + [True, False])
    only_a, only_b, p = nb.mcnemar(a, b)
    assert (only_a, only_b) == (8, 2)
    assert p == pytest.approx(2 * sum((1, 10, 45)) / 2**10)
    assert nb.mcnemar(a, a) == (0, 0, 1.0)
