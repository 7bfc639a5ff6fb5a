"""A rehearsal of the whole notebook on few images, in this process, with witnesses.

`rehearse()` executes all code cells in order in one namespace, and returns a Rehearsal:
the namespace as the last cell leaves it, what every watched function was given and
returned, what each cell printed, and each figure and table that was shown.

Only these things differ from a run in Jupyter:

- `SHARE` is small, and only the first few test images are read (TEST_IMAGES).
- λ = 0 is left out of Question 1's grid: it is best on so few images, and then nothing
  shows whether λ stands where it should.
- `side_by_side` has one process: witnesses see nothing of what happens in another.
- Nothing is downloaded: without CIFAR-10 in data/, the sample is used.
- Figures are kept as objects, not drawn; there are no progress bars.

The environment variable DLCV_NOTEBOOK names another notebook to rehearse."""

import ast
import contextlib
import copy
import functools
import inspect
import io
import json
import linecache
import os
import time
import types
import warnings
from pathlib import Path
from typing import NamedTuple

import joblib
import matplotlib
from load_definitions import ROOT  # sets the backend for figures
from threadpoolctl import threadpool_limits

NOTEBOOK = Path(os.environ.get("DLCV_NOTEBOOK", ROOT / "DLCV_Assignment1.ipynb"))
SHARE = 0.02  # of the training images; below, a set lacks a class or a fit its sense
TEST_IMAGES = 1000

# What is written down of each call: see Call. Names that no cell defines are an error.
WATCHED = {
    "blur", "check_gradient", "check_layer", "confident_mistakes", "correct", "descend",
    "descend_all", "display", "distorted_minibatch", "evaluate", "fit", "fit_leaders",
    "fit_percentage", "fit_sklearn", "fit_width", "get_minibatch", "grid_search",
    "image_grid", "leaders_table", "learning_curve", "numerical_gradient", "print_log",
    "record", "score_classes", "show", "show_blur", "show_classes", "show_descents",
    "show_histories", "show_learning_curves", "show_mistakes", "show_templates",
    "show_tuning", "side_by_side", "table", "take_step", "train", "tuning_table",
}  # fmt: skip


class Call(NamedTuple):
    """A call of a watched function: in which cell, what it was given (by the names of
    its parameters, defaults included), what it returned (or the error that it raised),
    and the weights of the model or layer that it was given, as they were before."""

    name: str
    cell: str
    given: dict
    result: object
    before: list


class Cell(NamedTuple):
    """A code cell: its id, its source, and the last heading above it."""

    id: str
    source: str
    heading: str


class Figure(NamedTuple):
    """A figure that was shown, its alternative text, and the cell that showed it."""

    cell: str
    fig: object
    alt: str


class Table(NamedTuple):
    """A table that was shown: header and rows as texts, and the cell that showed it."""

    cell: str
    header: list
    rows: list


def read_cells(path=None):
    """The code cells of a notebook."""
    cells, heading = [], ""
    for cell in json.loads((path or NOTEBOOK).read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            cells.append(Cell(cell["id"], source, heading))
            continue
        for line in source.splitlines():
            if line.startswith("#"):
                heading = line.lstrip("#").strip()
    return cells


def belongs(name, cell):
    """Whether a cell is the one asked for, or split off from it: q4-picture-show."""
    return name == cell or name.startswith(f"{cell}-")


def weights_of(model):
    """Copies of the weights (no biases) of a model or layer of the notebook's."""
    if hasattr(model, "layers"):
        return [layer.W.copy() for layer in model.layers if hasattr(layer, "W")]
    return [model.W.copy()] if hasattr(model, "W") else []


class Rehearsal:
    """What a rehearsal of the notebook leaves behind."""

    def __init__(self, cells):
        self.cells = cells
        self.ns = {"__name__": "__main__"}
        self.calls = []
        self.printed = {}  # {cell id: text}
        self.figures = []
        self.tables = []
        self.seconds = {}  # {cell id: how long it took}
        self.cell = None  # the id of the one that runs
        self.steps_to_keep = 0  # of the training that runs

    def __getitem__(self, name):
        """What a global name of the notebook stands for: rehearsal["softmax_model"]."""
        return self.ns[name]

    def of(self, name, cell=None):
        """The calls of a watched function, those of one cell if it is given."""
        assert name in WATCHED, f"{name} is not watched: see rehearsal.WATCHED"
        calls = [call for call in self.calls if call.name == name]
        return calls if cell is None else [c for c in calls if belongs(c.cell, cell)]

    def text(self, cell):
        """What a cell printed."""
        return "".join(t for name, t in self.printed.items() if belongs(name, cell))

    def figure(self, cell, k=0):
        """The k-th Figure of a cell."""
        return [shown for shown in self.figures if belongs(shown.cell, cell)][k]

    def table_of(self, cell, k=0):
        """The k-th Table of a cell."""
        return [shown for shown in self.tables if belongs(shown.cell, cell)][k]

    def watch(self, name, function):
        """The function, which now also writes down its calls."""
        signature = inspect.signature(function)

        @functools.wraps(function)
        def watched(*args, **kwargs):
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            given = {}
            for key, value in bound.arguments.items():
                kind = signature.parameters[key].kind
                given |= (
                    value if kind is inspect.Parameter.VAR_KEYWORD else {key: value}
                )
            if name == "take_step":  # the first steps are enough, and there are many
                self.steps_to_keep -= 1
                if self.steps_to_keep < 0:
                    return function(*args, **kwargs)
            elif name == "train":
                self.steps_to_keep = 2
            elif name == "table":  # before an iterator among its arguments is used up
                rows = [[str(cell) for cell in row] for row in given["rows"]]
                header = [str(cell) for cell in given["header"]]
                self.tables.append(Table(self.cell, header, rows))
                args, kwargs = (header, rows), {"metadata": given["metadata"]}
            elif name == "show":
                self.figures.append(Figure(self.cell, given["fig"], given["alt"]))
            if "rng" in given:  # as it was before the call
                given["rng"] = copy.deepcopy(given["rng"])
            before = weights_of(given.get("model", given.get("C")))
            place = len(self.calls)
            self.calls.append(None)  # calls stand in the order in which they began
            cell = self.cell
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                self.calls[place] = Call(name, cell, given, error, before)
                raise
            self.calls[place] = Call(name, cell, given, result, before)
            return result

        return watched

    def watch_fit(self, estimator_class):
        """A class of scikit-learn's whose fit writes down its calls, as "sklearn"."""
        rehearsal = self

        class Watched(estimator_class):
            def fit(self, X, y):
                given = {"estimator": self, "x": X, "y": y}
                rehearsal.calls.append(
                    Call("fit_sklearn", rehearsal.cell, given, self, [])
                )
                return super().fit(X, y)

        Watched.__name__ = estimator_class.__name__
        return Watched

    def prepare(self, before):
        """Change the names that have just been defined, as the docstring above says."""
        ns = self.ns
        new = {name for name, value in ns.items() if before.get(name) is not value}
        if "tqdm" in new:
            ns["tqdm"] = functools.partial(ns["tqdm"], disable=True)
        if "get_ipython" in new:
            shell = types.SimpleNamespace(execution_count=0)
            ns["get_ipython"] = lambda: shell
        if "display" in new:
            ns["display"] = lambda shown, metadata=None: None
        if "download_cifar" in new:
            ns["download_cifar"] = no_download
        if "softmax_grid" in new:
            ns["softmax_grid"]["lam"] = [
                lam for lam in ns["softmax_grid"]["lam"] if lam
            ]
        if "load_part" in new:
            ns["load_part"] = few_test_images(ns["load_part"])
        for name in ("LinearRegression", "LogisticRegression"):
            if name in new:
                ns[name] = self.watch_fit(ns[name])
        for name in WATCHED & new - {"fit_sklearn"}:
            ns[name] = self.watch(name, ns[name])

    def execute(self, cell):
        """Run one cell, a statement after the other: what one defines is watched in the
        next."""
        self.cell, file = cell.id, f"<cell {cell.id}>"
        lines = cell.source.splitlines(keepends=True)
        linecache.cache[file] = len(cell.source), None, lines, file  # for tracebacks
        out, start = io.StringIO(), time.perf_counter()
        if "get_ipython" in self.ns:
            self.ns["get_ipython"]().execution_count += 1
        try:
            with contextlib.redirect_stdout(out):
                for statement in ast.parse(cell.source).body:
                    before = dict(self.ns)
                    code = compile(ast.Module([statement], []), file, "exec")
                    exec(code, self.ns)
                    self.prepare(before)
        finally:
            self.printed[cell.id] = out.getvalue()
            self.seconds[cell.id] = time.perf_counter() - start


def no_download(*_):
    raise OSError("there are no downloads in a rehearsal")


def few_test_images(load_part):
    def few(folder, prefix, class_count):
        x, y, shape = load_part(folder, prefix, class_count)
        count = TEST_IMAGES if prefix == "t10k" else len(y)
        return x[:count], y[:count], shape

    return few


def with_share(cells):
    """The cells with a small SHARE."""
    changed = [
        cell._replace(source=cell.source.replace("SHARE = 1.0", f"SHARE = {SHARE}"))
        for cell in cells
    ]
    assert sum(a != b for a, b in zip(cells, changed, strict=True)) == 1, (
        "no SHARE = 1.0"
    )
    return changed


@contextlib.contextmanager
def surroundings():
    """The folder, warnings, matplotlib's settings and joblib's backend."""
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
            matplotlib.rcParams["figure.max_open_warning"] = 0
            yield
    finally:
        os.chdir(folder)


@functools.cache
def rehearse():
    """Run all cells; the Rehearsal."""
    rehearsal = Rehearsal(with_share(read_cells()))
    with surroundings():
        for cell in rehearsal.cells:
            rehearsal.execute(cell)
    return rehearsal
