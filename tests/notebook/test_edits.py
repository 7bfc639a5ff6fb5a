"""What follows if a reader edits or repeats a cell of the five questions."""

import dis
from collections import defaultdict
from types import CodeType

import numpy as np
import pytest
from reader import code_cells, sources_beside


def bound_and_read(source):
    """The names that a cell binds, and the global names that it reads."""
    codes, bound, read = [compile(source, "", "exec")], set(), set()
    for code in codes:  # the list grows
        codes += [const for const in code.co_consts if isinstance(const, CodeType)]
        for instruction in dis.get_instructions(code):
            if instruction.opname in ("LOAD_NAME", "LOAD_GLOBAL"):
                read.add(instruction.argval)
            elif instruction.opname == "STORE_NAME" and code is codes[0]:
                bound.add(instruction.argval)
    return bound, read


def test_no_name_is_bound_in_several_cells_and_read_in_another():
    """Then a part of the notebook can be run again, whichever cells have run before."""
    binding_cells, reading_cells = defaultdict(list), defaultdict(list)
    for _, cell_id, source in code_cells()[1:]:  # the first repeats imports
        bound, read = bound_and_read(source)
        for name in bound:
            binding_cells[name].append(cell_id)
        for name in read - bound:
            reading_cells[name].append(cell_id)
    for name, cells in binding_cells.items():
        readers = reading_cells[name] if len(cells) > 1 else []
        assert not readers, f"{name} is bound in {cells} and read in {readers}"


def test_an_edited_class_is_used_in_models_that_are_made_afterwards(edit):
    names = edit("class Linear(Linear):\n    pass\n")
    first, _, second = names["make_mlp"]().layers
    assert type(first) is type(second) is names["Linear"]


@pytest.mark.parametrize("n_units", [300, 10])
def test_one_digit_is_drawn_for_another_number_of_hidden_units(run, edit, n_units):
    """Scores and probabilities are bars; everything else is drawn as a square, which
    the hidden units need not fill."""
    layers = f"[Linear(784, {n_units}), ReLU(), Linear({n_units}, 10)]"
    edit(f"mlp_model = Network({layers})", *sources_beside("q3-digit"))
    axes = run.axes_in("q3-digit")
    assert [len(ax.patches) for ax in axes] == 2 * [0, 0, 0, 10, 10]
    units = np.ma.filled(axes[1].images[0].get_array(), np.nan)
    assert np.isfinite(units).sum() == n_units
