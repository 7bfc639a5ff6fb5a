"""A rehearsal: the whole notebook on few images, in one process, with witnesses.

By section ("1.8") it keeps calls of WATCHED functions, what is displayed and printed,
which images went through which model, and each look at the test images. If a cell
fails, so does every test that uses it.

What differs from a run in Jupyter: SHARE is small, and only the first 2,000 test images
are read; 1,000 images of 12 x 12 pixels, of the sample of 20, stand for CIFAR-10's;
lam = 0 is taken out of a grid (it is best on so few images, and C = 1 / 0); tuning,
distorted digits and twenty images have a third of their epochs, and what is best in
validation is made the worst in training; trainings run one after the other; nothing is
drawn."""

import ast
import contextlib
import functools
import inspect
import io
import json
import math
import os
import re
import sys
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from unittest.mock import patch

import joblib
import matplotlib
import numpy as np
from load_definitions import NOTEBOOK, ROOT  # sets the backend for figures
from threadpoolctl import threadpool_limits

SHARE = 0.02  # of the training images; below, a set lacks a class or a fit its sense
TEST_IMAGES = 2000
WATCHED = {"answer", "blur", "descend", "fit", "show_images", "tune"}


class Call(NamedTuple):
    """When and where a function has ended, what it was given and gave back."""

    at: int
    section: str
    name: str
    given: dict
    result: object

    def settings(self):
        others = "make_model", "part", "valid", "seed"
        return {k: value for k, value in self.given.items() if k not in others}


class Noted(np.ndarray):
    """An array that notes each look at its values, but not at its shape and type, nor
    counts. What is computed from it is an ordinary array; a part of it is not."""

    note = None  # called at each look

    def __getattribute__(self, name):
        if name not in ("dtype", "ndim", "shape", "size") and name[:2] != "__":
            Noted.note()
        return super().__getattribute__(name)

    def __getitem__(self, index):
        Noted.note()
        return super().__getitem__(index)

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        Noted.note()
        plain = [np.asarray(x) if isinstance(x, Noted) else x for x in inputs]
        return getattr(ufunc, method)(*plain, **kwargs)

    def __array_function__(self, function, types, args, kwargs):
        if function in (np.bincount, np.shape, np.size, np.unique):
            return function(np.asarray(args[0]), *args[1:], **kwargs)
        Noted.note()
        return super().__array_function__(function, types, args, kwargs)


def fingerprints(x):
    """A number for each row of x that says what it holds."""
    return [hash(row.tobytes()) for row in np.ascontiguousarray(x)]


class Rehearsal:
    """What a rehearsal of the notebook leaves behind."""

    def __init__(self):
        self.ns = {"__name__": "__main__", "In": []}
        self.calls = []
        self.reads = []  # what went through a model: see watch_model
        self.looks = []  # (moment, section) of each look at the test images
        self.sets = {}  # {fingerprint: (name of its Part, label)}
        self.printed = defaultdict(str)  # {section: text}
        self.prose = defaultdict(str)  # {section: text}
        self.headings = {}  # {section: its whole heading}
        self.section = ""
        self.now = 0  # counts what happens
        self.running = True
        Noted.note = self.look

    def look(self):
        if self.running:
            self.now += 1
            self.looks.append((self.now, self.section))

    def watch(self, name, function):
        """The function, which now also writes down its calls."""
        signature = inspect.signature(function)

        @functools.wraps(function)
        def watched(*args, **kwargs):
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            given = dict(bound.arguments)
            if name == "tune":
                given["whole"] = dict(given["grid"])
                if "lam" in given["grid"]:
                    given["grid"]["lam"] = [lam for lam in given["grid"]["lam"] if lam]
            epochs = kwargs.get("epochs", 0)
            if name == "tune" or "batches" in kwargs or epochs > 99:
                kwargs |= {"epochs": math.ceil(epochs / 3)} if epochs else {}
            if name == "descend":
                given["start"] = given["C"].W.copy()
            result = function(*args, **kwargs)
            if name == "tune" and "percentage" not in given["grid"]:
                result["training"] = 200 - 1.5 * result["validation"]  # not by training
            self.now += 1
            self.calls.append(Call(self.now, self.section, name, given, result))
            return result

        return watched

    def display(self, value, **_):
        """Write down what a cell displays: a table as it is now."""
        value = value.copy() if hasattr(value, "columns") else value
        self.calls.append(Call(self.now, self.section, "display", {}, value))

    def digits(self, load_digits):
        """load_digits with few test images, whose looks are noted."""

        def few(*args):
            training, validation, test = load_digits(*args)
            test = test._replace(x=test.x[:TEST_IMAGES], y=test.y[:TEST_IMAGES])
            self.parts = training, validation, test
            for part in self.parts:
                for row, label in zip(fingerprints(part.x), part.y, strict=True):
                    self.sets[row] = part.name, label
            noted = test._replace(x=test.x.view(Noted), y=test.y.view(Noted))
            return training, validation, noted

        return few

    def photos(self, _):
        """1,000 images in place of CIFAR-10's, of full contrast, so that their patches
        vary in more than brightness."""

        def load_cifar(folder):
            few, labels = self.ns["read_cifar"](f"{folder}/cifar10_sample.bin", 20)
            moved = [np.roll(few.round(), (3 * k, 5 * k), (2, 3)) for k in range(50)]
            small = np.concatenate(moved)[:, :, 10:22, 10:22].copy()
            self.cifar = small, np.tile(labels, 50)
            return self.cifar

        return load_cifar

    def watch_model(self, cls, backward):
        """Write down which images go through a class of models and are learned."""
        forward, back = cls.forward, getattr(cls, backward)

        def watched_forward(model, x):
            if self.running:
                sets = Counter(self.sets.get(k, ("other",))[0] for k in fingerprints(x))
                seen = {"section": self.section, "model": model, "sets": sets}
                model.read = SimpleNamespace(**seen, learned=False)
                if self.section in ("1.5", "1.6"):
                    model.read.x, model.read.W = x, model.W.copy()
                self.reads.append(model.read)
            return forward(model, x)

        def watched_backward(model, *args, **kwargs):
            model.read.learned = self.running or model.read.learned
            return back(model, *args, **kwargs)

        cls.forward = watched_forward
        setattr(cls, backward, watched_backward)

    def prepare(self, before):
        """Change what has just been defined, as the docstring at the top says."""
        ns = self.ns
        new = {name for name in ns if before.get(name) is not ns[name]}
        changes = {
            "SHARE": lambda _: SHARE,
            "tqdm": lambda tqdm: functools.partial(tqdm, disable=True),
            "display": lambda _: self.display,
            "load_digits": self.digits,
            "load_cifar": self.photos,
        }
        for name in new & changes.keys():
            ns[name] = changes[name](ns[name])
        for name in new & WATCHED:
            ns[name] = self.watch(name, ns[name])
        models = {"Single_layer_classifier": "backward_Ldata", "Network": "backward"}
        for name in new & models.keys():
            self.watch_model(ns[name], models[name])

    def read_prose(self, text):
        """Note a text, and where a section begins in it."""
        for line in text.splitlines():
            if heading := re.match(r"#+ ((?:Question )?([\d.]*\w*).*)", line):
                self.section = heading[2]
                self.headings[self.section] = heading[1]
            self.prose[self.section] += f"{line}\n"

    def execute(self, cell):
        """Run a cell, a statement after the other: what one defines is watched in the
        next; the value of the last is displayed."""
        source = "".join(cell["source"])
        if cell["cell_type"] != "code":
            return self.read_prose(source)
        self.ns["In"].append(source)
        file, out, body = f"<cell {cell['id']}>", io.StringIO(), ast.parse(source).body
        with contextlib.redirect_stdout(out):
            for statement in body:
                before, kind, tree = dict(self.ns), "exec", ast.Module([statement], [])
                if statement is body[-1] and isinstance(statement, ast.Expr):
                    kind, tree = "single", ast.Interactive([statement])
                exec(compile(tree, file, kind), self.ns)
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
                patch.object(sys, "displayhook", self.display),
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
