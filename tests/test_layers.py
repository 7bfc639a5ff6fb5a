"""The layers of Questions 3, 4 and Further, Network, MLP and ConvNet: gradients against
finite differences, scores against formulas. Further's distorted digits against SciPy.

Speaks when an output, a gradient or a penalty is wrong, when a seed, dtype or argument
is ignored, when a layer changes what it was given, or pixels miss their arrows."""

import itertools
from copy import deepcopy
from functools import partial
from inspect import signature

import numpy as np
import pytest
from conftest import assert_gradient, assert_seeded, finite_difference
from scipy.ndimage import map_coordinates
from test_convolution import by_scipy

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

ALL = {"stride": 2, "padding": 1, "dilation": 2}
LAYERS = {  # (class, sizes, keywords, shape of the input)
    "ReLU": ("ReLU", (), {}, (4, 5)),
    "ReLU, maps": ("ReLU", (), {}, (2, 3, 4, 5)),
    "Flatten": ("Flatten", (), {}, (4, 3, 2, 5)),
    "Linear": ("Linear", (5, 3), {}, (4, 5)),
}
for kind in "Convolution_Layer", "Fast_Convolution_Layer":
    LAYERS[kind] = kind, (2, 3, 3), {}, (2, 2, 6, 5)
    LAYERS[f"{kind}, all"] = kind, (2, 3, 2), ALL, (2, 2, 6, 5)
    LAYERS[f"{kind}, no bias"] = kind, (1, 2, 1), {"bias": False}, (3, 1, 2, 3)


def make_layer(nb, name, rng=0, dtype=np.float64):
    """A layer with biases that are not 0, and an input for it, none near 0."""
    kind, sizes, keywords, shape = LAYERS[name]
    takes = signature(getattr(nb, kind)).parameters
    given = {"rng": rng, "dtype": dtype}
    given = {key: value for key, value in given.items() if key in takes}
    layer = getattr(nb, kind)(*sizes, **keywords, **given)
    rng = np.random.default_rng(7)
    if getattr(layer, "b", None) is not None:
        layer.b[:] = rng.standard_normal(layer.b.shape)
    x = rng.uniform(0.1, 2, shape) * rng.choice([-1, 1], shape)
    return layer, x.astype(dtype)


def results(layer, x, grad=None):
    """Outputs, and gradients with respect to the input, W and b, where there are."""
    found = {"out": layer.forward(x)}
    returned = layer.backward(found["out"] if grad is None else grad)
    found["input"] = layer.grad_input
    is_convolution = "Convolution" in type(layer).__name__
    assert returned is (layer.grad_W if is_convolution else layer.grad_input)
    for name in "W", "b":
        if getattr(layer, name, None) is not None:
            found[name] = getattr(layer, f"grad_{name}")
    return found


def assert_same(found, expected):
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-12)


def test_every_layer_is_in_the_list(nb):
    kinds = [kind for kind in vars(nb).values() if hasattr(kind, "backward")]
    kinds = [k for k in kinds if "need_input_grad" in signature(k.backward).parameters]
    tested = {kind for kind, *_ in LAYERS.values()} | {"Network", "MLP", "ConvNet"}
    assert {kind.__name__ for kind in kinds} == tested


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_a_layer(nb, rng, name, training):
    """And what it was given stays, as do its results when it is used again, whatever
    the memory's layout. In training it may draw: a copy draws the same."""
    layer, x = make_layer(nb, name)
    layer.training = True
    layer.forward(-x[:1])  # nothing of it may be used
    layer.training = training

    def same():
        return deepcopy(layer) if training else layer

    grad = rng.standard_normal(same().forward(x).shape)

    def weighted_sum():
        return np.sum(grad * same().forward(x))

    used = same()
    found = results(used, x, grad)
    assert_gradient(found["input"], finite_difference(weighted_sum, x))
    for weights in found.keys() & {"W", "b"}:
        numerical = finite_difference(weighted_sum, getattr(layer, weights))
        assert_gradient(found[weights], numerical)
    kept = {key: array.copy() for key, array in found.items()}
    odd_x, odd_grad = x[..., ::-1].copy()[..., ::-1], np.asfortranarray(grad)
    assert_same(results(same(), odd_x, odd_grad), kept)
    assert_same({"x": odd_x, "grad": odd_grad}, {"x": x, "grad": grad})
    used.backward(grad, need_input_grad=False)
    assert used.grad_input is None
    again = {f"grad_{weights}": kept[weights] for weights in kept.keys() & {"W", "b"}}
    assert_same(vars(used), again)
    results(used, -x, -grad)
    assert_same(found, kept)


@pytest.mark.parametrize("name", LAYERS)
def test_seeds_and_dtypes_of_a_layer(nb, name):
    """What it draws are its weights, or something in training."""

    def drawn(rng):
        layer, x = make_layer(nb, name, rng)
        layer.training = True
        return getattr(layer, "W", layer.forward(x))

    layer, x = make_layer(nb, name, dtype=np.float32)
    for layer.training in False, True:
        assert {array.dtype for array in results(layer, x).values()} == {x.dtype}
    if "rng" in signature(type(layer)).parameters:
        assert_seeded(drawn)


@pytest.mark.parametrize("sizes", [(300, 200), (8, 60, 7), (30, 60, 3)])
def test_weights_at_the_start(nb, sizes):
    """Normal with He's deviation, 0 for biases, float32."""
    kind = "Linear" if len(sizes) == 2 else "Fast_Convolution_Layer"
    layer = getattr(nb, kind)(*sizes, rng=0)
    he = np.sqrt(2 * sizes[1] / layer.W.size)  # 2 / inputs
    assert layer.W.std() == pytest.approx(he, rel=0.03)
    assert abs(layer.W.mean()) < 0.03 * layer.W.std()
    assert abs(layer.W).max() > 3 * layer.W.std()
    assert not layer.b.any()
    assert layer.W.dtype == layer.b.dtype == np.float32


def test_relu_at_the_kink(nb):
    relu = nb.ReLU()
    out = relu.forward(np.array([0.0, -0.0, 1e-300, -1e-300, 2.0]))
    np.testing.assert_array_equal(out, [0, 0, 1e-300, 0, 2])
    np.testing.assert_array_equal(relu.backward(np.full(5, 3.0)), [0, 0, 3, 0, 3])


def make_network(nb, name, **given):
    if name != "mixed":
        return nb.MLP(5, 6, 3, **given) if name == "MLP" else nb.ConvNet(**given)
    first = nb.Convolution_Layer(1, 2, 2, **given)
    # Its images have the shape of its W, which backward returns: not to be handed down.
    second = nb.Fast_Convolution_Layer(2, 2, 3, padding=1, bias=False, **given)
    last = nb.Linear(18, 6, **given), nb.ReLU(), nb.Linear(6, 3, **given)
    return nb.Network([first, nb.ReLU(), second, nb.Flatten(), *last])


@pytest.mark.parametrize("lam", [None, 0.2])
@pytest.mark.parametrize(
    ("name", "shape", "arrays"),
    [("mixed", (2, 1, 4, 4), 7), ("MLP", (8, 5), 4), ("ConvNet", (3, 784), 8)],
)
def test_gradients_of_a_network(nb, rng, name, shape, arrays, lam):
    """Of the mean loss + lam * sum of all W squared (biases go free), along a random
    direction of each array: all parts of its gradient are in the slope. The trainer
    changes the arrays in place, as done here."""
    network = make_network(nb, name, rng=rng, dtype=np.float64)
    for layer in network.weighted():
        if layer.b is not None:
            layer.b[:] = 0.1 * rng.standard_normal(layer.b.shape)
    x, y = rng.standard_normal(shape), rng.integers(0, 3, shape[0])

    def objective():
        penalty = sum(np.sum(layer.W**2) for layer in network.weighted())
        return nb.loss_function(y, network.forward(x)) + (lam or 0) * penalty

    given = {} if lam is None else {"lam": lam}
    network.backward(nb.loss_backward(y, network.forward(x)), **given)
    assert network.layers[0].grad_input is network.grad_input is None  # nobody needs it
    assert len(network.parameters()) == arrays
    for value, gradient in network.parameters():
        kept, direction = value.copy(), rng.standard_normal(value.shape)

        step = np.zeros(())

        def along(step=step, value=value, kept=kept, direction=direction):
            value[...] = kept + step * direction
            return objective()

        slope = finite_difference(along, step, h=1e-6)
        assert_gradient(np.sum(direction * gradient), slope, bound=1e-5)
        value[...] = kept


def test_the_input_s_gradient_and_training_of_a_network(nb, rng):
    network = make_network(nb, "mixed", rng=rng, dtype=np.float64)
    x, grad = rng.standard_normal((2, 1, 4, 4)), rng.standard_normal((2, 3))
    network.forward(x)
    assert not any(layer.training for layer in network.layers)
    network.backward(grad, need_input_grad=True)
    numerical = finite_difference(lambda: np.sum(grad * network.forward(x)), x)
    assert_gradient(network.grad_input, numerical)
    network.training = True
    network.forward(x)
    assert all(layer.training for layer in network.layers)


@pytest.mark.parametrize("name", ["MLP", "ConvNet"])
def test_scores_of_a_network(nb, rng, name):
    """28 x 28 pixels, with a margin of 1, become maps of 13 x 13, then of 5 x 5."""
    network = make_network(nb, name, dtype=np.float64)
    x = rng.standard_normal((3, 5 if name == "MLP" else 784))
    *convolutions, third, fourth = network.weighted()
    maps = x if name == "MLP" else x.reshape(3, 1, 28, 28)
    for layer, margin in zip(convolutions, (1, 0), strict=False):  # none in the MLP
        maps = np.maximum(by_scipy(maps, layer.W, layer.b, 2, margin, 1), 0)
    expected = np.maximum(maps.reshape(3, -1) @ third.W, 0) @ fourth.W
    np.testing.assert_allclose(network.forward(x), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("name", "sizes"), [("MLP", (784, 6, 3)), ("ConvNet", ())])
def test_seeds_and_dtypes_of_a_network(nb, rng, name, sizes):
    make = partial(getattr(nb, name), *sizes)
    network = make()
    network.backward(network.forward(rng.random((2, 784), np.float32)), 0.1)
    arrays = itertools.chain(*network.parameters())
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}
    for k in range(len(network.weighted())):
        assert_seeded(lambda rng, k=k: make(rng=rng).weighted()[k].W)
    with pytest.raises(ValueError):  # a layer stands twice
        nb.Network(2 * network.layers)


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


def test_every_image_once_with_its_label_and_new_each_time(nb, rng):
    """An image of one grey keeps it in the middle."""
    x = np.repeat(np.linspace(0.1, 1, 25, dtype=np.float32)[:, None], 784, axis=1)
    orders = []
    for _ in range(2):
        batches = nb.distorted_minibatch(x, np.arange(25), 10, rng)
        seen, order = map(np.concatenate, zip(*batches, strict=True))
        np.testing.assert_allclose(seen[:, 14 * 28 + 14], x[order, 0], rtol=1e-4)
        assert seen.dtype == np.float32 and sorted(order) == [*range(25)]
        orders.append([*order])
    assert orders[0] != orders[1]
    same = np.repeat(rng.random((1, 784), dtype=np.float32), 6, axis=0)

    def distorted(rng):
        batches = nb.distorted_minibatch(same, np.arange(6), 3, rng)
        return np.concatenate([x_b for x_b, _ in batches])

    assert_seeded(distorted)
    seen = np.concatenate([same[:1], distorted(rng), distorted(rng)])
    different = np.abs(seen[:, None] - seen).mean(axis=2)
    assert different[~np.eye(13, dtype=bool)].min() > 0.02
