"""Layers and networks: gradients against finite differences. The distorted digits of
*Further* against SciPy."""

import itertools
from copy import deepcopy
from functools import partial

import numpy as np
import pytest
from references import assert_gradient, assert_seeded, loss_of
from scipy.ndimage import map_coordinates

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


# Layers

GEOMETRY = {"stride": 2, "padding": 1, "dilation": 2}
LAYERS = {  # name: (class, sizes, options, shape of the input)
    "ReLU": ("ReLU", (), {}, (2, 3, 4, 5)),
    "Flatten": ("Flatten", (), {}, (4, 3, 2, 5)),
    "Linear": ("Linear", (5, 3), {}, (4, 5)),
}
for kind in "Convolution_Layer", "Fast_Convolution_Layer":
    LAYERS[kind] = kind, (2, 3, 3), {}, (2, 2, 6, 5)
    LAYERS[f"{kind}, strided"] = kind, (2, 3, 2), GEOMETRY, (2, 2, 6, 5)
    LAYERS[f"{kind}, no bias"] = kind, (1, 2, 1), {"bias": False}, (3, 1, 2, 3)


@pytest.fixture(params=LAYERS)
def layer_and_input(request, nb, rng):
    """A layer in float64, and an input for it that is nowhere near 0."""
    kind, sizes, options, shape = LAYERS[request.param]
    if sizes:
        options = options | {"rng": rng, "dtype": np.float64}
    x = rng.uniform(0.1, 2, shape) * rng.choice([-1, 1], shape)
    return getattr(nb, kind)(*sizes, **options), x


def weights_of(layer):
    """{"W": weights, "b": biases}, without what the layer does not have."""
    arrays = {name: getattr(layer, name, None) for name in ("W", "b")}
    return {name: array for name, array in arrays.items() if array is not None}


def gradients_of(layer, x, grad):
    """{name: gradient} w.r.t. the input and the weights, after a forward pass."""
    layer.forward(x)
    layer.backward(grad)
    names = "input", *weights_of(layer)
    return {name: getattr(layer, f"grad_{name}") for name in names}


def test_gradients_of_a_layer(nb, layer_and_input, rng):
    layer, x = layer_and_input
    G = rng.standard_normal(layer.forward(x).shape)
    gradients = gradients_of(layer, x, G)
    for name, array in {"input": x, **weights_of(layer)}.items():
        numerical = nb.numerical_gradient(lambda: np.sum(G * layer.forward(x)), array)
        assert_gradient(gradients[name], numerical)


def test_a_layer_forgets_earlier_calls(layer_and_input, rng):
    """Whatever the number of images was before."""
    layer, x = layer_and_input
    G = rng.standard_normal(layer.forward(x).shape)
    expected = deepcopy(gradients_of(layer, x, G))
    gradients_of(layer, -x[:1], G[:1])
    np.testing.assert_equal(gradients_of(layer, x, G), expected)


INITIAL = pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("Linear", (300, 200)),
        ("Convolution_Layer", (8, 60, 7)),
        ("Fast_Convolution_Layer", (30, 60, 3)),
    ],
)


@INITIAL
def test_initial_weights_are_normal_with_he_standard_deviation(nb, kind, sizes):
    """sqrt(2 / number of inputs of an output); biases are 0."""
    layer = getattr(nb, kind)(*sizes, rng=0)
    outputs = sizes[1]
    std = np.sqrt(2 * outputs / layer.W.size)
    assert layer.W.std() == pytest.approx(std, rel=0.03)
    assert abs(layer.W.mean()) < 0.03 * std
    assert abs(layer.W).max() > 3 * std
    assert not layer.b.any()


@INITIAL
def test_initial_weights_of_a_layer_are_drawn_from_the_seed(nb, kind, sizes):
    assert_seeded(lambda rng: getattr(nb, kind)(*sizes, rng=rng).W)


# Networks


def network_without_bias(nb, rng):
    """Its lowest layer has no weights."""
    options = {"bias": False, "rng": rng, "dtype": np.float64}
    first = nb.Convolution_Layer(1, 4, 2, **options)
    second = nb.Fast_Convolution_Layer(4, 3, 3, **options)
    return nb.Network([nb.ReLU(), first, nb.ReLU(), second, nb.Flatten()])


NETWORKS = {  # name: (function, shape of the input)
    "MLP": (lambda nb, rng: nb.MLP(5, 6, 3, rng=rng, dtype=np.float64), (8, 5)),
    "ConvNet": (lambda nb, rng: nb.ConvNet(rng=rng, dtype=np.float64), (3, 784)),
    "no bias": (network_without_bias, (8, 1, 4, 4)),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("lam", [0, 0.2])
def test_gradients_of_a_network(nb, rng, name, lam):
    """Of the mean loss + lam * sum of all W squared; biases are not penalised. Of
    each array, at most 20 entries are checked."""
    make_network, shape = NETWORKS[name]
    network = make_network(nb, rng)
    x = rng.standard_normal(shape)
    y = rng.integers(0, 3, len(x))

    def objective():
        penalty = sum(np.sum(layer.W**2) for layer in network.layers_with_weights())
        return loss_of(network.forward(x), y) + lam * penalty

    options = {"lam": lam} if lam else {}  # by default there is no penalty
    network.backward(nb.loss_backward(y, network.forward(x)), **options)
    for value, gradient in network.parameters():
        sample = slice(None, None, 1 + value.size // 20)
        numerical = nb.numerical_gradient(objective, value.reshape(-1)[sample])
        assert_gradient(gradient.reshape(-1)[sample], numerical, bound=1e-6)


def test_a_network_refuses_the_same_layer_twice(nb):
    with pytest.raises(AssertionError, match="twice"):
        nb.Network([nb.ReLU()] * 2)


MAKERS = pytest.mark.parametrize(
    ("name", "sizes", "n_inputs"), [("MLP", (5, 6, 3), 5), ("ConvNet", (), 784)]
)


@MAKERS
def test_a_network_computes_in_float32_by_default(nb, rng, name, sizes, n_inputs):
    network = getattr(nb, name)(*sizes)
    scores = network.forward(rng.random((4, n_inputs), np.float32))
    network.backward(scores, 0.1)
    arrays = itertools.chain([scores], *network.parameters())
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}


@MAKERS
def test_every_layer_of_a_network_is_drawn_from_the_seed(nb, name, sizes, n_inputs):
    make_network = partial(getattr(nb, name), *sizes)
    for k in range(len(make_network().layers_with_weights())):
        assert_seeded(lambda rng, k=k: make_network(rng=rng).layers_with_weights()[k].W)


# Distorted digits


@pytest.mark.parametrize("reach", [0.0, 0.8, 2.5, 60.0])
def test_warp_agrees_with_scipy(nb, rng, reach):
    """Bilinear between pixels, and 0 outside of the image."""
    images = rng.random((3, 784), dtype=np.float32)
    displacement = rng.uniform(-reach, reach, (2, 3, 784)).astype(np.float32)
    warped = nb.warp(images, displacement)
    assert warped.dtype == np.float32
    for n, image in enumerate(images.reshape(3, 28, 28)):
        positions = np.indices((28, 28)) - displacement[:, n].reshape(2, 28, 28)
        expected = map_coordinates(image, positions, order=1, mode="grid-constant")
        np.testing.assert_allclose(warped[n].reshape(28, 28), expected, atol=1e-5)


def test_displacement_basis(nb):
    """Gaussian bumps whose squares add up to 1 at each pixel; row, column, constant."""
    bumps, affine = np.split(nb.displacement_basis().astype(float), [-3])
    np.testing.assert_allclose(np.sum(bumps**2, axis=0), 1, atol=1e-5)
    # The logarithm of the ratio of two Gaussians is linear, with slope -distance / σ².
    logs = np.log(bumps.reshape(6, 6, 28, 28))
    slopes = np.diff(logs[0, 0] - logs[0, 1])
    np.testing.assert_allclose(slopes, -7.5 / 6**2, rtol=0.01)
    row, column = np.indices((28, 28)).reshape(2, 784) - 13.5
    np.testing.assert_allclose(affine, [row, column, np.ones(784)], rtol=1e-6)


def test_displacements_have_the_sizes_of_the_text(nb, rng):
    """Bumps have normal, the affine part has uniform coefficients. (On unit vectors,
    fields are their coefficients.)"""
    coefficients = nb.displacements(5000, rng, np.eye(8)).reshape(-1, 8)
    bumps, affine = coefficients[:, :5], coefficients[:, 5:]
    np.testing.assert_allclose(bumps.std(axis=0), 1.2, rtol=0.05)
    assert np.abs(bumps).max() > 3 * 1.2
    largest = np.array([0.15, 0.15, 1])
    np.testing.assert_allclose(np.abs(affine).max(axis=0), largest, rtol=0.02)
    np.testing.assert_allclose(affine.std(axis=0), largest / 3**0.5, rtol=0.05)


def distorted(nb, rng):
    """All images and all labels of distorted mini-batches.

    Image k of 25 is uniformly grey, and lighter than image k - 1."""
    x = np.repeat(np.linspace(0.1, 1, 25, dtype=np.float32)[:, None], 784, axis=1)
    batches = nb.distorted_minibatch(x, np.arange(25), 10, np.random.default_rng(rng))
    return [np.concatenate(arrays) for arrays in zip(*batches, strict=True)]


def test_distorted_minibatches_have_every_image_once_with_its_label(nb):
    """A uniformly grey image keeps its grey in the middle, and loses it at the edge."""
    images, labels = distorted(nb, 0)
    assert sorted(labels) == [*range(25)]
    assert images.dtype == np.float32
    greys = np.linspace(0.1, 1, 25)
    np.testing.assert_allclose(images[:, 14 * 28 + 14], greys[labels], rtol=1e-4)
    assert np.ptp(images, axis=1).min() > 0.01


def test_distorted_minibatches_are_drawn_from_the_seed(nb):
    assert_seeded(lambda rng: distorted(nb, rng)[0])
