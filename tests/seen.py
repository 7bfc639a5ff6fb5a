"""What tests ask of the rehearsal: a Rehearsal that finds things in what was recorded,
and other ways to compute what the notebook says. (Numbers in texts: conftest.py.)

Things are found by section and by the quantity that they name: cells, names and
sentences may change. What is not found is said, with what there was."""

import re

import numpy as np
import pytest
from conftest import says
from matplotlib.figure import Figure
from rehearsal import Rehearsal

# Sections of Questions 1 and 3: first run, tuning, test, classes, bonus.
QUESTIONS = {1: ("1.6", "1.8", "1.9", "1.10", "1.13")}
QUESTIONS[3] = "3.3", "3.4", "3.5", "3.6", "3.8"


def scores_of(model, x):
    chunks = [model.forward(x[i : i + 500]) for i in range(0, len(x), 500)]
    return np.concatenate(chunks).astype(np.float64)


def hits_of(model, part):
    return scores_of(model, part.x).argmax(axis=1) == part.y


def has(words, *texts):
    """Whether all words stand in the texts, in small letters or large."""
    together = " ".join(map(str, texts)).lower()
    return all(word in together for word in words.lower().split())


def check(texts, *values, **share):
    """One of the texts has the values, in order."""
    found = any(says(text, *values, **share) for text in texts)
    assert found, f"{texts} do not say {[float(value) for value in values]}"


def cells(table):
    """{text with the names and keys of row and column: value} of a DataFrame."""
    rows, columns = table.index, table.columns
    return {
        f"{rows.names} {row} {columns.names} {column} ": table.iat[i, j]
        for i, row in enumerate(rows)
        for j, column in enumerate(columns)
    }


def curves(ax):
    """{text of the figure's legend: (x, y)} of the lines that look as it has them; x as
    its ticks say."""
    legends = [a.get_legend() for a in (ax, *ax.figure.axes) if a.get_legend()]
    assert legends, f"no legend beside the axes {ax.get_ylabel()!r}"
    ticks = {
        label.get_position()[0]: float(label.get_text())
        for label in ax.get_xticklabels()
        if re.fullmatch(r"[\d.]+", label.get_text())
    }
    found = {}
    handles = zip(legends[0].get_texts(), legends[0].legend_handles, strict=True)
    for text, handle in handles:
        look = handle.get_color(), handle.get_linestyle(), handle.get_marker()
        for line in ax.lines:
            if look == (line.get_color(), line.get_linestyle(), line.get_marker()):
                x, y = np.transpose(line.get_xydata())
                low, high = sorted(ax.get_ylim())
                assert low <= np.nanmin(y) <= np.nanmax(y) <= high, text.get_text()
                found[text.get_text()] = [ticks.get(place, place) for place in x], y
    return found


def check_log(log, ax, quantity):
    """The curves of a quantity over the epochs are those of a log."""
    assert [label.split()[0] for label in curves(ax)] == ["training", "validation"]
    for label, (x, y) in curves(ax).items():
        assert (np.ceil(x) == log.index).all()  # a mean may stand amid its epoch
        np.testing.assert_array_equal(y, log[f"{label.split()[0]} {quantity}"])


class Seen(Rehearsal):
    """A Rehearsal that can be asked."""

    def of(self, name, section=None):
        """The calls of a watched function, in one section if it is given."""
        calls = [call for call in self.calls if call.name == name]
        return [call for call in calls if section in (None, call.section)]

    def about(self, words):
        """The number of Further's section with these words in its heading."""
        further = {k: text for k, text in self.headings.items() if "6" <= k < ":"}
        for number, heading in further.items():
            if has(words, heading):
                return number
        pytest.skip(f"no section on {words}: {list(further.values())}")

    def answers(self, section, words=""):
        """What was found, of the answers in a section that are about the words."""
        told = [call.given for call in self.of("answer", section)]
        found = [a["found"] for a in told if has(words, a["asked"])]
        asked = [a["asked"] for a in told]
        assert found, f"{section} has no answer about {words!r}, only about {asked}"
        return found

    def lines(self, section, words=""):
        """The printed lines of a section that have all the words."""
        printed = self.printed[section].splitlines()
        lines = [line for line in printed if has(words, line)]
        assert lines, f"{section} prints no line with {words!r}, but {printed}"
        return lines

    def table(self, section, words):
        """The first table of a section with the words in its columns and index."""
        shown = [call.result for call in self.of("display", section)]
        tables = [value for value in shown if hasattr(value, "columns")]
        for table in tables:
            if has(words, *cells(table)):
                return table
        there = [(list(t.index), list(t.columns)) for t in tables]
        pytest.fail(f"{section} has no table with {words!r}; tables: {there}")

    def figures(self, section=None):
        shown = [call.result for call in self.of("display", section)]
        figures = [value for value in shown if isinstance(value, Figure)]
        return list(dict.fromkeys(figures))  # each once

    def axes(self, section, x="", y="", title=""):
        """The first axes of a section with the words in labels and title."""
        there = []
        for ax in (ax for fig in self.figures(section) for ax in fig.axes):
            texts = ax.get_xlabel(), ax.get_ylabel(), ax.get_title()
            if all(map(has, (x, y, title), texts)):
                return ax
            there.append(texts)
        pytest.fail(f"{section} has no axes {(x, y, title)}; axes: {there}")

    def pictures(self, section, count=None):
        """What show_images was given in a section, first or for so many images."""
        calls = [call.given for call in self.of("show_images", section)]
        for given in calls:
            if count in (None, len(given["images"])):
                return given
        shapes = [given["images"].shape for given in calls]
        pytest.fail(f"{section} does not show {count or 'any'} images, but {shapes}")

    def starts(self, calls):
        """The untrained models of calls of fit."""
        rngs = [np.random.default_rng(call.given["seed"]) for call in calls]
        makers = [call.given["make_model"] for call in calls]
        return [make(rng=rng) for make, rng in zip(makers, rngs, strict=True)]

    def tuning(self, q):
        """All runs of the grid, the grid, and the calls of fit."""
        (call,) = self.of("tune", QUESTIONS[q][1])
        fits = {id(c.result["model"]): c for c in self.of("fit", call.section)}
        of_runs = [fits[id(model)] for model in call.result["model"]]
        return call.result, call.given["grid"], of_runs

    def chosen(self, q):
        """The runs of the chosen settings: the best mean accuracy in validation."""
        tried, grid, _ = self.tuning(q)
        pairs = tried.groupby(list(grid))
        means = pairs["validation"].agg(lambda values: np.mean(values.to_numpy()))
        return pairs.get_group(means.idxmax())

    def model(self, q):
        """The first model of the chosen settings."""
        return self.chosen(q)["model"].iloc[0]

    def networks(self):
        """The calls of fit on distorted images: the wide MLP's, the ConvNet's."""
        plain = self.ns["get_minibatch"]
        calls = [c for c in self.of("fit") if c.given["batches"] is not plain]
        named = {type(call.result["model"]).__name__: call for call in calls}
        return named["MLP"], named["ConvNet"]

    def by_sklearn(self, name, dimensions):
        """What scikit-learn has fitted, by class and dimensions of the coefficients."""
        fitted = [
            v for v in self.ns.values() if type(v).__name__ == f"{name}Regression"
        ]
        fitted = [model for model in fitted if np.ndim(model.coef_) == dimensions]
        assert fitted, f"no {name}Regression with {dimensions} dimensions"
        return fitted[0]

    def classify(self, name, x):
        """The classes that a model gives to pixels, by a word of its label."""
        if has("rounded", name):
            return np.rint(self.by_sklearn("Linear", 1).predict(x)).clip(0, 9)
        if has("logistic", name):
            return self.by_sklearn("Logistic", 2).predict(x)
        if has("linear", name):
            return self.by_sklearn("Linear", 2).predict(x).argmax(axis=1)
        model = self.model(3 if has("mlp", name) else 1)
        if has("distorted", name):
            model = self.networks()[has("convnet", name)].result["model"]
        return scores_of(model, x).argmax(axis=1)
