"""Questions 2 and 5: gradients and descents, worked out again."""

import numpy as np
import pytest
from load_definitions import ROOT
from mpmath import mpf
from references import assert_in_order, exact, measures, patches_by_loop
from scipy.signal import correlate


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
    """In the answer; checked, as that at 2.3's point is."""
    checks = [c.arguments for c in run.calls["check_gradient"] if c.section == "2.4"]
    points = (2, 4, 1), (9, 14, 3), (128, 42, 666), (52, 14, 28), (2.25, 4.5, 0.9)
    for check, point in zip(checks, points, strict=True):
        gradient = [float(number) + 0.0 for number in exact(*point)[2:]]  # no -0.0
        np.testing.assert_allclose(check["analytic"], gradient, rtol=1e-9, atol=1e-99)
        if point != points[-1]:
            texts = [f"{number:.6g}" for number in gradient]
            assert_in_order(run.answer("2.4"), point, *texts)


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


def off(ns, filters):
    """Errors (20, 75) of filters."""
    return np.reshape(filters - ns.W0, (20, 75))


@pytest.mark.parametrize(("kind", "n"), [("L", 100), ("plain", 100), ("halving", 10)])
def test_descents_are_those_of_the_quadratic_form(ns, quadratic, kind, n):
    """With their filters; on L, those that the loop leaves in C."""
    deltas, log = descend(quadratic, kind, n), getattr(ns, f"{kind}_log")
    shown = log[["L2 distance", "filter error"]][: n + 1].astype(float)
    expected = [measures(quadratic, delta) for delta in deltas]
    np.testing.assert_allclose(shown, expected, rtol=1e-5, atol=1e-7)
    filters = [*log["W"][: n + 1]] if kind != "L" else [ns.L_filters]
    drawn = [off(ns, W) for W in filters]
    np.testing.assert_allclose(drawn, deltas[-len(drawn) :], atol=1e-9)


def test_conjugate_gradients_find_the_filters(ns, quadratic):
    """Each of the first steps (later, rounding shows) ends at the lowest L that any
    combination of the gradients so far could reach. Where 300 end is in test_sheet."""
    X, delta, gradients = quadratic.patches, quadratic.start, []
    for filters in ns.cg_log["W"][:6]:
        np.testing.assert_allclose(off(ns, filters), delta, atol=1e-6)
        gradients.append(delta @ quadratic.A)
        changes = np.stack([(X @ gradient.T).ravel() for gradient in gradients], axis=1)
        best, *_ = np.linalg.lstsq(changes, (X @ quadratic.start.T).ravel(), rcond=None)
        delta = quadratic.start - np.tensordot(best, gradients, 1)
    end = ns.cg_log.iloc[-1]
    expected = measures(quadratic, off(ns, end["W"]))
    np.testing.assert_allclose([*end[["L2 distance", "filter error"]]], expected, 1e-6)
    assert expected[1] < 0.03  # here, on details of few pictures


@pytest.mark.parametrize(("images", "bound"), {20: 3e-3, 10: 0.03, 0: 1e-9}.items())
@pytest.mark.parametrize("std", [None, 0.1, 1], ids=["ours", "small", "normal"])
def test_300_conjugate_gradients_are_enough(run, monkeypatch, rng, std, images, bound):
    """For our filters and others, on whole pictures and (0) on noise. The triangular
    factor R of the patches p has their A; its rows are the images here."""
    records = np.fromfile(ROOT / "data" / "cifar10_sample.bin", np.uint8)
    pictures = records.reshape(20, 3073)[:, 1:].reshape(20, 3, 32, 32) / 255
    noise = rng.standard_normal((10, 3, 32, 32))
    pictures = pictures[:images] if images else noise
    R = np.linalg.qr(patches_by_loop(pictures, 5), mode="r").reshape(75, 3, 5, 5)
    true = run.namespace["Convolution_Layer"](3, 20, 5, bias=False, dtype=np.float64)
    shape = true.W.shape
    true.set_weights(std * rng.standard_normal(shape) if std else run.namespace["W0"])
    monkeypatch.setitem(run.namespace, "C0", true)
    monkeypatch.setitem(run.namespace, "W0", true.W)
    log = run.namespace["conjugate_gradients"](R, 300)
    error = np.linalg.norm(log["W"].iloc[-1] - true.W)
    assert error < bound * np.linalg.norm(true.W)


def test_results_of_all_descents_are_reported(run, ns):
    """On page 1 and in print."""
    on_L = "L2 distance {:.0f}, filter error {:.2f} {}"
    ends = "at the random start", "after 100 steps of gradient descent"
    lines = [on_L.format(*ns.L_log.iloc[-k], end) for k, end in enumerate(ends)]
    found = "L2 distance {:.1g}, filter error {:.1g} after {} steps of {}"
    ends = [found.format(*ns.cg_log.loc[300][:2], 300, "conjugate gradients")]
    ends += [found.format(*ns.newton_log.loc[2][:2], 2, "preconditioned descent")]
    for section, text in ("5.3", lines), ("5.6", ends):
        assert run.answer(section) == "<br>".join(text)
        assert_in_order(run.printed[section], "L2 distance", *text)
    np.testing.assert_allclose(ns.newton_log["W"][2], ns.W0, atol=1e-12)
    (table,) = run.tables("5.6")
    assert table.equals(ns.newton_log[[*table.columns]])


def test_curves_on_L_beside_all_zero_filters(run, ns):
    """Divided by the distance and the error of zeros; each with its name at the end."""
    (ax,) = run.axes_in("q5-descent-curves")
    ends = {text.get_text(): text.get_position()[1] for text in ax.texts}
    zeros = np.linalg.norm(ns.target), 1
    for line, name, zero in zip(ax.lines, ns.L_log, zeros, strict=False):
        np.testing.assert_allclose(line.get_ydata(), ns.L_log[name] / zero)
        assert ends[name] == line.get_ydata()[-1]


def test_a_photo_its_planes_filters_and_outputs(run, ns):
    axes = {ax.get_label(): ax for ax in run.axes_in("q5-c0-figure")}
    photo = ns.photos[4]
    for name, plane in zip("RGB", photo, strict=True):
        np.testing.assert_array_equal(axes[name].images[0].get_array(), plane)
    for above, below in zip("01234", "abcde", strict=True):
        k = int(axes[above].get_title().split()[1]) - 1
        filter_ = 2 * axes[above].images[0].get_array().transpose(2, 0, 1) - 1
        np.testing.assert_allclose(filter_, ns.W0[k].clip(-1, 1), atol=1e-9)
        expected = correlate(photo, ns.W0[k], "valid")[0]
        np.testing.assert_allclose(axes[below].images[0].get_array(), expected)


def test_eigenvectors_are_shown_with_their_eigenvalues(run, quadratic):
    """A v = μ v, to the rounding of μ, and what is left of an error along v; as
    colours, -1, 0 and 1 are 0, ½ and 1."""
    (call,) = run.calls_in("show_images", "q5-eigenvectors")
    _, *labels = [label.split("\n") for label in call.arguments["column_labels"]]
    images = 2 * call.arguments["images"][1:, ::8, ::8].transpose(0, 3, 1, 2) - 1
    largest = np.linalg.eigvalsh(quadratic.A)[::-1]
    for v, (number, *shown) in zip(images.reshape(-1, 75), labels, strict=True):
        mu = largest[int(number) - 1]
        np.testing.assert_allclose(quadratic.A @ v, mu * v, atol=1e-6 * largest[0])
        left = 1 - mu / largest[0]
        expected = mu, 100 * left**100, 100 * left**10_000
        numbers = [float(text.strip("%").replace(",", "")) for text in shown]
        np.testing.assert_allclose(numbers, expected, rtol=1e-3, atol=0.51)


@pytest.fixture(scope="module")
def spectrum(quadratic):
    """Eigenvalues and eigenvectors (rows) of A, from the patches, and the error
    (20, 75) after 10,000 plain steps."""
    _, singular_values, vectors = np.linalg.svd(quadratic.patches, full_matrices=False)
    eigenvalues = singular_values**2
    factors = (1 - eigenvalues / eigenvalues[0]) ** 10_000
    return eigenvalues, vectors, quadratic.start @ vectors.T * factors @ vectors


def test_errors_along_the_eigenvectors_and_shares_of_the_half_learned(
    run, quadratic, spectrum
):
    """At the start and after 100 plain steps on ½L². Half learned directions have lost
    half of their error; shares are of L² and of ‖δ‖²."""
    _, vectors, _ = spectrum
    start, end = quadratic.start, descend(quadratic, "plain", 100)[-1]
    norms = [np.linalg.norm(vectors @ delta.T, axis=1) for delta in (start, end)]
    ax, bars = run.axes_in("q5-spectrum-figure")
    shown = [stairs.get_data().values for stairs in ax.patches]
    np.testing.assert_allclose(shown, norms, atol=1e-6)
    learned = norms[1] < 0.5 * norms[0]
    assert f"directions half learned: {sum(learned)} of 75" in run.printed["5.5"]
    part = start @ vectors[learned].T @ vectors[learned]  # of the error
    pairs = zip(measures(quadratic, part), measures(quadratic, start), strict=True)
    shares = [(a / b) ** 2 for a, b in pairs]
    labels = [label.get_text() for label in bars.get_yticklabels()]
    for label, share, name in zip(labels[::-1], shares, ("L²", "filter"), strict=True):
        assert name in label and label.endswith(f"{share:.0%}")
    widths = [bar.get_width() for bar in bars.patches]
    np.testing.assert_allclose(widths, [1, shares[1], 1, shares[0]])


def test_errors_after_10_000_plain_steps(run, ns, quadratic, spectrum):
    """And outputs of the first filter, for a photo and for noise."""
    eigenvalues, _, delta = spectrum
    parts = [f"condition number {eigenvalues[0] / eigenvalues[-1]:.2g}"]
    parts.append(f"filter error {measures(quadratic, delta)[1]:.2f}")
    noise = np.random.default_rng(0).standard_normal((100, *ns.cifar.shape[1:]))
    photos, last = ns.cifar[:100], ns.cifar[900:]
    for name, images in ("photos", photos), ("the last 100", last), ("noise", noise):
        patches = patches_by_loop(images, 5)
        off, true = patches @ delta.T, patches @ quadratic.W0.T
        error = np.linalg.norm(off) / np.linalg.norm(true)
        parts.append(f"output error on {name}: {error:.3f}")
    assert_in_order(run.printed["5.5"], *parts)
    outputs, filters = run.calls_in("show_images", "q5-jump-figure")
    true, learned = W0 = ns.W0[0], (quadratic.W0 + delta)[0].reshape(3, 5, 5)
    tiles = 2 * outputs.arguments["images"].transpose(0, 3, 1, 2) - 1
    rows = (2 * photos[4] - 1, photos[4]), (noise[0] / 2, noise[0])
    for (shown, x), row in zip(rows, np.split(tiles, 2), strict=True):
        planes = [correlate(x, W, "valid")[0] for W in (true, learned)]
        planes = [*planes, planes[1] - planes[0]] / np.abs(planes[0]).max()
        np.testing.assert_allclose(row[0], shown[:, 2:-2, 2:-2].clip(-1, 1), atol=1e-6)
        np.testing.assert_allclose(row[1:, 0], planes.clip(-1, 1), atol=1e-6)
    drawn = 2 * filters.arguments["images"].transpose(0, 3, 1, 2) - 1
    assert filters.arguments["row_labels"] == ["true", "learned"]
    np.testing.assert_allclose(drawn, np.clip(W0, -1, 1), atol=1e-6)


def test_each_method_has_its_curve(run, ns):
    """5.6's filter errors by step. A name has the colour of its curve, or of two of
    which it stands at the end of one."""
    (ax,) = run.axes_in("q5-convergence")
    logs = {"plain": ns.plain_log, "conjugate": ns.cg_log, "η = ½": ns.halving_log}
    logs |= {"η = 1": ns.newton_log}
    for name, log in logs.items():
        text = next(t for t in ax.texts if name in t.get_text())
        lines = [line for line in ax.lines if line.get_color() == text.get_color()]
        x = 100 if name == "plain" else text.get_position()[0]
        line = min(lines, key=lambda line: abs(line.get_xdata()[-1] - x))
        np.testing.assert_array_equal(line.get_xdata(), log.index)
        np.testing.assert_array_equal(line.get_ydata(), log["filter error"])
    assert len(ax.lines) == 5


def test_each_row_of_filters_is_what_its_label_says(run, ns, quadratic, spectrum):
    """As colours: -1, 0 and 1 are 0, ½ and 1."""
    errors = {
        "true": np.zeros((20, 75)),
        "random start": quadratic.start,
        "100 plain steps on L": descend(quadratic, "L", 100)[-1],
        "10,000 plain steps on ½L²": spectrum[-1],
        "preconditioned, η = ½, step 3": descend(quadratic, "halving", 3)[-1],
        "conjugate gradients, step 300": off(ns, ns.cg_log["W"][300]),
    }
    calls = run.calls_in("show_images", "q5-all-filters")
    for call, (name, error) in zip(calls, errors.items(), strict=True):
        label = call.arguments["ax"].get_title(loc="left")
        size = measures(quadratic, error)[1]
        assert label.startswith(name) and label.endswith(f"filter error {size:.2f}")
        images = 2 * call.arguments["images"][:, ::4, ::4].transpose(0, 3, 1, 2) - 1
        expected = (error + quadratic.W0).clip(-1, 1)
        np.testing.assert_allclose(images.reshape(20, 75), expected, atol=1e-6)
