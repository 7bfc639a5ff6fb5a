"""Layers and networks: gradients against finite differences, scores against formulas.
Further's distorted digits against SciPy."""

import itertools
from copy import deepcopy
from functools import partial

import numpy as np
import pytest
from conftest import assert_gradient, assert_seeded, finite_difference
from scipy.ndimage import map_coordinates

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

ALL = {"stride": 2, "padding": 1, "dilation": 2}
LAYERS = {  # (class, sizes, keywords, shape of the input)
    "ReLU": ("ReLU", (), {}, (2, 3, 4, 5)),
    "Flatten": ("Flatten", (), {}, (4, 3, 2, 5)),
    "Linear": ("Linear", (5, 3), {}, (4, 5)),
}
for kind in "Convolution_Layer", "Fast_Convolution_Layer":
    LAYERS[kind] = kind, (2, 3, 3), {}, (2, 2, 6, 5)
    LAYERS[f"{kind}, all"] = kind, (2, 3, 2), ALL, (2, 2, 6, 5)
    LAYERS[f"{kind}, no bias"] = kind, (1, 2, 1), {"bias": False}, (3, 1, 2, 3)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_a_layer(nb, rng, name):
    """Whatever the memory's layout. What it was given stays, as do its results when it
    is used again."""
    kind, sizes, keywords, shape = LAYERS[name]
    float64 = {"rng": rng, "dtype": np.float64} if sizes else {}
    layer = getattr(nb, kind)(*sizes, **keywords, **float64)
    x = rng.uniform(0.1, 2, shape) * rng.choice([-1, 1], shape)  # never near 0
    grad = rng.standard_normal(layer.forward(x).shape)
    weights = {w: getattr(layer, w, None) for w in ("W", "b")}
    weights = {w: array for w, array in weights.items() if array is not None}

    def gradients(images, grad, **options):
        layer.forward(images)
        layer.backward(grad, **options)
        return {w: getattr(layer, f"grad_{w}") for w in ("input", *weights)}

    gradients(-x[:1], grad[:1])  # nothing of it may be used
    given = x[..., ::-1].copy()[..., ::-1], np.asfortranarray(grad)
    found = gradients(*given)
    kept = deepcopy(found)
    for w, array in {"input": x, **weights}.items():
        numerical = finite_difference(lambda: np.sum(grad * layer.forward(x)), array)
        assert_gradient(kept[w], numerical)
    np.testing.assert_equal(given, (x, grad))
    again = gradients(x, -grad, **({"need_input_grad": False} if weights else {}))
    np.testing.assert_equal(found, kept)
    for w in weights:
        np.testing.assert_allclose(again[w], -kept[w], atol=1e-12)


@pytest.mark.parametrize("sizes", [(300, 200), (8, 60, 7), (30, 60, 3)])
def test_weights_at_the_start(nb, sizes):
    """Normal with He's deviation, 0 for biases, float32."""
    kind = "Linear" if len(sizes) == 2 else "Fast_Convolution_Layer"
    layer = getattr(nb, kind)(*sizes, rng=0)
    he = np.sqrt(2 * sizes[1] / layer.W.size)  # 2 / inputs
    assert layer.W.std() == pytest.approx(he, rel=0.03)
    assert abs(layer.W.mean()) < 0.03 * he and abs(layer.W).max() > 3 * he
    assert not layer.b.any()
    assert_seeded(lambda rng: getattr(nb, kind)(*sizes, rng=rng).W)


NETWORKS = {  # name: its sizes, the shape of its input
    "MLP": ((5, 6, 3), (8, 5)),
    "ConvNet": ((), (3, 784)),
}


@pytest.mark.parametrize("lam", [None, 0.2])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_of_a_network(nb, rng, name, lam):
    """Of the mean loss + lam * sum of all W squared (biases go free), by slopes in a
    random direction of each array, the pixels too."""
    sizes, shape = NETWORKS[name]
    network = getattr(nb, name)(*sizes, rng=rng, dtype=np.float64)
    for layer in network.weighted():
        layer.b[:] = 0.1 * rng.standard_normal(layer.b.shape)
    x = rng.standard_normal(shape)
    y = rng.integers(0, 3, len(x))

    def objective():
        penalty = sum(np.sum(layer.W**2) for layer in network.weighted())
        return nb.loss_function(y, network.forward(x)) + (lam or 0) * penalty

    given = {"lam": lam, "need_input_grad": True} if lam else {}
    network.backward(nb.loss_backward(y, network.forward(x)), **given)
    pairs = network.parameters()
    assert len(pairs) == 2 * len(network.weighted())
    if lam:
        pairs.append((x, network.layers[0].grad_input.reshape(x.shape)))
    for value, gradient in pairs:
        kept, direction = value.copy(), rng.standard_normal(value.shape)
        step = np.zeros(())

        def along(step=step, value=value, kept=kept, direction=direction):
            value[...] = kept + step * direction
            return objective()

        slope = finite_difference(along, step, h=1e-6)
        assert_gradient(np.sum(direction * gradient), slope, bound=1e-5)
        value[...] = kept


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_of_a_network(nb, rng, name):
    """28 x 28 pixels, with a margin of 1, become maps of 13 x 13, then of 5 x 5."""
    sizes, (_, pixels) = NETWORKS[name]
    network = getattr(nb, name)(*sizes, dtype=np.float64)
    x = rng.standard_normal((1, pixels))
    *convolutions, third, fourth = network.weighted()
    maps = x if name == "MLP" else x.reshape(1, 1, 28, 28)
    for layer, padding in zip(convolutions, (1, 0), strict=False):  # none in the MLP
        out = nb.convolve_by_definition(maps, layer.W, layer.b, 2, padding)
        maps = np.maximum(out, 0)
    expected = np.maximum(maps.reshape(1, -1) @ third.W, 0) @ fourth.W
    np.testing.assert_allclose(network.forward(x), expected, rtol=0, atol=1e-11)


def test_a_network_refuses_a_layer_that_stands_twice(nb):
    with pytest.raises(AssertionError, match="twice"):
        nb.Network([nb.ReLU()] * 2)


@pytest.mark.parametrize("name", NETWORKS)
def test_seeds_and_dtypes_of_a_network(nb, rng, name):
    sizes, shape = NETWORKS[name]
    make = partial(getattr(nb, name), *sizes)
    network = make()
    scores = network.forward(rng.random(shape, np.float32))
    network.backward(scores, 0.1)
    arrays = itertools.chain([scores], *network.parameters())
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}
    for k in range(len(network.weighted())):
        assert_seeded(lambda rng, k=k: make(rng=rng).weighted()[k].W)


@pytest.mark.parametrize("reach", [0.0, 0.8, 2.5, 60.0])
def test_warp_reads_against_the_arrows(nb, rng, reach):
    """Linear between pixels, and 0 outside."""
    images = rng.random((3, 784), dtype=np.float32)
    field = rng.uniform(-reach, reach, (2, 3, 784)).astype(np.float32)
    given = images.copy(), field.copy()
    found = nb.warp(images, field)
    assert found.dtype == np.float32
    for n, image in enumerate(images.reshape(3, 28, 28)):
        places = np.indices((28, 28)) - field[:, n].reshape(2, 28, 28)
        expected = map_coordinates(image, places, order=1, mode="grid-constant")
        np.testing.assert_allclose(found[n].reshape(28, 28), expected, atol=1e-4)
    np.testing.assert_equal((images, field), given)


def test_displacement_basis(nb):
    """Bumps with squares that add up to 1 at each pixel; row, column, 1."""
    bumps, affine = np.split(nb.displacement_basis().astype(float), [-3])
    np.testing.assert_allclose(np.sum(bumps**2, axis=0), 1, atol=1e-5)
    logs = np.log(bumps.reshape(6, 6, 28, 28))  # sd 6, and 7.5 pixels apart
    np.testing.assert_allclose(np.diff(logs[0, 0] - logs[0, 1]), -7.5 / 6**2, rtol=0.01)
    row, column = np.indices((28, 28)) - 13.5
    expected = np.reshape([row, column, np.ones((28, 28))], (3, 784))
    np.testing.assert_allclose(affine, expected, rtol=1e-6)


@pytest.mark.parametrize("given", [{}, {"elastic": 0.5, "affine": (0.3, 0.2, 2.0)}])
def test_sizes_of_the_distortions(nb, monkeypatch, given):
    """Those of the text, or as given; bumps normal, affine part uniform, all drawn on
    their own: found again from the arrows that warp is given."""
    elastic, affine = given.values() or (1.2, (0.15, 0.15, 1.0))
    arrows = []
    monkeypatch.setattr(nb, "warp", lambda x, field: arrows.append(field))
    list(nb.distorted_minibatch(np.ones((600, 784)), np.arange(600), 200, 0, **given))
    flat = np.concatenate(arrows, axis=1).reshape(1200, 784).astype(float)
    basis = nb.displacement_basis().astype(float)
    found = np.linalg.lstsq(basis.T, flat.T, rcond=None)[0]
    np.testing.assert_allclose(found.T @ basis, flat, atol=1e-3)
    rows = found.reshape(-1, 600)  # each field down, then to the right
    assert np.abs(np.corrcoef(rows) - np.eye(len(rows))).max() < 0.25
    np.testing.assert_allclose(rows[:-6].std(axis=1), elastic, rtol=0.15)
    assert np.abs(found[:-3]).max() > 3 * elastic
    largest = np.repeat(affine, 2)
    np.testing.assert_allclose(np.abs(rows[-6:]).max(axis=1), largest, rtol=0.02)
    np.testing.assert_allclose(rows[-6:].std(axis=1), largest / 3**0.5, rtol=0.08)


def test_every_image_once_with_its_label_and_new_each_time(nb):
    """An image of one grey keeps it in the middle."""
    x = np.repeat(np.linspace(0.1, 1, 25, dtype=np.float32)[:, None], 784, axis=1)

    def distorted(rng):
        batches = nb.distorted_minibatch(x, np.arange(25), 10, rng)
        return [np.concatenate(arrays) for arrays in zip(*batches, strict=True)]

    seen, order = distorted(0)
    np.testing.assert_allclose(seen[:, 14 * 28 + 14], x[order, 0], rtol=1e-4)
    assert seen.dtype == np.float32 and sorted(order) == [*range(25)]
    assert_seeded(lambda rng: distorted(rng)[0])
    assert_seeded(lambda rng: distorted(rng)[1])
