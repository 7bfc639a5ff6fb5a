"""The whole notebook, run once on few images, for the tests of its experiments.

All code cells run unchanged, in order and in one namespace. Only the amount of data
differs, and some functions also keep a record of their calls. At the end, the cells
that only draw run again."""

import contextlib
import copy
import functools
import inspect
import io
import json
import re
import warnings
from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from types import SimpleNamespace
from typing import NamedTuple

import joblib
import numpy as np
from load_definitions import NOTEBOOK, ROOT
from saved_notebook import NUMBER

SHARE = 0.02  # 840 training images and 360 for validation
N_TEST = 2000  # images
RECORDED = "get_minibatch", "evaluate", "fit"
RECORDED += "show", "show_images", "show_log", "show_table"


def code_cells(tag=None):
    """(section, id, source) of the notebook's code cells, or those with a tag.

    The section is "" before the first; a heading without a number is its own."""
    section, code = "", []
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            if tag is None or tag in cell["metadata"].get("tags", []):
                code.append((section, cell["id"], source))
        elif heading := re.match(r"### (\d+\.\d+|.+)", source):
            section = heading[1]
    return code


# The run


class Call(NamedTuple):
    """One call of a recorded function."""

    function: str
    section: str
    cell_id: str
    arguments: dict  # by the names of the parameters, defaults included
    result: object


@dataclass(repr=False)  # it is long
class SmallRun:
    """What the run leaves behind. A place is a section or the id of a cell."""

    names: SimpleNamespace  # the notebook's names: names.test is its test set
    calls: list
    lines: dict  # {place: lines that are printed there}
    drawn_again: list  # calls of show: at the end, cells that only draw run again

    def calls_of(self, function, place=None):
        """The calls of a recorded function, everywhere or in one place."""
        calls = [call for call in self.calls if call.function == function]
        return [c for c in calls if place in (None, c.section, c.cell_id)]

    def figure(self, cell_id):
        """The first figure that a cell shows."""
        return self.calls_of("show", cell_id)[0].arguments["fig"]

    def images(self, cell_id):
        """The arguments of a cell's first call of show_images."""
        return self.calls_of("show_images", cell_id)[0].arguments

    def fit_of(self, model):
        """The arguments of the call of `fit` that made a model."""
        calls = self.calls_of("fit")
        (arguments,) = [c.arguments for c in calls if c.result.model is model]
        return arguments

    def answers(self, words):
        """The answers in the section whose heading has these words or this number."""
        answers = self.names.ANSWERS.items()
        return [result for (heading, _), result in answers if words in heading]


def small_pictures(folder):
    """Like load_cifar: 1,000 random details, 12 × 12 pixels, of the repository's 20
    pictures. They have the statistics of whole pictures, at a low cost."""
    records = np.fromfile(f"{folder}/cifar10_sample.bin", np.uint8).reshape(20, 3073)
    pictures = records[:, 1:].reshape(20, 3, 32, 32) / 255
    windows = np.lib.stride_tricks.sliding_window_view(pictures, (12, 12), (2, 3))
    k, i, j = np.random.default_rng(0).integers(0, (20, 21, 21), (1000, 3)).T
    return windows[k, :, i, j], records[k, 0]


@functools.cache
def small_run(*edits):
    """Run the notebook's code cells; a cell that fails is named in the traceback.

    An edit is a pair (old code, new code); the old code stands in one cell."""
    cells = code_cells()
    for old, new in edits:
        assert sum(source.count(old) for *_, source in cells) == 1, old
        cells = [(*place, source.replace(old, new)) for *place, source in cells]
    namespace = {"__name__": "__main__", "In": []}
    calls, lines = [], defaultdict(list)

    def recorded(function):
        @functools.wraps(function)
        def call_and_record(*args, **kwargs):
            bound = inspect.signature(function).bind(*args, **kwargs)
            bound.apply_defaults()
            for name, value in bound.arguments.items():
                if isinstance(value, np.random.Generator):  # in its present state
                    bound.arguments[name] = copy.deepcopy(value)
            result = function(*args, **kwargs)
            section, cell_id, _ = cell
            call = Call(function.__name__, section, cell_id, bound.arguments, result)
            calls.append(call)
            return result

        return call_and_record

    replacements = {  # name: function of what a cell has bound to it
        "SHARE": lambda share: SHARE,
        "test": lambda test: test._replace(x=test.x[:N_TEST], y=test.y[:N_TEST]),
        "load_cifar": lambda load_cifar: small_pictures,
    }
    replacements |= dict.fromkeys(RECORDED, recorded)
    with (
        contextlib.chdir(ROOT),
        warnings.catch_warnings(action="ignore"),
        joblib.parallel_config(backend="sequential"),  # otherwise nothing is recorded
    ):
        for cell in cells:
            section, cell_id, source = cell
            namespace["In"].append(source)  # as in Jupyter: section 6.1 reads it
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile(source, f"<cell {cell_id}>", "exec"), namespace)
            text = re.sub(r"[^\n]*\r", "", output.getvalue())  # no progress bars
            for place in section, cell_id:
                lines[place] += text.splitlines()
            for name in replacements.keys() & namespace.keys():
                namespace[name] = replacements.pop(name)(namespace[name])
        n_calls = len(calls)
        drawing = {call.cell_id for call in calls if call.function == "show"}
        for cell in code_cells("hide-input"):
            _, cell_id, source = cell
            if cell_id in drawing:
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(compile(source, f"<cell {cell_id}>", "exec"), namespace.copy())
    drawn_again = [call for call in calls[n_calls:] if call.function == "show"]
    names = SimpleNamespace(**namespace)
    return SmallRun(names, calls[:n_calls], lines, drawn_again)


# Numbers in texts


def is_rounded(number, value):
    """Whether a number, as text, is a value rounded to the digits that it shows."""
    number = Decimal(number.replace(",", ""))
    error = 0.505 * 10.0 ** number.as_tuple().exponent
    if error == 0.505:  # 298 may be 298.2, but 1 is not 0.6
        error = min(error, 0.003 * abs(value))
    return abs(float(number) - value) <= error


def first_missing(text, values):
    """The position of the first value that a text does not have, or their number.

    Values are rounded, and in order; other numbers may stand between them."""
    numbers = iter(NUMBER.findall(text))  # each search goes on where the last ended
    found = (any(is_rounded(n, value) for n in numbers) for value in values)
    return [*found, False].index(False)


def assert_reported(texts, *values):
    """Assert that one of the texts reports these values, or say which is missing."""
    values = [float(value) for value in values]
    assert texts, f"no text reports {values}"
    k, text = max((first_missing(text, values), text) for text in texts)
    assert k == len(values), f"{values[k]} is missing after {values[:k]} in: {text}"
