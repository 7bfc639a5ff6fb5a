"""Questions 4 and 5: blurred images, descents, and what is reported of them, worked out
again on the quadratic form of Question 5."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from references import patches_by_loop
from scipy import ndimage
from small_run import assert_reported, numbers_in, small_run


@pytest.fixture(scope="module")
def run():
    return small_run()


@pytest.fixture(scope="module")
def ns(run):
    return run.names


# Question 4


def test_pixels_that_two_outputs_read(run):
    """In each panel: those of the window at the top left, and of the next one."""
    fig = run.figure("q4-geometry")
    panels = [ax for ax in fig.axes if ax.collections]
    for ax in panels:
        stride, dilation, *sizes = [int(n) for n, _ in numbers_in(ax.get_title())]
        expected = np.zeros((7, 7))
        for u in range(0, 3 * dilation, dilation):
            for v in range(0, 3 * dilation, dilation):
                expected[u, v] += 1
                expected[u, stride + v] += 2
        shown = np.reshape(ax.collections[0].get_array(), (7, 7))
        np.testing.assert_array_equal(shown, expected)
        n_windows = len(range(0, 7 - 2 * dilation, stride))
        assert sizes == [n_windows, n_windows]
    assert len(panels) == 4


def test_blurring_filters_are_those_of_scipy(ns):
    """A filter is what SciPy makes of a single bright pixel."""
    pixel = np.zeros((13, 13))
    pixel[6, 6] = 1
    bell = ndimage.gaussian_filter(pixel, ns.sigma, mode="constant")
    for o, c in np.ndindex(3, 3):
        np.testing.assert_allclose(ns.blur_layer.W[o, c], (o == c) * bell, atol=1e-15)


def test_all_nine_planes_of_the_blurring_filters_are_shown(run, ns):
    arguments = run.images("q4-filters-show")
    assert arguments["columns"] == 3
    np.testing.assert_array_equal(
        arguments["images"], ns.blur_layer.W.reshape(9, 13, 13)
    )


@pytest.fixture
def blurred_pictures(run):
    """(images, blurred images, labels) of each figure, all with colours last."""
    figures = []
    for call in run.calls_of("show_images", "q4-blur"):
        images, names = call.arguments["images"], call.arguments["column_labels"]
        n = len(images) // 2
        assert n == len(names) == call.arguments["columns"]
        figures.append((images[:n], images[n:], names))
    return figures


def test_names_stand_over_their_pictures(ns, blurred_pictures):
    pictures = ns.cifar.transpose(0, 2, 3, 1)
    for images, _, names in blurred_pictures:
        for image, name in zip(images, names, strict=True):
            (same, *_) = np.flatnonzero((pictures == image).all(axis=(1, 2, 3)))
            assert name == ns.CIFAR_NAMES[ns.cifar_labels[same]]


def test_blurred_pictures_stand_below_their_originals(ns, blurred_pictures):
    for images, blurred, _ in blurred_pictures:
        sigmas = 0, ns.sigma, ns.sigma, 0
        expected = ndimage.gaussian_filter(images, sigmas, mode="nearest")
        np.testing.assert_allclose(blurred, expected, atol=1e-12)


def test_first_five_and_ten_random_pictures_are_blurred(ns, blurred_pictures):
    (first, _, _), (random, _, _) = blurred_pictures[:2]
    np.testing.assert_array_equal(first, ns.cifar[:5].transpose(0, 2, 3, 1))
    pictures = ns.cifar.transpose(0, 2, 3, 1)
    chosen = [np.flatnonzero((pictures == p).all(axis=(1, 2, 3)))[0] for p in random]
    assert len(set(chosen)) == 10
    assert max(chosen) >= 100  # from all images, not from the first few


def test_difference_from_scipys_blur_is_reported(run):
    difference, _ = numbers_in(run.answers("q4-scipy")[0])[-1]
    assert 0 <= difference < 1e-12


# Question 5: the descents


@pytest.fixture(scope="module")
def quadratic(ns):
    """Question 5 as a quadratic form: patches, A = the sum of p pᵀ, and from the
    singular values of the patches (not from A) its eigenvalues and eigenvectors."""
    patches = patches_by_loop(ns.cifar[:100], 5)
    _, singular_values, Vt = np.linalg.svd(patches, full_matrices=False)
    return SimpleNamespace(
        patches=patches,
        A=patches.T @ patches,
        eigenvalues=singular_values**2,  # descending
        eigenvectors=Vt.T,
        W0=ns.W0.reshape(20, 75),
        start=(ns.W_start - ns.W0).reshape(20, 75),
    )


def measures(quadratic, delta):
    """L2 distance and filter error of filters that are off by delta (20, 75)."""
    distance = np.linalg.norm(quadratic.patches @ delta.T)
    return distance, np.linalg.norm(delta) / np.linalg.norm(quadratic.W0)


def descend(quadratic, step, n_steps):
    """All errors delta (20, 75), before each step and at the end."""
    deltas = [quadratic.start]
    for _ in range(n_steps):
        deltas.append(deltas[-1] - step(deltas[-1]))
    return deltas


def steps_of(quadratic):
    """{name of a log: step for an error delta (20, 75)}."""
    A, inverse = quadratic.A, np.linalg.inv(quadratic.A)
    return {
        "log_L": lambda delta: 0.001 * delta @ A / np.sqrt(np.sum(delta @ A * delta)),
        "log_half_L2": lambda delta: delta @ A / quadratic.eigenvalues[0],
        "log_halving": lambda delta: 0.5 * delta @ A @ inverse,
    }


def test_target_is_the_output_of_the_given_layer(ns, quadratic):
    n_images, n_filters, height, width = ns.target.shape
    expected = (quadratic.patches @ quadratic.W0.T).reshape(n_images, height, width, -1)
    np.testing.assert_allclose(ns.target, expected.transpose(0, 3, 1, 2), atol=1e-12)
    assert (n_images, n_filters) == (100, 20)


def test_sizes_and_norm_of_the_target_are_printed(run, ns):
    sizes = *ns.W0.shape, *ns.x5.shape, *ns.target.shape
    assert_reported(run.lines("5.2"), *sizes)
    assert_reported(run.lines("5.2"), math.sqrt(np.sum(ns.target**2)))


def test_start_is_uniform_from_minus_1_to_1(ns):
    evenly_spaced = np.linspace(-1, 1, ns.W_start.size)
    np.testing.assert_allclose(np.sort(ns.W_start.ravel()), evenly_spaced, atol=0.1)


@pytest.mark.parametrize(
    ("log_name", "filters_name"),
    [
        ("log_L", "filters_L"),
        ("log_half_L2", "plain_filters"),
        ("log_halving", "halving_filters"),
    ],
)
def test_descents_are_those_of_the_quadratic_form(
    ns, quadratic, log_name, filters_name
):
    log = getattr(ns, log_name)
    deltas = descend(quadratic, steps_of(quadratic)[log_name], len(log) - 1)
    for row, delta in zip(log.to_numpy(), deltas, strict=True):
        expected = measures(quadratic, delta)
        assert list(row) == pytest.approx(expected, rel=1e-5, abs=1e-7)
    for W, delta in zip(getattr(ns, filters_name), deltas, strict=True):
        np.testing.assert_allclose((W - ns.W0).reshape(20, 75), delta, atol=1e-9)


def test_newtons_method_finds_the_filters_in_one_step(ns, quadratic):
    start, *after = ns.log_newton.to_numpy()
    assert list(start) == pytest.approx(measures(quadratic, quadratic.start))
    assert np.max(after) < 1e-6
    np.testing.assert_allclose(ns.C.W, ns.W0, atol=1e-12)


@pytest.mark.parametrize(
    ("section", "with_half", "without_half"),
    [("5.3", "log_half_L2", "log_L"), ("5.5", "log_halving", "log_newton")],
)
def test_tables_have_the_logs_under_their_names(
    run, ns, section, with_half, without_half
):
    """The columns are named on L and on ½L², η = ½ and η = 1."""
    header = next(line for line in run.lines(section) if "½" in line)
    order = [with_half, without_half]
    if header.index("½") > len(header.rstrip()) / 2:
        order.reverse()
    rows = [row for row in run.rows(section) if len(row) >= 3]
    assert len(rows) > 5
    for step, *values in rows:
        logs = [getattr(ns, name) for name in order]
        logs = [log.loc[step] for log in logs if step in log.index]
        assert values == pytest.approx(np.concatenate(logs), rel=0.06, abs=1e-3)


def test_learned_and_plain_results_are_reported(run, ns, quadratic):
    """For the filter error and for the L2 distance: with A⁻¹, on L, on ½L², at the
    start."""
    steps = steps_of(quadratic)
    on_L = measures(quadratic, descend(quadratic, steps["log_L"], 100)[-1])
    on_half_L2 = measures(quadratic, descend(quadratic, steps["log_half_L2"], 100)[-1])
    start = measures(quadratic, quadratic.start)
    newton = ns.log_newton.to_numpy()[-1]
    assert max(newton) < 1e-10
    for values in zip(newton, on_L, on_half_L2, start, strict=True):
        assert_reported(run.answers("5.5"), *values)


# 5.4: a valley of two weights


def test_the_valley_of_two_weights(run, ns):
    """Each panel's descent, along the eigenvectors of neighbouring pixels."""
    left, right = ns.x5[:, 0, :, :-1].ravel(), ns.x5[:, 0, :, 1:].ravel()
    A = np.array([[left @ left, left @ right], [left @ right, right @ right]])
    (low, high), vectors = np.linalg.eigh(A)
    assert_reported(run.lines("5.4"), 1 - low / high)
    fig = run.figure("q5-bowl")
    paths = [ax.lines[0].get_xydata() @ vectors for ax in fig.axes]
    creeping, diverging, straight = [path / path[0] for path in paths]
    for path, rate in (creeping, 1), (diverging, 2.1):
        for k, mu in enumerate((low, high)):
            expected = (1 - rate * mu / high) ** np.arange(len(path))
            np.testing.assert_allclose(path[:, k], expected, atol=1e-9)
    halves = 0.5 ** np.arange(len(straight))
    np.testing.assert_allclose(straight, np.stack([halves, halves], axis=1), atol=1e-9)


# 5.6: filters


def colours(W):
    """Filters (…, 3, 5, 5) as colours (…, 5, 5, 3): -1 is 0, 0 is grey, 1 is 1."""
    return np.moveaxis((np.clip(W, -1, 1) + 1) / 2, -3, -1)


def test_emerging_filters_are_those_of_their_number_of_steps(run, ns):
    calls = run.calls_of("show_images", "q5-noise")
    assert len(calls) == 2
    for call in calls:
        arguments = call.arguments
        is_plain = "½L²" in arguments["title"]
        filters = ns.plain_filters if is_plain else ns.halving_filters
        n_columns = arguments["columns"]
        tiles = arguments["images"].reshape(-1, n_columns, 5, 5, 3)
        columns = np.swapaxes(tiles, 0, 1)
        *labels, last_label = arguments["column_labels"]
        assert not numbers_in(str(last_label))  # the true filters
        distances = np.abs(columns[-1][:, None] - colours(ns.W0)).max(axis=(2, 3, 4))
        chosen = distances.argmin(axis=1)
        assert len(set(chosen)) == len(chosen) and distances.min(axis=1).max() < 1e-12
        for n_steps, column in zip(labels, columns, strict=False):
            expected = colours(filters[int(n_steps)][chosen])
            np.testing.assert_allclose(column, expected, atol=1e-12)


def test_true_filters_stand_above_the_learned_ones(run, ns):
    images = run.images("q5-all-filters")["images"]
    true, learned = images.reshape(2, 2, 10, 5, 5, 3).swapaxes(0, 1)
    np.testing.assert_array_equal(true.reshape(20, 5, 5, 3), colours(ns.W0))
    np.testing.assert_array_equal(learned.reshape(20, 5, 5, 3), colours(ns.C.W))


# 5.7: the spectrum


def kept_after(quadratic, n_steps):
    """The share of the error along each eigenvector that n steps on ½L² leave."""
    eigenvalues = quadratic.eigenvalues
    return (1 - eigenvalues / eigenvalues[0]) ** n_steps


def test_eigenvalues_are_reported(run, quadratic):
    high, low = quadratic.eigenvalues[[0, -1]]
    mean_patch = quadratic.patches.mean(axis=0)
    of_the_mean = len(quadratic.patches) * np.sum(mean_patch**2)
    below_half = np.sum(kept_after(quadratic, 100) < 0.5)
    lines = run.lines("5.7")
    assert_reported(lines, high, low)
    assert_reported(lines, high / low)
    assert_reported(lines, below_half, 75)
    assert_reported(lines, of_the_mean)


def test_least_squares_finds_the_filters(ns):
    assert np.linalg.norm(ns.solution.T - ns.W0.reshape(20, 75)) < 1e-10


def test_the_figure_of_the_spectrum(run, quadratic):
    fig = run.figure("q5-spectrum-show")
    spectrum, errors = fig.axes
    order, eigenvalues = spectrum.lines[0].get_data()
    np.testing.assert_allclose(
        eigenvalues[np.argsort(order)], quadratic.eigenvalues, rtol=1e-6
    )
    before = np.linalg.norm(quadratic.start @ quadratic.eigenvectors, axis=0)
    after = before * kept_after(quadratic, 100)
    for line, expected in zip(errors.lines, (before, after, after), strict=True):
        order, values = line.get_data()
        np.testing.assert_allclose(values[np.argsort(order)], expected, atol=1e-6)


# Question 5 in one picture


@pytest.fixture
def panels(run, ns):
    """{column of the logs: (solid lines, dashed lines)} of the figure."""
    fig = run.figure("q5-picture")
    panels = {}
    for ax in fig.axes:
        assert ax.get_xscale() == ax.get_yscale() == "log"
        solid = [line for line in ax.lines if line.get_linestyle() == "-"]
        dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
        panels[ax.get_ylabel()] = solid, dashed
    assert list(panels) == list(ns.log_L)
    return panels


def test_solid_curves_are_the_measured_descents(ns, panels):
    """Plain descent is on ½L² or on L, as the label says; the other one halves."""
    for column, (solid, _) in panels.items():
        assert len(solid) == 3
        for line in solid:
            log = ns.log_halving
            if "½L²" in line.get_label():
                log = ns.log_half_L2
            elif "on L" in line.get_label():
                log = ns.log_L
            steps, values = line.get_data()
            np.testing.assert_array_equal(values, log[column][steps])
            assert len(steps) == len(log) - 1  # all but step 0


def test_dashed_curves_continue_the_solid_curve_of_their_colour(panels):
    for solid, dashed in panels.values():
        assert len(dashed) == 2
        for line in dashed:
            (start,) = [s for s in solid if s.get_color() == line.get_color()]
            (x, y), (x_solid, y_solid) = line.get_data(), start.get_data()
            assert x[0] == x_solid[-1] and y[0] == pytest.approx(y_solid[-1])


def test_the_dashed_curve_on_half_L2_follows_from_the_eigenvalues(panels, quadratic):
    for k, (solid, dashed) in enumerate(panels.values()):
        (on_half_L2,) = [s for s in solid if "½L²" in s.get_label()]
        (line,) = [d for d in dashed if d.get_color() == on_half_L2.get_color()]
        start = quadratic.start @ quadratic.eigenvectors
        for n_steps, value in line.get_xydata():
            along = start * kept_after(quadratic, n_steps)
            delta = along @ quadratic.eigenvectors.T
            assert value == pytest.approx(measures(quadratic, delta)[k], rel=1e-4)
        assert n_steps > 1e6


def test_the_dashed_curve_on_L_follows_from_repeated_steps(panels, quadratic):
    deltas = descend(quadratic, steps_of(quadratic)["log_L"], 1000)
    for k, (solid, dashed) in enumerate(panels.values()):
        (on_L,) = [s for s in solid if "on L" in s.get_label()]
        (line,) = [d for d in dashed if d.get_color() == on_L.get_color()]
        points = line.get_xydata()
        assert len(points) > 100
        for step, value in points[::50]:
            expected = measures(quadratic, deltas[int(step)])[k]
            assert value == pytest.approx(expected, rel=1e-4)
