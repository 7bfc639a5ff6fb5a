"""What the tests share: the notebook's definitions and rehearsal, numbers in texts, and
independent references."""

import math
import re
import socket
import warnings

import mpmath
import nbformat
import numpy as np
import pytest
from load_definitions import NOTEBOOK, load_definitions  # in tools/: see pyproject.toml
from mpmath import mpf
from scipy import stats
from scipy.special import logsumexp

POINTS = (2, 4, 1), (9, 14, 3), (128, 42, 666), (52, 14, 28)  # the sheet's


@pytest.fixture(scope="session")
def nb():
    """The notebook's definitions without its trainings; --cov=definitions works."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the libraries say of one another
        return load_definitions()


@pytest.fixture(scope="session")
def saved():
    """The notebook as saved."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    return notebook


@pytest.fixture(scope="session")
def seen():
    """What a rehearsal of the notebook leaves behind."""
    from seen import Seen  # which imports this file

    return Seen().run()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A test that looks up another host fails, even where errors are caught."""
    look_up = socket.getaddrinfo

    def guarded(host, *args, **kwargs):
        if host not in (None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0"):
            pytest.fail(f"a test looked up {host}")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", guarded)
    monkeypatch.setenv("NO_PROXY", "*")


class Echo:
    """A model whose scores are its inputs, so that a test writes them down."""

    def __init__(self):
        self.counts = []  # of the images in each call

    def forward(self, x):
        self.counts.append(len(x))
        return x


def finite_difference(function, array, h=1e-5):
    """The gradient of function() for an array, by central differences in place."""
    grad = np.empty_like(array)
    for index in np.ndindex(array.shape):
        kept = array[index]
        array[index] = kept + h
        above = function()
        array[index] = kept - h
        grad[index] = (above - function()) / (2 * h)
        array[index] = kept
    return grad


def assert_gradient(analytic, numerical, bound=1e-7):
    """Gradients of one shape agree: ||a - n|| / (||a|| + ||n||) is within the bound."""
    assert np.shape(analytic) == np.shape(numerical)
    size = np.linalg.norm(analytic) + np.linalg.norm(numerical)
    assert size > 0, "both gradients are zero: this checks nothing"
    assert np.linalg.norm(np.subtract(analytic, numerical)) <= bound * size


def assert_seeded(draw):
    """draw(rng) -> array takes a seed, 0 too, or a generator, which it uses itself."""
    generator = np.random.default_rng(0)
    first, second = draw(generator), draw(generator)
    np.testing.assert_array_equal(draw(0), first)
    np.testing.assert_array_equal(draw(np.int64(0)), first)
    for one, other in (first, second), (first, draw(1)), (draw(None), draw(None)):
        assert not np.array_equal(one, other)


def exact(x, y, z):
    """Question 2's u, f, ∂f/∂x, ∂f/∂y, ∂f/∂z, by the chain rule, of 100 digits."""
    with mpmath.workdps(100):
        x, y, z = mpf(float(x)), mpf(float(y)), mpf(float(z))
        n = mpmath.cospi(x) + mpmath.sinpi(y / 2)
        d = mpmath.tanh(z**2)
        by_u = 1 / (1 + mpmath.exp(n / d))
        by_x = -mpmath.pi * mpmath.sinpi(x) / d
        by_y = mpmath.pi / 2 * mpmath.cospi(y / 2) / d
        by_z = -n / d**2 * mpmath.sech(z**2) ** 2 * 2 * z
        f = -mpmath.log1p(mpmath.exp(-n / d))
        return [n / d, f, by_u * by_x, by_u * by_y, by_u * by_z]


def patches_of(x, k):
    """The patches that a filter reads, one in each row."""
    view = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(2, 3))
    return view.transpose(0, 2, 3, 1, 4, 5).reshape(-1, x.shape[1] * k * k)


def loss_of(scores, y):
    return np.mean(logsumexp(scores, axis=1) - scores[np.arange(len(y)), y])


def numbers(text):
    """The numbers in a text, each as (value, half a unit of its last digit)."""
    found = []
    pattern = r"(?<![\w.])([-+]?\d+(?:,\d{3})*(?:\.(\d+))?)(?:e([-+]?\d+))?"
    for mantissa, decimals, exponent in re.findall(pattern, text):
        power = 10.0 ** int(exponent or 0)
        half = 0.501 * power * 10.0 ** -len(decimals)
        found.append((float(mantissa.replace(",", "")) * power, half))
    return found


def says(text, *values, share=0.003):
    """Whether the numbers in a text are these values, in this order and to the last
    digit shown, within a share (or 0.006); other numbers may stand between them."""
    found = iter((n, min(h, max(0.006, share * abs(n)))) for n, h in numbers(text))
    return all(any(abs(n - v) <= half for n, half in found) for v in values)


def tells(text, word, *values):
    """Whether the first numbers after a word in a text are these values."""
    told = zip(numbers(text.partition(word)[2]), values, strict=False)
    return sum(abs(n - v) <= half for (n, half), v in told) == len(values)


def are(text, values, rel=1e-3):
    """Whether the numbers of a text are exactly these values, zeros as zeros."""
    return [n for n, _ in numbers(text)] == pytest.approx(values, rel=rel, abs=1e-99)


def mean_sd(values):
    return np.mean(values), np.std(values, ddof=1)


def interval(hits):
    """Accuracy, and its 95% Wilson interval."""
    test = stats.binomtest(int(np.sum(hits)), len(hits))
    ends = test.proportion_ci(method="wilson")
    return 100 * np.mean(hits), 100 * ends.low, 100 * ends.high


def difference(hits, others):
    """How many points more are right, and the standard error of that."""
    each = 100 * (np.asarray(hits, float) - others)
    return each.mean(), each.std() / math.sqrt(len(each))
