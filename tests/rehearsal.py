"""A rehearsal: the whole notebook on few images, in one process, with witnesses.

`Rehearsal().run()` executes all code cells in order, and keeps calls of WATCHED
functions, which images went through which model, and printed lines, by section ("1.8").
Every test that uses it fails if a cell fails.

What differs from a run in Jupyter: SHARE is small, and of the test images only the
first 2,000 are read; 1,000 images of 12 x 12 pixels, made of the sample of 20, stand
for CIFAR-10's; lam = 0 is taken out of a grid (it is best on so few images, and C =
1 / 0); trainings run one after the other; nothing is drawn; times are made up."""

import ast
import contextlib
import functools
import inspect
import io
import json
import linecache
import os
import re
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import joblib
import matplotlib
import numpy as np
from load_definitions import NOTEBOOK, ROOT  # sets the backend for figures
from threadpoolctl import threadpool_limits

SHARE = 0.02  # of the training images; below, a set lacks a class or a fit its sense
TEST_IMAGES = 2000
WATCHED = {
    "answer", "blur", "check_gradient", "check_layer", "chosen_text", "descend",
    "distorted_minibatch", "fit", "get_minibatch", "leaders_table", "load_cifar",
    "load_digits", "load_filters", "show", "table", "tune",
}  # fmt: skip


class Call(NamedTuple):
    """When and where a function was called, what it was given, gave back, or raised."""

    at: int
    section: str
    name: str
    given: dict
    result: object


def fingerprints(x):
    """A number for each row of x that says what it holds."""
    return [hash(row.tobytes()) for row in np.ascontiguousarray(x)]


class Rehearsal:
    """What a rehearsal of the notebook leaves behind."""

    def __init__(self):
        self.ns = {"__name__": "__main__"}
        self.calls = []
        self.reads = []  # what went through a model: see watch_model
        self.sets = {}  # {fingerprint: (name of its Part, label)}
        self.printed = defaultdict(str)  # {section: text}
        self.headings = {}  # {section: its whole heading}
        self.section = ""
        self.now = 0  # counts what happens
        self.fitting = 0  # how many calls of fit are open
        self.running = True

    def watch(self, name, function):
        """The function, which now also writes down its calls."""
        signature = inspect.signature(function)

        @functools.wraps(function)
        def watched(*args, **kwargs):
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            given = dict(bound.arguments)
            if name == "table":  # as texts
                given["header"] = [str(cell) for cell in given["header"]]
                given["rows"] = [[str(cell) for cell in r] for r in given["rows"]]
                args, kwargs = (given["header"], given["rows"]), {}
            if name == "tune" and "lam" in given["grid"]:
                given["grid"]["lam"] = [lam for lam in given["grid"]["lam"] if lam]
            if name == "descend":
                given["start"] = given["C"].W.copy()
            self.now += 1
            at, place = self.now, len(self.calls)
            self.calls.append(None)  # calls stand in the order in which they began
            self.fitting += name == "fit"
            try:
                result = function(*args, **kwargs)
            except BaseException as e:
                self.calls[place] = Call(at, self.section, name, given, e)
                raise
            finally:
                self.fitting -= name == "fit"
            if name == "load_digits":
                result = self.know(*result)
            self.calls[place] = Call(at, self.section, name, given, result)
            return result

        return watched

    def know(self, *parts):
        """The Parts, cut short if long; from now on their images are known."""
        parts = [p._replace(x=p.x[:TEST_IMAGES], y=p.y[:TEST_IMAGES]) for p in parts]
        for part in parts:
            for row, label in zip(fingerprints(part.x), part.y, strict=True):
                self.sets[row] = part.name, label
        return parts

    def watch_model(self, cls, backward):
        """Write down which images go through a class of models, whether they are
        learned, and, outside of fit, the pixels and the weights."""
        forward, back = cls.forward, getattr(cls, backward)

        @functools.wraps(forward)  # so that inspect.unwrap finds it
        def watched_forward(model, x):
            if self.running:
                self.now += 1
                sets = Counter(self.sets.get(k, ("other",))[0] for k in fingerprints(x))
                kept = not self.fitting and hasattr(model, "W")
                model.read = SimpleNamespace(
                    at=self.now, section=self.section, model=model, sets=sets,
                    learned=False, x=x if kept else None, W=kept and model.W.copy(),
                )  # fmt: skip
                self.reads.append(model.read)
            return forward(model, x)

        @functools.wraps(back)
        def watched_backward(model, *args, **kwargs):
            if self.running:
                model.read.learned = True
            return back(model, *args, **kwargs)

        cls.forward = watched_forward
        setattr(cls, backward, watched_backward)

    def watch_estimator(self, cls):
        """A class of scikit-learn's whose fit is written down, as "sklearn"."""

        def fit(model, X, y):
            given = {"x": X, "y": y}
            self.calls.append(Call(self.now, self.section, "sklearn", given, model))
            return super(watched, model).fit(X, y)

        watched = type(cls.__name__, (cls,), {"fit": fit})
        return watched

    def prepare(self, before):
        """Change what has just been defined, as the docstring at the top says."""
        ns = self.ns
        new = {name for name in ns if before.get(name) is not ns[name]}
        changes = {
            "SHARE": lambda _: SHARE,
            "timeit": lambda _: SimpleNamespace(repeat=self.seconds),
            "tqdm": lambda tqdm: functools.partial(tqdm, disable=True),
            "display": lambda _: lambda *args, **kwargs: None,
            "load_cifar": lambda _: self.many_of_few,
            "LinearRegression": self.watch_estimator,
            "LogisticRegression": self.watch_estimator,
        }
        for name in new & changes.keys():
            ns[name] = changes[name](ns[name])
        for name in new & WATCHED:
            ns[name] = self.watch(name, ns[name])
        models = {"Single_layer_classifier": "backward_Ldata", "Network": "backward"}
        for name in new & models.keys():
            self.watch_model(ns[name], models[name])

    def seconds(self, call, **given):
        return [1.0, 5.0] if "Fast" in repr(call) else [4.0, 3.0]

    def many_of_few(self, folder):
        """1,000 images in place of CIFAR-10's, made of the sample's 20: small, and of
        full contrast, so that their patches vary in more than brightness."""
        few, labels = self.ns["read_cifar"](f"{folder}/cifar10_sample.bin", 20)
        moved = [np.roll(few.round(), (3 * k, 5 * k), (2, 3)) for k in range(50)]
        return np.concatenate(moved)[:, :, 10:22, 10:22].copy(), np.tile(labels, 50)

    def execute(self, cell):
        """Run a cell, a statement after the other: what one defines is watched in the
        next."""
        source = "".join(cell["source"])
        if cell["cell_type"] != "code":
            for line in source.splitlines():
                if heading := re.match(r"#+ ((?:Question )?([\d.]*\w*).*)", line):
                    self.section = heading[2]
                    self.headings[self.section] = heading[1]
            return
        file = f"<cell {cell['id']}>"
        lines = source.splitlines(keepends=True)
        linecache.cache[file] = len(source), None, lines, file  # for tracebacks
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            for statement in ast.parse(source).body:
                before = dict(self.ns)
                exec(compile(ast.Module([statement], []), file, "exec"), self.ns)
                self.prepare(before)
        self.printed[self.section] += out.getvalue()

    def run(self):
        """Run all cells; gives itself."""
        folder = Path.cwd()
        os.chdir(ROOT)
        try:
            with (
                warnings.catch_warnings(),
                matplotlib.rc_context(),
                joblib.parallel_config(backend="sequential"),
                threadpool_limits(1),  # threads that wait for each other cost more here
            ):
                warnings.simplefilter("ignore")
                for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
                    self.execute(cell)
        finally:
            os.chdir(folder)
            self.running = False
        return self
