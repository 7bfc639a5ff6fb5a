"""Question 2: nodes, Graph, Func and gradient_by_hand, against mpmath at 100 digits."""

import math

import mpmath
import numpy as np
import pytest
from conftest import exact
from mpmath import mp, mpf

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")
mp.dps = 100

CIRCLE = [0.1, 0.3, -1.7, 0.75, -3.999, 200.25, 1e6 + 0.125, 12345.678]
PAIRS = [(1.5, -4.0), (0.1, 0.7), (3.0, 3.0), (7.0, 1e-4)]
NODES = {  # name: (the function by definition, points)
    "Add": (lambda a, b: a + b, PAIRS),
    "Multiply": (lambda a, b: a * b, PAIRS),
    "Divide": (lambda a, b: a / b, PAIRS),
    "CosPi": (mpmath.cospi, CIRCLE),
    "SinPi": (mpmath.sinpi, CIRCLE),
    "Tanh": (mpmath.tanh, [1e-9, 1e-4, 0.6, -2.0, 4.3, -9.0, 19.0, -400.0]),
    "Sigmoid": (lambda x: 1 / (1 + mpmath.exp(-x)), [0.0, 0.3, -40.0, 5.0]),
    "Log": (mpmath.log, [0.2, 50.0, 1e-20, 3e20]),
}


def assert_digits(found, true):
    """Twelve digits; near 0 where float64 has no such number."""
    assert abs(mpf(found) - true) <= max(1e-12 * abs(true), 1e-300), (found, true)


@pytest.mark.parametrize("name", NODES)
def test_node(nb, name):
    """Its value, and for each input the incoming gradient times the slope."""
    function, points = NODES[name]
    for point in points:
        point = np.atleast_1d(point).tolist()
        at = [mpf(value) for value in point]
        node = getattr(nb, name)()
        assert_digits(node.forward(*point), function(*at))
        grads = node.backward(-2.5)
        assert (type(grads), len(grads)) == (tuple, len(point))
        for axis, grad in enumerate(grads):
            order = [int(i == axis) for i in range(len(point))]
            assert_digits(grad, -2.5 * mpmath.diff(function, at, order))


def test_forks_add_up(nb):
    """p = x x, q = p / x, h = q + x; besides, u = x / c, which h does not read."""
    nodes = [("p", nb.Multiply(), ["x", "x"]), ("q", nb.Divide(), ["p", "x"])]
    nodes += [("u", nb.Divide(), ["x", "c"]), ("h", nb.Add(), ["q", "x"])]
    graph = nb.Graph(nodes)
    for x in 4.0, 0.25:
        assert graph.forward(x=x, c=2.0) == 2 * x
        for _ in range(2):  # nothing is left over from an earlier call
            true = {"x": 2, "c": 0, "p": 1 / x, "q": 1, "u": 0, "h": 1}
            assert graph.backward() == graph.grads == true
    nodes[0][1].backward = lambda grad: (grad,)  # forgets its second input
    with pytest.raises(ValueError):
        graph.backward()


def check(nb, points):
    """f and its gradient, by hand and by Func, each component alone: all digits. (By
    Func where its sigmoid is near neither 0 nor 1, by hand where exp(u) exists.)"""
    func = nb.Func()
    compared = 0
    for point in points:
        u, f, *gradient = exact(*point)
        if u < 700:
            for found, true in zip(nb.gradient_by_hand(*point), gradient, strict=True):
                assert_digits(found, true)
        if -600 < u < 5:
            output = func.forward(*point)
            assert_digits(output, f)
            for found, true in zip(func.backward(output), gradient, strict=True):
                assert_digits(found, true)
            compared += 1
    assert compared >= len(points) / 10


@pytest.mark.parametrize("grid", [None, 4, 1], ids=["any", "quarters", "whole"])
def test_random_points(nb, rng, grid):
    """The zeros and extremes of sine and cosine too, where n does not cancel."""
    xy = rng.uniform(-200, 200, (300, 2))
    if grid:
        xy = np.rint(grid * xy) / grid
    z = np.geomspace(0.2, 18, 300) * rng.choice([-1, 1], 300)
    n = np.cos(np.pi * xy[:, 0]) + np.sin(np.pi * xy[:, 1] / 2)
    points = np.column_stack([xy, z])[abs(n) > 0.01].tolist()
    assert len(points) > 150
    check(nb, points)


@pytest.mark.parametrize(
    "z", [1e-70, 1e-40, 1e-9, 1e-3, 0.05, 4.3, 18.5, 19.5, 28, 666, 1e4, 1e200]
)
def test_from_small_to_large_z(nb, z):
    """tanh rounds to 1 before its slope is 0; z^2 overflows. At the last two n is 0."""
    xy = [(0.3, 0.7), (-1.2, 2.9), (199.75, -200.0), (1, 3), (1e300, -1e300)]
    xy += [(0.5, 2), (-1.5, 66)]
    check(nb, [(x, y, sign * z) for x, y in xy for sign in (1, -1)])


def test_what_func_refuses(nb):
    """z = 0, and a backward that does not follow its own forward."""
    func = nb.Func()
    with pytest.raises(ZeroDivisionError):
        func.forward(1, 2, 0)
    earlier = func.forward(2, 4, 1)
    latest = func.forward(0.3, 1.7, 0.6)
    once = func.backward(latest)
    for output in earlier, 0.0, 1.0, math.nan, -latest:
        with pytest.raises(AssertionError):
            func.backward(output)
    assert func.backward(latest) == once
