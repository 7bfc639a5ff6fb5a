"""Question 4: the convolution against its definition, for every combination of settings."""

from functools import partial

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
            assert (ours is None) == (ours is found[1] and not bias)
            if ours is not None:
                assert ours.shape == true.shape
                np.testing.assert_allclose(ours, true, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_everybodys_forward_is_scipys_correlation(nb, rng, stride, padding, dilation):
    """With zeros put between the taps, and all but every stride-th location dropped."""
    settings = {"stride": stride, "padding": padding, "dilation": dilation}
    x, W, b = (rng.standard_normal(n) for n in ((2, 2, 9, 11), (3, 2, 3, 3), 3))
    spread = np.zeros((3, 2, 2 * dilation + 1, 2 * dilation + 1))
    spread[:, :, ::dilation, ::dilation] = W
    padded, kept = np.pad(x, [(0, 0), (0, 0), (padding,) * 2, (padding,) * 2]), x.copy()
    full = [
        [sum(map(partial(correlate2d, mode="valid"), image, kernel)) for kernel in spread]
        for image in padded
    ]
    expected = np.array(full)[:, :, ::stride, ::stride] + b[:, None, None]
    found = [nb.convolve_by_definition(x, W, b, **settings)]
    for kind in nb.Convolution_Layer, nb.Fast_Convolution_Layer:
        layer = kind(2, 3, 3, dtype=np.float64, **settings)
        layer.set_weights(W, b)
        found.append(layer.forward(x))
    for out in found:
        assert out.shape == expected.shape and out.dtype == np.float64
        np.testing.assert_allclose(out, expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize("kernel", [1, 2, 4])
def test_the_definition_with_other_kernels(nb, rng, kernel):
    """Defaults: stride 1, no padding, dilation 1."""
    x, W, b = (rng.standard_normal(n) for n in ((1, 3, 4, 6), (2, 3, kernel, kernel), 2))
    expected = Reference(x, kernel, 1, 0, 1).forward(W, b)
    found = nb.convolve_by_definition(x, W, b)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


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
@pytest.mark.parametrize("new_bias", [np.zeros(2), np.zeros((3, 1)), np.zeros((1, 3)), np.zeros(0)])
def test_bias_of_another_shape(nb, bias, new_bias):
    layer = nb.Convolution_Layer(2, 3, 3, bias)
    kept = layer.b
    with pytest.raises(ValueError) as caught:
        layer.set_weights(np.zeros_like(layer.W), new_bias)
    assert str(new_bias.shape) in str(caught.value)
    assert layer.b is kept


def test_bias_that_is_one_number(nb):
    with pytest.raises(ValueError, match="shape"):
        nb.Convolution_Layer(2, 3, 3).set_weights(np.zeros((3, 2, 3, 3)), 0.0)


def test_wrong_bias_leaves_the_weights_alone(nb):
    layer = nb.Convolution_Layer(2, 3, 3)
    kept = layer.W.copy()
    with pytest.raises(ValueError, match="shape"):
        layer.set_weights(np.zeros_like(kept), np.zeros(2))
    np.testing.assert_array_equal(layer.W, kept)


def test_bias_for_a_layer_without_one(nb):
    layer = nb.Convolution_Layer(2, 3, 3, bias=False)
    with pytest.raises(ValueError, match="shape"):
        layer.set_weights(layer.W, np.zeros(3))


# --- What is impossible ----------------------------------------------------------------------

SMALL = r"\(1, 2, 6, 6\).*kernel"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"kernel_size": 0}, r"kernel.*0"),
        ({"kernel_size": -3}, r"kernel.*-3"),
        ({"kernel_size": (3, 0)}, r"kernel.*3, 0"),
        ({"kernel_size": 2.5}, r"kernel.*2\.5"),
        ({"kernel_size": (3, 3, 3)}, r"shape"),
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
        ({"kernel_size": 7}, SMALL),
        ({"kernel_size": 7, "padding": (1, 0)}, SMALL),
        ({"kernel_size": 9, "padding": 1}, SMALL),
        ({"kernel_size": 3, "dilation": 3}, SMALL),
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


@pytest.mark.parametrize("shape", [(6, 6), (2, 2), (3, 2, 6)])
def test_input_with_too_few_axes(nb, shape):
    with pytest.raises(ValueError):
        nb.Convolution_Layer(2, 3, 3).forward(np.zeros(shape))


@pytest.mark.parametrize(
    ("value", "pair"),
    [(3, (3, 3)), ((2, 5), (2, 5)), ([4, 1], (4, 1)), (np.int64(2), (2, 2)), (2.0, (2, 2))],
)
def test_as_pair(nb, value, pair):
    found = nb.as_pair(value, "stride")
    assert found == pair and all(type(v) is int for v in found)


def test_as_pair_names_what_is_wrong(nb):
    assert nb.as_pair((0, 1), "padding", 0) == (0, 1)
    with pytest.raises(ValueError, match=r"stride is \(0, 1\).*from 1 up"):
        nb.as_pair((0, 1), "stride")
    with pytest.raises(ValueError, match=r"padding is -1.*from 0 up"):
        nb.as_pair(-1, "padding", 0)


def test_check_shape(nb):
    nb.check_shape(np.zeros((2, 3)), [2, 3], "thing")
    nb.check_shape(1.0, (), "number")
    with pytest.raises(ValueError, match=r"thing of shape \(2, 3\) given, \(3, 2\) needed"):
        nb.check_shape(np.zeros((2, 3)), (3, 2), "thing")


# --- Both classes ----------------------------------------------------------------------------

BOTH = pytest.mark.parametrize("name", ["Convolution_Layer", "Fast_Convolution_Layer"])


@BOTH
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_empty_batch_gives_empty_outputs(nb, name, bias):
    layer = getattr(nb, name)(2, 3, 3, bias, padding=1)
    out = layer.forward(np.zeros((0, 2, 6, 5)))
    assert out.shape == (0, 3, 6, 5) and out.dtype == np.float32


@BOTH
def test_empty_batch_gives_zero_gradients(nb, name):
    layer = getattr(nb, name)(2, 3, 3, padding=1)
    layer.forward(np.zeros((0, 2, 6, 5)))
    grad_W = layer.backward(np.zeros((0, 3, 6, 5)))
    assert grad_W.shape == (3, 2, 3, 3) and not grad_W.any()
    assert layer.grad_input.shape == (0, 2, 6, 5) and not layer.grad_b.any()


@BOTH
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("given", [np.float32, np.float64])
def test_gradients_are_of_the_layers_dtype_whatever_the_gradient(nb, rng, name, dtype, given):
    layer = getattr(nb, name)(2, 3, 3, padding=1, rng=rng, dtype=dtype)
    out = layer.forward(rng.random((2, 2, 6, 5)).astype(given))
    grad = rng.standard_normal(out.shape).astype(given)
    grad_W = layer.backward(grad)
    arrays = out, grad_W, layer.grad_b, layer.grad_input
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}
    assert layer.grad_W is grad_W


@BOTH
@pytest.mark.parametrize("settings", [{}, {"stride": 2, "padding": 1}, {"dilation": 2}])
def test_correlation_and_its_gradients_alone(nb, rng, name, settings):
    """correlate: no bias; correlate_backward: by W, and by the padded images if wanted."""
    layer = getattr(nb, name)(2, 3, 3, rng=rng, dtype=np.float64, **settings)
    layer.set_weights(layer.W, np.ones(3))
    x = rng.standard_normal((2, 2, 7, 8))
    out = layer.forward(x)
    alone = layer.correlate()
    np.testing.assert_allclose(alone, out - 1, atol=1e-12)
    grad = rng.standard_normal(out.shape)
    grad_W, grad_padded = layer.correlate_backward(grad, True)
    only_W, nothing = layer.correlate_backward(grad, False)
    assert nothing is None and grad_padded.shape == layer.padded.shape
    np.testing.assert_array_equal(grad_W, only_W)
    np.testing.assert_allclose(np.sum(grad_W * layer.W), np.sum(grad * alone))  # it is linear
    np.testing.assert_allclose(np.sum(grad_padded * layer.padded), np.sum(grad * alone))


@BOTH
def test_input_in_any_memory_layout(nb, rng, name):
    layer = getattr(nb, name)(2, 3, (3, 2), stride=(1, 2), padding=1, rng=rng, dtype=np.float64)
    x = rng.standard_normal((4, 7, 6, 2)).transpose(0, 3, 1, 2)[::2, :, ::-1]
    out = layer.forward(x)
    np.testing.assert_array_equal(out, layer.forward(np.ascontiguousarray(x)))
    grad = np.asfortranarray(rng.standard_normal(out.shape))
    grad_W, grad_input = layer.backward(grad), layer.grad_input
    np.testing.assert_allclose(grad_W, layer.backward(np.ascontiguousarray(grad)), atol=1e-13)
    np.testing.assert_allclose(grad_input, layer.grad_input, atol=1e-13)


@BOTH
def test_padding_is_zeros(nb, name):
    layer = getattr(nb, name)(1, 1, 3, bias=False, padding=1)
    layer.set_weights(np.ones((1, 1, 3, 3)))
    out = layer.forward(np.ones((1, 1, 3, 3)))
    np.testing.assert_array_equal(out[0, 0], [[4, 6, 4], [6, 9, 6], [4, 6, 4]])


@BOTH
def test_he_initialisation(nb, rng, name):
    layer = getattr(nb, name)(8, 60, (3, 7), rng=rng)
    assert layer.W.std() == pytest.approx(np.sqrt(2 / (8 * 3 * 7)), rel=0.03)
    assert not layer.b.any() and layer.b.shape == (60,)


@BOTH
def test_not_the_same_filters_without_a_generator(nb, name):
    assert not np.array_equal(getattr(nb, name)(1, 1, 3).W, getattr(nb, name)(1, 1, 3).W)


@pytest.mark.parametrize(
    "settings", [{}, {"stride": (2, 3)}, {"dilation": (2, 1), "padding": (0, 2)}]
)
def test_windows_are_what_each_output_reads(nb, settings):
    layer = nb.Convolution_Layer(1, 1, (2, 3), dtype=np.float64, **settings)
    layer.forward(np.zeros((1, 1, 8, 9)))
    numbered = np.arange(layer.padded.size).reshape(layer.padded.shape)
    seen = list(layer.windows())
    assert [(i, j) for i, j, _ in seen] == list(np.ndindex(layer.out_size))
    (sh, sw), (dh, dw) = layer.stride, layer.dilation
    for i, j, window in seen:
        rows, columns = i * sh + dh * np.arange(2), j * sw + dw * np.arange(3)
        np.testing.assert_array_equal(numbered[window][0, 0], numbered[0, 0][np.ix_(rows, columns)])


# --- The fast layer is the naive one ----------------------------------------------------------


def random_geometry(seed):
    """Settings of a layer, and the images' shape: whatever fits."""
    rng = np.random.default_rng(seed)
    kernel, stride, dilation = (tuple(map(int, rng.integers(1, 4, 2))) for _ in range(3))
    padding = tuple(map(int, rng.integers(0, 3, 2)))
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    extra = rng.integers(0, 10, 2)
    size = (max(1, s + e - 2 * p) for s, e, p in zip(spans, extra, padding, strict=True))
    (channels, filters), count = map(int, rng.integers(1, 5, 2)), (0, 1, 5)[seed // 3 % 3]
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "bias": seed % 3 > 0}
    return (channels, filters, kernel), settings, (count, channels, *map(int, size))


def in_another_layout(array):
    """The same array, with the images last in memory, and gaps between them."""
    gaps = np.zeros((*array.shape[1:], 2 * len(array)), array.dtype)
    spread = np.moveaxis(gaps, -1, 0)[::2]
    spread[...] = array
    return spread


def everything(layer, x, grads):
    """The outputs, and the gradients by W, b and x of each of several backward calls."""
    found = [layer.forward(x)]
    for grad in grads:
        found += [layer.backward(grad), layer.grad_b, layer.grad_input]
        without = layer.backward(grad, need_input_grad=False)
        np.testing.assert_array_equal(without, found[-3])
        assert layer.grad_W is without and layer.grad_input is None
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(90))
def test_fast_equals_naive(nb, seed, dtype):
    rng, (sizes, settings, shape) = np.random.default_rng(seed), random_geometry(seed)
    naive = nb.Convolution_Layer(*sizes, dtype=dtype, rng=rng, **settings)
    fast = nb.Fast_Convolution_Layer(*sizes, dtype=dtype, **settings)
    naive.set_weights(naive.W, rng.standard_normal(sizes[1]) if settings["bias"] else None)
    fast.set_weights(naive.W, naive.b)
    x = rng.standard_normal(shape)
    arrays = x, *rng.standard_normal((2, *naive.forward(x).shape))
    kept = [array.copy() for array in arrays]
    expected = everything(naive, x, arrays[1:])
    spread = [in_another_layout(array) for array in arrays]
    found = everything(fast, spread[0], spread[1:])
    for array, other, copy in zip(arrays, spread, kept, strict=True):
        np.testing.assert_array_equal(array, copy)
        np.testing.assert_array_equal(other, copy)
    for true, ours in zip(expected, found, strict=True):
        assert (ours is None) == (true is None)
        if true is None:
            continue
        assert ours.shape == true.shape and ours.dtype == true.dtype == dtype
        bound = (1e-5 if dtype == np.float32 else 1e-13) * max(np.abs(true).max(initial=0), 1)
        np.testing.assert_allclose(ours, true, rtol=0, atol=bound)
    reference = Reference(x, sizes[2], *(settings[k] for k in ("stride", "padding", "dilation")))
    by_definition = reference.forward(naive.W, naive.b), *reference.gradients(naive.W, arrays[1])
    bound = 1e-4 if dtype == np.float32 else 1e-11
    for ours, true in zip(found[:4], by_definition, strict=True):
        if ours is not None:
            assert ours.shape == true.shape
            np.testing.assert_allclose(ours, true, rtol=0, atol=bound)


def test_fast_layer_keeps_nothing_between_calls(nb, rng):
    layer = nb.Fast_Convolution_Layer(2, 3, 3, rng=rng, dtype=np.float64)
    x, other = rng.standard_normal((2, 2, 6, 5)), rng.standard_normal((4, 2, 9, 9))
    runs = []
    for _ in range(2):
        out = layer.forward(x)
        runs.append([out, layer.backward(np.ones_like(out)), layer.grad_input])
        layer.backward(np.ones_like(layer.forward(other)))
    for a, b in zip(*runs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_fast_layer_is_a_convolution_layer(nb):
    assert issubclass(nb.Fast_Convolution_Layer, nb.Convolution_Layer)
    with pytest.raises(ValueError, match="kernel"):
        nb.Fast_Convolution_Layer(2, 3, 5).forward(np.zeros((1, 2, 4, 9)))
    with pytest.raises(ValueError, match="stride"):
        nb.Fast_Convolution_Layer(2, 3, 5, stride=0)
