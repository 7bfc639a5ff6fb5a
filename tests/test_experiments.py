"""Rules for all experiments: which images are used for what, and which names a cell may
use. Numbers that the text works out by hand, and those of Question 2."""

import ast
import dis
import json
import math
from collections import defaultdict
from types import CodeType

import numpy as np
import pytest
from load_definitions import NOTEBOOK
from matplotlib.collections import Collection
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.text import Text
from references import POINTS, exact
from small_run import assert_reported, code_cells

# Sections of Questions 1 and 3 that show or report results on the test set
REPORT = {"1.1", "1.9", "1.10", "1.11", "1.13", "3.5", "3.6", "3.8"}
TEST_NAMES = {"test", "model_correct", "softmax_predictions", "softmax_correct"}
TEST_NAMES |= {"mlp_predictions", "mlp_correct"}


def test_answers_are_recorded_under_headings_of_the_notebook(run):
    """Otherwise, their links on page 1 lead nowhere."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    lines = [line.strip() for cell in cells for line in cell["source"]]
    headings = {line.lstrip("# ") for line in lines if line.startswith("#")}
    assert {heading for heading, _ in run.names.ANSWERS} <= headings


def bound_and_read(source):
    """The global names that a cell binds, not by imports, and those that it reads."""
    bound, read = set(), set()
    codes = [compile(source, "cell", "exec")]
    for code in codes:  # this list grows: functions, and functions in them
        codes += [const for const in code.co_consts if isinstance(const, CodeType)]
        for instruction in dis.get_instructions(code):
            if instruction.opname in ("LOAD_NAME", "LOAD_GLOBAL"):
                read.add(instruction.argval)
            elif instruction.opname == "STORE_NAME" and code is codes[0]:
                bound.add(instruction.argval)
    nodes = ast.walk(ast.parse(source))
    imports = [n for n in nodes if isinstance(n, ast.Import | ast.ImportFrom)]
    return bound - {a.asname or a.name for node in imports for a in node.names}, read


def test_no_name_is_bound_in_several_cells_and_read_in_another():
    """Then a part of the notebook can be run again, whichever cells have run before."""
    binding_cells, reading_cells = defaultdict(list), defaultdict(list)
    for _, cell_id, source in code_cells():
        bound, read = bound_and_read(source)
        for name in bound:
            binding_cells[name].append(cell_id)
        for name in read - bound:
            reading_cells[name].append(cell_id)
    for name, cells in binding_cells.items():
        if len(cells) > 1:
            assert not reading_cells[name], f"{name} is bound in {cells}"


def contents(fig):
    """All texts in a figure, and the data of its lines, images and meshes."""
    fig.draw_without_rendering()  # tick labels are made here
    texts = [text.get_text() for text in fig.findobj(Text)]
    lines = [line.get_xydata() for line in fig.findobj(Line2D)]
    images = fig.findobj(AxesImage) + fig.findobj(Collection)
    return texts, lines, [image.get_array() for image in images]


def test_figures_stay_the_same_when_their_cells_run_again(run):
    cells = {call.cell_id for call in run.drawn_again}
    first = [call for call in run.calls_of("show") if call.cell_id in cells]
    assert first, "no cell was run again"
    for call, again in zip(first, run.drawn_again, strict=True):
        before, after = (contents(c.arguments["fig"]) for c in (call, again))
        np.testing.assert_equal(after, before, f"the figure of cell {call.cell_id}")


# Training, validation and test images


def labels_by_image(dataset):
    """{bytes of an image: its label} of a Dataset."""
    return {x.tobytes(): y for x, y in zip(dataset.x, dataset.y, strict=True)}


def may_use_test_set(run, section):
    """In the questions, sections that report; in Further, sections without training."""
    trains = {call.section for call in run.calls_of("get_minibatch")}
    return section in REPORT or (section > "6" and section not in trains)


def test_the_test_set_is_used_only_where_results_are_reported(run):
    for section, cell_id, source in code_cells():
        _, read = bound_and_read(source)
        if read & TEST_NAMES:
            assert may_use_test_set(run, section), f"cell {cell_id}"


def test_models_are_evaluated_on_test_images_only_where_results_are_reported(run):
    """However the Dataset is called."""
    test_images = labels_by_image(run.names.test)
    for call in run.calls_of("evaluate"):
        if call.arguments["dataset"].x[0].tobytes() in test_images:
            assert may_use_test_set(run, call.section), f"cell {call.cell_id}"


def test_mini_batches_are_drawn_from_training_images(run):
    labels = labels_by_image(run.names.train)
    calls = {id(c.arguments["x"]): c for c in run.calls_of("get_minibatch")}
    for call in calls.values():
        images = call.arguments["x"]
        if images.ndim == 2:  # section 1.2 draws from ten numbers
            drawn = [labels.get(image.tobytes()) for image in images]
            assert drawn == call.arguments["y"].tolist(), f"cell {call.cell_id}"


def test_fits_are_watched_on_validation_images(run):
    """In Questions 1 and 3 on all of them. A few images that are memorised are watched
    themselves."""
    validation = labels_by_image(run.names.validation)
    for call in run.calls_of("fit"):
        watched = call.arguments["validation"]
        if call.section[0] in "13":
            assert watched is run.names.validation, f"cell {call.cell_id}"
        elif watched is not call.arguments["train"] or len(watched.y) > 100:
            labels = [validation.get(image.tobytes()) for image in watched.x]
            assert labels == watched.y.tolist(), f"cell {call.cell_id}"


# Numbers that are known in advance


def test_a_value_that_is_not_reported_is_named():
    with pytest.raises(AssertionError, match=r"3.0 is missing .* 1, 2$"):
        assert_reported(["3", "1, 2"], 1, 3)


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("1.4", (0.2, 0.3, 0.5)),
        ("1.4", (0.2, -0.7, 0.5)),
        ("1.4", (1.204,)),
        ("2.1", (12,)),
        ("2.1", (4, 4, 3)),
        ("2.1", (3, 7)),
        ("2.2", (0, 4 / (math.exp(20) + math.exp(-20)) ** 2)),  # 1 - tanh(20)²
        ("4.2", (2, 5, 8, 11)),
        ("4.2", (3210, 4321)),
        ("4.2", (1, 12, 120, 1200, 2000)),
        ("5.1", (5, 0.6, 0.8)),
    ],
)
def test_results_that_the_text_works_out_by_hand_are_printed(run, section, values):
    assert_reported(run.lines[section], *values)


@pytest.mark.parametrize("point", POINTS)
def test_gradients_at_the_points_of_the_sheet(run, point):
    """In the table; and in the answer, after the point."""
    gradient = [float(derivative) for derivative in exact(*point)[2:]]
    backprop = list(run.names.backprop[str(point)])
    numerical = list(run.names.numerical[str(point)])
    assert backprop == pytest.approx(gradient, rel=1e-9, abs=1e-99)
    assert numerical == pytest.approx(gradient, rel=1e-6, abs=1e-10)
    lines = "<br>".join(run.answers("2.4")).split("<br>")
    assert_reported(lines, *point, *gradient)


def test_numbers_on_the_arrows_of_the_graph(run, ns):
    """On each arrow its value in blue; in orange, how f changes if only this arrow
    brings a new one."""
    texts = run.figure("q2-draw").axes[0].texts
    texts = [text for text in texts if text.get_color() in (ns.BLUE, ns.ORANGE)]
    func = ns.func
    inputs = {name: func.values[name] for name in ("x", "y", "z", "half")}
    title = run.figure("q2-draw").axes[0].get_title()
    assert_reported([title], inputs["x"], inputs["y"], inputs["z"])
    expected = {("f", "", 0): (func.values["f"], 1)}  # {arrow: its two numbers}
    for name, (node, *sources) in func.nodes.items():
        for k, source in enumerate(sources):
            ends = [*sources[:k], "new", *sources[k + 1 :]]
            graph = ns.Graph(func.nodes | {name: (node, *ends)})
            value = func.values[source]
            above = graph.forward(**inputs, new=value + 1e-6)
            below = graph.forward(**inputs, new=value - 1e-6)
            expected[source, name, k] = value, (above - below) / 2e-6
    pairs = zip(texts[::2], texts[1::2], strict=True)
    for (blue, orange), arrow in zip(pairs, expected, strict=True):
        shown = float(blue.get_text()), float(orange.get_text())
        assert shown == pytest.approx(expected[arrow], rel=0.005, abs=1e-8), arrow
        assert (blue.get_color(), orange.get_color()) == (ns.BLUE, ns.ORANGE), arrow


def test_the_title_of_the_graph_names_its_colours(run):
    title = run.figure("q2-draw").axes[0].get_title()
    assert "values in blue, gradients in orange" in title


@pytest.mark.parametrize("point", POINTS)
def test_table_of_gradients(run, point):
    gradient = [float(derivative) for derivative in exact(*point)[2:]]
    (call,) = run.calls_of("show_table", "q2-gradients")
    row = call.arguments["table"].loc[str(point)]
    for way in "backprop", "numerical":
        shown = [row[way, f"∂f/∂{name}"] for name in "xyz"]
        assert shown == pytest.approx(gradient, rel=1e-6, abs=1e-10), way
