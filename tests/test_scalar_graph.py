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
    "Tanh": (mpmath.tanh, [(0.0,), (1e-4,), (0.6,), (-2.0,), (30.0,), (400.0,)]),
    "Add": (lambda a, b: a + b, [(1.5, -4.0), (0.0, 0.0)]),
    "Multiply": (lambda a, b: a * b, [(1.5, -4.0), (0.0, 0.7), (3.0, 3.0)]),
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
        assert isinstance(grads, tuple) and len(grads) == len(point)
        for i, grad in enumerate(grads):
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


@pytest.mark.parametrize("z", [0, 0.0, -0.0, 1e-100, -9.9e-76, 5e-324])
def test_z_that_is_zero_or_too_small_says_so(nb, z):
    with pytest.raises(ValueError, match=r"finite.*1e-75") as caught:
        nb.Func().forward(1.0, 2.0, z)
    assert str((1.0, 2.0, z)) in str(caught.value)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", range(3))
def test_input_that_is_not_finite(nb, bad, place):
    point = [1.0, 2.0, 3.0]
    point[place] = bad
    with pytest.raises(ValueError, match=r"finite.*(nan|inf)"):
        nb.Func().forward(*point)


def as_asked(nb):
    """The graph with the sigmoid and the logarithm as two nodes."""
    func = nb.Func()
    func.nodes[-1:] = [("v", nb.Sigmoid(), "u"), ("f", nb.Log(), "v")]
    return func


@pytest.mark.parametrize("point", [(0.3, 1.7, 0.6), (9.2, 14.1, 3.0), (1, 3, 0.2)])
def test_two_nodes_agree_with_one(nb, point):
    check(as_asked(nb), [point])


def test_only_the_single_node_survives_minus_800(nb):
    point = (1, 3, math.sqrt(math.atanh(1 / 400)))
    assert nb.Func().forward(*point) == pytest.approx(-800)
    with pytest.raises(ValueError):
        as_asked(nb).forward(*point)


def test_the_graph_of_f(nb):
    nodes = [(edge, type(node).__name__, *reads) for edge, node, reads in nb.Func().nodes]
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


@pytest.mark.parametrize("whole", [int, np.int64, np.float64])
def test_values_are_floats_and_gradients_a_list(nb, whole):
    func = nb.Func()
    assert type(func.forward(*map(whole, (2, 4, 1)))) is float
    grads = func.backward()
    assert type(grads) is list and {type(grad) for grad in grads} == {float}


@pytest.mark.parametrize("scale", [0.0, 1.0, -3.5])
def test_output_grad_scales(nb, scale):
    func = nb.Func()
    func.forward(0.3, 1.7, 0.6)
    once = func.backward()
    assert func.backward(scale) == pytest.approx([scale * grad for grad in once], rel=1e-14)
    assert func.backward() == once  # nothing is left over from an earlier call


# --- Digits: every component to a relative error of 1e-12 -------------------------------------


def assert_digits(found, true, bound=1e-12):
    """A relative error of at most the bound, where float64 holds the value; 0 exactly."""
    if true == 0 or abs(true) > 1e-300:
        assert abs(mpf(found) - true) <= bound * abs(true), f"{found} is not {true}"


def random_points(kind):
    """(x, y, z) with a numerator that does not cancel."""
    rng = np.random.default_rng(1)
    xy = rng.uniform(-4, 4, (800, 2))
    if kind == "quarters":  # zeros and extremes of sine and cosine
        xy = np.rint(4 * xy) / 4
    low, high = 0.2, 18.0
    z = rng.uniform(low, high, 800) if kind == "uniform" else np.geomspace(low, high, 800)
    points = np.column_stack([xy, z * rng.choice([-1, 1], 800)]).tolist()
    n = [abs(mpmath.cospi(x) + mpmath.sinpi(mpf(y) / 2)) for x, y, _ in points]
    return [point for point, size in zip(points, n, strict=True) if size > 1e-3]


@pytest.mark.parametrize("kind", ["uniform", "geometric", "quarters"])
def test_digits_at_random_points(nb, kind):
    func, points = nb.Func(), random_points(kind)
    assert len(points) > 600
    for point in points:
        assert_digits(func.forward(*point), exact_f(*point))
        for found, true in zip(func.backward(), exact_gradients(*point), strict=True):
            assert_digits(found, true)


@pytest.mark.parametrize(
    "point", [(0.3, 0.7, 4.3), (0.3, 0.7, 5), (-1.2, 2.9, -5), (0.3, 0.7, 18), (3.1, 0.2, 0.2)]
)
@pytest.mark.parametrize("two_nodes", [False, True])
def test_digits_of_the_gradient_by_z(nb, point, two_nodes):
    """tanh has rounded to 1 long before its slope is 0: 1 - tanh^2 has no digit left at z = 4.3."""
    func = as_asked(nb) if two_nodes else nb.Func()
    assert_digits(func.forward(*point), exact_f(*point), 1e-11 if two_nodes else 1e-12)
    bound = 1e-3 if two_nodes and point[2] == 0.2 else 1e-11 if two_nodes else 1e-12
    for found, true in zip(func.backward(), exact_gradients(*point), strict=True):
        assert found != 0
        assert_digits(found, true, bound)


@pytest.mark.parametrize("x", [0.0, 1e-300, 1e-9, 0.5, -1.0, 3.0, -9.0, 18.5, 100.0, -340.0])
def test_digits_of_the_slope_of_tanh(nb, x):
    node = nb.Tanh()
    assert_digits(node.forward(x), mpmath.tanh(mpf(x)), 1e-15)
    (slope,) = node.backward(1.0)
    assert_digits(slope, mpmath.sech(mpf(x)) ** 2)
    assert node.backward(-2.5) == (pytest.approx(-2.5 * slope, rel=1e-15),)


def test_slope_of_tanh_vanishes_without_overflow(nb):
    node = nb.Tanh()
    for x in 400.0, -400.0, 1e300, -1e300:
        assert node.forward(x) == math.copysign(1, x)
        assert node.backward(1.0)[0] == 0


@pytest.mark.parametrize("x", [0.1, -0.3, 0.5, 0.75, 1.2, -1.7, 2.5, 199.99, -3.999, 1e6 + 0.125])
def test_digits_of_sine_and_cosine(nb, x):
    assert_digits(nb.sin_pi(x), mpmath.sinpi(mpf(x)), 1e-15)
    assert_digits(nb.cos_pi(x), mpmath.cospi(mpf(x)), 1e-15)


@pytest.mark.parametrize("whole", [0, 1, -1, 2, 7, -12, 2**53, -(2**60)])
def test_zeros_and_ones_of_sine_and_cosine_are_exact(nb, whole):
    sign = 1 if whole % 2 == 0 else -1
    assert nb.sin_pi(float(whole)) == 0 and nb.cos_pi(float(whole)) == sign
    if abs(whole) < 2**50:
        assert nb.sin_pi(whole + 0.5) == sign and nb.cos_pi(whole + 0.5) == 0


@pytest.mark.parametrize("x", [0.0, 0.3, -0.3, 5.0, -5.0, 36.0, -36.0, 690.0, -690.0])
def test_digits_of_the_sigmoid(nb, x):
    exact = 1 / (1 + mpmath.exp(-mpf(x)))
    assert_digits(nb.sigmoid(x), exact, 1e-15)
    node = nb.LogSigmoid()
    assert_digits(node.forward(x), mpmath.log(exact) if x < 0 else -mpmath.log1p(mpmath.exp(-x)))
    assert_digits(node.backward(1.0)[0], 1 / (1 + mpmath.exp(mpf(x))), 1e-15)


# --- The formulas by hand ----------------------------------------------------------------------


def assert_by_hand(nb, points, bound=1e-12):
    for point in points:
        found = nb.gradient_by_hand(*point)
        assert type(found) is list
        for component, true in zip(found, exact_gradients(*point), strict=True):
            assert math.isfinite(component)
            assert_digits(component, true, bound)


@pytest.mark.parametrize("kind", ["uniform", "geometric", "quarters"])
def test_digits_of_the_gradient_by_hand(nb, kind):
    assert_by_hand(nb, random_points(kind))


@pytest.mark.parametrize("z", [1e-9, 1e-3, 0.05, 4.3, 18.0, 18.5, 19.5, 28, 30.0, 666, 1e4, 1e200])
def test_gradient_by_hand_from_small_to_large_z(nb, z):
    """From z = 18.6 on the gradient by z is below 1e-300; sinh(z^2) overflows from z = 27 on.

    In the last two points the numerator is exactly 0."""
    xy = [(0.3, 0.7), (-1.2, 2.9), (199.3, -1000.7), (2, 4), (9, 14), (0.5, 2), (-1.5, 66)]
    assert_by_hand(nb, [(x, y, sign * z) for x, y in xy for sign in (1, -1)])


def test_gradient_by_hand_is_that_of_the_graph(nb):
    for point in (2, 4, 1), (9, 14, 3), (128, 42, 666), (0.3, 1.7, -0.6):
        func = nb.Func()
        func.forward(*point)
        assert nb.gradient_by_hand(*point) == pytest.approx(func.backward(), rel=1e-13, abs=0)


# --- Any graph -------------------------------------------------------------------------------


def test_a_fork_adds_its_gradients(nb):
    """h = x x + x reads x three times: 3 and 3 from the product, 1 from the sum."""
    graph = nb.Graph([("p", nb.Multiply(), "xx"), ("h", nb.Add(), "px")])
    assert graph.forward(x=3.0) == 12
    assert graph.backward() == {"x": 7, "p": 1, "h": 1}
    assert graph.backward(-2.0) == {"x": -14, "p": -2, "h": -2}  # nothing is left over


def test_forks_of_different_nodes(nb):
    """f = x^2 / x: the ways from x to f contribute 1, 1 and -1."""
    graph = nb.Graph([("s", nb.Multiply(), "xx"), ("f", nb.Divide(), "sx")])
    assert graph.forward(x=3.0) == 3
    assert graph.backward() == pytest.approx({"f": 1, "s": 1 / 3, "x": 1})


def test_every_edge_keeps_its_value_and_its_gradient(nb):
    """f = log((x + y) / c); x / c as well, which f does not read."""
    nodes = [("n", nb.Add(), "xy"), ("u", nb.Divide(), "xc"), ("h", nb.Divide(), "nc")]
    graph = nb.Graph([*nodes, ("f", nb.Log(), "h")])
    assert graph.forward(x=3.0, y=5.0, c=2.0) == math.log(4)
    assert graph.values == {"x": 3, "y": 5, "c": 2, "n": 8, "u": 1.5, "h": 4, "f": math.log(4)}
    grads = {"x": 0.125, "y": 0.125, "c": -0.5, "n": 0.125, "u": 0, "h": 0.25, "f": 1}
    assert graph.backward() == graph.grads == grads


def test_edges_may_have_long_names(nb):
    nodes = ("sum", nb.Add(), ("left", "right")), ("out", nb.Multiply(), ("sum", "sum"))
    graph = nb.Graph(nodes)
    assert graph.forward(left=1.0, right=2.0, third=3.0, fourth=4.0) == 9
    unread = {"third": 0, "fourth": 0}
    assert graph.backward() == {"left": 6, "right": 6, "sum": 6, "out": 1} | unread


def test_a_node_must_return_one_gradient_for_each_edge_that_it_reads(nb):
    class Forgetful(nb.Add):
        def backward(self, grad):
            return (grad,)

    graph = nb.Graph([("f", Forgetful(), "xy")])
    graph.forward(x=1.0, y=2.0)
    with pytest.raises(ValueError, match="zip"):
        graph.backward()


# --- The figure ------------------------------------------------------------------------------


@pytest.fixture
def drawn(nb, shown):
    """(the graph, its axes, its alternative text) after forward and backward."""
    func = as_asked(nb)
    func.forward(0.3, 1.7, 0.6)
    func.backward()
    nb.plots.graph(func, "somewhere")
    ((fig, alt),) = shown
    return func, fig.axes[0], alt


def edges_of(func):
    """(edge, the node that reads it) for every edge that is drawn; f leaves the figure."""
    return [(read, name) for name, _, reads in func.nodes for read in reads]


def test_graph_shows_each_value_above_its_gradient(nb, drawn):
    func, ax, alt = drawn
    places = nb.plots.PLACES
    texts = {tuple(np.round(t.get_position(), 6)): t for t in ax.texts if t.get_text()}
    ends = [(places[r], places[name], r) for r, name in edges_of(func)]
    assert len(ends) == 13
    for start, end, edge in [*ends, (places["f"], (8.3, 0.9), "f")]:
        (x, y), seen = np.add(start, end) / 2, {}
        for (tx, ty), text in texts.items():
            if abs(tx - x) < 1e-6 and abs(ty - y) < 0.2:
                seen[ty] = text
        (low, gradient), (high, value) = sorted(seen.items())
        assert low < y < high
        assert value.get_text() == f"{func.values[edge]:.4g}"
        assert gradient.get_text() == f"{func.grads[edge]:.4g}"
        assert value.get_color() == nb.plots.BLUE and gradient.get_color() == nb.plots.ORANGE
    assert ax.get_title() == "somewhere" and "somewhere" in alt and "graph" in alt.lower()


def test_graph_shows_each_node_and_each_arrow(nb, drawn):
    func, ax, _ = drawn
    signs = {"x": "x", "y": "y", "half": "½", "z": "z", "a": "cos π·", "h": "×", "b": "sin π·",
             "n": "+", "s": "×", "d": "tanh", "u": "÷", "v": "σ", "f": "log"}  # fmt: skip
    texts = {t.get_position(): t for t in ax.texts if t.get_text()}
    for name, sign in signs.items():
        text = texts[nb.plots.PLACES[name]]
        assert text.get_text() == sign
        colour = nb.plots.plt.matplotlib.colors.to_hex(text.get_bbox_patch().get_facecolor())
        assert colour.upper() == ("#FFF3D6" if name in ("x", "y", "half", "z") else "#E3EEF7")
    arrows = {(a.xyann, a.xy) for a in ax.texts if not a.get_text()}
    places = nb.plots.PLACES
    expected = {(places[read], places[name]) for read, name in edges_of(func)}
    assert arrows == expected | {(places["f"], (8.3, 0.9))}
    assert len(texts) == 2 * 13 + 13  # z is read twice, in one place


def test_graph_has_no_minus_zero(nb, shown):
    func = as_asked(nb)
    func.forward(2, 4, 1)
    func.backward()
    func.grads["x"] = -0.0
    nb.plots.graph(func, "")
    texts = [t.get_text() for t in shown[0][0].axes[0].texts]
    assert "0" in texts and "-0" not in texts
