"""What goes beyond the assignment: 6.1, and the second notebook, further/convnet.ipynb,
whose cells run once on a fiftieth of the images."""

import contextlib
import io
import re
from types import SimpleNamespace

import numpy as np
import pytest
from load_definitions import CONVNET, ROOT, load_definitions
from matplotlib.colors import to_rgb
from reader import Cells, read_notebook
from references import (
    GEOMETRIES,
    accuracy,
    assert_convolves,
    assert_in_order,
    wilson_interval,
)
from scipy.ndimage import map_coordinates

SECOND = Cells(read_notebook(CONVNET).cells)


@pytest.fixture(scope="module")
def convnet():
    """The second notebook's definitions as a module."""
    return load_definitions(CONVNET)


@pytest.fixture(scope="module")
def second(nb):
    """Names that its cells leave behind, arguments of `fit`, and what is printed."""
    left, fit, printed = {"__name__": "__main__"}, nb.fit, io.StringIO()

    def record_fit(*args, **settings):
        left["fit_arguments"] = args, settings
        return fit(*args, **settings)

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(nb, "fit", record_fit)
        patch.setattr(nb, "show", lambda fig, alt: None)
        for cell in SECOND.cells:
            if cell.cell_type == "code":
                exec(cell.source.replace("SHARE = 1.0", "SHARE = 0.02"), left)
    return SimpleNamespace(**left, printed=printed.getvalue())


@pytest.mark.parametrize(("k", "stride", "padding", "dilation"), GEOMETRIES)
def test_the_fast_layer_agrees_with_scipy(convnet, rng, k, stride, padding, dilation):
    assert_convolves(convnet.Fast_Convolution_Layer, rng, k, stride, padding, dilation)


def test_gradients_of_the_convnet(nb, convnet, rng):
    """Of each W and b, about 20 entries are checked."""
    network = convnet.ConvNet(rng=rng, dtype=np.float64)
    x, y = rng.standard_normal((3, 784)), rng.integers(0, 3, 3)
    checks = [*nb.gradients_to_check(network, x, y, 0.2)]
    assert len(checks) == 8
    for _, function, array, gradient in checks:
        step = 1 + array.size // 20
        numerical = nb.numerical_gradient(function, array.reshape(-1)[::step])
        analytic = gradient.reshape(-1)[::step]
        assert np.any(analytic) and nb.relative_error(analytic, numerical) < 1e-6


@pytest.mark.parametrize("reach", [0.0, 0.8, 2.5, 60.0])
def test_warp_agrees_with_scipy(convnet, rng, reach):
    """Bilinear between pixels, and 0 outside of the image."""
    images = rng.random((3, 784), dtype=np.float32)
    displacement = rng.uniform(-reach, reach, (2, 3, 784)).astype(np.float32)
    warped = convnet.warp(images, displacement)
    assert warped.dtype == np.float32
    for n, image in enumerate(images.reshape(3, 28, 28)):
        positions = np.indices((28, 28)) - displacement[:, n].reshape(2, 28, 28)
        expected = map_coordinates(image, positions, order=1, mode="grid-constant")
        np.testing.assert_allclose(warped[n].reshape(28, 28), expected, atol=1e-5)


def test_the_convnet_is_trained_on_distorted_digits(nb, second):
    """And watched and tested on digits as they are; its accuracies are printed."""
    sets = nb.load_mnist(ROOT / "data" / "mnist", 0.02)
    (make_model, *given), settings = second.fit_arguments
    assert make_model is second.ConvNet
    assert settings == second.convnet_settings | {"augment": second.distort}
    for dataset, expected in zip(given, sets[:2], strict=True):
        np.testing.assert_array_equal(dataset.x, expected.x)
        np.testing.assert_array_equal(dataset.y, expected.y)
    model, test = second.convnet_run.model, sets[2]
    parts = [accuracy(model, dataset) for dataset in sets[:2]]
    parts += wilson_interval(nb.predict(model, test.x) == test.y)
    assert_in_order(second.printed, *parts)


def test_readme_and_both_texts_quote_the_saved_test_accuracy():
    """Of a whole run: on few images, it is lower."""
    result = re.search(r"test accuracy: (.*\))", SECOND.printed)[1]
    readme = (ROOT / "README.md").read_text("utf-8")
    assert f"| convolutional network, test accuracy | {result} |" in readme
    first = Cells(read_notebook().cells).source("markdown")
    assert f"reaches {result.split()[0]} on test images" in first


def test_bugs_caught_by_checks_that_train(run, ns):
    """Twenty images and one epoch, of three seeds without a bug, then of each bug; in
    the figure, a row for each bug, dark where it is caught."""
    calls = run.calls_in("fit", "bugs-alarms")
    assert [call.arguments["seed"] for call in calls] == [0, 0, 1, 1, 2, 2] + 7 * [0, 0]
    assert all(call.arguments["train"] is ns.twenty for call in calls[::2])
    memorised = np.array([call.result.train_accuracy for call in calls[::2]])
    after_epoch = np.array([call.result.validation_accuracy for call in calls[1::2]])
    rows = np.concatenate([ns.correct_networks, ns.bug_table[1:]])[:, 1:]
    np.testing.assert_array_equal(rows.T, [memorised, after_epoch])
    assert_in_order(run.printed["6.1"], "correct", *after_epoch[:3].tolist())
    numbers, limit = ns.bug_table.to_numpy(), min(after_epoch[:3])
    assert all(checks[0] <= 1e-7 for checks in ns.correct_networks)
    passed = numbers[:, 0] <= 1e-7, numbers[:, 1] == 100, numbers[:, 2] >= limit
    caught = ~np.transpose(passed)
    tally = "of 7: gradient check {}, twenty images {}, one epoch {}"
    assert tally.format(*caught[1:].sum(axis=0)) in run.printed["6.1"]
    assert ns.bug_table.index[0] == "correct network"
    assert tuple(numbers[0]) == ns.correct_networks[0]
    (ax,) = run.axes_in("bugs-figure")
    shown = {text.get_position(): text.get_text() for text in ax.texts}
    for row, label in enumerate(ns.bug_table.index):
        assert shown[-3.9, row] == label.split("\n")[0]
    for bar, ((row, column), number) in zip(
        ax.patches, np.ndenumerate(numbers), strict=True
    ):
        text = ("{:.2g}", "{:.0f}%", "{:.2f}%")[column].format(number)
        assert shown[column + 0.5, row] == text.replace("nan%", "diverges")
        np.testing.assert_allclose(bar.get_center(), [column + 0.5, row])
        is_orange = bar.get_facecolor()[:3] == to_rgb(ns.ORANGE)
        assert is_orange == (row > 0 and not caught[row, column])
