"""Independent reference implementations, and assertions that tests share."""

import math
import re
from itertools import product

import mpmath
import numpy as np
import pytest
from mpmath import mpf
from scipy.signal import correlate
from scipy.special import logsumexp, softmax

# of k, stride, padding, dilation
GEOMETRIES = [*product([1, 2, 3], [1, 2, 3], [0, 1, 2], [1, 2, 3])]


def assert_convolves(layer_class, rng, k, stride, padding, dilation):
    """Assert that a layer with k × k weights agrees with SciPy, and its gradients with
    its outputs, which are linear in images and in weights. The last rows and columns of
    an image are not always read."""
    geometry = {"stride": stride, "padding": padding, "dilation": dilation}
    x, b = rng.standard_normal((2, 2, 7, 8)), rng.standard_normal(3)
    layer = layer_class(2, 3, k, dtype=np.float64, rng=rng, **geometry)
    layer.b[:] = b
    expected = conv2d_by_scipy(x, layer.W, b, **geometry)
    np.testing.assert_allclose(layer.forward(x), expected, rtol=0, atol=1e-12)
    G = rng.standard_normal(expected.shape)
    with pytest.raises(AssertionError, match="expected"):
        layer.backward(np.ones((2, 3, 20, 20)))  # of another shape
    layer.backward(G)
    total = np.sum(G * (expected - b[:, None, None]))
    for value, gradient in (x, layer.grad_input), (layer.W, layer.grad_W):
        assert gradient.shape == value.shape
        assert np.sum(gradient * value) == pytest.approx(total, abs=1e-9)
    layer.backward(G, need_input_grad=False)
    assert layer.grad_input is None


def assert_in_order(text, *parts):
    """Assert that a text has these parts, one after the other; floats as 0.00.

    A part is not found inside of a longer number or word."""
    rest = text
    for part in parts:
        part = f"{part:.2f}" if isinstance(part, float) else str(part)
        found = re.search(rf"(?s)(?<![\w.-]){re.escape(part)}(?!\w|\.\d)(.*)", rest)
        assert found, f"{part} is missing, or in another place, in: {text}"
        rest = found[1]


def passes(x, Y, W, *above):
    """Scores of a softmax classifier (W) or an MLP (W1, b1, W2, b2); gradients of the
    mean loss with one-hot labels Y."""
    if not above:
        scores = x @ W
        return scores, [x.T @ (softmax(scores, axis=1) - Y) / len(x)]
    b, W2, b2 = above
    h = np.maximum(x @ W + b, 0)
    scores = h @ W2 + b2
    G = (softmax(scores, axis=1) - Y) / len(x)
    grad_a = (h > 0) * (G @ W2.T)
    return scores, [x.T @ grad_a, grad_a.sum(axis=0), h.T @ G, G.sum(axis=0)]


def train_by_loop(arrays, data, rng, epochs, batch_size, rate, lam, falling):
    """Plain SGD with a penalty on matrices: yield the arrays after each epoch, with the
    scores and labels of its batches before their steps."""
    (x, y), step = data, 0
    n_steps = epochs * -(-len(y) // batch_size)
    for _ in range(epochs):
        order, seen = rng.permutation(len(y)), []
        for batch in np.split(order, range(batch_size, len(y), batch_size)):
            Y = np.eye(arrays[-1].shape[-1])[y[batch]]
            scores, gradients = passes(x[batch], Y, *arrays)
            seen.append((scores, y[batch]))
            factor = math.cos(math.pi / 2 * step / n_steps) ** 2 if falling else 1
            for k, gradient in enumerate(gradients):
                penalty = 2 * lam * arrays[k] if arrays[k].ndim == 2 else 0
                arrays[k] = arrays[k] - factor * rate * (gradient + penalty)
            step += 1
        yield arrays, [np.concatenate(parts) for parts in zip(*seen, strict=True)]


def loss_of(scores, y):
    """Mean cross-entropy, in nats, of scores (N, m) and labels (N,)."""
    return np.mean(logsumexp(scores, axis=1) - scores[np.arange(len(y)), y])


def accuracy_of(scores, y):
    """Accuracy in %, of scores (N, m) and labels (N,)."""
    return float(100 * np.mean(scores.argmax(axis=1) == y))


def accuracy(model, dataset):
    """A model's accuracy on a Dataset, in %."""
    return accuracy_of(model.forward(dataset.x), dataset.y)


def labels_by_image(dataset):
    """{bytes of an image: its label} of a Dataset."""
    return {x.tobytes(): y for x, y in zip(dataset.x, dataset.y, strict=True)}


def wilson_interval(correct):
    """[accuracy, low, high] in %, with Wilson's closed formula for 95% confidence."""
    n, p, z = len(correct), float(np.mean(correct)), 1.959963984540054
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half_width = math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) * z / (1 + z**2 / n)
    return [100 * p, 100 * (centre - half_width), 100 * (centre + half_width)]


def exact(x, y, z):
    """Question 2's [u, f, ∂f/∂x, ∂f/∂y, ∂f/∂z], to 100 digits, by the chain rule."""
    with mpmath.workdps(100):
        x, y, z = mpf(float(x)), mpf(float(y)), mpf(float(z))
        n = mpmath.cospi(x) + mpmath.sinpi(y / 2)
        d = mpmath.tanh(z**2)
        df_du = 1 / (1 + mpmath.exp(n / d))
        du_dx = -mpmath.pi * mpmath.sinpi(x) / d
        du_dy = mpmath.pi / 2 * mpmath.cospi(y / 2) / d
        du_dz = -n / d**2 * mpmath.sech(z**2) ** 2 * 2 * z
        f = -mpmath.log1p(mpmath.exp(-n / d))
        return [n / d, f, df_du * du_dx, df_du * du_dy, df_du * du_dz]


def conv2d_by_scipy(x, W, b, stride, padding, dilation):
    """A dense correlation with zeros between the weights; then every stride-th output
    is kept."""
    span = dilation * (W.shape[2] - 1) + 1
    spread = np.zeros((*W.shape[:2], span, span))
    spread[:, :, ::dilation, ::dilation] = W
    x = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    outputs = [
        [correlate(image, filter_, "valid", "direct")[0] for filter_ in spread]
        for image in x
    ]
    return np.array(outputs)[:, :, ::stride, ::stride] + b[:, None, None]


def patches_by_loop(images, size):
    """Every size × size patch of images (N, C, H, W), flattened, one in each row."""
    rows, columns = np.array(images.shape[2:]) - size + 1
    corners = np.ndindex(len(images), rows, columns)
    windows = [images[n, :, i : i + size, j : j + size] for n, i, j in corners]
    return np.reshape(windows, (len(windows), -1))


def measures(quadratic, delta):
    """L2 distance and filter error of filters that are off by delta (20, 75)."""
    distance = np.linalg.norm(quadratic.patches @ delta.T)
    return distance, np.linalg.norm(delta) / np.linalg.norm(quadratic.W0)
