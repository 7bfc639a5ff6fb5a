"""All questions as rehearsed: which images train, choose and test; how pictures stand.
(rehearsal.py says what a rehearsal is; seen.py, how it is asked.)"""

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from rehearsal import fingerprints
from seen import QUESTIONS


def test_every_answer_stands_in_its_section(seen):
    for call in seen.of("answer"):
        assert call.given["section"] == seen.headings[call.section]


def test_fits_are_on_training_images_and_watched_in_validation(seen):
    training, validation, _ = seen.parts
    for call in seen.of("fit"):
        part, valid = call.given["part"], call.given["valid"]
        known = [seen.sets.get(row) for row in fingerprints(part.x)]
        assert known == [("training", label) for label in part.y]
        if call.section[0] in "13":
            assert fingerprints(valid.x) == fingerprints(validation.x)
            assert len(part.y) == len(training.y) or call.section in ("1.13", "3.8")
        elif valid is not part:
            known = [seen.sets.get(row) for row in fingerprints(valid.x)]
            assert known == [("validation", label) for label in valid.y]


def test_no_step_learns_from_a_validation_or_test_image(seen):
    for read in seen.reads:
        if read.section == "3.6":  # one digit goes both ways, and no step follows
            assert not read.learned or read.sets == {"validation": 1}
        elif read.learned and not read.sets.keys() <= {"training"}:
            assert read.section in ("1.3", "1.4", "3.2") or read.section >= "6"
            assert read.sets.keys() == {"other"}


def test_nobody_looks_at_test_images_before_all_choices(seen):
    """By a model or otherwise; in Further, not before a section's last training."""
    work = [call for call in seen.calls if call.name in ("answer", "fit")]
    for q, (_, choice, *_) in QUESTIONS.items():
        chosen = max(call.at for call in work if call.section == choice)
        early = {s for at, s in seen.looks if at < chosen and s[0] >= str(q)}
        assert not early, f"test images are looked at before {choice} ends, in {early}"
    for at, section in seen.looks:
        assert section[0] not in "245", f"{section} looks at test images"
        trained = [call.at for call in seen.of("fit", section) if section > "6"]
        assert at > max(trained, default=0), f"{section} looks and goes on training"


@pytest.mark.parametrize("q", QUESTIONS)
def test_nothing_is_tested_but_what_was_chosen(seen, q):
    """In the sections that report, one model: the first run of the best pair."""
    of_question = [read for read in seen.reads if read.section in QUESTIONS[q][2:4]]
    tested = {id(read.model) for read in of_question if "test" in read.sets}
    assert tested == {id(seen.model(q))}


def tiles_of(picture, images, columns):
    """The tiles of a picture of so many such images, with a margin of a pixel each."""
    _, height, width = np.add(images.shape[:3], 2)
    rows = -(-len(images) // columns)
    if picture.shape[:2] != (rows * height, columns * width):
        return None
    tiles = picture.reshape(rows, height, columns, width, -1).swapaxes(1, 2)
    return tiles[:, :, 1:-1, 1:-1].reshape(rows * columns, -1)[: len(images)]


def test_pictures_are_made_of_their_images_in_order(seen):
    """From left to right and from above, with their names at their columns and rows."""
    drawn = [ax for fig in seen.figures() for ax in fig.axes if ax.images]
    for given in (call.given for call in seen.of("show_images")):
        images, title = given["images"], given["title"]
        for ax in (ax for ax in drawn if ax.get_title() == title):
            picture = np.ma.filled(ax.images[0].get_array(), np.nan)
            tiles = tiles_of(picture, images, given["columns"])
            if np.array_equal(tiles, images.reshape(len(images), -1)):
                break
        else:
            pytest.fail(f"no picture has the images of {title!r} in order")
        for axis, names, side in (ax.xaxis, "names", 2), (ax.yaxis, "row_names", 1):
            told = [label.get_text() for label in axis.get_ticklabels()]
            centres = (images.shape[side] + 2) * (np.arange(len(told)) + 0.5) - 0.5
            assert told == [str(name) for name in given[names]]
            np.testing.assert_allclose(axis.get_ticklocs(), centres)


def test_rows_and_signs(seen):
    """Row 0 is on top; where an array has both signs, 0 has the middle colour, and
    positive numbers the warmer one."""
    for ax in (ax for fig in seen.figures() for ax in fig.axes):
        for image in ax.images:
            array, (low, high) = image.get_array(), image.get_clim()
            assert image.origin == "upper" and ax.yaxis_inverted()
            if array.ndim == 2 and np.min(array) < 0 < np.max(array):
                cold, warm = image.get_cmap()([0.0, 1.0])
                assert low == -high and warm[0] - warm[2] > cold[0] - cold[2]
        meshes = any(isinstance(mesh, QuadMesh) for mesh in ax.collections)
        assert not meshes or ax.yaxis_inverted() or ax.get_label() == "<colorbar>"
