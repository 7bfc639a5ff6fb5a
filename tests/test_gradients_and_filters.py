"""Questions 2 and 5: gradients and descents, worked out again."""

import re

import numpy as np
import pytest
from load_definitions import ROOT
from mpmath import mpf
from reader import matrices_in
from references import assert_in_order, exact, measures, patches_by_loop


@pytest.mark.parametrize("decimals", [9, 0], ids=["any", "integers"])
def test_func_and_the_formula_by_hand(nb, rng, decimals):
    """Also at zeros and extremes of sine and cosine, but not where n is near 0, and
    from small to large z, where u is neither too small nor too large; f may be 0."""
    xy = rng.uniform(-200, 200, (300, 2)).round(decimals)
    z = np.geomspace(0.03, 18, 300) * rng.choice([-1, 1], 300)
    n = np.cos(np.pi * xy[:, 0]) + np.sin(np.pi * xy[:, 1] / 2)
    u = n / np.tanh(z**2)
    inside = (abs(n) > 0.01) & (u > -708) & (u <= 700)
    assert u[inside].min() < -400 and u[inside].max() > 400
    for point in np.column_stack([xy, z])[inside].tolist():
        func, (_, f, *gradient) = nb.Func(), exact(*point)
        output = func.forward(*point)
        assert abs(mpf(output) - f) <= max(1e-12 * abs(f), 1e-15)
        values = [*func.backward(output), *nb.gradient_by_hand(*point)]
        for value, number in zip(values, 2 * gradient, strict=True):
            assert abs(mpf(value) - number) <= max(1e-12 * abs(number), 1e-300)


def test_gradients_at_the_points_of_the_sheet(run):
    """In the answer and the table; checked, as that at 2.3's point is."""
    checks = [c.arguments for c in run.calls["gradient_error"] if c.section == "2.4"]
    points = (2, 4, 1), (9, 14, 3), (128, 42, 666), (52, 14, 28), (2.25, 4, 0.9)
    (table,) = run.tables("2.4")
    for check, point in zip(checks, points, strict=True):
        gradient = [float(number) + 0.0 for number in exact(*point)[2:]]  # no -0.0
        assert str(point) in check["name"]
        np.testing.assert_allclose(check["analytic"], gradient, rtol=1e-9, atol=1e-99)
        if point != (2.25, 4, 0.9):
            texts = [f"{number:.6g}" for number in gradient]
            assert_in_order(run.answer("2.4"), point, *texts)
            shown = table.loc[str(point), ["∂f/∂x", "∂f/∂y", "∂f/∂z"]].tolist()
            assert shown == pytest.approx(gradient, rel=1e-9, abs=1e-99)


def test_numbers_by_hand_shapes_and_agreement_are_printed(run, ns):
    assert_in_order(run.printed["4.2"], "3210 4321", "1 12 120 1200 2000")
    line = r"stride (\d), padding (\d), dilation (\d): relative error of .* \de-1\d"
    geometries = re.findall(line, run.printed["4.3"])
    assert geometries == [("1", "0", "1"), ("2", "1", "2")]
    assert_in_order(run.printed["5.1"], "distance", "5.0", "gradient", "0.6", "0.8")
    blurred = np.concatenate([ns.five_blurred, ns.ten_blurred])
    largest = np.abs(blurred - ns.by_scipy).max()
    assert_in_order(run.printed["4.4"], 15, "SciPy", f"{largest:.0e}")


def test_the_matrix_of_4_2_has_the_outputs_and_the_gradients_of_the_loop(ns):
    T, transposed, G, gradient = matrices_in("4.2")
    np.testing.assert_array_equal(T @ ns.line, np.correlate(ns.line, [1, 2]))
    np.testing.assert_array_equal(T.T, transposed)
    np.testing.assert_array_equal(transposed @ G, gradient)
    np.testing.assert_array_equal(gradient.ravel(), ns.grad_line)


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
    assert [*log] == ["L2 distance", "filter error"]
    np.testing.assert_allclose(log, expected, rtol=1e-5, atol=1e-7)
    for table in run.tables("5.5") if kind == "plain" else ():
        assert [*table.index] == [0, 1, 100]
        np.testing.assert_allclose(table, np.array(expected)[table.index], rtol=1e-5)
    if kind != "L":  # whose loop keeps only the log
        filters = np.stack(getattr(ns, f"{kind}_filters")) - ns.W0
        np.testing.assert_allclose(filters.reshape(n + 1, 20, 75), deltas, atol=1e-9)


def test_conjugate_gradients_find_the_filters(run, ns, quadratic):
    """Each of the first steps (later, rounding shows) ends at the lowest L that any
    combination of the gradients so far could reach. Where 300 end is in test_sheet."""
    X, delta, gradients = quadratic.patches, quadratic.start, []
    for filters in ns.cg_filters[:6]:
        np.testing.assert_allclose((filters - ns.W0).reshape(20, 75), delta, atol=1e-6)
        gradients.append(delta @ quadratic.A)
        changes = np.stack([(X @ gradient.T).ravel() for gradient in gradients], axis=1)
        best, *_ = np.linalg.lstsq(changes, (X @ quadratic.start.T).ravel(), rcond=None)
        delta = quadratic.start - np.tensordot(best, gradients, 1)
    for filters, row in zip(ns.cg_filters, ns.cg_log.to_numpy(), strict=True):
        off = (filters - ns.W0).reshape(20, 75)
        np.testing.assert_allclose(row, measures(quadratic, off), rtol=1e-6)
    assert row[1] < 0.03  # here, on details of few pictures
    assert run.tables("5.6")[1].equals(ns.cg_log.loc[[0, 10, 100, 200, 300]])


@pytest.mark.parametrize("std", [None, 0.1, 1], ids=["ours", "small", "normal"])
def test_300_conjugate_gradients_are_enough(nb, ns, quadratic, rng, std):
    """On the sample of 20 images, for our filters and others; where the gradient is 0,
    the step is 0. The triangular factor R of the patches has their A = Rᵀ R."""
    images, _ = nb.decode_cifar((ROOT / "data" / "cifar10_sample.bin").read_bytes(), 20)
    R = np.linalg.qr(patches_by_loop(images, 5), mode="r")
    W0 = std * rng.standard_normal((20, 75)) if std else quadratic.W0
    delta = ns.W_start.reshape(20, 75) - W0
    rule = nb.ConjugateGradients(lambda direction: direction @ R.T)
    for _ in range(300):
        delta = delta - rule(delta @ R.T @ R)
    assert np.linalg.norm(delta) < 0.001 * np.linalg.norm(W0)
    assert not rule(np.zeros((20, 75))).any()


def test_results_of_all_descents_are_reported(run, ns):
    """On page 1 and in print."""
    on_L = "L2 distance {:.0f}, filter error {:.2f} {}"
    ends = "at the random start", "after 100 steps of gradient descent"
    lines = [on_L.format(*ns.L_log.iloc[-k], end) for k, end in enumerate(ends)]
    found = "L2 distance {:.1g}, filter error {:.1g} after {} steps of {}"
    ends = [found.format(*ns.cg_log.loc[300], 300, "conjugate gradients")]
    ends.append(found.format(*ns.newton_log.loc[2], 2, "preconditioned descent"))
    for section, text in ("5.3", lines), ("5.6", ends):
        assert run.answer(section) == "<br>".join(text)
        assert_in_order(run.printed[section], "L2 distance", *text)


def test_preconditioned_descent_is_tabled_and_finds_the_filters(run, ns):
    table = run.tables("5.6")[0]
    assert [*table.index] == [0, 1, 2, 3, 10]
    for name, log in ("A⁻¹, η = ½", ns.halving_log), ("A⁻¹, η = 1", ns.newton_log):
        shown = table[name].dropna()
        assert shown.equals(log.loc[shown.index])
    np.testing.assert_allclose(ns.newton_log.iloc[1:], 0, atol=1e-6)
    np.testing.assert_allclose(ns.newton_filters[-1], ns.W0, atol=1e-12)


def test_curves_on_L_beside_all_zero_filters(run, ns):
    """In % of the start; a dashed line has the colour of its curve."""
    (ax,) = run.axes_in("q5-descent-curves")
    for k, level in enumerate([np.linalg.norm(ns.target), 1]):
        (name, log), curve, line = [*ns.L_log.items()][k], ax.lines[k], ax.lines[k + 2]
        assert curve.get_label() == name and line.get_label().startswith(name)
        assert curve.get_color() == line.get_color()
        np.testing.assert_allclose(curve.get_ydata(), 100 * log / log[0])
        np.testing.assert_allclose(line.get_ydata(), 100 * level / log[0])


def test_eigenvectors_are_shown_with_their_eigenvalues(run, quadratic):
    """A v = μ v, to the rounding of μ; as colours, -1, 0 and 1 are 0, ½ and 1."""
    (call,) = run.calls_in("show_images", "q5-eigenvectors")
    labels = [label.split("\n") for label in call.arguments["column_labels"]]
    images = 2 * call.arguments["images"].transpose(0, 3, 1, 2) - 1
    largest = np.linalg.eigvalsh(quadratic.A)[::-1]
    for v, (number, mu) in zip(images.reshape(-1, 75), labels, strict=True):
        Av = quadratic.A @ v
        assert np.linalg.norm(Av - float(mu) * v) < 0.06 * np.linalg.norm(Av)
        assert largest[int(number) - 1] == pytest.approx(float(mu), rel=0.06)


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


def test_errors_after_10_000_plain_steps(run, ns, quadratic, spectrum):
    eigenvalues, vectors, _ = spectrum
    factors = (1 - eigenvalues / eigenvalues[0]) ** 10_000
    delta = quadratic.start @ vectors.T * factors @ vectors
    parts = [f"condition number {eigenvalues[0] / eigenvalues[-1]:.2g}"]
    parts.append(f"filter error {measures(quadratic, delta)[1]:.2f}")
    noise = np.random.default_rng(0).standard_normal((100, *ns.cifar.shape[1:]))
    photos, others = ns.cifar[:100], ns.cifar[900:]
    for name, images in ("photos", photos), ("others", others), ("noise", noise):
        patches = patches_by_loop(images, 5)
        off, true = patches @ delta.T, patches @ quadratic.W0.T
        error = np.linalg.norm(off) / np.linalg.norm(true)
        parts.append(f"output error on {name}: {error:.3f}")
    assert_in_order(run.printed["5.5"], *parts)


def test_bars_are_norms_of_the_errors_along_the_eigenvectors(run, quadratic, spectrum):
    """At the start and after 100 plain steps on ½L². Above, the eigenvalues, and a line
    at that whose direction keeps half of its error in these steps."""
    eigenvalues, vectors, before = spectrum
    after = vectors @ descend(quadratic, "plain", 100)[-1].T
    above, ax = run.axes_in("q5-spectrum-figure")
    (dots, line), numbers = above.lines, np.arange(1, 76)
    np.testing.assert_allclose(dots.get_data(), [numbers, eigenvalues], rtol=1e-6)
    factor = 1 - np.array(line.get_ydata()) / eigenvalues[0]
    np.testing.assert_allclose(factor**100, 0.5)
    assert above.get_yscale() == "log" and "100 steps" in line.get_label()
    heights = before, np.linalg.norm(after, axis=1)
    labels = "error at the start", "error after 100\nplain steps"
    for bars, expected, label in zip(ax.containers, heights, labels, strict=True):
        shown = [(b.get_x() + b.get_width() / 2, b.get_height()) for b in bars]
        points = np.column_stack([numbers, expected])
        np.testing.assert_allclose(shown, points, atol=1e-6)
        assert bars.get_label().startswith(label)


def test_each_row_of_filters_is_what_its_label_says(run, ns, quadratic, spectrum):
    """As colours: -1, 0 and 1 are 0, ½ and 1."""
    eigenvalues, vectors, _ = spectrum
    factors = (1 - eigenvalues / eigenvalues[0]) ** 10_000
    errors = {
        "random start": quadratic.start,
        "100 plain steps on ½L²": descend(quadratic, "plain", 100)[-1],
        "10,000 plain steps on ½L²": quadratic.start @ vectors.T * factors @ vectors,
        "CG, step 100": (ns.cg_filters[100] - ns.W0).reshape(20, 75),
        "A⁻¹, η = ½, step 3": descend(quadratic, "halving", 3)[-1],
        "A⁻¹, η = 1, step 2": np.zeros((20, 75)),
        "true": np.zeros((20, 75)),
    }
    (call,) = run.calls_in("show_images", "q5-all-filters")
    sizes = [measures(quadratic, error)[1] for error in errors.values()]
    labels = [f"{name} ({size:.2f})" for name, size in zip(errors, sizes, strict=True)]
    assert call.arguments["row_labels"] == labels
    assert call.arguments["columns"] == 20
    rows = call.arguments["images"].reshape(7, 20, 5, 5, 3).transpose(0, 1, 4, 2, 3)
    expected = (np.array([*errors.values()]) + quadratic.W0).clip(-1, 1) / 2 + 0.5
    np.testing.assert_allclose(rows.reshape(7, 20, 75), expected, atol=1e-6)
