"""Question 2: every node, and the whole graph, against mpmath at 50 digits."""

import math
import warnings

import mpmath
import numpy as np
import pytest
from mpmath import mp, mpf

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def fifty_digits():
    with mp.workdps(50):
        yield


def assert_close(found, true, bound=1e-9):
    """Equal to within bound * max(1, |true|), measured in 50 digits."""
    assert math.isfinite(found)
    assert abs(mpf(found) - true) <= bound * max(1, abs(true)), f"{found} is not {true}"


# --- The nodes -------------------------------------------------------------------------------

NODES = {  # name: (the function by definition, points at which it is checked)
    "CosPi": (mpmath.cospi, [(0.3,), (-1.7,), (200.0,), (12345.678,), (1e15 + 1,)]),
    "SinPi": (mpmath.sinpi, [(0.3,), (-1.7,), (200.5,), (12345.678,), (1e15 + 1,)]),
    "Half": (lambda x: x / 2, [(3.0,), (-0.7,), (0.0,)]),
    "Square": (lambda x: x * x, [(3.0,), (-0.7,), (0.0,)]),
    "Tanh": (mpmath.tanh, [(0.0,), (1e-4,), (0.6,), (-2.0,), (30.0,), (400.0,)]),
    "Add": (lambda a, b: a + b, [(1.5, -4.0), (0.0, 0.0)]),
    "Divide": (lambda a, b: a / b, [(1.5, -4.0), (0.0, 0.3), (7.0, 1e-4)]),
    "Sigmoid": (
        lambda x: 1 / (1 + mpmath.exp(-x)),
        [(0.0,), (0.3,), (-4.0,), (40.0,), (-800.0,), (2000.0,)],
    ),
    "Log": (mpmath.log, [(0.2,), (1.0,), (50.0,), (1e-20,)]),
    "LogSigmoid": (
        lambda x: -mpmath.log1p(mpmath.exp(-x)),
        [(0.0,), (0.3,), (-4.0,), (40.0,), (-800.0,), (2000.0,), (-2000.0,)],
    ),
}


@pytest.mark.parametrize(
    ("name", "point"), [(name, point) for name, (_, points) in NODES.items() for point in points]
)
def test_node(nb, name, point):
    """The value, and the incoming gradient times each local derivative."""
    function, _ = NODES[name]
    node, exact = getattr(nb, name)(), [mpf(value) for value in point]
    assert_close(node.forward(*point), function(*exact), 1e-13)
    for incoming in 1.0, -2.5:
        grads = node.backward(incoming)
        assert isinstance(grads, tuple) == (len(point) == 2)
        for i, grad in enumerate(np.atleast_1d(grads).tolist()):
            order = [int(i == axis) for axis in range(len(point))]
            derivative = mpmath.diff(function, exact, order)
            assert_close(grad, incoming * derivative, 1e-13)


# --- The graph -------------------------------------------------------------------------------


def exact_f(x, y, z):
    u = (mpmath.cospi(x) + mpmath.sinpi(mpf(y) / 2)) / mpmath.tanh(mpf(z) ** 2)
    return -mpmath.log1p(mpmath.exp(-u))


def exact_gradients(x, y, z):
    """By the chain rule, written out once; test_reference_is_right holds it against mpmath.diff."""
    s = mpf(z) ** 2
    n, d = mpmath.cospi(x) + mpmath.sinpi(mpf(y) / 2), mpmath.tanh(s)
    du = 1 / (1 + mpmath.exp(n / d))  # 1 - sigmoid(u)
    dx = -mp.pi * mpmath.sinpi(x) / d
    dy = mp.pi / 2 * mpmath.cospi(mpf(y) / 2) / d
    dz = -n / d**2 * mpmath.sech(s) ** 2 * 2 * z
    return [du * dx, du * dy, du * dz]


@pytest.mark.parametrize("point", [(0.3, 1.7, 0.6), (-2.2, 0.4, -1.1), (5.5, 3.1, 0.2)])
def test_reference_is_right(point):
    for axis, gradient in enumerate(exact_gradients(*point)):
        order = [int(axis == i) for i in range(3)]
        assert abs(mpmath.diff(exact_f, [mpf(v) for v in point], order) - gradient) < 1e-15


def check(func, points):
    """f and its gradients are right at each point, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for point in points:
            assert_close(func.forward(*point), exact_f(*point))
            grads = func.backward()
            assert len(grads) == 3
            for found, true in zip(grads, exact_gradients(*point), strict=True):
                assert_close(found, true)


@pytest.mark.parametrize("point", [(2, 4, 1), (9, 14, 3), (128, 42, 666), (52, 14, 28)])
def test_inputs_of_the_assignment(nb, point):
    check(nb.Func(), [point])


@pytest.mark.parametrize("whole", [False, True], ids=["any x, y", "whole x, y"])
@pytest.mark.parametrize("spread", ["uniform", "logarithmic"])
def test_random_points(nb, rng, whole, spread):
    xy = rng.uniform(-200, 200, (500, 2))
    if whole:
        xy = np.rint(xy)
    low, high = 0.03, 30
    if spread == "uniform":
        z = rng.uniform(low, high, 500)
    else:
        z = np.exp(rng.uniform(math.log(low), math.log(high), 500))
    z *= rng.choice([-1, 1], 500)
    check(nb.Func(), np.column_stack([xy, z]).tolist())


@pytest.mark.parametrize("z", [0.03, 0.005, 1e-6, 1e-40, 1e-70, 40.0, 1e4, 1e200])
def test_far_out_points(nb, z):
    """The most extreme arguments of the sigmoid, and far beyond the range that is asked for."""
    xy = [(1, 3), (0, 1), (0.3, 0.7), (199.75, -200.0), (1e300, -1e300)]
    check(nb.Func(), [(x, y, sign * z) for x, y in xy for sign in (1, -1)])


@pytest.mark.parametrize("z", [0.03, -0.5, 30])
@pytest.mark.parametrize(("x", "y"), [(0.5, 0), (1.25, 1.5), (-199.5, 200), (1, 1), (0.75, 0.5)])
def test_numerators_that_cancel(nb, x, y, z):
    """cos(pi x) + sin(pi y / 2) is 0 here, and a small z magnifies what rounding leaves."""
    check(nb.Func(), [(x, y, z)])


@pytest.mark.parametrize("z", [0, 0.0, -0.0])
def test_z_zero_is_undefined(nb, z):
    with pytest.raises(ValueError, match=r"undefined.*z = 0"):
        nb.Func().forward(1.0, 2.0, z)


def test_z_too_small_for_float64_says_so(nb):
    with pytest.raises(ValueError, match=r"1e-100.*small"):
        nb.Func().forward(1.0, 2.0, 1e-100)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", range(3))
def test_input_that_is_not_finite(nb, bad, place):
    point = [1.0, 2.0, 3.0]
    point[place] = bad
    with pytest.raises(ValueError, match=r"finite.*(nan|inf)"):
        nb.Func().forward(*point)


@pytest.mark.parametrize("point", [(0.3, 1.7, 0.6), (9.2, 14.1, 3.0), (1, 3, 0.2)])
def test_two_nodes_agree_with_one(nb, point):
    check(nb.Func(outer=(nb.Sigmoid, nb.Log)), [point])


def test_only_the_single_node_survives_minus_800(nb):
    point = (1, 3, math.sqrt(math.atanh(1 / 400)))
    assert nb.Func().forward(*point) == pytest.approx(-800)
    with pytest.raises(ValueError):
        nb.Func(outer=(nb.Sigmoid, nb.Log)).forward(*point)


@pytest.mark.parametrize("scale", [0.0, 1.0, -3.5])
def test_output_grad_scales(nb, scale):
    func = nb.Func()
    func.forward(0.3, 1.7, 0.6)
    once = func.backward()
    assert func.backward(scale) == pytest.approx([scale * grad for grad in once], rel=1e-14)
    assert func.backward() == once  # nothing is left over from an earlier call


def test_backward_before_forward_says_so(nb):
    with pytest.raises(RuntimeError, match="forward"):
        nb.Func().backward()


def test_an_edge_read_twice_adds_its_gradients(nb):
    """f = x^2 / x: the two ways from x to f contribute 2 and -1."""
    func = nb.Func()
    func.graph = [("s", nb.Square(), ["x"]), ("f", nb.Divide(), ["s", "x"])]
    assert func.forward(3.0, 1.0, 1.0) == 3
    assert func.backward() == pytest.approx([1, 0, 0])
