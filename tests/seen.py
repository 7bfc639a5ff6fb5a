"""What tests ask of the rehearsal: a Rehearsal that finds things in what was recorded,
and other ways to compute what the notebook says. (Numbers in texts: conftest.py.)

Things are found by section and by words: cells, names and sentences may change."""

import math
import re

import numpy as np
import pytest
from conftest import percent
from rehearsal import Rehearsal

# Sections of Questions 1 and 3: first run, tuning, test, classes, bonus.
QUESTIONS = {1: ("1.6", "1.8", "1.9", "1.10", "1.13")}
QUESTIONS[3] = "3.3", "3.4", "3.5", "3.6", "3.8"


def scores_of(model, x):
    chunks = [model.forward(x[i : i + 500]) for i in range(0, len(x), 500)]
    return np.concatenate(chunks).astype(np.float64)


def hits_of(model, part):
    return scores_of(model, part.x).argmax(axis=1) == part.y


def settings_of(run):
    """Without what only says how often the log is written."""
    return {key: run.settings[key] for key in run.settings if key != "log_every"}


def rule_of(call):
    """The rule that a call of descend was given."""
    return call.given.get("step") or call.given["make_rule"]()


def rows_of(arrays):
    return np.reshape(arrays, (len(arrays), -1))


def curves(ax):
    """{text of the legend: (x, y)} of the lines that look as the legend has it."""
    legend, found = ax.get_legend(), {}
    for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True):
        look = handle.get_color(), handle.get_linestyle(), handle.get_marker()
        for line in ax.lines:
            if look == (line.get_color(), line.get_linestyle(), line.get_marker()):
                x_y = list(line.get_xdata()), list(line.get_ydata())
                found[text.get_text()] = x_y
                low, high = sorted(ax.get_ylim())
                finite = [value for value in x_y[1] if math.isfinite(value)]
                assert low <= min(finite) <= max(finite) <= high, text.get_text()
    return found


def check_log(ax, run, quantity, factor):
    """Curves over the epochs are of a Run's log."""
    assert [label.split(",")[0] for label in curves(ax)] == ["training", "validation"]
    for label, (x, y) in curves(ax).items():
        name = label.split(",")[0]
        half = 0.5 if name == "training" else 0  # a mean over the epoch
        assert x == [row["epoch"] - half for row in run.log]
        assert y == [factor * row[f"{name} {quantity}"] for row in run.log]


class Seen(Rehearsal):
    """A Rehearsal that can be asked."""

    def of(self, name, section=None):
        """The calls of a watched function, in one section if it is given."""
        calls = [call for call in self.calls if call.name == name]
        return [call for call in calls if section in (None, call.section)]

    def fits(self, section):
        """The Runs that were fitted in a section."""
        return [call.result for call in self.of("fit", section)]

    def starts(self, calls):
        """The untrained models of calls of fit."""
        seeded = [(c.given["make_model"], c.given["seed"]) for c in calls]
        return [make(rng=np.random.default_rng(seed)) for make, seed in seeded]

    @property
    def parts(self):
        """The Parts: training, validation, test."""
        return self.of("load_digits")[0].result

    @property
    def cifar(self):
        """Images and labels in place of CIFAR-10's."""
        return self.of("load_cifar")[0].result

    def answer(self, section, word):
        """What was found, of the first answer in a section that asks for the word (in
        small letters)."""
        told = [call.given for call in self.of("answer", section)]
        return next(a["found"] for a in told if word in a["asked"].lower())

    def lines(self, section, *words):
        """The printed lines of a section that have all the words, in this order."""
        words = re.compile(".*".join(map(re.escape, words)))
        lines = list(filter(words.search, self.printed[section].splitlines()))
        assert lines, f"section {section} prints no line of {words.pattern}"
        return lines

    def table(self, section, *words):
        """header, rows of the first table in a section whose header has the words, in
        this order."""
        words = re.compile(".*".join(map(re.escape, words)))
        told = [call.given for call in self.of("table", section)]
        tables = [(t["header"], t["rows"]) for t in told]
        found = (t for t in tables if words.search(" ".join(t[0])))
        return next(found, None) or pytest.fail(f"{section} has no table of {words}")

    def figures(self, section):
        return [call.given["fig"] for call in self.of("show", section)]

    def axes(self, section, x="", y="", title=""):
        """The first axes of a section with words, in order, in labels and title."""
        words = [".*".join(map(re.escape, text.split())) for text in (x, y, title)]
        for ax in (ax for fig in self.figures(section) for ax in fig.axes):
            texts = ax.get_xlabel(), ax.get_ylabel(), ax.get_title()
            if all(re.search(w, t, re.S) for w, t in zip(words, texts, strict=True)):
                return ax
        pytest.fail(f"section {section} has no axes of {x} and {y}")

    def pictures(self, section, count, colours=False):
        """Arrays, titles, texts beside them of the first figure of so many images."""
        for fig in self.figures(section):
            axes = [ax for ax in fig.axes if ax.images]
            arrays = [np.asarray(ax.images[0].get_array()) for ax in axes]
            if len(axes) == count and (arrays[0].ndim == 3) == colours:
                break
        texts = [text.get_text() for ax in axes for text in ax.texts]
        return arrays, [ax.get_title() for ax in axes], texts

    def tuning(self, q):
        """The Runs of the grid, the leaders' Runs, and what tune was given."""
        (call,) = self.of("tune", QUESTIONS[q][1])
        return *call.result, call.given

    def chosen(self, q):
        """The Runs of the chosen settings: the best mean accuracy in validation."""
        _, leaders, _ = self.tuning(q)
        return max(leaders, key=lambda runs: np.mean(percent(runs, "valid")))

    def networks(self):
        """The Runs on distorted images: the wide MLP, the ConvNet."""
        distorted = [c for c in self.of("fit") if "batches" in c.result.settings]
        runs = {type(call.result.model).__name__: call.result for call in distorted}
        return runs["MLP"], runs["ConvNet"]

    def by_sklearn(self, name):
        """What scikit-learn fitted: "Logistic", LinearRegression's "rounded", "hot"."""
        fitted = {}
        for call in self.of("sklearn"):
            kind = "hot" if np.ndim(call.given["y"]) == 2 else "rounded"
            logistic = type(call.result).__name__ == "LogisticRegression"
            fitted["Logistic" if logistic else kind] = call.result
        return fitted[name]

    def classify(self, name, x):
        """The classes that a model gives to pixels, by a word of its label."""
        if "rounded" in name:
            return np.rint(self.by_sklearn("rounded").predict(x)).clip(0, 9)
        if "hot" in name or name == "linear regression":
            return self.by_sklearn("hot").predict(x).argmax(axis=1)
        if "Logistic" in name:
            return self.by_sklearn("Logistic").predict(x)
        run = self.chosen(3 if "MLP" in name else 1)[0]
        if "45" in name:
            run = self.fits("1.11")[0]
        if "distorted" in name:
            run = self.networks()["ConvNet" in name]
        return scores_of(run.model, x).argmax(axis=1)

    def mean_hits(self, runs):
        """For each validation image, the share of Runs that classify it right."""
        return np.mean([hits_of(run.model, self.parts[1]) for run in runs], axis=0)

    def descents(self, section, rule="Plain", squared=True):
        """The calls of descend by a rule, on ½L² or on L, by growing rate."""
        calls = self.of("descend", section)
        calls = [call for call in calls if call.given["squared"] == squared]
        named = [call for call in calls if type(rule_of(call)).__name__ == rule]
        return sorted(named, key=lambda call: rule_of(call).rate)
