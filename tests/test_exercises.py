"""The blocks of Python in the text run where the notebook has run: the exercises, whose
results are what the answers below them claim, and how to keep a model."""

import contextlib
import functools
import io
import json
import math
import re

import numpy as np
import pytest
from load_definitions import NOTEBOOK
from matplotlib import pyplot as plt
from references import exact
from saved_notebook import read_numbers
from small_run import small_run


def exercises():
    """{id of the cell: (code, answer)} of the blocks of Python in Markdown cells.

    The answer may be missing."""
    block = r"(?s)```python\n(.*?)```(?:\s*<details>(.*?)</details>)?"
    found = {}
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and "```python" in source:
            ((code, answer),) = re.findall(block, source)
            found[cell["id"]] = code, answer
    return found


EXERCISES = exercises()


def completed(code, answer):
    """The code, where statements in the answer replace a line with `...`."""
    statements = re.findall(r"`(return .+?|[\w.]+ = .+?)`", answer)

    def fill_in(line):
        return "\n".join(line[1] + statement for statement in statements)

    return re.sub(r"(?m)^( *).*\.\.\..*$", fill_in, code)


@functools.cache
def output_of(cell_id):
    """What an exercise prints, where the small run has ended."""
    code = compile(completed(*EXERCISES[cell_id]), f"<{cell_id}>", "exec")
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(code, vars(small_run().names).copy())
    return output.getvalue()


@pytest.mark.parametrize(
    "cell_id", [k for k, (_, answer) in EXERCISES.items() if answer]
)
def test_exercises_run(cell_id):
    assert output_of(cell_id)


def test_a_saved_model_reads_a_drawn_digit(ns, tmp_path, monkeypatch):
    """The drawing is an image of the validation set, dark on white, without margins."""
    monkeypatch.chdir(tmp_path)
    images = ns.validation.x[:20]
    answers = []
    for image in images:
        drawing = 1 - image.reshape(28, 28)[4:24, 4:24]
        plt.imsave("digit.png", drawing, cmap="gray", vmin=0, vmax=1)
        answers += read_numbers(output_of.__wrapped__("further-keep"))
    expected = ns.convnet_run.model.forward(images).argmax(axis=1)
    assert np.mean(answers == expected) >= 0.9


def test_shifting_all_images_changes_little_and_shifting_some_a_lot():
    original, all_shifted, only_validation = read_numbers(output_of("q1-close"))
    assert all_shifted == pytest.approx(original, abs=3)
    assert only_validation < original - 20


def test_log_sigmoid_as_one_node_is_exact():
    *_, f, df_dx, df_dy, df_dz = read_numbers(output_of("q2-close"))
    expected = [float(number) for number in exact(0, 1, 0.2)[1:]]
    assert expected[0] != 0 and expected[3] != 0
    assert [f, df_dx, df_dy, df_dz] == pytest.approx(expected, rel=1e-9, abs=1e-99)


def test_leaky_relu_passes_its_gradient_check():
    assert read_numbers(output_of("q3-close"))[-1] < 1e-7


def test_from_stride_three_on_no_pixel_lies_in_two_windows():
    numbers = read_numbers(output_of("q4-close"))
    side = math.isqrt(len(numbers) // 3 - 1)
    rows = np.reshape(numbers, (3, 1 + side * side))
    for stride, *counts in rows:
        expected = np.zeros((side, side))
        for i in range(0, side - 2, int(stride)):
            for j in range(0, side - 2, int(stride)):
                expected[i : i + 3, j : j + 3] += 1
        assert counts == expected.ravel().tolist()
        assert (max(counts) == 1) == (stride >= 3)


def test_noise_spoils_the_flat_directions_most():
    """The error along an eigenvector is about 0.1 / √μ, up to chance."""
    mu, error = np.reshape(read_numbers(output_of("section-5-9")), (2, -1))
    assert list(mu) == sorted(mu)
    np.testing.assert_allclose(error * np.sqrt(mu), 0.1, rtol=0.6)


def test_most_weights_and_most_multiplications_of_the_convnet():
    """The answer has both numbers."""
    lines = output_of("further-close").splitlines()
    sizes = [read_numbers(line)[-1] for line in lines]
    positions = [13 * 13, 5 * 5, 1, 1]
    multiplications = [size * n for size, n in zip(sizes, positions, strict=True)]
    assert np.argmax(sizes) != np.argmax(multiplications)
    _, answer = EXERCISES["further-close"]
    claimed = read_numbers(answer.replace("{,}", ","))
    assert max(sizes) in claimed and max(multiplications) in claimed
