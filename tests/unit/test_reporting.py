"""What the notebook's helpers draw, tabulate and answer, for data made by hand.

Captions, labels and colours are free; numbers and their places are not."""

import itertools
import math
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import references


@pytest.fixture
def displayed(nb, monkeypatch):
    """The figures and tables that are displayed, in order."""
    displayed = []
    monkeypatch.setattr(nb, "display", lambda thing, **_: displayed.append(thing))
    monkeypatch.setattr(nb, "show_table", lambda table, *_: displayed.append(table))
    return displayed


@pytest.mark.parametrize("shape", [(5, 2, 3), (5, 2, 3, 3)], ids=["grey", "colour"])
def test_show_images_tiles_images_row_by_row(nb, displayed, rng, shape):
    """With margins of 1 around each image of 2 × 3 pixels; labels in the middle."""
    images = rng.random(shape)
    nb.show_images(images, "title", 3, "abc", ["above", "below"])
    (ax,) = displayed[0].axes
    picture = ax.images[0].get_array()
    corners = [(1, 1), (1, 6), (1, 11), (5, 1), (5, 6)]
    for image, (top, left) in zip(images, corners, strict=True):
        tile = picture[top : top + 2, left : left + 3]
        np.testing.assert_array_equal(tile, image)
    assert ax.yaxis_inverted()
    assert [*ax.get_xticks()] == [2, 7, 12] and [*ax.get_yticks()] == [1.5, 5.5]


def test_show_log_draws_loss_and_accuracy_by_epoch(nb, displayed, rng):
    """Of training and of validation, in the order of the log's columns."""
    log = pd.DataFrame(rng.random((3, 4)), [1, 2, 3], nb.LOG_COLUMNS)
    nb.show_log(log, "title")
    for ax, columns in zip(displayed[0].axes, ([0, 2], [1, 3]), strict=True):
        for line, column in zip(ax.lines, columns, strict=True):
            assert [*line.get_xdata()] == [1, 2, 3]
            assert [*line.get_ydata()] == [*log.iloc[:, column]]


def test_show_tuning_draws_and_tabulates_means_over_the_seeds(nb, displayed):
    """Two λ, larger first, × two learning rates × two seeds; one run has diverged."""
    settings = itertools.product((0.5, 0), (0.1, 2), (1, 2))
    trials = pd.DataFrame(settings, columns=["lam", "learning_rate", "seed"])
    trials["train_accuracy"] = np.arange(90.0, 98)
    trials["validation_accuracy"] = [80.0, 82, 91, 93, 85, 87, math.nan, 99]
    nb.show_tuning(trials, "lam", "title")
    figure, table = displayed
    expected = [[81, 92], [86, math.nan]], [[9.5, 0.5], [8.5, math.nan]]
    for ax, means in zip(figure.axes, expected, strict=True):
        curves = [np.ma.filled(line.get_ydata(), np.nan) for line in ax.lines]
        np.testing.assert_equal(curves, means)
    assert [*table.iloc[0]] == ["90.50", "92.50"]  # training, first λ
    assert "81.00 ± 1.41" in table.to_numpy() and "9.50" in table.to_numpy()


def test_accuracy_vs_percentage_is_drawn_and_tabulated(nb, displayed):
    """Means and standard deviations, and the names not in the order of the alphabet."""
    columns = ["percentage", "train_accuracy", "test_accuracy"]
    rows = [(10, 99.0, 60.0), (10, 97, 64), (100, 95, 70), (100, 95, 70)]
    softmax = pd.DataFrame(rows, columns=columns)
    mlp = softmax.assign(test_accuracy=[80.0, 80, 90, 92])
    nb.show_accuracy_vs_percentage({"softmax": softmax, "MLP": mlp})
    references.assert_in_order(nb.percentages_text(mlp), 10, 80.0, 100, 91.0)
    figure, table = displayed
    curves = [container.lines for container in figure.axes[0].containers]
    assert [[*line.get_ydata()] for line, *_ in curves] == [[62, 70], [80, 91]]
    lengths = [np.ptp(s[:, 1]) for *_, (bars,) in curves for s in bars.get_segments()]
    assert lengths == pytest.approx([2 * 8**0.5, 0, 0, 2 * 2**0.5])
    texts = ["62.00 ± 2.83", "70.00 ± 0.00", "80.00 ± 0.00", "91.00 ± 1.41"]
    assert [*table.iloc[:, 1]] == texts


@pytest.mark.parametrize(
    ("training", "validation", "degree"),
    [
        (95.9, 92, "mild"),
        (96.1, 92, "clear"),
        (92, 92, "no"),
        (math.nan, math.nan, "no"),
    ],
)
def test_overfitting_is_clear_if_the_validation_error_is_twice_the_training_error(
    nb, training, validation, degree
):
    runs = {"train_accuracy": [training] * 2, "validation_accuracy": [validation] * 2}
    words = {*nb.overfitting_text(pd.DataFrame(runs)).split()}
    assert {"mild", "clear", "no"} & words == {degree}


def test_intervals_and_paired_differences(nb, rng):
    correct, others = rng.random((2, 400)) < [[0.9], [0.8]]
    expected = references.wilson_interval(correct)
    assert nb.wilson_interval(correct) == pytest.approx(expected)
    references.assert_in_order(nb.accuracy_text(correct), *expected)
    difference = references.paired_difference(correct, others)
    assert nb.paired_difference(correct, others) == pytest.approx(difference)


def test_record_answer_replaces_an_earlier_answer_to_the_same_question(nb, monkeypatch):
    """In two tables: Questions 1 and 2, and the others."""
    display = Mock()
    monkeypatch.setattr(nb, "ANSWERS", {})
    monkeypatch.setattr(nb, "display", display)
    for section in "", 7.1:  # refused, and not kept
        with pytest.raises(AssertionError):
            nb.record_answer(section, "first", "old")
    nb.record_answer("2.9 B", "first", "old")
    nb.record_answer("2.9 B", "first", "2<br>3")
    nb.record_answer("3.5 C", "third", "4")
    expected = {
        "answers": ["| [2.9](#2.9-B) | first | 2<br>3 |"],
        "more-answers": ["| [3.5](#3.5-C) | third | 4 |"],
    }
    for (table,), options in display.call_args_list[-2:]:
        assert table.data.splitlines()[2:] == expected[options["display_id"]]
