"""Question 4 and its fast layer: against SciPy, finite differences, and one another."""

import itertools

import numpy as np
import pytest
from conftest import (
    assert_gradient,
    assert_seeded,
    assert_weight_gradient,
    finite_difference,
)
from scipy.signal import correlate

pytestmark = pytest.mark.filterwarnings("error")

BOTH = pytest.mark.parametrize("name", ["Convolution_Layer", "Fast_Convolution_Layer"])
GEOMETRIES = [
    dict(zip(("kernel_size", "stride", "padding", "dilation"), values, strict=True))
    for values in itertools.product(
        (1, 2, (3, 2)), (1, 2, (1, 3)), (0, 1, (2, 0)), (1, 2, (3, 1))
    )
]


def as_pairs(kernel_size=3, stride=1, padding=0, dilation=1):
    return [np.broadcast_to(v, 2) for v in (kernel_size, stride, padding, dilation)]


def by_scipy(x, W, b=None, **geometry):
    """Zeros between the weights, and all but every stride-th location dropped."""
    kernel, (sh, sw), (ph, pw), (dh, dw) = as_pairs(W.shape[2:], **geometry)
    spread = np.zeros((*W.shape[:2], *((kernel - 1) * (dh, dw) + 1)))
    spread[:, :, ::dh, ::dw] = W
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    out = [
        [correlate(image, w, "valid", "direct")[0] for w in spread] for image in padded
    ]
    out = np.array(out)[:, :, ::sh, ::sw]
    return out if b is None else out + b[:, None, None]


def make_layer(nb, name="Convolution_Layer", seed=0, bias=True, **geometry):
    """A float64 layer from 2 channels to 3, whose bias is not zero."""
    rng = np.random.default_rng(seed)
    geometry = {"kernel_size": 3} | geometry
    layer = getattr(nb, name)(2, 3, bias=bias, rng=rng, dtype=np.float64, **geometry)
    if bias:
        layer.set_weights(layer.W, rng.standard_normal(3))
    return layer


def everything(layer, x, grad):
    """The outputs, and the gradients with respect to W, b and the images."""
    out, returned = layer.forward(x), layer.backward(grad)
    assert returned is layer.grad_W
    return out, layer.grad_W, layer.grad_b, layer.grad_input


def assert_equal(ones, others, atol):
    """Arrays (or None) agree in shape, dtype and, to within atol, in values."""
    for one, other in zip(ones, others, strict=True):
        if one is None or other is None:
            assert one is other
        else:
            assert one.dtype == other.dtype
            assert one.shape == other.shape
            np.testing.assert_allclose(one, other, rtol=0, atol=atol)


# --- The numbers ------------------------------------------------------------------


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_every_geometry(nb, rng, geometry):
    """Forward is SciPy's correlation; the fast layer does what the plain one does. The
    images are such that some last rows and columns are not read."""
    bias = geometry["padding"] != 1
    plain = make_layer(nb, bias=bias, **geometry)
    fast = make_layer(nb, "Fast_Convolution_Layer", bias=bias, **geometry)
    x = rng.standard_normal((3, 2, 8, 9))
    settings = {k: v for k, v in geometry.items() if k != "kernel_size"}
    expected = by_scipy(x, plain.W, plain.b, **settings)
    grad = rng.standard_normal(expected.shape)
    ours = everything(plain, x, grad)
    assert_equal(ours[:1], [expected], atol=1e-12)
    assert ours[3].shape == x.shape
    for _ in range(2):  # nothing is left over from the call before
        assert_equal(everything(fast, x, grad), ours, atol=1e-12)
    sides = zip(x.shape[2:], *as_pairs(**geometry), strict=True)
    assert tuple(nb.output_size(*side) for side in sides) == expected.shape[2:]


@pytest.mark.parametrize("size", [(4, 6), (7, 5)])
@pytest.mark.parametrize(
    ("kernel", "settings"),
    [(1, {}), (2, {}), (4, {"padding": 2}), (2, {"stride": 2, "dilation": 3})],
)
def test_the_definition(nb, rng, kernel, settings, size):
    x, b = rng.standard_normal((2, 3, *size)), rng.standard_normal(2)
    W = rng.standard_normal((2, 3, kernel, kernel))
    found = nb.convolve_by_definition(x, W, b, **settings)
    assert_equal([found], [by_scipy(x, W, b, **settings)], atol=1e-12)


@BOTH
@pytest.mark.parametrize(
    "geometry",
    [
        {},
        {"kernel_size": 1, "stride": 2, "bias": False},
        {
            "kernel_size": (2, 3),
            "stride": (2, 1),
            "padding": (1, 2),
            "dilation": (1, 2),
        },
    ],
)
def test_gradients_by_finite_differences(nb, rng, name, geometry):
    layer = make_layer(nb, name, **geometry)
    x = rng.standard_normal((2, 2, 6, 5))
    grad = rng.standard_normal(layer.forward(x).shape)

    def weighted_sum(x=x):
        return np.sum(grad * layer.forward(x))

    _, grad_W, grad_b, grad_input = everything(layer, x, grad)
    assert_gradient(grad_input, finite_difference(weighted_sum, x))
    assert_weight_gradient(layer, "W", grad_W, weighted_sum)
    if layer.b is not None:
        assert_weight_gradient(layer, "b", grad_b, weighted_sum)


@BOTH
def test_gradient_with_respect_to_the_images_can_be_left_out(nb, rng, name):
    layer = make_layer(nb, name, padding=1)
    x, grad = rng.standard_normal((2, 2, 6, 5)), rng.standard_normal((2, 3, 6, 5))
    _, grad_W, grad_b, _ = everything(layer, x, grad)
    np.testing.assert_array_equal(layer.backward(grad, need_input_grad=False), grad_W)
    np.testing.assert_array_equal(layer.grad_b, grad_b)
    assert layer.grad_input is None


@pytest.mark.parametrize(
    "settings", [{}, {"stride": (2, 3)}, {"dilation": (2, 1), "padding": (0, 2)}]
)
def test_window_is_what_an_output_reads(nb, settings):
    layer = make_layer(nb, kernel_size=(2, 3), **settings)
    pixels = np.arange(2 * 9 * 11).reshape(1, 2, 9, 11)
    _, (sh, sw), _, (dh, dw) = as_pairs(**settings)
    for i, j in (0, 0), (1, 0), (0, 1), (2, 2):
        rows, columns = i * sh + dh * np.arange(2), j * sw + dw * np.arange(3)
        expected = pixels[:, :, rows[:, None], columns]
        np.testing.assert_array_equal(pixels[layer.window(i, j)], expected)


# --- Memory and dtypes ------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("kernel", [1, 3])
def test_no_array_of_the_callers_is_changed(nb, rng, name, kernel, padding):
    """Outputs and gradients stay when others are computed, too. Images may lie in
    memory in any order."""
    layer = make_layer(nb, name, kernel_size=kernel, padding=padding)
    x = rng.standard_normal((6, 5, 2, 8)).transpose(3, 2, 0, 1)[::2, :, ::-1]
    grad = np.asfortranarray(rng.standard_normal(layer.forward(x).shape))
    given = x.copy(), grad.copy()
    found = everything(layer, x, grad)
    kept = [array.copy() for array in found]
    assert_equal((x, grad), given, atol=0)
    assert_equal(everything(layer, *given), kept, atol=1e-12)
    layer.backward(-grad)
    assert_equal(found, kept, atol=0)


@BOTH
@pytest.mark.parametrize("own", [np.float32, np.float64])
@pytest.mark.parametrize("given", [np.uint8, np.float32, np.float64])
def test_layer_keeps_its_dtype(nb, rng, name, own, given):
    layer = getattr(nb, name)(3, 4, 3, padding=1, dtype=own)
    x = rng.uniform(0, 255, (2, 3, 6, 5)).astype(given)
    out, *grads = everything(layer, x, np.ones((2, 4, 6, 5), given))
    arrays = out, *grads, layer.W, layer.b
    assert {array.dtype for array in arrays} == {np.dtype(own)}
    reference = by_scipy(x.astype(float), layer.W, layer.b, padding=1)
    assert np.abs(out - reference).max() <= (1e-3 if own == np.float32 else 1e-10)


@pytest.mark.parametrize("name", ["Convolution_Layer", "Fast_Convolution_Layer"])
def test_no_images(nb, name):
    layer = make_layer(nb, name, padding=1)
    out, *grads = everything(layer, np.zeros((0, 2, 6, 5)), np.zeros((0, 3, 6, 5)))
    shapes = [array.shape for array in (out, *grads)]
    assert shapes == [(0, 3, 6, 5), (3, 2, 3, 3), (3,), (0, 2, 6, 5)]
    assert not any(array.any() for array in grads)


# --- Weights ----------------------------------------------------------------------


@BOTH
def test_weights_at_the_start(nb, name):
    layer = getattr(nb, name)(8, 60, (3, 7), rng=0)
    assert layer.W.shape == (60, 8, 3, 7)
    assert layer.W.std() == pytest.approx(np.sqrt(2 / (8 * 3 * 7)), rel=0.03)
    assert abs(layer.W.mean()) < 0.003
    np.testing.assert_array_equal(layer.b, np.zeros(60))
    assert_seeded(lambda rng: getattr(nb, name)(2, 3, 3, rng=rng).W)


def test_set_weights_casts_and_copies(nb, rng):
    layer = nb.Convolution_Layer(2, 3, 3)
    W, b = rng.standard_normal((3, 2, 3, 3)), rng.standard_normal(3)
    given = W.astype(np.float32), b.astype(np.float32)
    layer.set_weights(W, b)
    assert_equal((layer.W, layer.b), given, atol=0)
    kept = [array.copy() for array in given]
    layer.set_weights(*given)
    for array in given:
        array[:] = 0
    assert_equal((layer.W, layer.b), kept, atol=0)
    layer.set_weights((-kept[0]).tolist())
    assert_equal((layer.W, layer.b), (-kept[0], kept[1]), atol=0)  # no bias: it stays


@pytest.mark.parametrize(
    ("bias", "W_shape", "new_bias", "says"),
    [
        (True, (3, 2, 3, 4), None, r"\(3, 2, 3, 3\) needed, \(3, 2, 3, 4\) given"),
        (True, (2, 3, 3, 3), None, r"\(3, 2, 3, 3\) needed, \(2, 3, 3, 3\) given"),
        (True, (1, 2, 3, 3), None, r"\(3, 2, 3, 3\) needed, \(1, 2, 3, 3\) given"),
        (True, (), None, r"\(3, 2, 3, 3\) needed, \(\) given"),
        (True, (3, 2, 3, 3), 0.0, r"bias of shape \(3,\) needed, \(\) given"),
        (True, (3, 2, 3, 3), np.ones(1), r"bias of shape \(3,\) needed, \(1,\) given"),
        (True, (3, 2, 3, 3), np.ones((3, 1)), r"\(3,\) needed, \(3, 1\) given"),
        (False, (3, 2, 3, 3), np.ones(3), "takes no bias"),
        (False, (3, 2, 3, 3), 0.0, "takes no bias"),
    ],
)
def test_weights_that_do_not_fit_change_nothing(nb, bias, W_shape, new_bias, says):
    layer = make_layer(nb, bias=bias)
    kept = layer.W.copy(), layer.b
    with pytest.raises(ValueError, match=says):
        layer.set_weights(np.zeros(W_shape), new_bias)
    np.testing.assert_array_equal(layer.W, kept[0])
    assert layer.b is kept[1]


# --- In a network -----------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("bias", [True, False])
def test_convolutions_in_a_network(nb, rng, name, bias):
    """The second layer's W and its images have one shape, (2, 2, 3, 3): the gradient
    with respect to the images must go down, which is not what backward returns."""
    kind = getattr(nb, name)
    settings = {"bias": bias, "rng": rng, "dtype": np.float64}
    first = kind(1, 2, 2, **settings)
    second = kind(2, 2, 3, padding=1, **settings)
    network = nb.Network([first, second, nb.ReLU(), nb.Flatten()])
    x, y = rng.standard_normal((2, 1, 4, 4)), np.array([3, 11])
    assert first.forward(x).shape == second.W.shape

    def objective(lam=0.1):
        penalty = lam * (np.sum(first.W**2) + np.sum(second.W**2))
        return nb.loss_function(y, network.forward(x)) + penalty

    network.backward(nb.loss_backward(y, network.forward(x)), lam=0.1)
    for layer in first, second:
        assert_weight_gradient(layer, "W", layer.grad_W, objective)
        if bias:
            assert_weight_gradient(layer, "b", layer.grad_b, objective)
    arrays = [array for pair in network.parameters() for array in pair]
    assert len(arrays) == (8 if bias else 4)
    assert all(isinstance(array, np.ndarray) for array in arrays)
    losses = [nb.take_step(network, x, y, 0.1, lam=0.0)[0] for _ in range(50)]
    assert losses[0] > 2 > 0.2 > losses[-1]


# --- What is impossible -----------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "pair"),
    [
        (3, (3, 3)),
        ((2, 5), (2, 5)),
        ([4, 1], (4, 1)),
        (np.int64(2), (2, 2)),
        (2.0, (2, 2)),
    ],
)
def test_as_pair(nb, value, pair):
    found = nb.as_pair(value, "stride")
    assert found == pair
    assert [type(v) for v in found] == [int, int]


@pytest.mark.parametrize("name", ["kernel_size", "stride", "padding", "dilation"])
@pytest.mark.parametrize(
    "value", [-1, (1, -2), (-2, 1), 1.5, (1, 0.5), 0, (0, 1), (1, 0)]
)
def test_settings_that_are_impossible(nb, name, value):
    least = 0 if name == "padding" else 1
    if least == 0 and value in (0, (0, 1), (1, 0)):
        assert make_layer(nb, padding=value).padding == tuple(as_pairs(3, 1, value)[2])
        return
    with pytest.raises(ValueError) as caught:
        make_layer(nb, **{name: value})
    assert (
        str(caught.value) == f"{name} is {value}: integers from {least} up are needed"
    )


@BOTH
@pytest.mark.parametrize(
    "geometry",
    [
        {"kernel_size": 7},
        {"kernel_size": (1, 7)},
        {"kernel_size": 8, "padding": (1, 0)},
        {"kernel_size": 9, "padding": 1, "stride": 3},
        {"dilation": (3, 1)},
    ],
)
def test_images_smaller_than_the_window(nb, name, geometry):
    layer = make_layer(nb, name, **geometry)
    with pytest.raises(ValueError, match="smaller than the window"):
        layer.forward(np.zeros((1, 2, 6, 6)))


@pytest.mark.parametrize(
    "shape", [(1, 3, 6, 6), (1, 1, 6, 6), (2, 6, 6), (6, 6), (1, 2, 6, 6, 1)]
)
def test_images_of_another_shape(nb, shape):
    with pytest.raises(ValueError) as caught:
        make_layer(nb).forward(np.zeros(shape))
    assert str(caught.value) == f"images (N, 2, H, W) needed, {shape} given"


@BOTH
@pytest.mark.parametrize(
    "shape", [(1, 3, 4, 5), (2, 1, 4, 5), (2, 3, 1, 1), (3, 4, 5), (2, 3, 5, 4), (2, 3)]
)
def test_gradients_of_another_shape(nb, name, shape):
    """Some would broadcast."""
    layer = make_layer(nb, name)
    layer.forward(np.zeros((2, 2, 6, 7)))
    with pytest.raises(ValueError) as caught:
        layer.backward(np.zeros(shape))
    assert str(caught.value) == f"gradient of shape (2, 3, 4, 5) needed, {shape} given"
