"""All questions as rehearsed: which images train, choose and test; how pictures stand.
(rehearsal.py says what a rehearsal is; seen.py, how it is asked.)"""

import re

import numpy as np
from conftest import numbers
from matplotlib.collections import QuadMesh
from rehearsal import fingerprints
from seen import QUESTIONS


def test_every_answer_stands_in_its_section(seen):
    calls = seen.of("answer")
    for call in calls:
        assert call.given["section"] == seen.headings[call.section]
    (line,) = re.findall(r"\d+ of \d+ answered", "".join(seen.printed.values()))
    of_sheet = {c.given["asked"] + c.section for c in calls if c.section < "6"}
    assert [n for n, _ in numbers(line)] == [len(of_sheet)] * 2


def test_fits_are_on_training_images_and_watched_in_validation(seen):
    training, validation, _ = seen.parts
    for call in seen.of("fit"):
        part, valid = call.given["part"], call.given["valid"]
        known = [seen.sets.get(row) for row in fingerprints(part.x)]
        assert known == [("training", label) for label in part.y]
        assert len(part.y) == len(training.y) or call.section in ("1.13", "3.8", "6.1")
        assert valid is None or fingerprints(valid.x) == fingerprints(validation.x)
    for call in seen.of("sklearn"):
        assert fingerprints(call.given["x"]) == fingerprints(training.x)
        y = call.given["y"]
        assert ((np.argmax(y, axis=1) if y.ndim == 2 else y) == training.y).all()


def test_no_step_learns_from_a_validation_or_test_image(seen):
    for read in seen.reads:
        if read.section == "3.6":  # one digit goes both ways, and no step follows
            assert not read.learned or read.sets == {"validation": 1}
        elif read.learned and not read.sets.keys() <= {"training"}:
            assert read.section in ("1.3", "1.4", "3.2") or read.section >= "6"
            assert read.sets.keys() == {"other"}
    for call in seen.of("get_minibatch"):
        if call.section[0] in "13" and call.section != "1.2":
            rows = fingerprints(call.given["x"][:50])
            assert {seen.sets[row][0] for row in rows} == {"training"}, call.section


def test_the_test_set_waits_for_all_choices_of_its_question(seen):
    opened = [read for read in seen.reads if "test" in read.sets]
    for q, (_, choice, *reported, _) in QUESTIONS.items():
        of_question = [read for read in opened if read.section[0] == str(q)]
        last = [*seen.of("answer", choice), *seen.of("fit", choice)]
        assert min(read.at for read in of_question) > max(call.at for call in last)
        model = seen.chosen(q)[0].model  # nothing else than what was chosen is tested
        tested = [r.model for r in of_question if r.section in reported]
        assert tested and all(m is model for m in tested)
    assert min(read.at for read in opened) > seen.of("answer", "1.8")[-1].at
    distorted = {c.section for c in seen.of("fit") if "batches" in c.given["settings"]}
    assert distorted and distorted.isdisjoint(read.section for read in opened)


def test_colours_rows_and_ticks(seen):
    """Orange is positive, purple negative; otherwise more is lighter, but under text.
    Row 0 is on top; numbers at ticks grow along the axis."""
    axes = [ax for call in seen.of("show") for ax in call.given["fig"].axes]
    for ax in axes:
        for image in ax.images:
            colours = image.get_cmap()
            lighter = sum(colours(1.0)) > sum(colours(0.0))
            assert lighter or ax.texts or colours.name == "PuOr_r"
            assert image.origin == "upper" and ax.yaxis_inverted()
        meshes = any(isinstance(mesh, QuadMesh) for mesh in ax.collections)
        assert not meshes or ax.yaxis_inverted() or ax.get_label() == "<colorbar>"
        for axis in ax.xaxis, ax.yaxis:
            labels = sorted(axis.get_ticklabels(), key=lambda text: text.get_position())
            texts = [label.get_text().replace("−", "-") for label in labels]
            told = [float(text) for text in texts if re.fullmatch(r"-?[\d.]+", text)]
            assert told == sorted(told)
