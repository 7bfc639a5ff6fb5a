"""What follows if a reader edits or repeats a cell of the five questions."""

import symtable
from types import SimpleNamespace

import numpy as np
import pytest
from reader import code_cells, sources_beside
from references import assert_in_order


def bound_and_read(source):
    """The names that a cell binds, and the global names that it reads."""
    top = symtable.symtable(source, "", "exec")
    tables, read = [top], set()
    for table in tables:  # the list grows
        tables += table.get_children()
        names = [s for s in table.get_symbols() if table is top or s.is_global()]
        read |= {name.get_name() for name in names if name.is_referenced()}
    bound = {name.get_name() for name in top.get_symbols() if name.is_assigned()}
    return bound, read


def test_no_name_is_bound_in_several_cells_and_read_in_another():
    """Then a part of the notebook can be run again, whichever cells have run before."""
    cells = {cell_id: bound_and_read(source) for _, cell_id, source in code_cells()}
    for name in {name for bound, _ in cells.values() for name in bound}:
        binding = [cell_id for cell_id, (bound, _) in cells.items() if name in bound]
        readers = [
            c for c, (_, read) in cells.items() if name in read and c not in binding
        ]
        is_clear = len(binding) == 1 or not readers
        assert is_clear, f"{name} is bound in {binding} and read in {readers}"


def test_an_edited_class_is_used_in_models_that_are_made_afterwards(edit):
    names = edit("class Linear(Linear):\n    pass\n")
    first, _, second = names["make_mlp"]().layers
    assert type(first) is type(second) is names["Linear"]


def draws_five_columns(run, ns):
    calls = run.calls_in("show_images", "q1-growing-figure")
    return ns.samples.shape[0] == calls[-1].arguments["columns"] == 5


def shows_three_epochs(run, ns):
    """Or as many as there are, and the initial loss."""
    n_columns = 1 + min(3, ns.softmax_guess["epochs"])
    return ns.init_table.shape[1] == n_columns and ns.init_table.notna().all(axis=None)


def follows_tuning(run, ns):
    arguments = [run.fit_of(model) for model in ns.softmax_subsets["model"]]
    answers = run.answer("1.8") + run.answer("1.9")
    assert_in_order(run.answer("1.9"), 1)  # seed
    return "±" not in answers and {(a["seed"], a["epochs"]) for a in arguments} == {
        (7, 2)
    }


def draws_all_units(run, ns):
    """In a square, which they need not fill."""
    square = run.axes_in("q3-digit")[1].images[0].get_array()
    n_units = np.isfinite(np.ma.filled(square, np.nan)).sum()
    return n_units == ns.mlp_model.layers[0].b.size


def names_fifty_steps(run, ns):
    assert_in_order(run.answer("5.5"), 50)
    return len(ns.L_log) == 51


FIRST_RUN, DIGIT = ["q1-first-curves", "q1-init"], ["q3-test", "q3-digit"]
TUNING, EPOCHS = ["q1-tune-run", "q1-test", "q1-bonus"], ('"epochs": 5', '"epochs": 2')
FIVE = ("astype(int)", "astype(int) % 5"), ("digit in range(10)", "digit in range(5)")
STEPS, MODEL = ["q5-descent", "q5-plain", "q5-noise"], 'mlp_runs["model"].iloc[0]'
GRID, NODE = "softmax_grid, **", '"n": (Add(), "a", "b")'
# Cells, whose sections are run again; code and its replacement; what holds then
FOLLOWED = [
    (["q1-data", "q1-classifier", "q1-growing"], FIVE, draws_five_columns),
    (FIRST_RUN, [('"epochs": 10', '"epochs": 3')], shows_three_epochs),
    (FIRST_RUN, [('"epochs": 10', '"epochs": 1')], shows_three_epochs),
    (TUNING, [(GRID, "softmax_grid, seeds=[7], **"), EPOCHS], follows_tuning),
    (DIGIT, [(MODEL, "MLP(784, 300, 10)")], draws_all_units),
    (DIGIT, [(MODEL, "MLP(784, 10, 10)")], draws_all_units),
    (STEPS, [("n_steps = 100", "n_steps = 50")], names_fifty_steps),
]
REFUSED = [
    (["q1-data"], ("digit in range(10)", "digit in range(5)")),
    (["q1-data"], ("digit in range(10)", "digit in range(11)")),
    (["q1-tune-run"], (GRID, "softmax_grid, seed=4, **")),
    (["q1-bonus"], ("[10, 20, 50]", "[10, 50, 100]")),
    (["q2-draw"], (NODE, '"m": (Add(), "a", "b"), "n": (Add(), "m", "half")')),
    (DIGIT, (MODEL, "Network([Linear(784, 9), Linear(9, 9), Linear(9, 10)])")),
    (DIGIT, (MODEL, "Network([*MLP(784, 9, 10).layers, ReLU()])")),
    (["q3-digit"], ("loss_backward(y, s)", "p - 0.9 * Y")),
]


@pytest.mark.parametrize(("cells", "edits", "holds"), FOLLOWED)
def test_what_is_reported_follows_an_edit(run, edit, cells, edits, holds):
    names = edit(*sources_beside(*cells, edits=edits))
    assert holds(run, SimpleNamespace(**names))


@pytest.mark.parametrize(("cells", "replaced"), REFUSED)
def test_an_edit_that_would_make_the_text_wrong_is_refused(edit, cells, replaced):
    sources = sources_beside(*cells, edits=[replaced])
    with pytest.raises(AssertionError):
        edit(*sources)
