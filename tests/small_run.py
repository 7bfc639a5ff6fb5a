"""The whole notebook, run once on few images, for the tests of its experiments.

All code cells run unchanged, in order, in one namespace. Only the data sets are
smaller, and a few functions also keep a record of their calls."""

import collections
import contextlib
import functools
import inspect
import io
import linecache
import warnings
from typing import NamedTuple

import joblib
import numpy as np
from load_definitions import ROOT
from reader import code_cells

SHARE = 0.02  # 840 training images and 360 for validation
N_TEST = 2000  # images
RECORDED = "check_gradient", "draw_graph", "evaluate", "fit"
RECORDED += "show", "show_images", "show_products", "show_table"


class Call(NamedTuple):
    """One call of a recorded function."""

    section: str
    cell_id: str
    arguments: dict  # by the names of the parameters, defaults included
    result: object


class SmallRun:
    """namespace: what the run leaves behind; printed: {section: text}; calls:
    {function: its calls}; test_readers: {cell id: section} of the cells that read the
    test set."""

    def __init__(self):
        self.namespace = {"__name__": "__main__"}
        self.printed = collections.defaultdict(str)
        self.calls = {name: [] for name in RECORDED}
        self.test_readers = {}
        replace = {  # name: function of what a cell has bound to it
            "SHARE": lambda share: SHARE,
            "test": self.watched,
            "load_cifar": lambda load_cifar: small_pictures,
            **dict.fromkeys(RECORDED, self.recorded),
        }
        with (
            contextlib.chdir(ROOT),
            warnings.catch_warnings(action="ignore"),
            joblib.parallel_config(backend="sequential"),  # calls in their order
        ):
            warnings.filterwarnings("error", category=RuntimeWarning)
            for self.section, self.cell_id, source in code_cells():
                file = f"<{self.cell_id}>"  # its lines, for inspect and tracebacks
                linecache.cache[file] = len(source), None, source.splitlines(True), file
                with contextlib.redirect_stdout(io.StringIO()) as stdout:
                    exec(compile(source, file, "exec"), self.namespace)
                self.printed[self.section] += stdout.getvalue()
                for name in replace.keys() & self.namespace.keys():
                    self.namespace[name] = replace.pop(name)(self.namespace[name])
        self.cell_id = None
        assert not replace, f"the notebook does not define {sorted(replace)}"

    def watched(self, test):
        """The last images of the test set (on which the first seed is not the best);
        each use of them is noted, also under another name, as a default argument, by
        unpacking or by an index."""

        def note():
            if self.cell_id:
                self.test_readers[self.cell_id] = self.section

        class Watched(type(test)):
            x = property(lambda self: self[0])
            y = property(lambda self: self[1])

            def __getitem__(self, key):
                note()
                return super().__getitem__(key)

            def __iter__(self):
                note()
                return super().__iter__()

        images, labels = (array[-N_TEST:] for array in test)
        return Watched(images, labels)

    def recorded(self, function):
        """The function; each call is also noted."""
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call_and_record(*args, **kwargs):
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            result = function(*args, **kwargs)
            if self.cell_id:  # a cell of the notebook calls, not a test
                call = Call(self.section, self.cell_id, bound.arguments, result)
                self.calls[function.__name__].append(call)
            return result

        return call_and_record

    def calls_in(self, function, cell_id):
        """The calls of a recorded function in one cell."""
        calls = [call for call in self.calls[function] if call.cell_id == cell_id]
        assert calls, f"no cell {cell_id} has called {function}"
        return calls

    def tables(self, section):
        """The tables that a section shows."""
        calls = [call for call in self.calls["show_table"] if call.section == section]
        return [call.arguments["table"] for call in calls]

    def axes_in(self, cell_id):
        """The axes of the figure that one cell has shown last."""
        return self.calls_in("show", cell_id)[-1].arguments["fig"].axes

    def fit_of(self, model):
        """The arguments of the call of `fit` that made a model."""
        (call,) = [c for c in self.calls["fit"] if c.result.model is model]
        return call.arguments

    def answer(self, section):
        """The answers in a section, as one text."""
        answers = self.namespace["ANSWERS"].items()
        texts = [text for (h, _), text in answers if h.split()[0] == section]
        assert texts, f"no answer is recorded for section {section}"
        return "<br>".join(texts)


def small_pictures(folder):
    """Like load_cifar: 1,000 random details, 12 × 12 pixels, of the repository's 20
    pictures. They have the statistics of whole pictures, at a low cost."""
    records = np.fromfile(f"{folder}/cifar10_sample.bin", np.uint8).reshape(20, 3073)
    pictures = records[:, 1:].reshape(20, 3, 32, 32) / 255
    windows = np.lib.stride_tricks.sliding_window_view(pictures, (12, 12), (2, 3))
    k, i, j = np.random.default_rng(0).integers(0, (20, 21, 21), (1000, 3)).T
    return windows[k, :, i, j], records[k, 0]
