"""What follows if a reader edits or repeats a cell of the five questions."""

import symtable
from types import SimpleNamespace

import numpy as np
import pytest
from reader import code_cells, section_of, sources_beside
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


def draws_five_classes(run, ns):
    calls = run.calls_in("show_images", "q1-growing-figure")
    return len(ns.samples) == calls[-1].arguments["columns"] == 5


def tabulates_three_epochs(run, ns):
    """Or as many as there are; beside them, the initial loss."""
    n_columns = 1 + min(3, ns.softmax_guess["epochs"])
    return ns.init_table.shape[1] == n_columns and ns.init_table.notna().all(axis=None)


def uses_seed_7_twice(run, ns):
    """For all of the data and for less; two epochs, and no ± for a single seed."""
    assert "±" not in run.answer("1.8") + run.answer("1.9")
    assert_in_order(run.answer("1.9"), 1)  # seed
    settings = [run.fit_of(model) for model in ns.softmax_subsets["model"]]
    return {(row["seed"], row["epochs"]) for row in settings} == {(7, 2)}


def draws_all_units(run, ns):
    """In a square, which they need not fill."""
    square = run.axes_in("q3-digit")[1].images[0].get_array()
    n_units = np.isfinite(np.ma.filled(square, np.nan)).sum()
    return n_units == len(ns.mlp_model.layers[0].b)


def names_fifty_steps(run, ns):
    assert_in_order(run.answer("5.5"), 50)
    return len(ns.L_log) == 51


def answers_for_two(run, ns):
    """Those that saw distorted digits; the figure has all models."""
    n_labels = len(run.axes_in("staircase")[0].get_xticklabels())
    answer = run.answer(section_of("staircase"))
    return n_labels == len(ns.models) and answer.count("<br>") == 1


CLASSES, TUNING = "digit in range(10)", "softmax_grid, **"
DIGIT, MODEL = "q3-test q3-digit", 'mlp_runs["model"].iloc[0]'
NODE = '"n": (Add(), "a", "b")'
FIVE = {"astype(int)": "astype(int) % 5", CLASSES: "digit in range(5)"}
ONE_SEED = {TUNING: "softmax_grid, seeds=[7], **", '"epochs": 5': '"epochs": 2'}
EDITS = [  # cells, whose sections are run again; what is replaced; what holds then
    ("q1-data q1-classifier q1-growing", FIVE, draws_five_classes),
    ("q1-data", {CLASSES: "digit in range(5)"}, "refused"),
    ("q1-data", {CLASSES: "digit in range(11)"}, "refused"),
    ("q1-growing q1-init", {'"epochs": 10': '"epochs": 3'}, tabulates_three_epochs),
    ("q1-growing q1-init", {'"epochs": 10': '"epochs": 1'}, tabulates_three_epochs),
    ("q1-tune-run q1-test q1-bonus", ONE_SEED, uses_seed_7_twice),
    ("q1-tune-run", {TUNING: "softmax_grid, seed=4, **"}, "refused"),
    ("q1-tune-run", {TUNING: "softmax_grid, lam=0, **"}, "refused"),
    ("q1-bonus", {"[10, 20, 50]": "[10, 50, 100]"}, "refused"),
    ("q1-bonus", {"test, softmax_runs)": "test, softmax_trials)"}, "refused"),
    ("q2-draw", {NODE: '"m": (Add(), "a", "b"), "n": (Add(), "m", "x")'}, "refused"),
    (DIGIT, {MODEL: "MLP(784, 10, 10)"}, draws_all_units),
    (DIGIT, {MODEL: "Network([*mlp_model.layers[::2], Linear(10, 10)])"}, "refused"),
    (DIGIT, {MODEL: "Network([*mlp_model.layers, ReLU()])"}, "refused"),
    ("q3-digit", {"loss_backward(y, s)": "p - 0.9 * Y"}, "refused"),
    ("q5-descent q5-plain q5-noise", {"steps = 100": "steps = 50"}, names_fifty_steps),
    ("staircase", {"models = {": "models = {'a': logistic.predict,"}, answers_for_two),
    ("staircase", {'    "linear': '    # "linear'}, answers_for_two),
]


@pytest.mark.parametrize(("cells", "edits", "holds"), EDITS)
def test_what_is_reported_follows_an_edit_or_refuses_it(run, edit, cells, edits, holds):
    sources = sources_beside(*cells.split(), edits=edits)
    if holds == "refused":
        with pytest.raises(AssertionError):
            edit(*sources)
    else:
        assert holds(run, SimpleNamespace(**edit(*sources)))
