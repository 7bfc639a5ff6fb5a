"""What the notebook's helpers draw, tabulate and say, for data made by hand."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt


@pytest.fixture
def shown(nb, monkeypatch):
    """The figures and tables that a function shows."""
    shown = SimpleNamespace(figures=[], tables=[])
    monkeypatch.setattr(nb, "show", lambda fig, alt: shown.figures.append(fig))
    monkeypatch.setattr(nb, "show_table", lambda table, *_: shown.tables.append(table))
    yield shown
    plt.close("all")


def test_show_tuning_has_means_and_gaps_over_the_seeds(nb, shown, capsys):
    """For two λ, larger first, × two rates × two seeds, of which one run diverged."""
    settings = itertools.product((0.5, 0), (0.1, 2), (1, 2))
    trials = pd.DataFrame(settings, columns=["lam", "learning_rate", "seed"])
    trials["train_accuracy"] = np.arange(90.0, 98)
    trials["validation_accuracy"] = [80.0, 82, 91, 93, 85, 87, math.nan, 99]
    nb.show_tuning(trials, "lam", "title")
    accuracies, gaps = shown.tables
    assert accuracies.loc["0.5"].tolist() == ["81.00 ± 1.41", "92.00 ± 1.41"]
    assert accuracies.loc["0.0"].tolist() == ["86.00 ± 1.41", "nan ± nan"]
    assert gaps.loc["0.5"].tolist() == ["9.50", "0.50"]
    assert gaps.loc["0.0"].tolist() == ["8.50", "nan"]
    assert [*accuracies.columns] == [*gaps.columns] == ["0.1", "2.0"]
    quantities = capsys.readouterr().out.splitlines()
    assert "accuracy" in quantities[0] and "gap" in quantities[1]
    (ax,) = shown.figures[0].axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.1", "2.0"]
    np.testing.assert_allclose(ax.get_xticks(), [0.1, 2])
    rows = ("0.5", [81, 92], 2 * [2**0.5]), ("0.0", [86, math.nan], [2**0.5])
    for bars, (label, means, stds) in zip(ax.containers, rows, strict=True):
        assert bars.get_label() == label
        line, _, (lengths,) = bars
        x, y = line.get_xydata().T
        np.testing.assert_allclose(x, [0.1, 2], rtol=0.1)
        np.testing.assert_allclose(y, means)
        ends = [segment[:, 1] for segment in lengths.get_segments() if len(segment)]
        np.testing.assert_allclose(np.ptp(ends, axis=1) / 2, stds)


def test_show_log_draws_each_column_over_the_epochs(nb, shown):
    log = pd.DataFrame(np.arange(12.0).reshape(3, 4) ** 2, [1, 2, 3], nb.LOG_COLUMNS)
    nb.show_log(log, "title")
    for ax, quantity in zip(shown.figures[0].axes, ("loss", "accuracy"), strict=True):
        assert quantity in ax.get_ylabel()
        for line, name in zip(ax.lines, ("training", "validation"), strict=True):
            assert name in line.get_label()
            np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
            np.testing.assert_array_equal(line.get_ydata(), log[f"{name} {quantity}"])


def test_show_percentages_draws_means_and_deviations_over_the_seeds(nb, shown):
    trials = pd.DataFrame({"percentage": [50, 10, 50, 10]})
    first = trials.assign(test_accuracy=[95.0, 80, 97, 84])
    second = trials.assign(test_accuracy=[99.0, 90, 99, 91])
    nb.show_percentages({"first": first, "second": second})
    (ax,) = shown.figures[0].axes
    rows = ("first", [82, 96], [8, 2]), ("second", [90.5, 99], [0.5, 0])
    for bars, (label, means, variances) in zip(ax.containers, rows, strict=True):
        assert bars.get_label() == label
        np.testing.assert_allclose(bars[0].get_xydata().T, [[10, 50], means])
        ends = np.array(bars[2][0].get_segments())[:, :, 1]
        np.testing.assert_allclose((np.ptp(ends, axis=1) / 2) ** 2, variances)


@pytest.mark.parametrize("channels", [(), (3,)], ids=["grey", "colour"])
def test_tile_k_of_show_images_is_image_k(nb, rng, channels):
    """Five images of 4 × 6 pixels in rows of three, from the top left, with labels."""
    images = rng.random((5, 4, 6, *channels))
    _, ax = plt.subplots()
    nb.show_images(images, "title", 3, ["c", "a", "b"], ["z", "y"], ax)
    labels = [*ax.get_xticklabels(), *ax.get_yticklabels()]
    assert [label.get_text() for label in labels] == ["c", "a", "b", "z", "y"]
    picture = ax.images[0].get_array()
    height, width = picture.shape[0] // 2, picture.shape[1] // 3
    np.testing.assert_allclose(ax.get_xticks(), width * np.arange(0.5, 3) - 0.5)
    np.testing.assert_allclose(ax.get_yticks(), height * np.arange(0.5, 2) - 0.5)
    top, left = (height - 4) // 2, (width - 6) // 2  # of an image in its tile
    for k, image in enumerate(images):
        y, x = k // 3 * height + top, k % 3 * width + left
        np.testing.assert_array_equal(picture[y : y + 4, x : x + 6], image)


@pytest.mark.parametrize(
    ("training", "degree"), [(91.9, "no"), (95.9, "mild"), (96.1, "clear")]
)
def test_overfitting_is_clear_if_the_validation_error_is_twice_the_training_error(
    nb, training, degree
):
    runs = {"train_accuracy": [training] * 2, "validation_accuracy": [92, 92]}
    assert nb.overfitting_text(pd.DataFrame(runs)).startswith(f"{degree} overfitting")
