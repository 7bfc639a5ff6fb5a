"""Which images train, which are used for choices, and where the test set is used."""

from reader import code_cells
from references import labels_by_image

# Sections of Questions 1 and 3 that report results on the test set
REPORT = {"1.9", "1.10", "1.11", "1.13", "3.5", "3.7", "3.9"}
SIZES = "q1-data-answer"  # the cell that counts the images


def test_the_test_set_is_read_only_where_results_are_reported(run):
    """Or after the last training; under any name, as test.x or test.y or unpacked."""
    ids = [cell_id for _, cell_id, _ in code_cells()]
    last_training = max(ids.index(call.cell_id) for call in run.calls["fit"])
    readers = run.test_readers.keys() & {*ids[: last_training + 1]} - {SIZES}
    assert {run.test_readers[i] for i in readers} == REPORT


def test_fits_use_training_images_with_their_labels(run, ns):
    """They are watched on all validation images; in 6.1, a few that are memorised are
    watched themselves."""
    labels = labels_by_image(ns.train)
    for call in run.calls["fit"]:
        train, watched = call.arguments["train"], call.arguments["validation"]
        found = [labels.get(image.tobytes()) for image in train.x]
        assert found == train.y.tolist(), f"cell {call.cell_id}"
        memorised = watched is train and call.section == "6.1" and len(train.y) < 100
        assert memorised or watched is ns.validation, f"cell {call.cell_id}"
