"""Independent reference implementations, and assertions that tests share."""

import math
import re

import mpmath
import numpy as np
from mpmath import mpf
from scipy.special import logsumexp

POINTS = (2, 4, 1), (9, 14, 3), (128, 42, 666), (52, 14, 28)  # the sheet's, Question 2


def assert_gradient(analytic, numerical, bound=1e-7):
    """Assert that two gradients have one shape and a small relative difference."""
    assert np.shape(analytic) == np.shape(numerical)
    size = np.linalg.norm(analytic) + np.linalg.norm(numerical)
    assert size > 0, "both gradients are zero: this checks nothing"
    assert np.linalg.norm(np.subtract(analytic, numerical)) <= bound * size


def assert_seeded(draw):
    """Assert that draw(rng) -> array takes a seed, a Generator or None."""
    generator = np.random.default_rng(0)
    first, second = draw(generator), draw(generator)
    np.testing.assert_array_equal(draw(0), first)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, draw(1))
    assert not np.array_equal(draw(None), draw(None))


def assert_in_order(text, *parts):
    """Assert that a text has these parts, one after the other; floats as 0.00.

    A part is not found inside of a longer number or word."""
    rest = text
    for part in parts:
        part = f"{part:.2f}" if isinstance(part, float) else str(part)
        found = re.search(rf"(?<![\w.]){re.escape(part)}(?!\w|\.\d)(.*)", rest)
        assert found, f"{part} is missing, or in another place, in: {text}"
        rest = found[1]


def loss_of(scores, y):
    """Mean cross-entropy, in nats, of scores (N, m) and labels (N,)."""
    return np.mean(logsumexp(scores, axis=1) - scores[np.arange(len(y)), y])


def accuracy_of(scores, y):
    """Accuracy in %, of scores (N, m) and labels (N,)."""
    return float(100 * np.mean(scores.argmax(axis=1) == y))


def accuracy(model, dataset):
    """A model's accuracy on a Dataset, in %."""
    return accuracy_of(model.forward(dataset.x), dataset.y)


def wilson_interval(correct):
    """[accuracy, low, high] in %, with Wilson's closed formula for 95% confidence."""
    n, p, z = len(correct), float(np.mean(correct)), 1.959963984540054
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half_width = math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) * z / (1 + z**2 / n)
    return [100 * p, 100 * (centre - half_width), 100 * (centre + half_width)]


def paired_difference(correct, others):
    """Difference in points and standard error, from the images on which two differ."""
    n = len(correct)
    gained = np.count_nonzero(correct & ~others) / n
    lost = np.count_nonzero(others & ~correct) / n
    variance = gained + lost - (gained - lost) ** 2
    return 100 * (gained - lost), 100 * math.sqrt(variance / n)


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


def patches_by_loop(images, size):
    """Every size × size patch of images (N, C, H, W), flattened, one in each row."""
    rows, columns = np.array(images.shape[2:]) - size + 1
    return np.array(
        [
            images[n, :, i : i + size, j : j + size].ravel()
            for n, i, j in np.ndindex(len(images), rows, columns)
        ]
    )


def measures(quadratic, delta):
    """L2 distance and filter error of filters that are off by delta (20, 75)."""
    distance = np.linalg.norm(quadratic.patches @ delta.T)
    return distance, np.linalg.norm(delta) / np.linalg.norm(quadratic.W0)


def left_after(quadratic, n_steps):
    """The share of the error along each eigenvector that plain steps leave."""
    return (1 - quadratic.eigenvalues / quadratic.eigenvalues[0]) ** n_steps
