"""Questions 4 and 5: blurred images, descents, and what is reported of them, worked out
again on the quadratic form of Question 5."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
from references import patches_by_loop
from saved_notebook import read_numbers
from scipy import ndimage, signal
from small_run import assert_reported

# Question 4


@pytest.mark.parametrize(("figure", "n"), [(0, 5), (1, 10)])
def test_blurred_images(run, ns, figure, n):
    """The first 5, and 10 at random; their labels above them, SciPy's blur below."""
    arguments = run.calls_of("show_images", "q4-blur")[figure].arguments
    images, blurred = np.split(arguments["images"], 2)
    pictures = ns.cifar.transpose(0, 2, 3, 1)
    matches = [(pictures == image).all(axis=(1, 2, 3)) for image in images]
    chosen = [int(np.argmax(match)) for match in matches]
    assert arguments["columns"] == len(set(chosen)) == n
    assert (chosen == [*range(n)]) == (n == 5)
    names = [ns.CIFAR_NAMES[ns.cifar_labels[k]] for k in chosen]
    assert arguments["column_labels"] == names
    sigmas = 0, ns.sigma, ns.sigma, 0
    radius = 0, *np.array(ns.blur_layer.W.shape[2:]) // 2, 0
    expected = ndimage.gaussian_filter(images, sigmas, mode="nearest", radius=radius)
    np.testing.assert_allclose(blurred, expected, atol=1e-12)


def test_a_convolution_in_numbers(run):
    """Each row: two arrays and their convolution; in words, its entry in a frame."""
    texts = [text.get_text() for text in run.figure("q4-picture").axes[0].texts]
    numbers = [int(text) for text in texts if text.isdigit()]
    sizes = np.array([4, 2, 3, 5, 2, 4, 4, 3, 2])
    panels = np.split(numbers, np.cumsum(sizes**2)[:-1])
    panels = [p.reshape(size, size) for p, size in zip(panels, sizes, strict=True)]
    image, K, G = panels[0], panels[1], panels[7]
    expected = [image, K, signal.correlate2d(image, K, "valid")]
    expected += [np.pad(G, 1), K[::-1, ::-1], signal.convolve2d(G, K)]
    expected += [image, G, signal.correlate2d(image, G, "valid")]
    np.testing.assert_equal(panels, expected, "the nine panels, row by row")
    lines = [text for text in texts if "=" in text]
    for row, line in zip(range(0, 9, 3), lines, strict=True):
        left, middle, right = panels[row : row + 3]
        frame = left[1 : 1 + len(middle), 1 : 1 + len(middle)]
        factors = np.stack([frame, middle], axis=-1)[frame * middle != 0]
        assert read_numbers(line) == [*factors.ravel(), right[1, 1]]


def test_pixels_that_two_outputs_read(run):
    """Those of output 1 count 1, those of output 2 count 2."""
    for ax in run.figure("q4-geometry").axes:
        title = ax.get_title()
        stride, dilation, *n_outputs = map(int, read_numbers(title))
        expected = np.zeros((7, 7))
        for output, u, v in np.ndindex(2, 3, 3):
            expected[u * dilation, output * stride + v * dilation] += output + 1
        read_by = ax.collections[0].get_array().reshape(7, 7)
        np.testing.assert_array_equal(read_by, expected, title)
        assert n_outputs == 2 * [len(range(0, 7 - 2 * dilation, stride))], title


def test_plane_of_weights_from_red_to_red(run, ns):
    """SciPy's blur of a single pixel."""
    ax = run.figure("q4-filters-show").axes[0]
    plane = ax.images[0].get_array()
    radius = len(plane) // 2
    bell = ndimage.gaussian_filter(np.pad([[1.0]], radius), ns.sigma, radius=radius)
    np.testing.assert_allclose(plane, bell, atol=1e-12)
    assert ax.get_title() == "red to red"


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


def descend(quadratic, kind, n_steps):
    """All errors delta (20, 75), before each step and at the end."""
    A, inverse = quadratic.A, np.linalg.inv(quadratic.A)
    deltas = [quadratic.start]
    for _ in range(n_steps):
        delta = deltas[-1]
        gradient = delta @ A
        if kind == "L":
            step = 0.001 * gradient / np.sqrt(np.sum(gradient * delta))
        elif kind == "½L²":
            step = gradient / quadratic.eigenvalues[0]
        else:
            step = 0.5 * gradient @ inverse
        deltas.append(delta - step)
    return deltas


def kept_after(quadratic, n_steps):
    """The share of the error along each eigenvector that n steps on ½L² leave."""
    eigenvalues = quadratic.eigenvalues
    return (1 - eigenvalues / eigenvalues[0]) ** n_steps


def test_target_is_the_output_of_the_given_layer(run, ns, quadratic):
    n_images, n_filters, height, width = ns.target.shape
    expected = (quadratic.patches @ quadratic.W0.T).reshape(n_images, height, width, -1)
    np.testing.assert_allclose(ns.target, expected.transpose(0, 3, 1, 2), atol=1e-12)
    assert (n_images, n_filters) == (100, 20)
    assert_reported(run.lines["5.2"], *ns.W0.shape, *ns.photos.shape, *ns.target.shape)
    assert_reported(run.lines["5.2"], math.sqrt(np.sum(ns.target**2)))


def test_start_is_uniform_from_minus_1_to_1(ns):
    evenly_spaced = np.linspace(-1, 1, ns.W_start.size)
    np.testing.assert_allclose(np.sort(ns.W_start.ravel()), evenly_spaced, atol=0.1)


@pytest.mark.parametrize(
    ("kind", "log_name", "filters_name"),
    [
        ("L", "L_log", "L_filters"),
        ("½L²", "plain_log", "plain_filters"),
        ("halving", "halving_log", "halving_filters"),
    ],
)
def test_descents_are_those_of_the_quadratic_form(
    ns, quadratic, kind, log_name, filters_name
):
    log, filters = getattr(ns, log_name), getattr(ns, filters_name)
    deltas = descend(quadratic, kind, len(log) - 1)
    for row, W, delta in zip(log.to_numpy(), filters, deltas, strict=True):
        expected = measures(quadratic, delta)
        assert list(row) == pytest.approx(expected, rel=1e-5, abs=1e-7)
        np.testing.assert_allclose((W - ns.W0).reshape(20, 75), delta, atol=1e-9)


@pytest.mark.parametrize(
    ("section", "log_names"),
    [
        ("5.3", {"distance": "L_log"}),
        ("5.5", {"distance": "plain_log"}),
        ("5.5", {"η = ½": "halving_log", "η = 1": "newton_log"}),
    ],
)
def test_tables_have_the_logs_under_their_names(run, ns, section, log_names):
    names = list(log_names)
    header = next(line for line in run.lines[section] if names[0] in line)
    logs = [getattr(ns, log_names[name]) for name in sorted(names, key=header.find)]
    for step in 0, logs[0].index[-1]:
        rows = [log.loc[step] for log in logs if step in log.index]
        assert_reported(run.lines[section], step, *np.concatenate(rows))


def test_learned_and_plain_results_are_reported(run, ns, quadratic):
    """For the filter error and for the L2 distance: with A⁻¹, on L, on ½L², at the
    start."""
    newton = ns.newton_log.to_numpy()[-1]
    on_L = measures(quadratic, descend(quadratic, "L", 100)[-1])
    on_half_L2 = measures(quadratic, descend(quadratic, "½L²", 100)[-1])
    start = measures(quadratic, quadratic.start)
    for values in zip(newton, on_L, on_half_L2, start, strict=True):
        assert_reported(run.answers("5.5"), *values)


def test_descents_of_two_weights(run, ns):
    """For the reds of neighbouring pixels, with the rates of the titles."""
    pairs = np.stack([ns.photos[:, 0, :, :-1].ravel(), ns.photos[:, 0, :, 1:].ravel()])
    V, singular_values, _ = np.linalg.svd(pairs, full_matrices=False)
    steepness = (singular_values / singular_values[0]) ** 2  # μ / largest μ
    assert_reported(run.lines["5.4"], 1 - steepness[1])
    kept = {"1/μ": 1 - steepness, "2.1/μ": 1 - 2.1 * steepness, "½": np.full(2, 0.5)}
    for ax, rate in zip(run.figure("q5-bowl").axes, kept, strict=True):
        path, title = ax.lines[0].get_xydata(), ax.get_title()
        left = kept[rate] ** np.arange(len(path))[:, None]
        np.testing.assert_allclose(path, path[0] @ V * left @ V.T, err_msg=title)
        assert rate in title and f"{len(path) - 1} steps" in title


# Filters, eigenvalues, and Question 5 in one picture


def test_emerging_filters_are_those_of_their_number_of_steps(run, ns):
    calls = run.calls_of("show_images", "q5-noise")
    filters = ns.plain_filters, ns.halving_filters
    for call, after_steps in zip(calls, filters, strict=True):
        *steps, last_label = call.arguments["column_labels"]
        stages = [after_steps[n] for n in steps] + [ns.W0]
        weights = np.moveaxis(np.stack(stages, axis=1)[ns.four], 2, -1).clip(-1, 1)
        shown = 2 * call.arguments["images"] - 1  # from 0 to 1 as colours
        np.testing.assert_allclose(shown, weights.reshape(-1, 5, 5, 3), atol=1e-12)
        assert last_label == "true"
        assert ("½L²" in call.arguments["title"]) == (after_steps is ns.plain_filters)


def test_eigenvalues_are_reported(run, quadratic):
    high, low = quadratic.eigenvalues[[0, -1]]
    mean_patch = quadratic.patches.mean(axis=0)
    lines = run.lines["5.7"]
    assert_reported(lines, high, low)
    assert_reported(lines, high / low)
    assert_reported(lines, len(quadratic.patches) * np.sum(mean_patch**2))


def test_what_plain_descent_learns_is_reported(run, quadratic):
    """The directions with less than half of their error left after 100 steps; in
    percent, their share of L² and of the squared filter error at the start."""
    few = kept_after(quadratic, 100) < 0.5
    along = quadratic.start @ quadratic.eigenvectors
    delta = along[:, few] @ quadratic.eigenvectors[:, few].T
    of_few = np.square(measures(quadratic, delta))
    of_all = np.square(measures(quadratic, quadratic.start))
    assert_reported(run.lines["5.7"], few.sum(), 75)
    assert_reported(run.lines["5.7"], *np.round(100 * of_few / of_all))


def test_eigenvalues_are_drawn_in_decreasing_order(run, quadratic):
    (line,) = run.figure("q5-spectrum-show").axes[0].lines
    values = dict(zip(*line.get_data(), strict=True))
    expected = sorted(quadratic.eigenvalues, reverse=True)
    assert [values[k] for k in range(1, 76)] == pytest.approx(expected, rel=1e-6)


@pytest.fixture(params=[0, 1], ids=["L2 distance", "filter error"])
def curves(run, request):
    """The panel's number, and its curves {(loss, line style): points}. The loss is
    "½L²", "L", or "" for the descent that halves."""
    ax, curves = run.figure("q5-picture").axes[request.param], {}
    for line in ax.lines:
        loss = re.search("½L²|L|$", line.get_label())[0]
        curves[loss, line.get_linestyle()] = line.get_xydata()
    return request.param, curves


def test_dashed_curves_continue_them_as_calculated(quadratic, curves):
    """On ½L² by the eigenvalues, on L by repeated steps."""
    panel, curves = curves
    start = quadratic.start @ quadratic.eigenvectors
    for n_steps, value in curves["½L²", "--"]:
        delta = start * kept_after(quadratic, n_steps) @ quadratic.eigenvectors.T
        assert value == pytest.approx(measures(quadratic, delta)[panel], rel=1e-4)
    assert n_steps > 1e6

    deltas = descend(quadratic, "L", 1000)
    points = curves["L", ":"]
    assert len(points) > 100
    for n_steps, value in points[::50]:
        expected = measures(quadratic, deltas[int(n_steps)])[panel]
        assert value == pytest.approx(expected, rel=1e-4)
    for loss, style in ("½L²", "--"), ("L", ":"):
        assert curves[loss, style][0] == pytest.approx(curves[loss, "-"][-1])


def test_the_descent_that_halves_is_drawn(quadratic, curves):
    panel, curves = curves
    start = measures(quadratic, quadratic.start)[panel]
    steps, values = curves["", "-"].T
    np.testing.assert_allclose(values, start * 0.5**steps, rtol=1e-3)


def test_legend_of_the_pixels_that_outputs_read(run):
    fig = run.figure("q4-geometry")
    mesh = fig.axes[0].collections[0]
    (legend,) = fig.legends
    for patch, text in zip(legend.get_patches(), legend.get_texts(), strict=True):
        value = (read_numbers(text.get_text()) or [3])[0]
        assert patch.get_facecolor() == pytest.approx(mesh.to_rgba(value))


def test_three_geometries_are_checked(run):
    lines = [line for line in run.lines["q4-check"] if "stride" in line]
    for k, name in enumerate(("stride", "padding", "dilation")):
        values = {read_numbers(line)[k] for line in lines}
        assert len(values) > 1, f"{name} is always the same"
