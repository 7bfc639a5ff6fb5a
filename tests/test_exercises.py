"""The exercises: each block of Python in the text runs where the notebook has run, and
its result is what the answer below it claims.

In a block to complete, the line with `...` is replaced by the code of its answer."""

import ast
import contextlib
import copy
import functools
import io
import json
import re
from typing import NamedTuple

import numpy as np
import pytest
from load_definitions import NOTEBOOK
from references import exact
from small_run import numbers_in, small_run


class Exercise(NamedTuple):
    cell_id: str
    code: str  # as in the text
    answer: str


def exercises():
    """All fenced blocks of Python in the notebook's Markdown."""
    found = []
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            for block in re.finditer(r"```python\n(.*?)```", source, re.DOTALL):
                below = source[block.end() :].split("```python")[0]
                answer = re.search(r"<details>.*?</details>", below, re.DOTALL)
                text = answer[0] if answer else ""
                found.append(Exercise(cell["id"], block[1], text))
    return found


EXERCISES = exercises()


def is_statement(code):
    """Whether a text is an assignment or a return."""
    try:
        (statement,) = ast.parse(f"def f():\n {code}").body[0].body
    except (SyntaxError, ValueError):
        return False
    return isinstance(statement, ast.Assign | ast.Return)


def completed(exercise):
    """The code of an exercise with its answer filled in."""
    lines = []
    for line in exercise.code.splitlines():
        if "..." in line:
            inline_code = re.findall(r"`([^`]+)`", exercise.answer)
            statements = [code for code in inline_code if is_statement(code)]
            assert statements, f"no statement in the answer to {exercise.cell_id}"
            indent = line[: len(line) - len(line.lstrip())]
            lines += [indent + statement for statement in statements]
        else:
            lines.append(line)
    return "\n".join(lines)


@functools.cache
def output_of(cell_id):
    """What the exercises of a cell print, where the small run has ended."""
    namespace = dict(vars(small_run().names))
    namespace["func"] = copy.deepcopy(
        namespace["func"]
    )  # an exercise changes its nodes
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        for exercise in EXERCISES:
            if exercise.cell_id == cell_id:
                exec(compile(completed(exercise), f"<{cell_id}>", "exec"), namespace)
    return output.getvalue()


def numbers_printed_by(cell_id):
    return [number for number, _ in numbers_in(output_of(cell_id))]


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.cell_id)
def test_exercises_run(exercise):
    assert output_of(exercise.cell_id)
    assert exercise.answer


def test_shifting_all_images_changes_little_and_shifting_some_a_lot():
    original, all_shifted, only_validation_shifted = numbers_printed_by("q1-close")
    assert all_shifted == pytest.approx(original, abs=3)
    assert only_validation_shifted < original - 20


def test_log_sigmoid_as_one_node_is_exact():
    *_, f, df_dx, df_dy, df_dz = numbers_printed_by("q2-close")
    expected = [float(number) for number in exact(0, 1, 0.2)[1:]]
    assert expected[0] != 0 and expected[3] != 0
    assert [f, df_dx, df_dy, df_dz] == pytest.approx(expected, rel=1e-9, abs=1e-99)


def test_leaky_relu_passes_its_gradient_check():
    assert max(numbers_printed_by("q3-close")) < 1e-7


def test_from_stride_three_on_no_pixel_lies_in_two_windows():
    rows = np.reshape(numbers_printed_by("q4-close"), (-1, 1 + 7 * 7))
    for stride, *counts in rows:
        expected = np.zeros((7, 7))
        for i in range(0, 5, int(stride)):
            for j in range(0, 5, int(stride)):
                expected[i : i + 3, j : j + 3] += 1
        assert counts == expected.ravel().tolist()
        assert (max(counts) == 1) == (stride >= 3)


def test_noise_spoils_the_flat_directions_most():
    """The error along an eigenvector is about 0.1 / √μ, up to chance."""
    mu, error = np.reshape(numbers_printed_by("section-5-8"), (2, -1))
    assert list(mu) == sorted(mu)
    np.testing.assert_allclose(error * np.sqrt(mu), 0.1, rtol=0.6)


def test_most_weights_and_most_multiplications_of_the_convnet():
    """The answer has both numbers of both layers."""
    layers = [layer for layer in small_run().names.ConvNet(rng=0).layers_with_weights()]
    printed = [numbers_in(line) for line in output_of("further-close").splitlines()]
    sizes = [numbers[-1][0] for numbers in printed]
    assert sizes == [layer.W.size for layer in layers]
    positions = [13 * 13, 5 * 5, 1, 1]
    multiplications = [size * n for size, n in zip(sizes, positions, strict=True)]
    (exercise,) = [e for e in EXERCISES if e.cell_id == "further-close"]
    claimed = [n for n, _ in numbers_in(exercise.answer.replace("{,}", ","))]
    assert sizes[1] in claimed and max(sizes) in claimed
    assert max(multiplications) in claimed
    assert sizes.index(max(sizes)) != multiplications.index(max(multiplications))
