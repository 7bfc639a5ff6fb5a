"""Question 2: nodes, Graph, Func and gradient_by_hand, against mpmath at 100 digits."""

import math

import mpmath
import numpy as np
import pytest
from mpmath import mpf
from references import exact

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

ANGLES = [0.1, 0.3, -1.7, 0.75, -3.999, 200.25, 1e6 + 0.125, 12345.678]
PAIRS = [(1.5, -4.0), (0.1, 0.7), (3.0, 3.0), (7.0, 1e-4)]
NODES = {  # name: (the function by definition, points)
    "Add": (lambda a, b: a + b, PAIRS),
    "Multiply": (lambda a, b: a * b, PAIRS),
    "Divide": (lambda a, b: a / b, PAIRS),
    "CosPi": (mpmath.cospi, ANGLES),
    "SinPi": (mpmath.sinpi, ANGLES),
    "Tanh": (mpmath.tanh, [1e-9, 1e-4, 0.6, -2.0, 4.3, -9.0, 19.0, -400.0]),
    "Sigmoid": (lambda x: 1 / (1 + mpmath.exp(-x)), [0.0, 0.3, -40.0, 5.0]),
    "Log": (mpmath.log, [0.2, 50.0, 1e-20, 3e20]),
}
NODES_AT_POINTS = [
    pytest.param(name, function, np.atleast_1d(point).tolist(), id=f"{name}-{point}")
    for name, (function, points) in NODES.items()
    for point in points
]


def assert_twelve_digits(value, expected):
    """Assert that a float has twelve digits of an mpf, or both are about 0."""
    assert abs(mpf(value) - expected) <= max(1e-12 * abs(expected), 1e-300)


# Nodes


@pytest.mark.parametrize(("name", "function", "point"), NODES_AT_POINTS)
def test_gradients_of_a_node(nb, name, function, point):
    """A tuple: for each input, the incoming gradient times the local derivative."""
    node = getattr(nb, name)()
    node.forward(*point)
    grads = node.backward(-2.5)
    assert isinstance(grads, tuple)
    assert len(grads) == len(point)
    for k, grad in enumerate(grads):
        order = [int(i == k) for i in range(len(point))]
        with mpmath.workdps(100):
            expected = -2.5 * mpmath.diff(function, [*map(mpf, point)], order)
        assert_twelve_digits(grad, expected)


# Graph


@pytest.fixture
def graph(nb):
    """p = x x, q = p / x, h = q + x; besides, u = x / c, which h does not read."""
    return nb.Graph(
        {
            "p": (nb.Multiply(), "x", "x"),
            "q": (nb.Divide(), "p", "x"),
            "u": (nb.Divide(), "x", "c"),
            "h": (nb.Add(), "q", "x"),
        }
    )


def test_gradients_add_up_where_a_value_forks(graph):
    assert graph.forward(x=4.0, c=2.0) == 4 + 4
    expected = {"x": 2, "c": 0, "p": 1 / 4, "q": 1, "u": 0, "h": 1}
    assert graph.backward() == expected
    assert graph.backward() == expected, "nothing is left over from an earlier call"
    assert graph.grads == expected


def test_a_graph_refuses_the_same_node_object_twice(nb):
    """It would keep the inputs of its last use only."""
    square = nb.Multiply()
    with pytest.raises(AssertionError, match="twice"):
        nb.Graph({"p": (square, "x", "x"), "q": (square, "p", "x")})


# Func and gradient_by_hand


def assert_func_is_exact(nb, point):
    """Compare f and each component of its gradient where float64 can be exact.

    Func is exact where its sigmoid is near neither 0 nor 1, gradient_by_hand where
    exp(u) is finite. Returns whether Func was compared."""
    u, f, *gradient = exact(*point)
    if u < 700:
        for value, expected in zip(nb.gradient_by_hand(*point), gradient, strict=True):
            assert_twelve_digits(value, expected)
    if not -600 < u < 5:
        return False
    func = nb.Func()
    output = func.forward(*point)
    assert_twelve_digits(output, f)
    for value, expected in zip(func.backward(output), gradient, strict=True):
        assert_twelve_digits(value, expected)
    return True


@pytest.mark.parametrize("decimals", [9, 0], ids=["any", "integers"])
def test_func_at_random_points(nb, rng, decimals):
    """Also at zeros and extremes of sine and cosine, but not where n cancels to 0."""
    xy = rng.uniform(-200, 200, (300, 2)).round(decimals)
    z = np.geomspace(0.2, 18, 300) * rng.choice([-1, 1], 300)
    n = np.cos(np.pi * xy[:, 0]) + np.sin(np.pi * xy[:, 1] / 2)
    points = np.column_stack([xy, z])[abs(n) > 0.01].tolist()
    compared = [assert_func_is_exact(nb, point) for point in points]
    assert sum(compared) >= 15


@pytest.mark.parametrize("z", [1e-70, 1e-9, 1e-3, 0.05, 4.3, 19.5, 666, 1e200])
def test_func_from_small_to_large_z(nb, z):
    """tanh rounds to 1 before its derivative is 0; z^2 overflows. At the last two pairs
    (x, y), n is 0."""
    pairs = [(0.3, 0.7), (-1.2, 2.9), (199.75, -200.0), (0.5, 2), (-1.5, 66)]
    compared = [assert_func_is_exact(nb, (x, y, z)) for x, y in pairs]
    assert any(compared)


@pytest.mark.parametrize("point", [(1, 2, 0), (1, 2, 1e-170), (1, 3, 0.05)])
def test_func_refuses_z_0_and_overflow(nb, point):
    with pytest.raises((ArithmeticError, ValueError)):
        nb.Func().forward(*point)


def test_func_backward_needs_the_output_of_the_latest_forward(nb):
    func = nb.Func()
    earlier = func.forward(2, 4, 1)
    latest = func.forward(0.3, 1.7, 0.6)
    for output in earlier, 0.0, 1.0, math.nan, -latest:
        with pytest.raises(AssertionError):
            func.backward(output)
