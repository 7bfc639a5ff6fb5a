"""What run_notebook.py does before and after a run."""

import argparse
import base64
import gzip
import math
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import zlib
from contextlib import suppress
from pathlib import Path

import nbformat
import numpy as np
from code_hash import code_hash
from execute import Stopped, code_cells, remnants, run, say
from make_page import NOTEBOOK, make_page, write

MNIST = [
    f"data/mnist/{name}-ubyte.gz"
    for part in ("train", "t10k")
    for name in (f"{part}-images-idx3", f"{part}-labels-idx1")
]
FILTERS, SHAPE = "C0_weights.npy", (20, 3, 5, 5)
SAMPLE = "data/cifar10_sample.bin"
MARKS = "<!-- results -->", "<!-- /results -->"


# Before the run


def read(path):
    """A notebook's bytes and the notebook; exit with a reason if there is none."""
    try:
        before = path.read_bytes()
        return before, nbformat.reads(before.decode(), as_version=4)
    except (OSError, ValueError, nbformat.ValidationError) as error:
        sys.exit(f"{path} is not a notebook that can be read: {first_line(error)}")


def first_line(error):
    """The first line of an exception's text."""
    return getattr(error, "strerror", None) or f"{error}".partition("\n")[0]


def take_a_twentieth(notebook):
    """Set the parameter `SHARE` to 0.05."""
    for cell in code_cells(notebook):
        if "parameters" in cell.metadata.get("tags", ()):
            cell.source = "SHARE = 0.05"
            return
    sys.exit("--quick needs a cell tagged `parameters`: SHARE = 1.0")


def check_data(notebook, folder):
    """Exit with a reason if a data file that the code names cannot be used."""
    source = "\n".join(cell.source for cell in code_cells(notebook))
    counts = {}
    for name in [*MNIST, FILTERS, SAMPLE]:
        if ("data/mnist" if name in MNIST else Path(name).name) in source:
            try:
                counts[name] = check_file(folder / name)
            except (OSError, ValueError, EOFError, zlib.error) as error:
                reason = first_line(error).rstrip(".")
                sys.exit(f"{name}: {reason}.\n{remedy(folder, name)}")
    for images, labels in zip(MNIST[::2], MNIST[1::2], strict=True):
        if counts.get(images) != counts.get(labels):
            what = f"{counts[labels]:,} labels for {counts[images]:,} images"
            sys.exit(f"{labels}: {what}.\n{remedy(folder, 'data/mnist')}")


def remedy(folder, name):
    """How to get a file of the repository back."""
    if (folder / ".git").exists() and shutil.which("git"):
        return f"To restore it: git checkout {name}"
    return f"To restore it, take it from the archive of the repository: {name}"


def check_file(path):
    """Raise an error if a file cannot be used; the count of its images or labels."""
    if path.name == FILTERS:
        if not path.read_bytes().startswith(np.lib.format.MAGIC_PREFIX):
            raise ValueError("it is no file that NumPy has written")
        filters = np.lib.format.open_memmap(path, mode="r")  # never unpickles
        good = filters.shape == SHAPE and filters.dtype.kind in "iuf"
        if not (good and np.isfinite(filters).all() and filters.any()):
            raise ValueError(
                f"finite numbers of shape {SHAPE} are needed, not all zero"
            )
        return None
    if path.name == Path(SAMPLE).name:
        if path.stat().st_size != 20 * 3073:
            raise ValueError("it is no file of 20 images of CIFAR-10")
        return None
    with gzip.open(path) as file:
        data = file.read()  # to the end, where its checksum stands
    dimensions = 3 if "images" in path.name else 1
    start = 4 + 4 * dimensions
    sizes = [int.from_bytes(data[k : k + 4], "big") for k in range(4, start, 4)]
    good = data.startswith(bytes([0, 0, 8, dimensions]))
    if not (good and len(data) == start + math.prod(sizes) > start):
        raise ValueError("it is no whole file of images or labels in MNIST's format")
    return sizes[0]


# After the run


def outputs(notebook, cell_id):
    """The outputs of the cell of that id."""
    cells = (cell for cell in code_cells(notebook) if cell.get("id") == cell_id)
    return next(cells, {}).get("outputs", [])


def page_1(notebook):
    """The table of answers, with notes above it; empty if there is none."""
    tables = [
        o.get("data", {}).get("text/markdown") for o in outputs(notebook, "answers")
    ]
    return next((table for table in tables if table), "")


def notes(table):
    """The notes above the table of answers."""
    return re.findall(r"^\*\*(Note\.\*\* .*)", table, re.MULTILINE)


def save_all(notebook, path, before):
    """Update the notebook, and README.md and docs/ if no note speaks against it."""
    last = "".join(output.get("text", "") for output in outputs(notebook, "end"))
    count = re.search(r"(\d+) of (\d+) answered", last)
    if not count or count[1] != count[2]:
        sys.exit("Not all answers are there. Nothing is saved.")
    if path.read_bytes() != before:
        sys.exit(f"{path.name} has been edited meanwhile. Nothing is saved.")
    files, readme = {path: content(notebook)}, path.parent / "README.md"
    table = page_1(notebook)
    if notes(table):
        say("README.md and docs/ are left as they were, because of the notes.")
    elif readme.exists():
        files[readme] = update_readme(readme.read_text("utf-8"), table).encode()
        for output in outputs(notebook, "staircase"):
            if "image/png" in output.get("data", {}):
                picture = base64.b64decode(output.data["image/png"])
                files[path.parent / "docs" / "staircase.png"] = picture
    write(files)
    for file in files:
        say(f"written: {file}")


def rows(table):
    """{section and what is asked: row} of a table in Markdown, without its links."""
    table = re.sub(r"^\| \[([\d.]+)\]\(\S+\) \|", r"| \1 |", table, flags=re.M)
    lines = [line for line in table.split("\n") if line.startswith("| ")][2:]
    return {" | ".join(line.strip("| ").split(" | ")[:2]): line for line in lines}


def update_readme(text, table):
    """README's text with the notebook's rows between its marks."""
    above, start, rest = text.partition(MARKS[0])
    quoted, end, below = rest.partition(MARKS[1])
    found = rows(table)
    for key, row in rows(quoted).items():
        if key not in found:
            sys.exit(f"README.md quotes {key!r}: no row of page 1. Nothing is saved.")
        quoted = quoted.replace(row, found[key])
    return above + start + quoted + end + below


def content(notebook):
    """A notebook's file."""
    return (nbformat.writes(notebook).rstrip("\n") + "\n").encode()


def keep(notebook, path):
    """Write the notebook, then its page, to build/, or elsewhere if there is no room.

    Gives the paths."""
    kept = [put(path.parent / "build" / path.name, content(notebook))]
    page = make_page(notebook, path.parent).encode()
    try:
        return [*kept, put(kept[0].with_suffix(".html"), page)]
    except OSError as error:
        say(f"There is no room for its page ({first_line(error)}).")
        return kept


def put(path, data):
    """Write a file there, or in a temporary folder: its path."""
    try:
        write({path: data})
    except OSError as error:
        folder = Path(tempfile.mkdtemp(prefix="notebook-"))
        say(f"{path} cannot be written ({first_line(error)}).")
        path = folder / path.name
        try:
            write({path: data})
        except OSError:
            folder.rmdir()
            raise
    return path


def keep_partial(notebook, path, reason):
    """Keep what has run; a sentence on where it is."""
    left = f"{path.name} is left as it was."
    if not any(cell.execution_count or cell.outputs for cell in code_cells(notebook)):
        return f"Nothing had run; {left}"
    text = f"**This run did not end as it should:** {reason}"
    notebook.cells.insert(0, nbformat.v4.new_markdown_cell(text, id="not-at-its-end"))
    return f"What had run is in {' and '.join(map(str, keep(notebook, path)))}; {left}"


# All of it


def arguments():
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        "run_notebook.py", description="Run a copy of a notebook with live progress."
    )
    parser.add_argument("notebook", nargs="?", type=Path, default=NOTEBOOK)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--save", action="store_true", help="update it and README, too")
    how.add_argument("--quick", action="store_true", help="a twentieth of the images")
    return parser.parse_args()


def run_and_keep(notebook, path, before, save):
    """Run the notebook, keep in build/ what has run, and save it if asked."""
    began = time.monotonic()
    try:
        failure = run(notebook, path.parent)
        if failure:
            reason = failure.replace("\n", " ")
            sys.exit(f"Failed in {failure}\n{keep_partial(notebook, path, reason)}")
        for note in notes(page_1(notebook)):
            say(note.replace("**", ""))
        for file in keep(notebook, path):
            say(f"written: {file}")
        if save:
            save_all(notebook, path, before)
    except Stopped as stopped:
        how, code = stopped.args
        kept = keep_partial(notebook, path, "it was stopped.")
        print(f"Stopped {how}. {kept}", file=sys.stderr)
        sys.exit(code)
    say(f"{(time.monotonic() - began) / 60:.1f} minutes")


def main(signals):
    """Do what the command line asks for; one of the signals stops it."""

    def stop(number, frame):
        for each in signals:
            signal.signal(each, signal.SIG_IGN)  # what follows must not be stopped
        with suppress(OSError):
            os.write(2, b"\nStopping, keeping what has run.\n")
        raise Stopped(f"by {signal.Signals(number).name}", 128 + number)

    given = arguments()
    path = given.notebook.resolve()
    before, notebook = read(path)
    if given.quick:
        take_a_twentieth(notebook)
    notebook.metadata["code_sha256"] = code_hash(notebook)
    check_data(notebook, path.parent)
    for old in remnants(path.parent, 60):
        with suppress(OSError):
            old.unlink()
    for each in signals:
        signal.signal(each, stop)
    try:
        run_and_keep(notebook, path, before, given.save)
    except OSError as error:  # no room, in the temporary folder neither
        sys.exit(f"{first_line(error)}. {path.name} is left as it was.")
