"""The whole notebook, run once on few images, for the tests of its experiments.

All code cells run unchanged, in order and in one namespace. Only the amount of data
differs, and some functions also keep a record of their calls."""

import contextlib
import copy
import functools
import inspect
import io
import json
import re
import warnings
from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import joblib
import numpy as np
from load_definitions import NOTEBOOK, ROOT

SHARE = 0.02  # 840 training images and 360 for validation
TEST_IMAGES = 2000
RECORDED = "get_minibatch", "evaluate", "fit", "record_answer"
RECORDED += "show", "show_images", "show_log", "show_tuning"
RECORDED += ("show_accuracy_vs_percentage",)


# Cells of the notebook


class CodeCell(NamedTuple):
    """A code cell: where it is, its source, and whether it is tagged `definitions`."""

    section: str  # such as "1.1"; "" before the first; a heading without a number
    id: str
    source: str
    is_definition: bool


def code_cells():
    """The notebook's code cells, in order."""
    section, code = "", []
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            is_definition = "definitions" in cell["metadata"].get("tags", [])
            code.append(CodeCell(section, cell["id"], source, is_definition))
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
    """What the run leaves behind."""

    names: SimpleNamespace  # the notebook's names: names.test is its test set
    calls: list
    printed: dict  # {section or cell: text}

    def calls_of(self, function, place=None):
        """The calls of a recorded function: in a section or cell, if it is given."""
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

    def answers(self, place):
        """The results recorded in a section or cell."""
        calls = self.calls_of("record_answer", place)
        return [call.arguments["result"] for call in calls]

    def lines(self, place):
        """The printed lines of a section or cell that have a letter in them."""
        lines = self.printed[place].splitlines()
        return [line for line in lines if re.search(r"[^\W\d_]", line)]

    def rows(self, place):
        """The numbers in each printed line of a section or cell that has no words."""
        lines = self.printed[place].splitlines()
        lines = [line for line in lines if not re.search(r"[^\W\d_]{2}", line)]
        return [[number for number, _ in numbers_in(line)] for line in lines]


def few_test_images(load_mnist):
    """load_mnist with a smaller test set."""

    def load_few(*args, **kwargs):
        train, validation, test = load_mnist(*args, **kwargs)
        test = test._replace(x=test.x[:TEST_IMAGES], y=test.y[:TEST_IMAGES])
        return train, validation, test

    return load_few


def small_pictures(read_cifar):
    """A load_cifar that gives 1,000 random details of the 20 images in the repository.

    Details of 12 × 12 pixels have the statistics of real images at low cost."""

    def load_details(folder):
        images, labels = read_cifar(f"{folder}/cifar10_sample.bin", 20)
        rng = np.random.default_rng(0)
        places = rng.integers(0, (len(images), 21, 21), (1000, 3))
        details = [images[k, :, i : i + 12, j : j + 12] for k, i, j in places]
        return np.stack(details), labels[places[:, 0]]

    return load_details


@functools.cache
def small_run():
    """Run the notebook's code cells; a cell that fails is named in the traceback."""
    calls, printed = [], {}
    namespace = {"__name__": "__main__", "In": []}

    def recorded(function):
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call_and_record(*args, **kwargs):
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            for name, value in bound.arguments.items():
                if isinstance(value, np.random.Generator):  # as it is now
                    bound.arguments[name] = copy.deepcopy(value)
            result = function(*args, **kwargs)
            place = cell.section, cell.id
            calls.append(Call(function.__name__, *place, bound.arguments, result))
            return result

        return call_and_record

    replacements = {  # name: function of what a cell has bound to it
        "SHARE": lambda share: SHARE,
        "load_mnist": few_test_images,
        "load_cifar": lambda load: small_pictures(namespace["read_cifar"]),
    }
    replacements |= dict.fromkeys(RECORDED, recorded)

    with (
        contextlib.chdir(ROOT),
        warnings.catch_warnings(action="ignore"),
        joblib.parallel_config(backend="sequential"),  # otherwise nothing is recorded
    ):
        for cell in code_cells():
            namespace["In"].append(cell.source)  # as in Jupyter: section 6.1 reads it
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile(cell.source, f"<cell {cell.id}>", "exec"), namespace)
            text = re.sub(r"[^\n]*\r", "", output.getvalue())  # no progress bars
            for place in cell.section, cell.id:
                printed[place] = printed.get(place, "") + text
            for name in replacements.keys() & namespace.keys():
                namespace[name] = replacements.pop(name)(namespace[name])

    for name in RECORDED:  # what is called from now on is not recorded
        namespace[name] = namespace[name].__wrapped__
    return SmallRun(SimpleNamespace(**namespace), calls[:], printed)


def labels_by_image(dataset):
    """{bytes of an image: its label} of a Dataset."""
    return {x.tobytes(): y for x, y in zip(dataset.x, dataset.y, strict=True)}


# Numbers in texts


def numbers_in(text):
    """The numbers in a text, as pairs (value, error that rounding may have made).

    A number may be written like 8,400 or 1e-07."""
    numbers = []
    pattern = r"(?<![\w.])([-+]?\d+(?:,\d{3})*(?:\.(\d+))?)(?:e([-+]?\d+))?"
    for mantissa, decimals, exponent in re.findall(pattern, text):
        power = 10.0 ** int(exponent or 0)
        value = float(mantissa.replace(",", "")) * power
        error = 0.5 * power * 10.0 ** -len(decimals)
        if not decimals and not exponent:  # 298 may be 298.2, but 1 is not 0.6
            error = min(error, 0.003 * abs(value))
        numbers.append((value, error))
    return numbers


def reports(text, *values):
    """Whether a text has these values, in this order, rounded to the digits it shows.

    Other numbers may stand between them."""
    remaining = iter(numbers_in(text))
    for value in values:
        for number, error in remaining:
            if abs(number - value) <= 1.01 * error:
                break
        else:
            return False
    return True


def assert_reported(texts, *values):
    """Assert that one of the texts reports these values."""
    values = [float(value) for value in values]
    assert any(reports(text, *values) for text in texts), f"{values} not in {texts}"
