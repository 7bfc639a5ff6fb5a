"""What the notebook's helpers draw and tabulate, for data made by hand."""

import math

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def displayed(nb, monkeypatch):
    """The figures and tables that are displayed, in order."""
    displayed = []
    monkeypatch.setattr(nb, "display", lambda thing, **_: displayed.append(thing))
    monkeypatch.setattr(nb, "show_table", lambda table, *_: displayed.append(table))
    return displayed


def texts(artists):
    return [artist.get_text() for artist in artists]


# Images


@pytest.mark.parametrize("shape", [(5, 2, 3), (5, 2, 3, 3)], ids=["grey", "colour"])
def test_show_images_tiles_images_row_by_row(nb, displayed, rng, shape):
    """With margins of 1 around each image of 2 × 3 pixels."""
    images = rng.random(shape)
    nb.show_images(images, "title", 3)
    (ax,) = displayed[0].axes
    picture = ax.images[0].get_array()
    corners = [(1, 1), (1, 6), (1, 11), (5, 1), (5, 6)]
    for image, (top, left) in zip(images, corners, strict=True):
        tile = picture[top : top + 2, left : left + 3]
        np.testing.assert_array_equal(tile, image)
    assert ax.yaxis_inverted()


def test_show_images_puts_labels_at_the_middle_of_columns_and_rows(nb, displayed, rng):
    nb.show_images(rng.random((5, 2, 3)), "title", 3, "abc", ["above", "below"])
    (ax,) = displayed[0].axes
    assert texts(ax.get_xticklabels()) == ["a", "b", "c"]
    assert texts(ax.get_yticklabels()) == ["above", "below"]
    assert [*ax.get_xticks()] == [2, 7, 12]  # tiles are 5 pixels wide
    assert [*ax.get_yticks()] == [1.5, 5.5]  # and 4 high


# Logs and grids


def test_show_log_draws_loss_and_accuracy_by_epoch(nb, displayed, rng):
    log = pd.DataFrame(rng.random((3, 4)), [1, 2, 3], nb.LOG_COLUMNS)
    nb.show_log(log, "title")
    loss, accuracy = displayed[0].axes
    assert texts(loss.get_legend().get_texts()) == ["training", "validation"]
    for ax, quantity in (loss, "loss"), (accuracy, "accuracy"):
        assert quantity in ax.get_ylabel()
        for line, name in zip(ax.lines, ("training", "validation"), strict=True):
            assert [*line.get_xdata()] == [1, 2, 3]
            assert [*line.get_ydata()] == [*log[f"{name} {quantity}"]]


@pytest.fixture
def tuning(nb, displayed):
    """The two axes and the table of show_tuning.

    For two λ, larger first, × two learning rates × two seeds; one run has diverged."""
    trials = pd.DataFrame(
        {
            "lam": [0.5, 0.5, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0],
            "learning_rate": [0.1, 0.1, 2, 2, 0.1, 0.1, 2, 2],
            "train_accuracy": np.arange(90.0, 98),
            "validation_accuracy": [80.0, 82, 91, 93, 85, 87, math.nan, 99],
        }
    )
    nb.show_tuning(trials, "lam", "title")
    figure, table = displayed
    return figure.axes, table


def test_show_tuning_draws_means_over_the_seeds(tuning):
    (validation, gap), _ = tuning
    assert "validation" in validation.get_ylabel()
    assert texts(gap.get_legend().get_texts()) == ["0.5", "0"]
    expected = [[81, 92], [86, math.nan]], [[9.5, 0.5], [8.5, math.nan]]
    for ax, means in zip((validation, gap), expected, strict=True):
        curves = [np.ma.filled(line.get_ydata(), np.nan) for line in ax.lines]
        np.testing.assert_equal(curves, means)


def test_show_tuning_labels_every_learning_rate(tuning):
    axes, _ = tuning
    for ax in axes:
        assert texts(ax.get_xticklabels()) == ["0.1", "2"]
        assert [*ax.get_xticks()] == [*ax.lines[0].get_xdata()]


def test_show_tuning_tabulates_means_and_standard_deviations(tuning):
    _, table = tuning
    assert [*table.columns] == ["0.1", "2"]
    assert [*table.loc["training", "0.5"]] == ["90.50", "92.50"]
    assert [*table.loc["validation", "0.5"]] == ["81.00 ± 1.41", "92.00 ± 1.41"]
    assert [*table.loc["gap", "0.5"]] == ["9.50", "0.50"]
    assert [*table.loc["gap", "0"]] == ["8.50", "nan"]


# Less data


@pytest.fixture
def less_data(nb, displayed):
    """The figure and the table of two classifiers, not in the order of the alphabet."""
    softmax = pd.DataFrame(
        {
            "percentage": [10, 10, 100, 100],
            "train_accuracy": [99.0, 97, 95, 95],
            "test_accuracy": [60.0, 64, 70, 70],
        }
    )
    mlp = softmax.assign(test_accuracy=[80.0, 80, 90, 92])
    nb.show_accuracy_vs_percentage({"softmax": softmax, "MLP": mlp})
    return displayed


def test_accuracy_vs_percentage_is_drawn_with_standard_deviations(less_data):
    figure, _ = less_data
    (ax,) = figure.axes
    assert texts(ax.get_legend().get_texts()) == ["softmax", "MLP"]
    expected = [([62, 70], [8**0.5, 0]), ([80, 91], [0, 2**0.5])]
    for container, (means, stds) in zip(ax.containers, expected, strict=True):
        line, _, (bars,) = container.lines
        assert [*line.get_xdata()] == [10, 100]
        assert [*line.get_ydata()] == means
        lengths = [np.ptp(segment[:, 1]) for segment in bars.get_segments()]
        assert lengths == pytest.approx([2 * std for std in stds])


def test_accuracy_vs_percentage_is_tabulated(less_data):
    _, table = less_data
    test = table["test (%)"]
    assert [*test["softmax"]] == ["62.00 ± 2.83", "70.00 ± 0.00"]
    assert [*test["MLP"]] == ["80.00 ± 0.00", "91.00 ± 1.41"]
    assert [*table["training (%)"]["MLP"]] == ["98.00 ± 1.41", "95.00 ± 0.00"]


# Tables


def test_show_table_displays_text(nb, monkeypatch):
    """A missing number is left out."""
    shown = []
    monkeypatch.setattr(nb, "display", lambda data, raw: shown.append(data))
    table = pd.DataFrame({"accuracy (%)": [91, 90.126], "gap (points)": [1.5, None]})
    nb.show_table(table, "{:.2f}".format)
    header, *rows = shown[0]["text/plain"].splitlines()
    assert "accuracy (%)  gap (points)" in header
    assert [row.split() for row in rows] == [["0", "91.00", "1.50"], ["1", "90.13"]]
