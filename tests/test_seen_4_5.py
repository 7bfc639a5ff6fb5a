"""Questions 4 and 5 as rehearsed on few small images: what was blurred and descended,
and what answers, printed lines and pictures say of it."""

import re

import numpy as np
import pytest
from conftest import numbers, patches_of, says
from load_definitions import ROOT
from rehearsal import fingerprints
from seen import check, curves, has

W0 = np.load(ROOT / "C0_weights.npy")


def test_q4_first_five_and_ten_random_images_are_blurred(seen):
    calls, rows = seen.of("blur", "4.4")[:2], fingerprints(seen.cifar[0])
    picked = [[rows.index(k) for k in fingerprints(c.given["images"])] for c in calls]
    assert picked[0] == [0, 1, 2, 3, 4]
    assert len(set(picked[1])) == 10 and max(picked[1]) > 99  # of all images
    for call, places in zip(calls, picked, strict=True):
        both = np.concatenate([call.given["images"], call.result]).transpose(0, 2, 3, 1)
        given = seen.pictures("4.4", len(both))
        np.testing.assert_allclose(given["images"], both.clip(0, 1))
        names = [seen.ns["CIFAR_NAMES"][k] for k in seen.cifar[1][places]]
        assert given["names"] == names and given["columns"] == len(names)
        assert has("blur", given["row_names"][1])
    check(seen.lines("4.4", "5"), *calls[0].result.shape)
    assert 0 < numbers(seen.answers("4.4", "blur")[0])[-1][0] < 1e-12


def test_q4_the_gaussian_filters(seen):
    layer = seen.of("blur", "4.4")[0].given["layer"]
    bell = np.exp(-((np.arange(13) - 6) ** 2) / (2 * 1.5**2))  # as in the text
    blurring = np.eye(3)[:, :, None, None] * np.outer(bell, bell) / bell.sum() ** 2
    np.testing.assert_allclose(layer.W, blurring)
    given = seen.pictures("4.4", 9)  # to a colour down, from a colour across
    np.testing.assert_array_equal(given["images"], layer.W.reshape(9, 13, 13))
    for k, colour in enumerate(("red", "green", "blue")):
        assert has(colour, given["names"][k])
        assert has(colour, given["row_names"][k])


def test_q4_how_many_outputs_there_are(seen):
    for ax in seen.axes("4.2", title="stride dilation").figure.axes:
        (s, _), (d, _), *told = numbers(ax.get_title())
        assert {n for n, _ in told} == {(7 - (2 * d + 1)) // s + 1}, ax.get_title()


@pytest.fixture
def descents(seen):
    """{what the notebook calls it: call of descend}."""
    names = "on L", "on ½", "halving", "one step"
    return dict(zip(names, seen.of("descend"), strict=False))


@pytest.fixture
def A(seen):
    """The sum of p pᵀ over all patches."""
    patches = patches_of(seen.cifar[0][:100], 5)
    return patches.T @ patches


def wrong(call):
    """What is wrong with the filters, at the start and after each step: (n, 20, 75)."""
    return np.reshape(np.subtract(call.result[1], W0), (-1, 20, 75))


def test_q5_all_descents_begin_alike_and_learn_the_given_layer(seen, descents, A):
    x, first = seen.cifar[0][:100], descents["on L"].given["start"]
    target = (patches_of(x, 5) @ W0.reshape(20, 75).T).reshape(100, 8, 8, 20)
    for call in seen.of("descend"):
        np.testing.assert_array_equal(call.given["x"], x)
        difference = call.given["target"] - target.transpose(0, 3, 1, 2)
        assert np.abs(difference).max() < 1e-12
        np.testing.assert_array_equal(call.given["start"], first)
        log, delta = call.result[0], wrong(call)
        errors = np.linalg.norm(delta, axis=(1, 2)) / np.linalg.norm(W0)
        np.testing.assert_allclose(log["filter error"], errors)
        squares = np.einsum("nop,pq,noq->n", delta, A, delta)
        np.testing.assert_allclose(log["L2 distance"] ** 2, squares, 1e-5, 1e-9)
    even = np.linspace(-1, 1, first.size)
    np.testing.assert_allclose(np.sort(first.ravel()), even, atol=0.1)
    classes = {type(call.given["C"]).__name__ for call in descents.values()}
    assert classes == {"Convolution_Layer"}


def test_q5_steps_are_those_that_are_named(descents, A):
    """On L by a constant rate; on ½L² by 1 / μ_max; by half of A⁻¹, and by A⁻¹."""
    steps = {name: -np.diff(wrong(call), axis=0) for name, call in descents.items()}
    gradient = {name: wrong(call)[:-1] @ A for name, call in descents.items()}
    distance = descents["on L"].result[0]["L2 distance"].to_numpy()[:-1, None, None]
    rates = steps["on L"] / (gradient["on L"] / distance)
    np.testing.assert_allclose(rates, np.median(rates), rtol=1e-3)
    by_steepest = gradient["on ½"] / np.linalg.eigvalsh(A)[-1]
    np.testing.assert_allclose(steps["on ½"], by_steepest, rtol=1e-6, atol=1e-12)
    half, one = wrong(descents["halving"]), wrong(descents["one step"])
    np.testing.assert_allclose(half[1:20], half[:19] / 2, rtol=1e-5, atol=1e-9)
    assert np.abs(one[1]).max() < 1e-9 and np.abs(one[-1]).max() < 1e-12


def test_q5_lines_and_answers_of_the_descents(seen, descents):
    logs = {name: call.result[0] for name, call in descents.items()}
    for section, names in ("5.3", ("on L", "on ½")), ("5.5", ("halving", "one step")):
        header = seen.lines(section, " ".join(names))[0]
        names = sorted(names, key=header.index)
        lines = [t for t in seen.lines(section) if re.match(r"\d+  ", t)]
        assert len(lines) > 5
        for line in lines:
            step = int(numbers(line)[0][0])
            rows = [logs[name].loc[step] for name in names if step in logs[name].index]
            assert says(line, step, *np.concatenate(rows))
    for word, column in ("error", "filter error"), ("dist", "L2 distance"):
        on_L, on_square, _, found = (log[column].iloc[-1] for log in logs.values())
        (text,) = seen.answers("5.5", word)
        assert says(text, on_L, on_square, logs["on L"][column][0])
        shown, half = numbers(text)[-1]
        assert abs(shown - found) <= half


def test_q5_filters_out_of_noise(seen, descents):
    """Each tile has the filter of its step and descent; below, true and learned."""
    calls = [call.given for call in seen.of("show_images", "5.6")]
    for given in calls:
        name = "halving" if has("halving", given["title"]) else "on ½"
        stages = dict(enumerate(descents[name].result[1]))
        stages |= {"true": W0, "learned": descents["one step"].result[1][-1]}
        names, tiles = given["names"], given["images"].reshape(-1, given["columns"], 75)
        columns = tiles.swapaxes(0, 1) if len(names) else tiles
        which = None  # of the filters: those of the first column or row that shows any
        for stage, shown in zip(names or given["row_names"], columns, strict=True):
            colours = stages[stage].transpose(0, 2, 3, 1).clip(-1, 1) / 2 + 0.5
            far = np.abs(shown[:, None] - colours.reshape(-1, 75)).max(axis=2)
            assert far.min(axis=1).max() == 0, stage
            which = far.argmin(axis=1) if which is None else which
            assert (far.argmin(axis=1) == which).all()
    assert len(calls) == 3


def test_q5_the_spectrum(seen, descents, A):
    mu, vectors = np.linalg.eigh(A)
    delta = wrong(descents["on ½"])
    before = np.linalg.norm(delta[0] @ vectors, axis=0)
    kept = (1 - mu / mu[-1]) ** (len(delta) - 1)
    x, y = seen.axes("5.7", "eigen", "eigenvalue").lines[0].get_data()
    np.testing.assert_allclose(y[np.argsort(x)], mu[::-1], rtol=1e-6)
    drawn = curves(seen.axes("5.7", "eigen", "error"))
    assert len(drawn) == 3  # the start, theory and run
    for label, (x, y) in drawn.items():
        expected = before if has("start", label) else kept * before
        np.testing.assert_allclose(y[np.argsort(x)], expected[::-1], 1e-6, 1e-9)
    check(seen.lines("5.7", "eigenvalues"), mu[-1], mu[0], share=0.03)
    check(seen.lines("5.7", "half"), np.sum(kept < 0.5), 75)
    (squares,) = seen.lines("5.7", "filter error")
    assert numbers(squares)[-1][0] < 1e-9
