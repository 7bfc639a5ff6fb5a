"""The sheet's 53 items, each with the evidence that a grader must see as saved.

Evidence is read from the saved outputs (figures by the description that `show` leaves
in their metadata, tables, printed lines), from the code where the sheet asks for code,
and from Markdown cells where it asks for words. An item whose cell is gone, or has lost
its outputs, or shows something else in their place, fails under its number.
"""

import ast
import math
import re
import sys
from typing import NamedTuple

import nbformat
import pytest
from load_definitions import ROOT
from test_notebook import SAVED, cell_of, parsed, table_rows


class Evidence(NamedTuple):
    """What must be in a cell: check(notebook) is None, or an AssertionError says."""

    cell: str
    kind: str  # "printed", "figure", "table", "source" or "text"
    check: object


# What a cell shows


def printed_text(notebook, cell_id):
    outputs = cell_of(notebook, cell_id).outputs
    return "".join(o.text for o in outputs if o.output_type == "stream")


def figures(notebook, cell_id):
    """The descriptions of a cell's figures: {"alt": text, "axes": [description]}."""
    outputs = cell_of(notebook, cell_id).outputs
    return [
        o.metadata["image/png"] for o in outputs if "image/png" in o.get("data", ())
    ]


def tables(notebook, cell_id):
    """A cell's tables: lists of rows of texts, the header first."""
    outputs = cell_of(notebook, cell_id).outputs
    texts = [o.get("data", {}).get("text/markdown", "") for o in outputs]
    return [[*table_rows(text, header=True)] for text in texts if text.startswith("|")]


def printed(cell_id, *patterns, times=1):
    """Each pattern is found, at least so many times, in what a cell prints."""

    def check(notebook):
        text = printed_text(notebook, cell_id)
        for pattern in patterns:
            assert len(re.findall(pattern, text, re.M)) >= times, (pattern, text)

    return Evidence(cell_id, "printed", check)


def figure(cell_id, *needed, alt=""):
    """One figure of a cell has, for each dictionary, linear axes (so many `times`) that
    fit it: patterns for x, y, title; texts of the legend; least curves and images."""

    def check(notebook):
        shown = [f for f in figures(notebook, cell_id) if re.search(alt, f["alt"])]
        assert any(
            all(sum(fits(axes, wish) for axes in f["axes"]) >= wish.get("times", 1)
                for wish in needed)
            for f in shown
        ), (cell_id, needed, shown)  # fmt: skip

    return Evidence(cell_id, "figure", check)


def fits(axes, wish):
    texts = (re.search(wish.get(key, ""), axes[key]) for key in ("x", "y", "title"))
    counts = (axes[key] >= wish.get(key, 0) for key in ("curves", "images"))
    legend = set(wish.get("legend", ())) <= set(axes["legend"])
    return all(texts) and all(counts) and legend and axes["scales"] == ["linear"] * 2


def table(cell_id, columns, rows, cell="", least=None):
    """A table of a cell has a column for each pattern and a row that begins with each;
    where they meet, the texts fit a pattern; and there are at least so many rows."""

    def check(notebook):
        found = tables(notebook, cell_id)
        assert any(table_fits(t, columns, rows, cell, least) for t in found), found

    return Evidence(cell_id, "table", check)


def table_fits(found, columns, rows, cell, least):
    header, *body = found
    chosen = [
        [k for k, text in enumerate(header) if re.search(c, text)] for c in columns
    ]
    lines = [[row for row in body if re.match(r, row[0])] for r in rows]
    return (
        all(chosen)
        and all(lines)
        and len(body) >= (least or 1)
        and all(re.fullmatch(cell or ".*", row[ks[0]])
                for ks in chosen for found in lines for row in found)
    )  # fmt: skip


# What a cell's code holds


def nodes(notebook, cell_id, kind):
    tree = parsed(cell_of(notebook, cell_id).source)
    return [node for node in ast.walk(tree) if isinstance(node, kind)]


def source(cell_id, check):
    return Evidence(cell_id, "source", check)


def defines_class(cell_id, name, **methods):
    """A class with these methods, each with these arguments (a text) after self."""

    def check(notebook):
        found = {c.name: c for c in nodes(notebook, cell_id, ast.ClassDef)}
        assert name in found, f"{cell_id} defines the class {name}"
        there = {f.name: f for f in found[name].body if isinstance(f, ast.FunctionDef)}
        for method, arguments in methods.items():
            assert method in there, f"{name}.{method} is defined in {cell_id}"
            has = {argument.arg for argument in there[method].args.args}
            assert set(arguments.split()) <= has, (name, method, has)

    return source(cell_id, check)


def defines(cell_id, name, arguments="", kind=None):
    """A function of that name, with these arguments among others."""

    def check(notebook):
        found = {f.name: f for f in nodes(notebook, cell_id, ast.FunctionDef)}
        assert name in found, f"{cell_id} defines the function {name}"
        args = found[name].args
        has = {argument.arg for argument in (*args.args, *args.kwonlyargs)}
        assert set(arguments.split()) <= has, (name, has)
        if kind:
            assert any(isinstance(n, kind) for n in ast.walk(found[name])), kind

    return source(cell_id, check)


def uses(cell_id, *codes):
    """Each code stands in a cell as an expression, a statement or an argument."""

    def check(notebook):
        tree = parsed(cell_of(notebook, cell_id).source)
        there = {
            ast.unparse(node) for node in ast.walk(tree) if hasattr(node, "lineno")
        }
        wanted = {code: ast.unparse(ast.parse(code).body[0]) for code in codes}
        missing = [code for code, text in wanted.items() if text not in there]
        assert not missing, f"{cell_id} has {missing}"

    return source(cell_id, check)


def says(cell_id, *patterns):
    """Each pattern is found in a Markdown cell, over line breaks too."""

    def check(notebook):
        cell = cell_of(notebook, cell_id)
        assert cell.cell_type == "markdown"
        for pattern in patterns:
            assert re.search(pattern, cell.source, re.S), (cell_id, pattern)

    return Evidence(cell_id, "text", check)


def section(notebook, cell_id):
    """The last heading above a cell."""
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = (re.findall(r"^#+ .+", cell.source, re.M) or [heading])[-1]
        if cell.id == cell_id:
            return heading
    raise AssertionError(f"there is no cell {cell_id}")


def together(*cell_ids):
    """Cells stand in one section, as a check does with what it checks."""

    def check(notebook):
        assert len({section(notebook, cell_id) for cell_id in cell_ids}) == 1, cell_ids

    return source(cell_ids[0], check)


# What several items ask alike

CHECKED = r"relative error \d\.\de-(0[89]|1\d)$"
PERCENT = r"\d+\.\d\d %"
MEAN_SD = r"\d+\.\d\d ± \d+\.\d\d %"


def log_printed(cell_id):
    """A header, and a line every few epochs: losses and accuracies of both sets."""
    names = "training: loss +accuracy +validation: loss +accuracy$"
    line = rf"^ *\d+ +\d\.\d+ +{PERCENT} +\d\.\d+ +{PERCENT}$"
    several = printed(cell_id, line, times=5).check

    def check(notebook):
        printed(cell_id, rf"^epoch +{names}").check(notebook)
        several(notebook)

    return Evidence(cell_id, "printed", check)


def loss_and_accuracy(cell_id):
    legend = ["training", "validation"]
    return figure(
        cell_id,
        {"x": "^epoch", "y": "^loss", "curves": 1},
        {"x": "^epoch", "y": r"^accuracy \(%\)", "curves": 2, "legend": legend},
    )


def grid_of(notebook, cell_id):
    """The grid {setting: values} that a cell writes down."""
    for node in nodes(notebook, cell_id, ast.Assign):
        if node.targets[0].id.endswith("_grid"):
            return ast.literal_eval(node.value)
    raise AssertionError(f"{cell_id} writes down no grid")


def effect_of_settings(grid_cell, cell_id, down, across):
    """Heat map, and a table of all pairs with three numbers in each."""

    def check(notebook):
        rows, columns = sorted(map(len, grid_of(notebook, grid_cell).values()))
        three = r"\d+\.\d\d / \d+\.\d\d / [+-]\d+\.\d\d|diverges"
        body = [row for t in tables(notebook, cell_id) for row in t[1:]]
        header = [t[0] for t in tables(notebook, cell_id)]
        assert header and header[0][0].startswith("training / validation / difference")
        assert sorted((len(body), len(body[0]) - 1)) == [rows, columns]
        assert all(re.fullmatch(three, text) for row in body for text in row[1:]), body

    picture = {"x": across, "y": down, "images": 1}
    return [
        uses(grid_cell, "grid_search"),
        figure(cell_id, picture | {"title": r"^accuracy on the validation set \(%\)"}),
        Evidence(cell_id, "table", check),
    ]


def chosen_inside(grid_cell, cell_id, pattern):
    """The settings printed as chosen stand inside the grid, not at its edge."""

    def check(notebook):
        chosen = re.search(pattern, printed_text(notebook, cell_id), re.M)
        assert chosen, pattern
        for name, value in chosen.groupdict().items():
            values = grid_of(notebook, grid_cell)[name]
            assert float(value) in values[1:-1], (name, value, values)

    return Evidence(cell_id, "printed", check)


def no_better_beyond(cell_id):
    """A step beyond the grid's edge is shown, and is no better than the grid's best."""
    words = r"best of the grid (\d+\.\d+) %, best beyond it (\d+\.\d+) %"

    def check(notebook):
        shown = re.search(words, printed_text(notebook, cell_id))
        assert shown, words
        assert float(shown[2]) <= float(shown[1])

    return Evidence(cell_id, "printed", check)


def classes_named(cell_id):
    """Best and worst class in words, with accuracies; and a table of all ten."""
    words = rf"^Best class .*: \d, with {PERCENT}\. Worst class: \d, with {PERCENT}\.$"
    return [
        printed(cell_id, words),
        table(cell_id, ["^accuracy"], [rf"{k}$" for k in range(10)], PERCENT, 10),
    ]


def share_of_data(cell_id, model):
    """Test accuracy over the percentage of training data, in a figure and a table."""
    axes = {"x": r"^percentage of training data", "y": r"^test accuracy \(%\)"}
    columns = ["^10 %", "^20 %", "^50 %"]
    return [
        figure(cell_id, axes | {"curves": 1, "legend": [model]}),
        table(cell_id, columns, [f"{model}: test"], MEAN_SD),
    ]


def accuracy_on_test(cell_id):
    return printed(cell_id, rf"^test accuracy.*: {PERCENT} \(\d+\.\d+ to \d+\.\d+\)$")


def gradient_row(point, *slopes):
    """The row of a point with its three derivatives, as worked out elsewhere."""

    def check(notebook):
        rows = [row for t in tables(notebook, "q2-gradients") for row in t[1:]]
        found = [row for row in rows if row[0] == str(point)]
        assert len(found) == 1, point
        shown = [float(text) for text in found[0][2:5]]
        assert shown == pytest.approx(slopes, rel=2e-5, abs=0), point

    return Evidence("q2-gradients", "table", check)


# Items of their own kind

LEARNING = {  # modules and names that may be imported: none of them does the learning
    "idx2numpy", "numpy", "pooch", "IPython", "IPython.display", "joblib", "matplotlib",
    "matplotlib.colors", "threadpoolctl", "tqdm", "scipy", "scipy.stats",
    "sklearn.linear_model", "sklearn.metrics", "sklearn.model_selection",
}  # fmt: skip


def imports(notebook):
    """The modules that the notebook's code imports, as written."""
    found = []
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        for node in ast.walk(parsed(cell.source)):
            if isinstance(node, ast.Import):
                found += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found.append("." * node.level + (node.module or ""))
    return found


def nothing_learns(notebook):
    asked = {name for name in imports(notebook) if name not in sys.stdlib_module_names}
    assert "numpy" in asked
    assert not asked - LEARNING, "a package that may do the learning"


def stands_alone(notebook):
    """Plots are made in it, nothing of ours is imported, and what it reads is here."""
    names = {name.split(".")[0] for name in imports(notebook)}
    assert "matplotlib" in names
    here = [p for f in (ROOT, ROOT / "tools", ROOT / "tests") for p in f.iterdir()]
    ours = {path.stem for path in here if path.suffix == ".py"} | {"tools", "tests"}
    assert not names & (ours | {"", "plots"}), "one notebook: no import of ours"
    assert not (ROOT / "plots.py").exists()
    assert (ROOT / "data" / "mnist").is_dir() and (ROOT / "C0_weights.npy").is_file()


def two_epochs(notebook):
    """Each epoch has every number once, in mini-batches that are not the same."""
    lines = re.findall(
        r"^epoch \d: (.*)$", printed_text(notebook, "q1-minibatch-demo"), re.M
    )
    assert len(lines) == 2 and lines[0] != lines[1]
    for line in lines:
        assert len(re.findall(r"\[", line)) > 1, "several mini-batches"
        assert sorted(map(int, re.findall(r"\d+", line))) == [*range(10)]


def uniform_weights(notebook):
    """A new layer's weights are drawn uniformly between -1 and 1."""
    calls = nodes(notebook, "q5-load", ast.Call)
    drawn = [
        ast.unparse(call) for call in calls if ".uniform" in ast.unparse(call.func)
    ]
    assert any("uniform(-1, 1, " in text for text in drawn), drawn


def filters_shown(notebook):
    """All 20 filters, the true ones above the learned: 40 images at least."""
    count = sum(
        axes["images"] for f in figures(notebook, "q5-filters") for axes in f["axes"]
    )
    assert count >= 40
    titles = [f["alt"] for f in figures(notebook, "q5-filters")]
    assert any(re.search("[Ff]ilters", title) for title in titles), titles
    keys = [ast.literal_eval(k) for d in nodes(notebook, "q5-filters", ast.Dict)
            for k in d.keys if isinstance(k, ast.Constant)]  # fmt: skip
    assert keys[0] == "true" and len(keys) > 1, keys


def arrives(notebook):
    """A log, at whose end the filters are right."""
    text = printed_text(notebook, "q5-whitened-run")
    rows = re.findall(r"^ *(\d+) +(\S+) +(\S+)$", text, re.M)
    assert len(rows) >= 5
    assert float(rows[0][2]) > 1 > 1e-10 > float(rows[-1][2])


def outputs_agree(notebook):
    text = printed_text(notebook, "q5-distance")
    found = re.search(r"^L2 distance .* C and of C_0: (\S+)$", text, re.M)
    assert found and math.isfinite(float(found[1])) and float(found[1]) < 1e-8


NODES = {
    "q2-nodes-binary": ["Add", "Multiply", "Divide"],
    "q2-nodes": ["CosPi", "SinPi", "Tanh", "Sigmoid", "Log"],
}
LAYER = "Convolution_Layer"

ITEMS = {
    0: [
        says("title", "Rishav Saha", "22573"),
        source("setup-imports", nothing_learns),
    ],
    # Question 1
    1: [
        uses("q1-load", "len(order) * 7 // 10"),
        printed(
            "q1-data",
            r"\A42000$",
            r"^training: images \(42000, 784\), labels \(42000,\)$",
            r"^validation: images \(18000, 784\), labels \(18000,\)$",
            r"^test: images \(10000, 784\), labels \(10000,\)$",
        ),
        says("differences", "70 % of the training images.*at random"),
    ],
    2: [
        defines("q1-minibatch", "get_minibatch", "x y batch_size rng", ast.Yield),
        Evidence("q1-minibatch-demo", "printed", two_epochs),
    ],
    3: [
        defines_class("q1-classifier", "Single_layer_classifier", __init__="std"),
        uses("q1-classifier", "self.W = (std * normal).astype(dtype)", "1e-3"),
        table(
            "q1-init",
            ["validation, epoch 15"],
            ["0.001$", "Xavier$", "1$"],
            PERCENT,
            least=5,
        ),
        table("q1-init", ["^σ"], ["0.001$", "Xavier$", "1$"], r"[\d.]+"),
    ],
    4: [defines_class("q1-classifier", "Single_layer_classifier", forward="input_x")],
    5: [
        defines_class(
            "q1-classifier",
            "Single_layer_classifier",
            backward_Ldata="grad_from_loss",
            backward_Lreg="",
        ),
        printed(
            "q1-classifier-check",
            f"scores, with respect to W +{CHECKED}",
            f"squared, with respect to W +{CHECKED}",
        ),
        together("q1-classifier", "q1-classifier-check"),
    ],
    6: [
        defines("q1-loss", "loss_function", "input_y scores"),
        defines("q1-loss", "loss_backward", "scores"),
        printed(
            "q1-loss-check",
            f"^loss, with respect to the scores +{CHECKED}",
            f"^loss, with respect to W +{CHECKED}",
        ),
        together("q1-loss", "q1-loss-check"),
    ],
    7: [
        defines("q1-accuracy", "evaluate", "model part"),
        uses("q1-first-loss", "evaluate"),
        printed("q1-first-loss", rf"^training: loss \d\.\d+, accuracy {PERCENT}$"),
    ],
    8: [
        defines("q1-trainer", "take_step", "model x_b y_b learning_rate lam"),
        uses("q1-trainer", "value -= learning_rate * gradient"),
        defines("q1-trainer", "train", "epochs batch_size learning_rate lam batches"),
        says("q1-trainer-text", r"sheet.{,40}constant"),
        says("q1-loss-text", r"sheet.{,100}\bsum\b"),
        says("differences", r"\bmean\b.*\bsum\b.*constant"),
    ],
    9: [log_printed("q1-first-curves")],
    10: [loss_and_accuracy("q1-first-curves")],
    11: [printed("q1-first-curves", rf"^accuracy on the validation set: {PERCENT}$")],
    12: [
        uses("q1-tune", "grid_search", "'lam'"),
        chosen_inside(
            "q1-tune",
            "q1-leaders",
            r"^chosen: λ = (?P<lam>[\d.e-]+), "
            r"learning rate (?P<learning_rate>[\d.e-]+)$",
        ),
        printed("q1-leaders", r"^training − validation: -?\d+\.\d\d points$"),
    ],
    13: effect_of_settings("q1-tune", "q1-tune-show", "^λ$", "^learning rate$"),
    14: [accuracy_on_test("q1-test")],
    15: classes_named("q1-classes-show"),
    16: [
        uses("q1-sklearn-fit", "LinearRegression()", "fit_sklearn"),
        uses("q1-sklearn", "estimator.fit(x, y)"),
    ],
    17: [
        table(
            "q1-sklearn-table",
            ["^training$", "^test$"],
            ["ours$", "LinearRegression"],
            PERCENT,
            least=3,
        )
    ],
    18: [says("q1-observations", r"### [\d.]+ Observations\n(.*\n- ){3}")],
    19: share_of_data("q1-bonus", "softmax classifier"),
    # Question 2
    20: [
        *(
            defines_class(cell, name, forward="", backward="grad")
            for cell, names in NODES.items()
            for name in names
        ),
        uses("q2-nodes-binary", "self.a, self.b = a, b"),  # forward saves
        says("q2-func-text", r"\bshape\b"),  # what becomes of dimensions
    ],
    21: [
        defines_class(
            "q2-func", "Func", __init__="", forward="x y z", backward="output_grad"
        ),
        uses("q2-func", "return [grads['x'], grads['y'], grads['z']]"),
    ],
    22: [gradient_row((2, 4, 1), 0, 0.43721042, -0.30697227)],
    23: [gradient_row((9, 14, 3), 0, -1.14834290, 2.672165e-07)],
    24: [gradient_row((128, 42, 666), 0, -0.42245219, 0)],
    25: [gradient_row((52, 14, 28), 0, -0.42245219, 0)],
    # Question 3
    26: [
        defines_class(
            "q3-linear",
            "Linear",
            __init__="in_features out_features",
            forward="x",
            backward="grad",
        ),
        printed(
            "q3-check-run",
            *(f"^Linear, with respect to {k} +{CHECKED}" for k in ("input", "W", "b")),
        ),
        together("q3-linear", "q3-check-run"),
    ],
    27: [
        defines_class("q3-linear", "ReLU", forward="x", backward="grad"),
        printed("q3-check-run", f"^ReLU, with respect to input +{CHECKED}"),
    ],
    28: [
        defines_class("q3-network", "MLP", __init__="hidden_size output_size"),
        uses("q3-network", "Linear", "ReLU()"),
        printed(
            "q3-network-check",
            *(f"with respect to {k} +{CHECKED}" for k in ("W1", "W2", "b1", "b2")),
        ),
        together("q3-network", "q3-network-check"),
    ],
    29: [
        uses("q3-first-training", "fit", "data.train", "data.valid"),
        log_printed("q3-first-training"),
    ],
    30: [loss_and_accuracy("q3-first-training")],
    31: [printed("q3-first-training", rf"^accuracy on the validation set: {PERCENT}$")],
    32: [
        uses("q1-tune", "grid_search"),  # Question 1's strategy, by the same functions
        uses("q1-leaders", "fit_leaders"),
        uses("q3-tune", "grid_search", "mlp_budget"),
        uses("q3-leaders", "fit_leaders"),
        *effect_of_settings("q3-tune", "q3-tune-show", "^batch", "^learning rate$"),
        chosen_inside(
            "q3-tune",
            "q3-leaders",
            r"^chosen: batch size \d+, learning rate (?P<learning_rate>[\d.e-]+)$",
        ),
        no_better_beyond("q3-beyond"),
        table(
            "q3-beyond", ["^learning rate 0.2$"], ["batch size = 16$"], r".*/.*/.*", 1
        ),
    ],
    33: [accuracy_on_test("q3-test")],
    34: classes_named("q3-classes"),
    35: [says("q3-observations", r"### [\d.]+ Observations on the MLP\n(.*\n- ){3}")],
    36: share_of_data("q3-bonus", "MLP"),
    # Question 4
    37: [
        defines_class(
            "q4-convolution",
            LAYER,
            __init__="kernel_size bias stride padding dilation rng",
        ),
        uses("q4-convolution", "np.random.default_rng(rng)"),
    ],
    38: [
        defines_class("q4-convolution", LAYER, forward="x", correlate=""),
        defines("q4-convolution", "correlate", "self", ast.For),  # over locations
        printed(
            "q4-check",
            r"^plain: outputs \(2, 3, 6, 6\), difference \de-1\d$",
            r"stride.*padding.*dilation.*: outputs \(.*\), difference \de-1\d$",
        ),
    ],
    39: [
        defines_class("q4-convolution", LAYER, backward="grad"),
        uses("q4-convolution", "return self.grad_W"),
        printed("q4-check", f"^{LAYER}, with respect to W +{CHECKED}", times=2),
        together("q4-convolution", "q4-check"),
    ],
    40: [defines_class("q4-convolution", LAYER, set_weights="new_weights")],
    41: [
        defines("q4-cifar-download", "download_cifar", "url"),
        printed("q4-cifar-load", r": images \(1000, 3, 32, 32\), labels \(1000,\)$"),
        says("q4", "first 1,000 images"),
    ],
    42: [
        uses("q4-gaussian", "layer.set_weights", "gaussian_filters"),
        figure(
            "q4-filters",
            {"images": 1, "times": 10},
            {"images": 1, "x": "column", "y": "row"},
            alt="Gaussian filters",
        ),
    ],
    43: [
        uses("q4-blur", "cifar[:5]"),
        printed("q4-blur", r"^first.* \(5, 3, 32, 32\) -> .* \(5, 3, 32, 32\)$"),
    ],
    44: [figure("q4-blur-show", {"images": 1, "times": 10}, alt="[Ff]irst 5 images")],
    45: [
        printed("q4-blur", r"^random.* \(10, 3, 32, 32\) -> .* \(10, 3, 32, 32\)$"),
        figure("q4-blur-show", {"images": 1, "times": 10}, alt="10 random.* 1 to 5"),
        figure("q4-blur-show", {"images": 1, "times": 10}, alt="10 random.* 6 to 10"),
    ],
    # Question 5
    46: [
        uses("q5-c0", "'C0_weights.npy'", "C0.set_weights(W0)"),
        printed("q5-c0", r"weights \(20, 3, 5, 5\)"),
        says("q5-c0-text", r"stands in for"),
        Evidence("q5-filters", "figure", filters_shown),
    ],
    47: [
        uses("q5-c0", "C0.forward"),
        printed("q5-c0", r"images \(100, 3, 32, 32\) -> outputs \(100, 20, 28, 28\)$"),
    ],
    48: [
        defines_class(
            "q5-l2", "L2_loss", forward="C0_output C_output", backward="output_grad"
        ),
        printed("q5-l2-check", f"^L2 loss, with respect to C's output +{CHECKED}"),
        together("q5-l2", "q5-l2-check"),
    ],
    49: [
        Evidence("q5-load", "source", uniform_weights),
        uses("q5-descent", "new_layer"),
    ],
    50: [
        uses("q5-descend", "L2_loss()", "l2.backward", "C.backward", "get_minibatch"),
        uses("q5-descent", f"new_layer({LAYER})"),
        printed("q5-descent", r"^ *\d+ +\d+ +\d\.\d+ +\d+ +\d\.\d+$", times=5),
        uses("q5-whitened-run", f"C = new_layer({LAYER})", "descend"),
        Evidence("q5-whitened-run", "printed", arrives),
    ],
    51: [Evidence("q5-distance", "printed", outputs_agree)],
    # All
    52: [
        source("setup-imports", stands_alone),
        uses("q1-data", "'data/mnist'"),
        uses("q5-c0", "'C0_weights.npy'"),
    ],
}


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(SAVED, as_version=4)


@pytest.mark.parametrize("number", range(53))
def test_item(notebook, number):
    for evidence in ITEMS[number]:
        evidence.check(notebook)
