"""What results look like: answers, texts, tables and figures show what they are given.

Names of parts and classes are odd ones here: labels must come from the data."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import Echo
from matplotlib.colors import to_hex

pytestmark = pytest.mark.filterwarnings("error")


# --- Answers -----------------------------------------------------------------------


@pytest.fixture
def answers(nb, monkeypatch):
    """The record of answers, empty; answers.cell(k) is the k-th cell that is run."""

    class Answers(dict):
        def cell(self, count):
            shell = SimpleNamespace(execution_count=count)
            monkeypatch.setattr(nb, "get_ipython", lambda: shell)

    monkeypatch.setattr(nb, "ANSWERS", recorded := Answers())
    recorded.cell(1)
    return recorded


def test_record_keeps_section_text_and_numbers(nb, answers):
    nb.record("1.8 Tuning", "Find λ", "λ = 1", exact=np.int64(3), accuracy=(0.25, 0.5))
    nb.record("3.8 Bonus", "Find λ", "none")
    nb.record("6.2 The file", "Look", "done", error=np.float32([0.5]), number=[1, 2.5])
    assert list(answers) == ["Q1: Find λ", "Q3: Find λ", "Further: Look"]
    first, second, third = answers.values()
    assert first == ("1.8 Tuning", "λ = 1", {"exact": 3, "accuracy": [0.25, 0.5]}, 1)
    assert second.values == {} and third.values == {"error": [0.5], "number": [1, 2.5]}
    assert type(first.values["exact"]) is int  # plain numbers, for JSON


@pytest.mark.parametrize("section", ["1.8 Tuning", "1.9 Test"])
def test_record_refuses_a_second_answer_of_the_same_name(nb, answers, section):
    nb.record("1.8 Tuning", "Find λ", "1")
    kept = dict(answers)
    with pytest.raises(
        ValueError, match=r"Q1: Find λ.*already, in section 1\.8 Tuning"
    ):
        nb.record(section, "Find λ", "2")
    assert answers == kept


def test_a_cell_that_is_run_again_replaces_its_answer(nb, answers):
    nb.record("1.8 Tuning", "Find λ", "1")
    answers.cell(2)
    nb.record("1.8 Tuning", "Find λ", "2")
    assert answers["Q1: Find λ"].text == "2"
    answers.cell(3)  # another section's
    with pytest.raises(ValueError, match="already"):
        nb.record("1.9 Test", "Find λ", "3")


def test_record_refuses_numbers_of_another_kind(nb, answers):
    with pytest.raises(ValueError, match=r"exact.*not \['accuracies', 'number'\]"):
        nb.record("1.8 Tuning", "Find λ", "1", accuracies=0.5, number=1)
    assert not answers


# --- Texts and tables --------------------------------------------------------------


def test_texts(nb):
    assert nb.percent(0.12344) == "12.34 %"
    assert nb.percent(0.5, 0.0, 0.625) == "50.00 % (0.00 to 62.50)"
    assert nb.mean_sd([0.1, 0.2, 0.6]) == f"30.00 ± {100 * math.sqrt(0.07):.2f} %"


@pytest.fixture
def displayed(nb, monkeypatch):
    """What IPython is given to display: (object, metadata)."""
    given = []
    monkeypatch.setattr(
        nb, "display", lambda shown, metadata=None: given.append((shown, metadata))
    )
    return given


def test_table(nb, displayed):
    nb.table(["what", "n", "share"], [("x", 3, "5 %"), ("y", 4, "6 %")], {"a": 1})
    ((markdown, metadata),) = displayed
    assert metadata == {"a": 1}
    assert markdown.data == (
        "| what | n | share |\n| :-- | --: | --: |\n| x | 3 | 5\N{NO-BREAK SPACE}% |\n"
        "| y | 4 | 6\N{NO-BREAK SPACE}% |"
    )


def test_show_describes_the_axes_and_closes_the_figure(nb, displayed):
    fig, (left, right) = nb.plt.subplots(1, 2)
    left.plot([1, 2], [3, 4], label="a")
    left.plot([1, 2], [4, 3], label="b")
    left.set(title="T", xlabel="x", ylabel="y", yscale="log")
    left.legend()
    right.imshow(np.eye(2))
    nb.show(fig, "what it shows")
    ((found, metadata),) = displayed
    described, plain = metadata["image/png"]["axes"]
    assert found is fig and metadata["image/png"]["alt"] == "what it shows"
    assert described == {
        "title": "T",
        "x": "x",
        "y": "y",
        "scales": ["linear", "log"],
        "legend": ["a", "b"],
        "curves": 2,
        "images": 0,
    }
    assert plain["legend"] == [] and plain["images"] == 1 and plain["curves"] == 0
    assert not nb.plt.fignum_exists(fig.number)


# --- Figures -----------------------------------------------------------------------


def caption(fig, alt):
    """All that a reader is told outside the axes."""
    return f"{fig.get_suptitle()} {alt}"


def pictures_of(fig):
    """{place of the axes: the image in it}"""
    return {k: ax.images[0].get_array() for k, ax in enumerate(fig.axes) if ax.images}


def test_image_grid(nb, shown, rng):
    pictures = rng.random((5, 2, 3))
    nb.image_grid(pictures, "Five", list("vwxyz"), columns=3, row_names=["top", "low"])
    ((fig, alt),) = shown
    assert "Five" in fig.get_suptitle() and "Five" in alt
    drawn = pictures_of(fig)
    assert list(drawn) == [0, 1, 2, 3, 4] and len(fig.axes) == 6
    for k, picture in enumerate(pictures):
        np.testing.assert_array_equal(drawn[k], picture)
    assert [ax.get_title() for ax in fig.axes] == [*"vwxyz", ""]
    names = [[text.get_text() for text in ax.texts] for ax in fig.axes]
    assert names == [["top"], [], [], ["low"], [], []]


@pytest.mark.parametrize("columns", [5, 7])
def test_image_grid_of_one_row_and_options(nb, shown, rng, columns):
    nb.image_grid(rng.random((5, 2, 3, 3)), "T", columns=columns)
    nb.image_grid(rng.random((1, 2, 3)), "T", columns=1, vmin=-2, vmax=5)
    assert [len(pictures_of(fig)) for fig, _ in shown] == [5, 1]
    assert shown[1][0].axes[0].images[0].get_clim() == (-2, 5)


def test_templates(nb, shown, rng):
    rows = {name: k * rng.standard_normal((6, 3)) for k, name in enumerate("pqr", 1)}
    nb.show_templates(rows, ["a", "b", "c"], (2, 3), "Weights")
    ((fig, alt),) = shown
    assert "Weights" in caption(fig, alt)
    for (row, (name, W)), k in itertools.product(enumerate(rows.items()), range(3)):
        ax = fig.axes[3 * row + k]
        expected = W[:, k].reshape(2, 3) / np.percentile(abs(W), 99.5)
        np.testing.assert_allclose(ax.images[0].get_array(), expected)
        assert ax.images[0].get_clim() == (-1, 1)
        assert ax.get_title() == ("" if row else "abc"[k])
        assert [text.get_text() for text in ax.texts] == ([] if k else [name])
    positive = fig.axes[0].images[0].cmap(0.9)  # "orange for"
    assert positive[0] > positive[2]


def test_mistakes_are_titled_true_to_predicted(nb, shown, rng):
    """Classes 0 to 2; images are their scores, of 1 x 3 pixels."""
    x = np.array([[0, 0, 9.0], [5, 0, 0], [0, 4, 0], [1, 0, 0]])
    part = nb.Part(x, np.array([0, 0, 2, 1]), "kites")
    data = nb.Data(None, None, None, ["sun", "sea", "sky"], (1, 3))
    nb.show_mistakes(Echo(), part, data, "Net", count=2)
    nb.show_mistakes(Echo(), part, data, "Net")
    (fig, alt), (all_of_them, _) = shown
    assert "kites" in alt and "kites" in fig.get_suptitle() and "Net" in alt
    drawn = pictures_of(fig)
    np.testing.assert_array_equal(list(drawn.values()), x[[0, 2], None])
    titles = [ax.get_title() for ax in fig.axes if ax.images]
    assert titles == ["sun → sky", "sky → sea"]
    assert len(pictures_of(all_of_them)) == 3


def lines_of(ax):
    return {line.get_label(): np.array(line.get_data()) for line in ax.lines}


def band_at(collection, x):
    """The lower and upper edge of a band at x."""
    vertices = collection.get_paths()[0].vertices
    found = vertices[vertices[:, 0] == x, 1]
    return found.min(), found.max()


def run_of(nb, *, seed=0, train=0.0, valid=0.0, history=None, **settings):
    scores = nb.Score("blue", 0.0, train), nb.Score("red", 0.0, valid)
    return nb.Run(None, seed, settings, history, *scores)


def test_histories(nb, shown):
    """Mean ± sample deviation of two runs, loss and accuracy, of every set."""
    blue = [[(0.5, 2.0, 0.5), (1.5, 1.0, 0.75)], [(0.5, 4.0, 0.7), (1.5, 1.0, 0.95)]]
    red = [[(2, 0.5, 0.8)], [(2, 0.7, 0.9)]]
    runs = [
        run_of(nb, history={"blue": b, "red": r})
        for b, r in zip(blue, red, strict=True)
    ]
    nb.show_histories(runs, "Title")
    ((fig, alt),) = shown
    loss, accuracy = fig.axes
    assert "Title" in caption(fig, alt) and "blue" in alt and "red" in alt
    assert "loss" in loss.get_ylabel() and "accuracy" in accuracy.get_ylabel()
    for ax, blue_y, red_y in (loss, [3, 1], [0.6]), (accuracy, [60, 85], [85]):
        assert "epoch" in ax.get_xlabel()
        lines = lines_of(ax)
        assert list(lines) == ["blue", "red"]
        np.testing.assert_allclose(lines["blue"], [[0.5, 1.5], blue_y])
        np.testing.assert_allclose(lines["red"], [[2], red_y])
    assert [text.get_text() for text in accuracy.get_legend().texts] == ["blue", "red"]
    sd = math.sqrt(2)
    assert band_at(loss.collections[0], 0.5) == pytest.approx((3 - sd, 3 + sd))
    assert band_at(accuracy.collections[0], 0.5) == pytest.approx(
        (60 - 10 * sd, 60 + 10 * sd)
    )


def test_histories_of_one_run_have_no_band(nb, shown):
    rows = [(0.5, 2.0, 0.5), (1.5, 1.0, 0.75)]
    nb.show_histories([run_of(nb, history={"blue": rows})], "One")
    loss = shown[0][0].axes[0]
    assert list(lines_of(loss)) == ["blue"]
    assert band_at(loss.collections[0], 0.5) == (2, 2)


GRID = {"learning_rate": [1, 2.5, 3], "lam": [0.0, 3e-4]}


@pytest.fixture
def trials(nb):
    """Training and validation accuracies of a grid; the last pair has diverged."""
    trained = [0.99, 0.80, 0.70, 0.90, 0.95, np.nan]
    valid = [0.80, 0.85, 0.71, 0.60, 0.84, np.nan]
    pairs = itertools.product(GRID["lam"], GRID["learning_rate"])
    return [
        nb.Trial(
            {"epochs": 5, "lam": lam, "learning_rate": rate},
            nb.Score("blue", 0.0, blue),
            nb.Score("red", 0.0, red),
        )
        for (lam, rate), blue, red in zip(pairs, trained, valid, strict=True)
    ]


def test_tuning_table(nb, tables, trials):
    nb.tuning_table(trials, GRID)
    ((header, *rows),) = tables
    assert "blue / red" in header[0]
    assert header[1:] == [f"{nb.LABELS['learning_rate']} {k}" for k in (1, 2.5, 3)]
    assert [row[0] for row in rows] == [
        f"{nb.LABELS['lam']} = {v}" for v in (0, 0.0003)
    ]
    assert [row[1:] for row in rows] == [
        ["99.00 / 80.00 / +19.00", "80.00 / 85.00 / -5.00", "70.00 / 71.00 / -1.00"],
        ["90.00 / 60.00 / +30.00", "95.00 / 84.00 / +11.00", "diverges"],
    ]


def test_heat_maps_of_tuning(nb, shown, trials):
    nb.show_tuning(trials, GRID, "Toy")
    ((fig, alt),) = shown
    left, right, *bars = fig.axes
    assert "Toy" in caption(fig, alt) and "red" in alt and "blue" in alt
    assert "red" in left.get_title() and "blue" not in left.get_title()
    assert "blue − red" in right.get_title() and len(bars) == 2
    valid, gap = (ax.images[0].get_array().filled(np.nan) for ax in (left, right))
    np.testing.assert_allclose(valid, [[80, 85, 71], [60, 84, np.nan]])
    np.testing.assert_allclose(gap, [[19, -5, -1], [30, 11, np.nan]])
    assert left.images[0].get_clim() == pytest.approx((82, 85))
    assert right.images[0].get_clim() == pytest.approx((0, 30))
    (frame,) = left.patches
    assert not right.patches and frame.get_center() == pytest.approx((1, 0))  # the 85
    for ax in left, right:
        assert ax.get_xlabel() == nb.LABELS["learning_rate"]
        assert ax.get_ylabel() == nb.LABELS["lam"]
        assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "2.5", "3"]
        assert [t.get_text() for t in ax.get_yticklabels()] == ["0", "0.0003"]


def test_leaders_table(nb, tables):
    leaders = [
        [
            run_of(nb, seed=s, train=t, valid=v, learning_rate=2.0, epochs=5, lam=3e-4)
            for s, t, v in ((7, 0.9, 0.5), (9, 0.8, 0.7))
        ],
        [
            run_of(
                nb, seed=s, train=0.3, valid=0.4, learning_rate=0.1, epochs=5, lam=0.0
            )
            for s in (7, 9)
        ],
    ]
    nb.leaders_table(leaders, GRID)
    ((header, *rows),) = tables
    names = [nb.LABELS[name] for name in ("lam", "learning_rate")]
    assert header[:3] == [*names, "blue"] and len(header) == 4
    assert "red" in header[3] and "7, 9" in header[3]
    assert rows == [
        ["0.0003", "2", "85.00 ± 7.07 %", "60.00 ± 14.14 %"],
        ["0", "0.1", "30.00 ± 0.00 %", "40.00 ± 0.00 %"],
    ]


def test_labels_of_the_settings(nb, tables, shown):
    assert nb.LABELS["lam"] == "λ" and "rate" in nb.LABELS["learning_rate"]
    grid = {"batch_size": [16, 32], "learning_rate": [1]}
    score = nb.Score("blue", 0.0, 0.5)
    trials = [
        nb.Trial({"batch_size": size, "learning_rate": 1}, score, score)
        for size in (16, 32)
    ]
    nb.tuning_table(trials, grid)
    nb.show_tuning(trials, grid, "")
    assert [row[0] for row in tables[0][1:]] == ["batch size = 16", "batch size = 32"]
    assert shown[0][0].axes[0].get_ylabel() == "batch size"


def test_classes(nb, shown, tables, capsys):
    """Best and worst, a class without images beside them; mistakes set the colours."""
    confusion = np.array([[7, 1, 2, 0], [0, 9, 1, 0], [4, 1, 5, 0], [0, 0, 0, 0]])
    accuracies = [(0.7, 0.6, 0.75), (0.9, 0.85, 0.92), (0.5, 0.3, 0.7), (np.nan,) * 3]
    part = nb.Part(None, np.repeat([0, 1, 2], [10, 11, 10]), "kites")  # one: nan scores
    names = ["sun", "sea", "sky", "fog"]
    nb.show_classes(nb.ClassScores(confusion, accuracies), part, names, "Net")
    ((header, *rows),) = tables
    assert "kites" in header[0]
    assert rows == [
        ["sun", "10", "70.00 %", "60.0 to 75.0"],
        ["sea", "11", "90.00 %", "85.0 to 92.0"],
        ["sky", "10", "50.00 %", "30.0 to 70.0"],
        ["fog", "0", "nan %", "nan to nan"],
    ]
    best, worst = capsys.readouterr().out.split("orst")
    assert "kites" in best and "sea, with 90.00 %" in best
    assert "sky, with 50.00 %" in worst
    ((fig, alt),) = shown
    (ax,) = fig.axes
    assert "Net" in ax.get_title() and "kites" in alt
    np.testing.assert_array_equal(ax.images[0].get_array(), confusion)
    assert "true" in ax.get_ylabel() and "predicted" in ax.get_xlabel()
    for labels in ax.get_xticklabels(), ax.get_yticklabels():
        assert [label.get_text() for label in labels] == names
    assert ax.images[0].get_clim()[1] == pytest.approx(2.5 * 4)  # the largest mistake


def test_learning_curves(nb, shown, tables):
    def points(*spread):
        """Test accuracies k / 200 + spread; 0.9 on the images trained on."""
        return [
            nb.CurvePoint(
                k, seed, nb.Score("part", 0, 0.9), nb.Score("kites", 0, k / 200 + d)
            )
            for k in nb.PERCENTAGES
            for seed, d in enumerate(spread, 1)
        ]

    nb.show_learning_curves({"one": points(0, 0.1), "two": points(0, 0, 0)}, "Less")
    ((fig, alt),) = shown
    (ax,) = fig.axes
    assert "Less" in f"{ax.get_title()} {alt}" and "kites" in ax.get_ylabel()
    assert "percentage" in ax.get_xlabel()
    np.testing.assert_array_equal(ax.get_xticks(), [10, 20, 50, 100])
    one, two = (container.lines for container in ax.containers)
    np.testing.assert_allclose(
        one[0].get_xydata(), [[10, 10], [20, 15], [50, 30], [100, 55]]
    )
    np.testing.assert_allclose(two[0].get_ydata(), [5, 10, 25, 50])
    assert [text.get_text() for text in ax.get_legend().texts] == ["one", "two"]
    sd = 100 * np.std([0, 0.1], ddof=1)
    ((segment, *_),) = [bars.get_segments() for bars in one[2]]
    np.testing.assert_allclose(segment, [[10, 10 - sd], [10, 10 + sd]])
    ((header, *rows),) = tables
    assert header[1:] == ["10 %", "20 %", "50 %", "100 %"]
    names = [row[0] for row in rows]
    assert [name.partition(":")[0] for name in names] == ["one", "one", "two", "two"]
    assert "kites" in names[0] and "trained" in names[1]
    assert rows[0][1:] == [f"{mean}.00 ± {sd:.2f} %" for mean in (10, 15, 30, 55)]
    assert rows[1][1:] == rows[3][1:] == ["90.00 ± 0.00 %"] * 4
    assert rows[2][1:] == [f"{mean}.00 ± 0.00 %" for mean in (5, 10, 25, 50)]


def test_colours_of_the_curves_differ(nb):
    colours = nb.plt.rcParams["axes.prop_cycle"].by_key()["color"]
    assert len({to_hex(colour) for colour in colours}) == len(colours) >= 6
