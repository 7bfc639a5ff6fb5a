"""Rules for all experiments: which images are used for what, where answers belong, and
which names a cell may use. (The other test_experiments files work the results out.)"""

import ast
import symtable
from collections import defaultdict

import numpy as np
import pytest
from small_run import assert_reported, code_cells, labels_by_image, small_run

# Sections of Questions 1 and 3 that show or report results on the test set
REPORT = {"1.1", "1.9", "1.10", "1.11", "1.13", "3.5", "3.6", "3.8"}
TEST_NAMES = {"test", "model_correct", "softmax_predictions", "softmax_correct"}
TEST_NAMES |= {"mlp_predictions", "mlp_correct"}


@pytest.fixture(scope="module")
def run():
    return small_run()


def may_use_test_set(run, section):
    """In the questions, sections that report; in Further, sections without training."""
    trains = {call.section for call in run.calls_of("get_minibatch")}
    return section in REPORT or (section > "6" and section not in trains)


def test_the_test_set_is_used_only_where_results_are_reported(run):
    for cell in code_cells():
        nodes = ast.walk(ast.parse(cell.source))
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        if names & TEST_NAMES and not cell.is_definition:
            assert may_use_test_set(run, cell.section), f"cell {cell.id}"


def test_models_are_evaluated_on_test_images_only_where_results_are_reported(run):
    """However the Dataset is called."""
    test_images = labels_by_image(run.names.test)
    for call in run.calls_of("evaluate"):
        if call.arguments["dataset"].x[0].tobytes() in test_images:
            assert may_use_test_set(run, call.section), f"cell {call.cell_id}"


def test_training_and_validation_images_are_disjoint(run):
    train, validation = run.names.train, run.names.validation
    assert not labels_by_image(train).keys() & labels_by_image(validation).keys()


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


def test_every_answer_is_recorded_under_its_own_section(run):
    for call in run.calls_of("record_answer"):
        assert call.arguments["section"].split()[0] == call.section


def test_zero_has_the_middle_colour_where_an_image_has_both_signs(run):
    for call in run.calls_of("show"):
        for ax in call.arguments["fig"].axes:
            for image in ax.images:
                array, (low, high) = image.get_array(), image.get_clim()
                if array.ndim == 2 and np.min(array) < 0 < np.max(array):
                    assert low == -high, ax.get_title()


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("1.4", (0.2, 0.3, 0.5)),
        ("1.4", (0.2, -0.7, 0.5)),
        ("1.4", (1.204,)),
        ("2.1", (12,)),
        ("2.1", (4, 4, 3)),
        ("2.1", (3, 7)),
        ("4.2", (2, 5, 8, 11)),
        ("4.2", (3210, 4321)),
        ("4.2", (1, 12, 120, 1200, 2000)),
        ("5.1", (5, 0.6, 0.8)),
    ],
)
def test_results_that_the_text_works_out_by_hand_are_printed(run, section, values):
    assert_reported(run.lines(section), *values)


# A part of the notebook can be run again


def bound_names(source):
    """The global names that a cell binds, except by imports."""
    symbols = symtable.symtable(source, "cell", "exec").get_symbols()
    return {s.get_name() for s in symbols if s.is_assigned() and not s.is_imported()}


def read_names(source):
    """The global names that a cell reads."""
    names, tables = set(), [symtable.symtable(source, "cell", "exec")]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        is_top = table.get_type() == "module"
        for symbol in table.get_symbols():
            if symbol.is_referenced() if is_top else symbol.is_global():
                names.add(symbol.get_name())
    return names


def functions_in(node):
    """The functions in a part of a cell, without those inside other functions.

    A lambda that is an argument of a call is used at once, and left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Lambda) and isinstance(node, ast.Call):
            continue
        if isinstance(child, ast.FunctionDef | ast.Lambda):
            yield child
        else:
            yield from functions_in(child)


def names_read_later(source):
    """The global names in functions, which may be called after other cells have run."""
    names = set()
    for function in functions_in(ast.parse(source)):
        nodes = list(ast.walk(function))
        local = {node.arg for node in nodes if isinstance(node, ast.arg)}
        used = [node for node in nodes if isinstance(node, ast.Name)]
        local |= {node.id for node in used if isinstance(node.ctx, ast.Store)}
        names |= {node.id for node in used} - local
    return names


def test_no_name_means_different_things_in_different_cells():
    """A name bound in several cells is read only in cells that bind it, and there not
    in a function that could be called later.

    Then a part of the notebook can be run again, whichever cells have run before."""
    binds, reads = defaultdict(list), defaultdict(list)
    for cell in code_cells():
        bound = bound_names(cell.source)
        read = read_names(cell.source) - bound | names_read_later(cell.source)
        for name in bound:
            binds[name].append(cell.id)
        for name in read:
            reads[name].append(cell.id)
    ambiguous = {
        name: f"bound in {cells}, read in {reads[name]}"
        for name, cells in binds.items()
        if len(cells) > 1 and name in reads
    }
    assert not ambiguous
