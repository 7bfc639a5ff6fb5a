"""Question 4: the convolution against its definition, for every combination of settings."""

import numpy as np
import pytest
from conftest import assert_gradient, assert_weight_gradient, finite_difference
from scipy.signal import correlate2d

pytestmark = pytest.mark.filterwarnings("error")

KERNELS = [1, 2, 3, 5, (3, 5)]
STRIDES = [1, 2, 3, (2, 1)]
PADDINGS = [0, 1, 2, (0, 2)]
DILATIONS = [1, 2, 3]
SIZES = [(11, 13), (8, 5), (1, 1)]


def pair(value):
    return value if isinstance(value, tuple) else (value, value)


def taps(size, kernel, stride, padding, dilation):
    """Along one axis: the padded index that each output (rows) reads at each tap (columns)."""
    last_tap = dilation * (kernel - 1)
    starts = np.arange(0, size + 2 * padding - last_tap, stride)
    return starts[:, None] + np.arange(0, last_tap + 1, dilation)


class Reference:
    """Convolution by the definition: out[i, j] = b + sum W[u, v] * padded[i s + u d, j s + v d].

    The indices are written out as arrays, so that nothing here loops over locations.
    """

    def __init__(self, x, kernel, stride, padding, dilation):
        ph, pw = pair(padding)
        N, C, H, W = x.shape
        self.padded = np.zeros((N, C, H + 2 * ph, W + 2 * pw))
        self.inner = np.s_[:, :, ph : ph + H, pw : pw + W]
        self.padded[self.inner] = x
        settings = zip((H, W), *map(pair, (kernel, stride, padding, dilation)), strict=True)
        rows, columns = (taps(*setting) for setting in settings)
        self.possible = rows.size > 0 and columns.size > 0
        self.index = (..., rows[:, None, :, None], columns[None, :, None, :])

    def forward(self, W, b):
        """(N, O, H', W')"""
        seen = self.padded[self.index]  # (N, C, H', W', kh, kw)
        out = np.einsum("ncijuv,ocuv->noij", seen, W, optimize=True)
        return out if b is None else out + b[:, None, None]

    def gradients(self, W, grad):
        """dL/dW, dL/db, dL/dx"""
        seen = self.padded[self.index]
        grad_W = np.einsum("noij,ncijuv->ocuv", grad, seen, optimize=True)
        grad_padded = np.zeros_like(self.padded)
        share = np.einsum("noij,ocuv->ncijuv", grad, W, optimize=True)
        np.add.at(grad_padded, self.index, share)
        return grad_W, grad.sum(axis=(0, 2, 3)), grad_padded[self.inner]


def make_layer(nb, rng, channels=2, filters=3, kernel=3, bias=True, **settings):
    """A float64 layer whose bias is not zero."""
    layer = nb.Convolution_Layer(
        channels, filters, kernel, bias, rng=rng, dtype=np.float64, **settings
    )
    if bias:
        layer.set_weights(layer.W, rng.standard_normal(filters))
    return layer


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("dilation", DILATIONS)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_combination(nb, rng, kernel, stride, padding, dilation, bias):
    settings = {"stride": stride, "padding": padding, "dilation": dilation}
    layer = make_layer(nb, rng, kernel=kernel, bias=bias, **settings)
    for size in SIZES:
        x = rng.standard_normal((2, 2, *size))
        reference = Reference(x, kernel, **settings)
        if not reference.possible:
            with pytest.raises(ValueError, match="kernel"):
                layer.forward(x)
            continue
        out = layer.forward(x)
        expected = reference.forward(layer.W, layer.b)
        assert out.shape == expected.shape
        np.testing.assert_allclose(out, expected, rtol=0, atol=1e-10)
        grad = rng.standard_normal(out.shape)
        found = [layer.backward(grad), layer.grad_b, layer.grad_input]
        for ours, true in zip(found, reference.gradients(layer.W, grad), strict=True):
            if ours is None:
                assert not bias and ours is found[1]
            else:
                assert ours.shape == true.shape
                np.testing.assert_allclose(ours, true, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 3])
def test_forward_is_scipys_correlation(nb, rng, stride, dilation):
    """With zeros put between the taps, and all but every stride-th location dropped."""
    layer = make_layer(nb, rng, kernel=3, stride=stride, dilation=dilation)
    x = rng.standard_normal((2, 2, 12, 9))
    spread = np.zeros((3, 2, 2 * dilation + 1, 2 * dilation + 1))
    spread[:, :, ::dilation, ::dilation] = layer.W
    for image, outputs in zip(x, layer.forward(x), strict=True):
        for kernel, bias, output in zip(spread, layer.b, outputs, strict=True):
            planes = zip(image, kernel, strict=True)
            full = sum(correlate2d(plane, taps, mode="valid") for plane, taps in planes)
            expected = full[::stride, ::stride] + bias
            np.testing.assert_allclose(output, expected, rtol=0, atol=1e-10)


def test_gradients_by_finite_differences(nb, rng):
    layer = make_layer(nb, rng, kernel=(2, 3), stride=2, padding=1, dilation=2)
    x = rng.standard_normal((2, 2, 6, 7))
    grad = rng.standard_normal(layer.forward(x).shape)

    def weighted_sum(x=x):
        return np.sum(grad * layer.forward(x))

    grad_W = layer.backward(grad)
    assert_gradient(layer.grad_input, finite_difference(weighted_sum, x))
    assert_weight_gradient(layer, "W", grad_W, weighted_sum)
    assert_weight_gradient(layer, "b", layer.grad_b, weighted_sum)


def test_a_1x1_kernel_mixes_the_channels(nb, rng):
    layer = make_layer(nb, rng, kernel=1, bias=False)
    x = rng.standard_normal((2, 2, 1, 1))
    np.testing.assert_allclose(layer.forward(x)[..., 0, 0], x[..., 0, 0] @ layer.W[..., 0, 0].T)


def test_nothing_is_left_over_between_calls(nb, rng):
    """Forward and backward twice give the same, and change neither input nor gradient."""
    layer = make_layer(nb, rng, padding=1)
    x, other = rng.standard_normal((2, 2, 2, 6, 5))
    grad = rng.standard_normal((2, 3, 6, 5))
    kept = x.copy(), grad.copy()
    runs = []
    for _ in range(2):
        runs.append([layer.forward(x), layer.backward(grad), layer.grad_b, layer.grad_input])
        layer.forward(other)
        layer.backward(grad)
    for a, b in [*zip(*runs, strict=True), *zip(kept, (x, grad), strict=True)]:
        np.testing.assert_array_equal(a, b)


def test_input_gradient_can_be_left_out(nb, rng):
    layer = make_layer(nb, rng)
    x, grad = rng.standard_normal((2, 2, 6, 5)), rng.standard_normal((2, 3, 4, 3))
    layer.forward(x)
    with_input = layer.backward(grad)
    np.testing.assert_array_equal(layer.backward(grad, need_input_grad=False), with_input)
    assert layer.grad_input is None


@pytest.mark.parametrize("given", [np.uint8, np.float32, np.float64])
def test_layer_keeps_its_dtype(nb, rng, given):
    layer = nb.Convolution_Layer(3, 4, 3, padding=1, rng=rng)
    out = layer.forward(rng.uniform(0, 255, (2, 3, 6, 5)).astype(given))
    grad_W = layer.backward(out)
    arrays = out, grad_W, layer.grad_b, layer.grad_input, layer.W, layer.b
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}


def test_untrained_weights_are_random(nb):
    first, again, other = (
        nb.Convolution_Layer(3, 4, 5, rng=np.random.default_rng(seed)).W for seed in (1, 1, 2)
    )
    assert first.shape == (4, 3, 5, 5) and np.unique(first).size > 290
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


# --- set_weights -----------------------------------------------------------------------------


def test_set_weights_casts_and_copies(nb, rng):
    layer = nb.Convolution_Layer(2, 3, 3)
    W, b = rng.standard_normal((3, 2, 3, 3)), rng.standard_normal(3)
    layer.set_weights(W, b)
    assert layer.W.dtype == layer.b.dtype == np.float32
    np.testing.assert_array_equal(layer.W, W.astype(np.float32))
    np.testing.assert_array_equal(layer.b, b.astype(np.float32))
    same_dtype = layer.W.copy()
    layer.set_weights(same_dtype)
    same_dtype[...] = 0
    assert layer.W.all()
    np.testing.assert_array_equal(layer.b, b.astype(np.float32))  # no bias given: kept


def test_set_weights_is_used(nb, rng):
    layer = make_layer(nb, rng)
    x = rng.standard_normal((1, 2, 5, 5))
    before = layer.forward(x)
    layer.set_weights(-layer.W, -layer.b)
    np.testing.assert_array_equal(layer.forward(x), -before)


@pytest.mark.parametrize("shape", [(3, 2, 3, 4), (2, 3, 3, 3), (3, 2, 3), (54,), (1, 2, 3, 3)])
def test_weights_of_another_shape(nb, shape):
    layer = nb.Convolution_Layer(2, 3, 3)
    kept = layer.W.copy()
    with pytest.raises(ValueError) as caught:
        layer.set_weights(np.zeros(shape))
    assert str(shape) in str(caught.value) and "(3, 2, 3, 3)" in str(caught.value)
    np.testing.assert_array_equal(layer.W, kept)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("new_bias", [np.zeros(2), np.zeros((3, 1)), 0.0])
def test_bias_of_another_shape(nb, bias, new_bias):
    layer = nb.Convolution_Layer(2, 3, 3, bias)
    kept = layer.W.copy()
    with pytest.raises(ValueError, match="bias"):
        layer.set_weights(np.zeros_like(kept), new_bias)
    np.testing.assert_array_equal(layer.W, kept)


def test_bias_for_a_layer_without_one(nb):
    layer = nb.Convolution_Layer(2, 3, 3, bias=False)
    with pytest.raises(ValueError, match="bias"):
        layer.set_weights(layer.W, np.zeros(3))


# --- What is impossible ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"kernel_size": 0}, r"kernel.*0"),
        ({"kernel_size": -3}, r"kernel.*-3"),
        ({"kernel_size": (3, 0)}, r"kernel.*3, 0"),
        ({"kernel_size": 2.5}, r"kernel.*2\.5"),
        ({"kernel_size": (3, 3, 3)}, r"kernel.*3, 3, 3"),
        ({"kernel_size": np.nan}, r"nan|NaN"),
        ({"stride": 0}, r"stride.*0"),
        ({"stride": -1}, r"stride.*-1"),
        ({"stride": (2, 0)}, r"stride.*2, 0"),
        ({"stride": 1.5}, r"stride.*1\.5"),
        ({"padding": -1}, r"padding.*-1"),
        ({"padding": (1, -2)}, r"padding.*1, -2"),
        ({"padding": 0.5}, r"padding.*0\.5"),
        ({"dilation": 0}, r"dilation.*0"),
        ({"dilation": (0, 1)}, r"dilation.*0, 1"),
        ({"dilation": 1.5}, r"dilation.*1\.5"),
        ({"kernel_size": 7}, r"7.*6"),
        ({"kernel_size": 7, "padding": (1, 0)}, r"7.*8, 6"),
        ({"kernel_size": 9, "padding": 1}, r"9.*8"),
        ({"kernel_size": 3, "dilation": 3}, r"7.*6"),
    ],
)
def test_impossible_settings(nb, settings, says):
    with pytest.raises(ValueError, match=says):
        nb.Convolution_Layer(2, 3, **{"kernel_size": 3} | settings).forward(np.zeros((1, 2, 6, 6)))


@pytest.mark.parametrize("shape", [(1, 3, 6, 6), (1, 1, 6, 6), (2, 6, 6), (6, 6), (1, 2, 6, 6, 1)])
def test_input_of_another_shape(nb, shape):
    with pytest.raises(ValueError, match="2") as caught:
        nb.Convolution_Layer(2, 3, 3).forward(np.zeros(shape))
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (1, 2, 4, 4), (2, 3, 4, 4), (3, 4, 4)])
def test_gradient_of_another_shape(nb, shape):
    layer = nb.Convolution_Layer(2, 3, 3)
    layer.forward(np.zeros((1, 2, 6, 6)))
    with pytest.raises(ValueError) as caught:
        layer.backward(np.zeros(shape))
    assert str(shape) in str(caught.value) and "(1, 3, 4, 4)" in str(caught.value)


def test_backward_before_forward_says_so(nb):
    with pytest.raises(RuntimeError, match="forward"):
        nb.Convolution_Layer(2, 3, 3).backward(np.zeros((1, 3, 4, 4)))
