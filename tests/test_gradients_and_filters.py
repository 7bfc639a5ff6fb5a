"""Questions 2 and 5: gradients and descents, worked out again."""

import re

import numpy as np
import pytest
from references import POINTS, assert_in_order, exact, measures


@pytest.mark.parametrize("point", POINTS)
def test_gradients_at_the_points_of_the_sheet(run, ns, point):
    gradient = [float(number) + 0.0 for number in exact(*point)[2:]]  # no -0.0
    backprop, numerical = ns.backprop[str(point)], ns.numerical[str(point)]
    assert [*backprop] == pytest.approx(gradient, rel=1e-9, abs=1e-99)
    assert [*numerical] == pytest.approx(gradient, rel=1e-6, abs=1e-10)
    assert_in_order(run.answer("2.4"), point, *(f"{number:.6g}" for number in gradient))
    (table,) = run.tables("2.4")
    shown = pytest.approx(gradient, rel=1e-6, abs=1e-10)
    assert [*table.loc[str(point), "backprop"]] == shown
    assert [*table.loc[str(point), "numerical"]] == shown


def test_gradients_of_small_graphs_and_of_func_are_printed(run):
    """Of (x + y) z at (1, 2, 4), of x x + x at 3, and of f where no gradient is 0."""
    parts = "12", "'x': 4.0", "'y': 4.0", "'z': 3.0", "slope at 3: 7.0"
    assert_in_order(run.printed["2.1"], *parts)
    numbers = re.findall(r"-?\d\.\d+", run.printed["2.3"])
    assert [*map(float, numbers)] == pytest.approx([*map(float, exact(2.25, 4, 1)[2:])])


def descend(quadratic, kind, n_steps):
    """All errors delta (20, 75), before each step and at the end."""
    A, inverse = quadratic.A, np.linalg.inv(quadratic.A)
    deltas = [quadratic.start]
    for _ in range(n_steps):
        delta = deltas[-1]
        gradient = delta @ A
        step = {
            "L": 0.001 * gradient / np.sqrt(np.sum(gradient * delta)),
            "plain": gradient / quadratic.largest,
            "halving": 0.5 * gradient @ inverse,
        }
        deltas.append(delta - step[kind])
    return deltas


def test_the_given_layer_and_the_start(run, ns, quadratic):
    n_images, n_filters, height, width = ns.target.shape
    expected = (quadratic.patches @ quadratic.W0.T).reshape(n_images, height, width, -1)
    np.testing.assert_allclose(ns.target, expected.transpose(0, 3, 1, 2), atol=1e-12)
    assert (n_images, n_filters) == (100, 20)
    assert_in_order(run.printed["5.2"], "norm", f"{np.linalg.norm(expected):.0f}")
    evenly_spaced = np.linspace(-1, 1, ns.W_start.size)
    np.testing.assert_allclose(np.sort(ns.W_start.ravel()), evenly_spaced, atol=0.1)


@pytest.mark.parametrize(("kind", "n"), [("L", 100), ("plain", 100), ("halving", 10)])
def test_descents_are_those_of_the_quadratic_form(run, ns, quadratic, kind, n):
    deltas, log = descend(quadratic, kind, n), getattr(ns, f"{kind}_log")
    expected = [measures(quadratic, delta) for delta in deltas]
    np.testing.assert_allclose(log, expected, rtol=1e-5, atol=1e-7)
    for table in run.tables({"L": "5.3", "plain": "5.5"}.get(kind)):
        np.testing.assert_allclose(table, np.array(expected)[table.index], rtol=1e-5)
    if kind != "L":  # whose loop keeps only the log
        filters = np.stack(getattr(ns, f"{kind}_filters")) - ns.W0
        np.testing.assert_allclose(filters.reshape(n + 1, 20, 75), deltas, atol=1e-9)


def test_learned_and_plain_results_are_reported(run, ns, quadratic):
    """For the L2 distance and the filter error, with A⁻¹, on L, and at the start."""
    np.testing.assert_allclose(ns.newton_filters[-1], ns.W0, atol=1e-12)
    on_L = measures(quadratic, descend(quadratic, "L", 100)[-1])
    start = measures(quadratic, quadratic.start)
    lines = []
    for k, form in enumerate([".0f", ".2f"]):
        lines.append(f"{on_L[k]:{form}} after 100 plain steps on L .*")
        lines.append(r"\de-1\d after 2 preconditioned steps")
        lines.append(f"{start[k]:{form}} at the random start .*")
    assert re.fullmatch("<br>".join(lines), run.answer("5.6"))
    assert_in_order(run.printed["5.3"], "of C and of C_0", f"{on_L[0]:.0f}")


def test_the_table_and_the_distance_of_preconditioned_descent(run, ns, quadratic):
    """Halving, at steps 0, 1, 2, 3 and 10; Newton's steps leave nothing."""
    (table,) = run.tables("5.6")
    halving = [measures(quadratic, d) for d in descend(quadratic, "halving", 10)]
    newton = [halving[0], (0, 0), (0, 0)]
    expected = [halving[k] for k in (0, 1, 2, 3, 10)]
    np.testing.assert_allclose(table.iloc[:, :2], expected, rtol=1e-5)
    np.testing.assert_allclose(table.iloc[:3, 2:], newton, rtol=1e-5, atol=1e-6)
    names = table.columns.get_level_values(1)
    assert [name.split()[0] for name in names] == 2 * ["L2", "filter"]
    distance = ns.newton_log["L2 distance"].iloc[-1]
    assert_in_order(run.printed["5.6"], "of C and of C_0", f"{distance:.0e}")


def test_the_run_on_L_goes_on(run, quadratic):
    deltas, parts = descend(quadratic, "L", 3000), []
    for step in 100, 150, 3000:
        distance, error = measures(quadratic, deltas[step])
        parts += [f"{step:,}", f"{distance:.0f}", f"{error:.2f}"]
    assert_in_order(run.printed["5.5"], "on L", *parts)


@pytest.mark.parametrize("beta", [0.99, 0.999])
def test_steps_with_momentum(run, quadratic, beta):
    delta, step, n_steps = quadratic.start, 0, 0
    while np.linalg.norm(delta) >= 0.01 * np.linalg.norm(quadratic.W0):
        step = beta * step - delta @ quadratic.A / quadratic.largest
        delta, n_steps = delta + step, n_steps + 1
    assert_in_order(run.printed["5.6"], f"β = {beta}", f"{n_steps:,}")


@pytest.fixture(scope="module")
def spectrum(quadratic):
    """Eigenvalues and eigenvectors (rows) of A, from the patches, and the coefficients
    of the error at the start, for all filters together."""
    _, singular_values, vectors = np.linalg.svd(quadratic.patches, full_matrices=False)
    before = np.linalg.norm(vectors @ quadratic.start.T, axis=1)
    return singular_values**2, vectors, before


def test_directions_learned_and_their_shares(run, quadratic, spectrum):
    """Directions have lost half of their error; shares are of L² and of ‖δ‖²."""
    _, vectors, before = spectrum
    start = quadratic.start
    after = vectors @ descend(quadratic, "plain", 100)[-1].T
    learned = np.linalg.norm(after, axis=1) < 0.5 * before
    part = start @ vectors[learned].T @ vectors[learned]  # of the error
    pairs = zip(measures(quadratic, part), measures(quadratic, start), strict=True)
    shares = [f"{(a / b) ** 2:.0%}" for a, b in pairs]
    n_learned = f"directions half learned: {sum(learned)} of 75"
    assert_in_order(run.printed["5.5"], n_learned, *shares)


def test_predicted_errors_and_steps(run, ns, quadratic, spectrum):
    eigenvalues, _, before = spectrum

    def errors(n_steps):
        c = before * np.abs(1 - eigenvalues / eigenvalues[0]) ** n_steps
        output = np.sqrt(np.sum(eigenvalues * c**2)) / np.linalg.norm(ns.target)
        return output, np.linalg.norm(c) / np.linalg.norm(quadratic.W0)

    output, weight = errors(10_000)
    assert errors(ns.needed)[1] < 0.01 <= errors(ns.needed - 1)[1]
    condition = f"condition number {eigenvalues[0] / eigenvalues[-1]:.2g}"
    parts = condition, f"{output:.3f}", f"{weight:.2f}", f"{ns.needed:,}"
    assert_in_order(run.printed["5.5"], *parts)
