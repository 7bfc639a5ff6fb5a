"""Question 2: every node, the graph and the formulas, against mpmath at 50 digits."""

import math

import mpmath
import numpy as np
import pytest
from mpmath import mp, mpf

pytestmark = pytest.mark.filterwarnings("error")

SHEET = [(2, 4, 1), (9, 14, 3), (128, 42, 666), (52, 14, 28)]


@pytest.fixture(autouse=True)
def fifty_digits():
    with mp.workdps(50):
        yield


def assert_digits(found, true, bound=1e-12):
    """A relative error within the bound; 0 exactly; too small where float64 ends."""
    if true != 0 and abs(true) < 1e-300:
        assert abs(found) <= 1e-300, f"{found} is not {true}"
    else:
        assert abs(mpf(found) - true) <= bound * abs(true), f"{found} is not {true}"


# --- The nodes ---------------------------------------------------------------------

SIGMOID_POINTS = [0.0, 0.3, -0.3, -4.0, 5.0, 36.0, -36.0, 690.0, -690.0, 2000.0]
CIRCLE_POINTS = [0.1, 0.3, -1.7, 0.75, 2.25, -3.999, 200.25, 1e6 + 0.125, 12345.678]
NODES = {  # name: (the function by definition, points, relative bound)
    "CosPi": (mpmath.cospi, CIRCLE_POINTS, 1e-15),
    "SinPi": (mpmath.sinpi, CIRCLE_POINTS, 1e-15),
    "Tanh": (mpmath.tanh, [1e-9, 1e-4, 0.6, -2.0, 4.3, -9.0, 18.5, 300.0], 1e-13),
    "Add": (lambda a, b: a + b, [(1.5, -4.0), (0.1, 0.2), (1e300, 1.0)], 1e-15),
    "Multiply": (lambda a, b: a * b, [(1.5, -4.0), (0.1, 0.7), (3.0, 3.0)], 1e-15),
    "Divide": (lambda a, b: a / b, [(1.5, -4.0), (0.1, 0.3), (7.0, 1e-4)], 1e-15),
    "Sigmoid": (lambda x: 1 / (1 + mpmath.exp(-x)), [0.0, 0.3, -4.0, 5.0], 1e-13),
    "Log": (mpmath.log, [0.2, 50.0, 1e-20, 3e200], 1e-15),
    "LogSigmoid": (lambda x: -mpmath.log1p(mpmath.exp(-x)), SIGMOID_POINTS, 1e-14),
}


@pytest.mark.parametrize("name", NODES)
def test_node(nb, name):
    """The value, and the incoming gradient times each local derivative."""
    function, points, bound = NODES[name]
    for point in points:
        point = np.atleast_1d(point).tolist()
        node, exact = getattr(nb, name)(), [mpf(value) for value in point]
        assert_digits(node.forward(*point), function(*exact), bound)
        for incoming in 1.0, -2.5:
            grads = node.backward(incoming)
            assert type(grads) is tuple
            for axis, grad in enumerate(grads):
                order = [int(i == axis) for i in range(len(point))]
                true = derivative(function, exact, order)
                assert_digits(grad, incoming * true, bound)
            assert len(grads) == len(point)


def derivative(function, exact, order):
    """By mpmath, with digits enough for slopes as small as 1e-300."""
    with mp.workdps(700):
        return mpmath.diff(function, exact, order)


@pytest.mark.parametrize("x", [0.0, 400.0, -400.0, 1e300, -1e300])
def test_slope_of_tanh_at_its_ends(nb, x):
    node = nb.Tanh()
    assert node.forward(x) == (math.copysign(1, x) if x else 0)
    assert node.backward(1.0) == (0 if x else 1,)


@pytest.mark.parametrize("whole", [0, 1, -1, 2, 7, -12, 2**53, -(2**60)])
def test_zeros_and_ones_of_sine_and_cosine_are_exact(nb, whole):
    sign = 1 if whole % 2 == 0 else -1
    assert nb.sin_pi(float(whole)) == 0 and nb.cos_pi(float(whole)) == sign
    if abs(whole) < 2**50:
        assert nb.sin_pi(whole + 0.5) == sign and nb.cos_pi(whole + 0.5) == 0


@pytest.mark.parametrize("x", SIGMOID_POINTS)
def test_digits_of_the_sigmoid(nb, x):
    assert_digits(nb.sigmoid(x), 1 / (1 + mpmath.exp(-mpf(x))), 1e-15)


# --- The function ------------------------------------------------------------------


def exact_f(x, y, z):
    u = (mpmath.cospi(x) + mpmath.sinpi(mpf(y) / 2)) / mpmath.tanh(mpf(z) ** 2)
    return -mpmath.log1p(mpmath.exp(-u))


def exact_gradients(x, y, z):
    """By the chain rule, written out once; held against mpmath.diff below."""
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
        true = mpmath.diff(exact_f, [mpf(v) for v in point], order)
        assert abs(true - gradient) < 1e-15


def check(nb, points, bound=1e-12):
    """Func and its gradients, and those by hand, at each point: every component."""
    func = nb.Func()
    for point in points:
        assert_digits(func.forward(*point), exact_f(*point), bound)
        for gradient in func.backward(), nb.gradient_by_hand(*point):
            assert type(gradient) is list
            for found, true in zip(gradient, exact_gradients(*point), strict=True):
                assert math.isfinite(found)
                assert_digits(found, true, bound)


@pytest.mark.parametrize("point", SHEET)
def test_points_of_the_sheet(nb, point):
    check(nb, [point])


@pytest.mark.parametrize("grid", [None, 4, 1], ids=["any", "quarters", "whole"])
def test_random_points(nb, rng, grid):
    """The zeros and extremes of sine and cosine too; n must not cancel."""
    xy = rng.uniform(-200, 200, (700, 2))
    if grid:
        xy = np.rint(grid * xy) / grid
    z = np.geomspace(0.2, 18, 700) * rng.choice([-1, 1], 700)
    points = [
        (x, y, z)
        for x, y, z in np.column_stack([xy, z]).tolist()
        if abs(mpmath.cospi(x) + mpmath.sinpi(mpf(y) / 2)) > 1e-2
    ]
    assert len(points) > 400
    check(nb, points)


@pytest.mark.parametrize(
    "z", [1e-70, 1e-40, 1e-9, 1e-3, 0.05, 4.3, 18.5, 19.5, 28, 666, 1e4, 1e200]
)
def test_from_small_to_large_z(nb, z):
    """tanh rounds to 1 before its slope is 0; z^2 overflows. At the last two n is 0."""
    xy = [(0.3, 0.7), (-1.2, 2.9), (199.75, -200.0), (1, 3), (1e300, -1e300)]
    xy += [(0.5, 2), (-1.5, 66)]
    check(nb, [(x, y, sign * z) for x, y in xy for sign in (1, -1)])


@pytest.mark.parametrize("z", [0.03, -0.5, 30])
@pytest.mark.parametrize(("x", "y"), [(1.25, 1.5), (0.75, 0.5)])
def test_numerators_that_cancel(nb, x, y, z):
    """cos(pi x) + sin(pi y / 2) is 0 here; a small z magnifies what rounding leaves."""
    func = nb.Func()
    assert func.forward(x, y, z) == pytest.approx(-math.log(2), rel=1e-12)
    found, true = func.backward(), exact_gradients(x, y, z)
    assert_digits(found[0], true[0])
    assert_digits(found[1], true[1])
    assert found[2] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("z", [0, -0.0, 1e-100, -9.9e-76, 5e-324])
def test_z_that_is_zero_or_too_small_says_so(nb, z):
    with pytest.raises(ValueError, match=rf"divides by tanh.*1e-75.* z = {float(z)}$"):
        nb.Func().forward(1.0, 2.0, z)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", range(3))
def test_input_that_is_not_finite(nb, bad, place):
    point = [1.0, 2.0, 3.0]
    point[place] = bad
    with pytest.raises(ValueError, match=r"finite x, y, z.*(nan|inf)"):
        nb.Func().forward(*point)


def as_asked(nb):
    """The graph with the sigmoid and the logarithm as two nodes."""
    func = nb.Func()
    func.nodes[-1:] = [("v", nb.Sigmoid(), ["u"]), ("f", nb.Log(), ["v"])]
    return func


@pytest.mark.parametrize("point", [(0.3, 1.7, 0.6), (9.2, 14.1, 3.0), (1, 3, 0.5)])
def test_two_nodes_agree_with_one(nb, point):
    one, two = nb.Func(), as_asked(nb)
    assert two.forward(*point) == pytest.approx(one.forward(*point), rel=1e-12)
    assert two.backward() == pytest.approx(one.backward(), rel=1e-12)


def test_only_the_single_node_survives_minus_800(nb):
    point = (1, 3, math.sqrt(math.atanh(1 / 400)))
    assert nb.Func().forward(*point) == pytest.approx(-800)
    with pytest.raises(ValueError):
        as_asked(nb).forward(*point)


def test_the_graph_of_f(nb):
    nodes = [
        (edge, type(node).__name__, *reads) for edge, node, reads in nb.Func().nodes
    ]
    assert nodes == [
        ("a", "CosPi", "x"), ("h", "Multiply", "y", "half"), ("b", "SinPi", "h"),
        ("n", "Add", "a", "b"), ("s", "Multiply", "z", "z"), ("d", "Tanh", "s"),
        ("u", "Divide", "n", "d"), ("f", "LogSigmoid", "u"),
    ]  # fmt: skip


def test_the_constant_has_a_gradient_that_is_not_returned(nb):
    func = nb.Func()
    func.forward(0.3, 1.7, 0.6)
    by_x, by_y, by_z = func.backward()
    assert func.values["half"] == 0.5
    assert func.grads["half"] == pytest.approx(by_y * 1.7 / 0.5, rel=1e-14)
    assert [func.grads[name] for name in "xyz"] == [by_x, by_y, by_z]


def test_two_graphs_share_no_node(nb):
    first, second = nb.Func(), nb.Func()
    first.forward(0.3, 1.7, 0.6)
    before = first.backward()
    second.forward(2.0, -1.0, 1.5)
    assert first.backward() == before


@pytest.mark.parametrize("kind", [int, np.int64, np.float64])
def test_values_are_floats(nb, kind):
    func = nb.Func()
    values = [func.forward(*map(kind, (2, 4, 1))), *func.backward()]
    assert {type(value) for value in values} == {float}


@pytest.mark.parametrize("scale", [0.0, -3.5])
def test_output_grad_scales(nb, scale):
    func = nb.Func()
    func.forward(0.3, 1.7, 0.6)
    once = func.backward()
    assert func.backward(scale) == pytest.approx([scale * g for g in once], rel=1e-14)
    assert func.backward() == once  # nothing is left over from an earlier call


# --- Any graph ---------------------------------------------------------------------


def test_a_fork_adds_its_gradients(nb):
    """h = x x + x reads x three times: 3 and 3 from the product, 1 from the sum."""
    graph = nb.Graph([("p", nb.Multiply(), ["x", "x"]), ("h", nb.Add(), ["p", "x"])])
    assert graph.forward(x=3.0) == 12
    assert graph.backward() == {"x": 7, "p": 1, "h": 1}
    assert graph.backward(-2.0) == {"x": -14, "p": -2, "h": -2}  # nothing is left over


def test_forks_of_different_nodes(nb):
    """f = x^2 / x: the ways from x to f contribute 1, 1 and -1."""
    graph = nb.Graph([("s", nb.Multiply(), ["x", "x"]), ("f", nb.Divide(), ["s", "x"])])
    assert graph.forward(x=3.0) == 3
    assert graph.backward() == pytest.approx({"f": 1, "s": 1 / 3, "x": 1})


def test_every_edge_keeps_its_value_and_its_gradient(nb):
    """f = log((x + y) / c); x / c too, which f does not read; nor is `left` read."""
    graph = nb.Graph(
        [
            ("n", nb.Add(), ["x", "y"]),
            ("u", nb.Divide(), ["x", "c"]),
            ("h", nb.Divide(), ["n", "c"]),
            ("out", nb.Log(), ["h"]),
        ]
    )
    given = {"x": 3.0, "y": 5.0, "c": 2.0, "left": 1.0}
    assert graph.forward(**given) == math.log(4)
    assert graph.values == given | {"n": 8, "u": 1.5, "h": 4, "out": math.log(4)}
    grads = {"x": 0.125, "y": 0.125, "c": -0.5, "n": 0.125, "u": 0, "h": 0.25, "out": 1}
    assert graph.backward() == graph.grads == grads | {"left": 0}


def test_a_node_that_stands_twice_is_refused(nb):
    """(x y) y with one node: its derivatives would be those of the second product."""
    node = nb.Multiply()
    with pytest.raises(ValueError, match="node object of its own"):
        nb.Graph([("p", node, ["x", "y"]), ("f", node, ["p", "y"])])
    graph = nb.Graph([("p", node, ["x", "y"]), ("f", nb.Multiply(), ["p", "y"])])
    assert graph.forward(x=2.0, y=3.0) == 18
    assert graph.backward() == {"x": 9, "y": 12, "p": 3, "f": 1}


def test_a_node_must_return_a_gradient_for_each_edge_that_it_reads(nb):
    class Forgetful(nb.Add):
        def backward(self, grad):
            return (grad,)

    graph = nb.Graph([("f", Forgetful(), ["x", "y"])])
    graph.forward(x=1.0, y=2.0)
    with pytest.raises(ValueError, match="zip"):
        graph.backward()


def test_an_edge_that_is_computed_twice_is_refused(nb):
    nodes = [("q", nb.Add(), ["x", "y"]), ("q", nb.Multiply(), ["q", "z"])]
    with pytest.raises(ValueError, match="edge"):
        nb.Graph(nodes)
