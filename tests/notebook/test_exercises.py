"""The blocks of Python in the text run where the notebook has run, and give what the
answers below them claim."""

import functools
import re

import numpy as np
import pytest
from matplotlib import pyplot as plt
from reader import exercises
from references import exact


def draw(image):
    """Save the middle of an image, dark on white, as a reader's digit.png."""
    drawing = 1 - image.reshape(28, 28)[4:24, 4:24]
    plt.imsave("digit.png", drawing, cmap="gray", vmin=0, vmax=1)


def solved(code, answer):
    """A block; statements in the answer to it replace its line with `...`."""
    statements = re.findall(r"`(return .+?|[\w.]+ = .+?)`", answer)
    fill = lambda gap: "\n".join(gap[1] + statement for statement in statements)  # noqa: E731
    return re.sub(r"(?m)^( *).*\.\.\..*$", fill, code)


@pytest.fixture(scope="module")
def printed_by(run, tmp_path_factory):
    """A function: id of a cell -> list of the arguments of each print of its blocks."""

    @functools.cache
    def execute(cell_id):
        printed = []
        names = run.namespace | {"print": lambda *values: printed.append(values)}
        for code, answer in exercises()[cell_id]:
            with run.restored():
                exec(compile(solved(code, answer), f"<{cell_id}>", "exec"), names)
        return printed

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(tmp_path_factory.mktemp("exercises"))
        draw(run.namespace["validation"].x[0])
        yield execute


@pytest.mark.parametrize("cell_id", exercises())
def test_a_block_runs(printed_by, cell_id):
    printed_by(cell_id)


def test_shifting_all_images_changes_little_and_shifting_some_a_lot(printed_by):
    (original,), (all_shifted,), (only_validation,) = printed_by("q1-close")
    assert all_shifted == pytest.approx(original, abs=3)
    assert only_validation < original - 20


def test_log_sigmoid_as_one_node_is_exact(printed_by):
    ((output, gradient),) = printed_by("q2-close")
    expected = [float(number) for number in exact(0, 1, 0.2)[1:]]
    assert expected[0] != 0 and expected[3] != 0
    assert [output, *gradient] == pytest.approx(expected, rel=1e-9, abs=1e-99)


def test_from_stride_three_on_no_pixel_lies_in_two_windows(printed_by):
    for stride, counts in printed_by("q4-close"):
        assert (counts.max() == 1) == (stride >= 3)


def test_noise_makes_a_round_bowl(printed_by):
    errors = [error for (error,) in printed_by("section-5-9")]
    assert len(errors) == 11 and errors[-1] < 1e-3 * errors[0]


def test_a_saved_model_reads_a_drawn_digit(ns, printed_by):
    """The drawings are images of the validation set, without margins."""
    images, answers = ns.validation.x[:20], []
    for image in images:
        draw(image)
        *_, (*_, digit) = printed_by.__wrapped__("further-keep")
        answers.append(digit)
    predictions = ns.convnet_run.model.forward(images).argmax(axis=1)
    expected = np.array(ns.CLASS_NAMES)[predictions]
    assert np.mean(answers == expected) >= 0.9
