"""Question 5: the L2 loss, filters recovered from their outputs, and the figures of them."""

import numpy as np
import pytest
from conftest import assert_gradient, assert_weight_gradient, finite_difference
from load_definitions import ROOT

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def outputs(rng):
    """Two arrays of outputs (2, 3, 4, 5)."""
    return rng.standard_normal((2, 2, 3, 4, 5))


def test_distance_and_gradient(nb, outputs):
    loss, (target, output) = nb.L2_loss(), outputs
    distance = loss.forward(target, output)
    assert distance == pytest.approx(np.sqrt(np.sum((target - output) ** 2)), rel=1e-14)
    assert nb.L2_loss().forward(output, target) == pytest.approx(distance)
    numerical = finite_difference(lambda moved: nb.L2_loss().forward(target, moved), output)
    assert_gradient(loss.backward(), numerical)
    assert np.linalg.norm(loss.backward()) == pytest.approx(1)  # however close the two are


def test_output_grad_scales(nb, outputs):
    loss = nb.L2_loss()
    loss.forward(*outputs)
    np.testing.assert_allclose(loss.backward(-2.5), -2.5 * loss.backward(), rtol=1e-14)


def test_chained_with_the_loss_it_is_half_the_square(nb, outputs):
    loss, (target, output) = nb.L2_loss(), outputs
    grad = loss.backward(output_grad=loss.forward(target, output))
    half_square = finite_difference(lambda moved: 0.5 * np.sum((moved - target) ** 2), output)
    assert_gradient(grad, half_square)


def test_no_distance_no_gradient(nb, outputs):
    loss, (output, _) = nb.L2_loss(), outputs
    assert loss.forward(output, output.copy()) == 0
    np.testing.assert_array_equal(loss.backward(), np.zeros_like(output))
    np.testing.assert_array_equal(loss.backward(3.0), np.zeros_like(output))


@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (3, 4, 5), (1, 3, 4, 5), ()])
def test_shapes_that_differ(nb, outputs, shape):
    with pytest.raises(ValueError) as caught:
        nb.L2_loss().forward(outputs[0], np.zeros(shape))
    assert str(shape) in str(caught.value) and "(2, 3, 4, 5)" in str(caught.value)


@pytest.mark.parametrize("entry", [1e200, 1e305, 1e-200, 5e-324, 1e-160])
@pytest.mark.parametrize("shape", [(1,), (100,), (4, 5, 6)])
def test_no_square_overflows_or_underflows(nb, entry, shape):
    loss, count = nb.L2_loss(), np.prod(shape)
    distance = loss.forward(np.zeros(shape), np.full(shape, -entry))
    assert distance == pytest.approx(entry * np.sqrt(count), rel=1e-14, abs=5e-324 * count)
    np.testing.assert_allclose(loss.backward(), -1 / np.sqrt(count), rtol=1e-14)
    assert np.linalg.norm(loss.backward()) == pytest.approx(1, rel=1e-14)


def test_gradient_of_entries_of_very_different_sizes(nb):
    loss = nb.L2_loss()
    assert loss.forward(np.array([1e200, 0.0]), np.array([1e200, 3e-200])) == 3e-200
    np.testing.assert_allclose(loss.backward(), [0, 1])
    assert type(loss.forward(np.zeros(3, np.float32), np.ones(3, np.float32))) is float


def test_the_loss_keeps_its_arguments(nb, outputs):
    kept = outputs.copy()
    loss = nb.L2_loss()
    loss.forward(*outputs)
    loss.backward(3.0)
    np.testing.assert_array_equal(outputs, kept)


def test_no_entries_no_distance(nb):
    loss = nb.L2_loss()
    assert loss.forward(np.zeros((0, 3)), np.zeros((0, 3))) == 0
    assert loss.backward().shape == (0, 3)


# --- Learning a convolution ------------------------------------------------------------------


def smooth_images(rng, count=30, size=12):
    """Images whose neighbouring pixels are alike, as in photographs: (count, 3, size, size)."""
    noise = rng.uniform(0, 1, (count, 3, size + 2, size + 2))
    rows = noise[:, :, 2:] + noise[:, :, 1:-1] + noise[:, :, :-2]
    return (rows[..., 2:] + rows[..., 1:-1] + rows[..., :-2]) / 9


@pytest.fixture
def task(nb, rng):
    """(a layer with random weights, images, the outputs of hidden filters, those filters)."""
    hidden, C = (
        nb.Convolution_Layer(3, 4, 3, bias=False, rng=rng, dtype=np.float64) for _ in range(2)
    )
    for layer in hidden, C:
        layer.set_weights(rng.uniform(-1, 1, layer.W.shape))
    x = smooth_images(rng)
    return C, x, hidden.forward(x), hidden.W


def distance(W, true):
    return np.linalg.norm(W - true) / np.linalg.norm(true)


def test_gradient_through_the_layer(nb, task):
    C, x, target, _ = task
    loss = nb.L2_loss()
    loss.forward(target, C.forward(x))
    grad = C.backward(loss.backward())
    assert_weight_gradient(C, "W", grad, lambda: np.linalg.norm(C.forward(x) - target))


def test_descent_through_loss_and_layer_comes_closer(nb, task):
    C, x, target, true = task
    loss, errors, losses = nb.L2_loss(), [], []
    for _ in range(50):
        losses.append(loss.forward(target, C.forward(x)))
        errors.append(distance(C.W, true))
        C.set_weights(C.W - 1e-5 * C.backward(loss.backward(output_grad=losses[-1])))
    assert np.all(np.diff(losses) < 0) and np.all(np.diff(errors) < 0)


@pytest.mark.parametrize("steps", [40, 80])
def test_conjugate_gradients_recover_the_filters(nb, task, steps):
    """27 unknowns a filter: 40 steps are plenty, and more do no harm."""
    C, x, target, true = task
    assert distance(C.W, true) > 0.5
    errors = []
    for W in nb.conjugate_gradients(C, x, target, steps):
        np.testing.assert_array_equal(C.W, W)  # the layer is left at it
        errors.append(distance(W, true))
    assert len(errors) == steps
    assert errors[0] > 1e-3
    assert errors[-1] <= 1e-8


@pytest.mark.parametrize("known", [1, 4])
def test_conjugate_gradients_leave_right_filters_alone(nb, task, known):
    """The first filters, or all four, are right from the start: a residual of exactly 0."""
    C, x, target, true = task
    C.set_weights(np.concatenate([true[:known], C.W[known:]]))
    for W in nb.conjugate_gradients(C, x, C.forward(x) if known == 4 else target, 40):
        np.testing.assert_allclose(W[:known], true[:known], rtol=0, atol=1e-12)
    assert distance(W, true) <= 1e-8


def test_conjugate_gradients_end_after_the_number_of_unknowns(nb, task):
    C, x, target, true = task
    *_, W = nb.conjugate_gradients(C, x, target, 27)
    assert distance(W, true) <= 1e-6


def test_first_step_is_the_steepest_one_with_an_exact_line_search(nb, task):
    """Filter by filter: the step along the gradient after which the slope along it is 0."""
    C, x, target, _ = task
    start, expected = C.W.copy(), C.W.copy()
    grad = C.backward(C.forward(x) - target)
    C.set_weights(grad)
    curved = C.backward(C.forward(x))
    for filter_, g, Ag in zip(expected, grad, curved, strict=True):
        filter_ -= np.sum(g * g) / np.sum(g * Ag) * g
    C.set_weights(start)
    np.testing.assert_allclose(next(nb.conjugate_gradients(C, x, target, 1)), expected, rtol=1e-9)


def test_every_step_of_conjugate_gradients_comes_closer(nb, task):
    C, x, target, _ = task
    losses = [np.linalg.norm(C.forward(x) - target)]
    for _ in nb.conjugate_gradients(C, x, target, 20):
        losses.append(np.linalg.norm(C.forward(x) - target))
    assert np.all(np.diff(losses) < 0)


def test_no_step_leaves_the_filters(nb, task):
    C, x, target, _ = task
    kept = C.W.copy()
    assert list(nb.conjugate_gradients(C, x, target, 0)) == []
    np.testing.assert_array_equal(C.W, kept)


def sample():
    """The 20 images of the shipped sample of CIFAR-10."""
    raw = np.fromfile(ROOT / "data" / "cifar10_sample.bin", np.uint8).reshape(-1, 3073)
    return raw[:, 1:].reshape(-1, 3, 32, 32) / 255


def given_layer(nb):
    """The layer C_0 of the assignment."""
    C0 = nb.Convolution_Layer(3, 20, 5, bias=False, dtype=np.float64)
    C0.set_weights(np.load(ROOT / "C0_weights.npy"))
    return C0


def test_fresh_layer(nb):
    """Fit for C_0's outputs, and the same at each call."""
    C, weights = nb.fresh_layer(), np.random.default_rng(0).uniform(-1, 1, (20, 3, 5, 5))
    np.testing.assert_array_equal(C.W, weights)
    assert C.b is None and C.W.dtype == np.float64
    assert C.forward(np.zeros((1, 3, 32, 32))).shape == (1, 20, 28, 28)


def fresh(nb, seed):
    """An untrained layer like C_0, with weights from U[-1, 1]."""
    C = nb.Convolution_Layer(3, 20, 5, bias=False, dtype=np.float64)
    C.set_weights(np.random.default_rng(seed).uniform(-1, 1, C.W.shape))
    return C


DEGENERATE = {  # images in which many filters are alike
    "constant": lambda: np.full((3, 3, 8, 8), 0.4),
    "constant colours": lambda: np.full((2, 3, 8, 8), 0.1) * np.arange(1, 4)[:, None, None],
    "one patch": lambda: sample()[:1, :, :5, :5],
    "three patches": lambda: sample()[:3, :, 9:14, 9:14],
    "8 x 8 crop": lambda: sample()[:4, :, :8, :8],
    "8 x 8 crop of one": lambda: sample()[7:8, :, 12:20, 12:20],
    "stripes": lambda: np.tile([0.2, 0.9], (2, 3, 9, 5)),
    "one black": lambda: sample()[:3, :, :9, :9] * np.array([1, 0, 1])[:, None, None, None],
}


@pytest.mark.parametrize("kind", DEGENERATE)
@pytest.mark.parametrize("seed", [0, 1])
def test_conjugate_gradients_of_images_that_leave_filters_open(nb, kind, seed):
    """The outputs are met although many filters meet them; nothing becomes NaN or large."""
    x, C0, C = DEGENERATE[kind](), given_layer(nb), fresh(nb, seed)
    target = C0.forward(x)
    first = np.linalg.norm(C.forward(x) - target)
    with np.errstate(all="raise", under="ignore"):
        for W in nb.conjugate_gradients(C, x, target, 75):
            assert np.isfinite(W).all()
            assert np.abs(W).max() < 100
            assert np.linalg.norm(C.forward(x) - target) <= first
    assert np.linalg.norm(C.forward(x) - target) <= 1e-8 * first


def test_conjugate_gradients_of_black_images_change_nothing(nb):
    C = fresh(nb, 0)
    kept = C.W.copy()
    for W in nb.conjugate_gradients(C, np.zeros((2, 3, 7, 7)), np.zeros((2, 20, 3, 3)), 3):
        np.testing.assert_array_equal(W, kept)


def test_conjugate_gradients_on_photographs(nb):
    """Conjugating against the last direction only leaves an error of 0.27 here."""
    x, C0, C = sample(), given_layer(nb), fresh(nb, 0)
    *_, W = nb.conjugate_gradients(C, x, C0.forward(x), 75)
    assert distance(W, C0.W) <= 1e-8


# --- Descent -----------------------------------------------------------------------------------


def test_measure_filters(nb, task):
    C, x, target, true = task
    found = nb.measure_filters(C, x, target, true)
    assert found == (
        pytest.approx(np.sqrt(np.sum((C.forward(x) - target) ** 2))),
        pytest.approx(np.sqrt(np.sum((C.W - true) ** 2) / np.sum(true**2))),
    )
    C.set_weights(true)
    assert nb.measure_filters(C, x, target, true) == (0, 0)


MATRIX = 5 * np.eye(27) + np.tri(27)  # not symmetric


@pytest.mark.parametrize(
    ("rate", "options"), [(1e-4, {}), (1e-2, {"squared": False}), (1e-5, {"inverse": MATRIX})]
)
@pytest.mark.parametrize(("count", "batch_size"), [(30, 6), (32, 7), (3, 1)])
def test_descend(nb, rng, task, rate, options, count, batch_size):
    """The same steps, written out: a fifth of the images, rounded up, in the generator's order."""
    C, _, _, true = task
    x, W = smooth_images(rng, count), C.W.copy()
    hidden = nb.Convolution_Layer(3, 4, 3, bias=False, dtype=np.float64)
    hidden.set_weights(true)
    target, expected, order = hidden.forward(x), [], np.random.default_rng(5)

    def measure():
        hidden.set_weights(W)
        expected.append((np.linalg.norm(hidden.forward(x) - target), distance(W, true)))

    measure()
    for _ in range(3):
        for x_b, target_b in nb.get_minibatch(x, target, batch_size, order):
            hidden.set_weights(W)
            difference = hidden.forward(x_b) - target_b
            scale = 1 if options.get("squared", True) else 1 / np.linalg.norm(difference)
            grad = scale * hidden.backward(difference).reshape(4, 27)
            W = W - rate * (grad @ options.get("inverse", np.eye(27))).reshape(W.shape)
        measure()
    arguments = (C, x, target, true, rate, np.random.default_rng(5))
    history = nb.descend(*arguments, passes=3, **options)
    assert history.shape == (4, 2) and history[-1, 0] < history[0, 0]
    np.testing.assert_allclose(history, expected, rtol=1e-10)
    np.testing.assert_allclose(C.W, W, rtol=1e-10)


def test_whitened_descent_recovers_the_filters_of_photographs(nb):
    """Each direction of the patches is multiplied alike, so that 20 passes arrive."""
    x, C0, C = sample(), nb.fresh_layer(), nb.fresh_layer()
    C0.set_weights(np.load(ROOT / "C0_weights.npy"))
    windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(2, 3))
    A = np.einsum("ncijuv,nCijUV->cuvCUV", windows, windows, optimize=True).reshape(75, 75)
    arguments = C, x, C0.forward(x), C0.W, 2.0, np.random.default_rng(0)
    history = nb.descend(*arguments, passes=20, inverse=np.linalg.inv(A))
    assert history[0, 1] > 0.5 and history[-1, 1] <= 1e-10


def test_descend_without_a_pass_only_measures(nb, task):
    C, x, target, true = task
    history = nb.descend(C, x, target, true, 1e-4, np.random.default_rng(0), passes=0)
    np.testing.assert_array_equal(history, [nb.measure_filters(C, x, target, true)])


# --- The figures of Questions 4 and 5 ------------------------------------------------------------


def test_panels_show_means_and_deviations(nb, shown):
    runs = np.array([[8.0, 4.0, 1.0], [10.0, 6.0, 3.0], [12.0, 2.0, 2.0]])
    curves = {"loss": {"a": ([1, 2, 3], runs), "b": ([1, 2, 3], [5.0, 4.0, 3.0])}, "error": {}}
    curves["error"]["a"] = [2, 4], [7.0, 70.0]
    nb.plots.panels(curves, "epoch", "Title")
    ((fig, alt),) = shown
    loss, error = fig.axes
    assert fig._suptitle.get_text() == "Title" and alt == "Title: loss, error over epoch"
    assert [ax.get_ylabel() for ax in fig.axes] == ["loss", "error"]
    for ax in fig.axes:
        assert (ax.get_xlabel(), ax.get_xscale(), ax.get_yscale()) == ("epoch", "linear", "log")
    a, b = loss.lines
    assert (a.get_label(), b.get_label()) == ("a", "b") and a.get_color() != b.get_color()
    np.testing.assert_allclose(a.get_xydata(), [[1, 10], [2, 4], [3, 2]])
    np.testing.assert_allclose(b.get_xydata(), [[1, 5], [2, 4], [3, 3]])
    np.testing.assert_allclose(error.lines[0].get_xydata(), [[2, 7], [4, 70]])
    band, flat = (c.get_paths()[0].vertices for c in loss.collections)
    sd = runs.std(axis=0, ddof=1)
    for k in range(3):
        edges = band[band[:, 0] == k + 1, 1]
        np.testing.assert_allclose(
            [edges.min(), edges.max()], a.get_ydata()[k] + sd[k] * np.array([-1, 1])
        )
        np.testing.assert_allclose(flat[flat[:, 0] == k + 1, 1], b.get_ydata()[k])


def legend_names(fig):
    return [text.get_text() for legend in fig.legends for text in legend.get_texts()]


@pytest.mark.parametrize("names", [["only"], ["one", "two"]])
def test_panels_have_a_legend_for_two_curves(nb, shown, names):
    nb.plots.panels({"y": {name: ([1, 2], [3.0, 4.0]) for name in names}}, "x", "T")
    assert legend_names(shown[0][0]) == (names if len(names) > 1 else [])


@pytest.mark.parametrize(("count", "marker"), [(5, "."), (150, "")])
def test_panels_mark_few_points(nb, shown, count, marker):
    nb.plots.panels({"y": {"a": (range(count), np.arange(1.0, count + 1))}}, "x", "T")
    assert shown[0][0].axes[0].lines[0].get_marker() == (marker or "")


def test_panels_with_a_log_axis_below(nb, shown):
    nb.plots.panels({"y": {"a": ([600, 6000, 60000], [3.0, 4.0, 5.0])}}, "x", "T", "log")
    ax = shown[0][0].axes[0]
    assert ax.get_xscale() == "log"
    assert [t.get_text() for t in ax.get_xticklabels()] == ["600", "6,000", "60,000"]


def test_methods_figure(nb, shown):
    histories = {
        "descent": np.array([[100.0, 1.0], [50.0, 0.9], [30.0, 0.8]]),
        "conjugate": np.array([[100.0, 1.0], [1e-6, 1e-9]]),
    }
    nb.plots.methods(histories)
    ((fig, _),) = shown
    left, right = fig.axes
    assert "distance" in left.get_ylabel() and "filters" in right.get_ylabel()
    for ax, column in (left, 0), (right, 1):
        assert ax.get_yscale() == "log" and "pass" in ax.get_xlabel()
        assert [line.get_label() for line in ax.lines] == list(histories)
        for line, history in zip(ax.lines, histories.values(), strict=True):
            np.testing.assert_array_equal(line.get_xdata(), range(len(history)))
            np.testing.assert_array_equal(line.get_ydata(), history[:, column])
    assert legend_names(fig) == list(histories)


def test_methods_table(nb, monkeypatch):
    tables = []
    monkeypatch.setattr(nb.plots, "table", lambda *arguments: tables.append(arguments))
    histories = {"a": np.array([[100.0, 1.0], [50.5, 0.9], [31.0, 0.25]]), "b": np.ones((1, 2))}
    assert nb.plots.methods_table(histories) == {
        "a": "distance 31, error 0.25",
        "b": "distance 1, error 1",
    }
    ((header, rows),) = tables
    assert rows == [("a", 2, "31", "0.25"), ("b", "", "1", "1")]
    assert len(header) == 4 and "distance" in header[2] and "error" in header[3]


def test_bowl_figure(nb, shown, monkeypatch):
    contours, paths = [], {"slow": np.array([[-9, 1], [-8, 0.5]]), "fast": np.array([[-9.0, 1]])}
    monkeypatch.setattr(nb.plots.plt.Axes, "contour", lambda *given, **_: contours.append(given))
    nb.plots.bowl(np.array([2.0, 6.0]), paths)
    ((fig, alt),) = shown
    assert alt.endswith("slow, fast") and [ax.get_title() for ax in fig.axes] == [*paths]
    for ax, path, (drawn_in, a, b, height, levels) in zip(
        fig.axes, paths.values(), contours, strict=True
    ):
        assert drawn_in is ax and (ax.get_xlabel(), ax.get_ylabel()) == ("a", "b")
        np.testing.assert_array_equal(ax.lines[0].get_xydata(), path)
        np.testing.assert_allclose(height, a**2 + 3 * b**2)
        assert (a.min(), a.max()) == ax.get_xlim() and (b.min(), b.max()) == ax.get_ylim()
        assert height.min() < levels.min() and levels.max() < height.max()


def test_filters_figure(nb, rng, shown, caplog):
    rows = {"true": rng.uniform(-1, 1, (4, 3, 5, 5)), "learned": rng.uniform(-3, 3, (4, 3, 5, 5))}
    rows["true"][0] = 0
    nb.plots.filters(rows, "Filters")
    ((fig, alt),) = shown
    assert alt == "Filters" == fig._suptitle.get_text() and len(fig.axes) == 8
    for k, ax in enumerate(fig.axes):
        values = [*rows.values()][k // 4][k % 4].transpose(1, 2, 0)
        expected = (np.clip(values, -1, 1) + 1) / 2
        np.testing.assert_allclose(ax.images[0].get_array(), expected)
        assert ax.get_ylabel() == ({0: "true", 4: "learned"}.get(k, ""))
    assert np.all(fig.axes[0].images[0].get_array() == 0.5)
    assert not caplog.records  # matplotlib clips too, and says so


def test_geometry_figure(nb, rng, shown):
    plots = nb.plots
    settings = [{}, {"stride": 2}, {"stride": 2, "dilation": 3}]
    reads = rng.integers(0, 4, (3, 6, 5)).astype(float)
    blurred = [rng.random((30, 31, 3)), rng.random((15, 16, 3)), rng.random((13, 14, 3))]
    plots.geometry(settings, reads, blurred)
    ((fig, alt),) = shown
    above, below = fig.axes[:3], fig.axes[3:]
    titles = ["stride 1, dilation 1", "stride 2", "stride 2, dilation 3"]
    assert [ax.get_title() for ax in above] == titles
    colours = ["#EEEEEE", plots.BLUE, plots.ORANGE, plots.PINK]
    for ax, read in zip(above, reads, strict=True):
        (mesh,) = ax.collections
        np.testing.assert_array_equal(np.reshape(mesh.get_array(), read.shape), read[::-1])
        for value, colour in enumerate(colours):
            assert plots.plt.matplotlib.colors.to_hex(mesh.to_rgba(value)).upper() == colour
        assert ax.get_aspect() == 1
    for ax, picture in zip(below, blurred, strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), picture)
        assert ax.get_xlabel() == f"32 × 32 → {len(picture)} × {picture.shape[1]}"
    (legend,) = fig.legends
    patches = [plots.plt.matplotlib.colors.to_hex(p.get_facecolor()) for p in legend.get_patches()]
    assert [patch.upper() for patch in patches] == colours[1:]
    first, second, both = legend_names(fig)
    assert "first" in first and "second" in second and "both" in both and alt
