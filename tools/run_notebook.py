"""Run a copy of a notebook with live progress: run_notebook.py [NOTEBOOK] [--save]

The executed notebook and an HTML page of it go to the folder build/ beside the
notebook. With --save, the notebook itself and what README.md quotes from it are brought
up to date as well. With --quick, a twentieth of the images shows whether all cells run.
"""

import argparse
import base64
import gzip
import re
import secrets
import shutil
import signal
import sys
import tempfile
import time
import zlib
from pathlib import Path, PurePosixPath

import nbformat
import numpy as np
from code_hash import code_hash
from execute import RunFailed, code_cells, run
from make_page import NOTEBOOK, make_page

MNIST = "data/mnist"
IDX = {  # each file's first four bytes, unpacked
    f"{MNIST}/{part}-{kind}-ubyte.gz": magic
    for part in ("train", "t10k")
    for kind, magic in (("images-idx3", b"\0\0\x08\3"), ("labels-idx1", b"\0\0\x08\1"))
}
FILTERS = "C0_weights.npy"
MARKS = "<!-- results -->", "<!-- /results -->"
QUICK = (
    "This is a quick run, on a twentieth of the images, to see whether all cells run: "
    "its figures are not the answers."
)
SIGNALS = [signal.SIGINT, signal.SIGTERM]
if hasattr(signal, "SIGHUP"):  # the terminal is closed; not on Windows
    SIGNALS.append(signal.SIGHUP)
SPACE = 10_000_000  # bytes that notebook and page may take


class Stopped(KeyboardInterrupt):
    """A signal asked the run to stop; KeyboardInterrupts pass through asyncio."""


def stop(number, frame):
    """The handler of a signal: once, since what follows must not be stopped."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise Stopped(number)


# Before the run


def read(path):
    """A notebook's bytes and the notebook; exit with a reason if there is none."""
    try:
        content = path.read_bytes()
        return content, nbformat.reads(content.decode(), as_version=4)
    except (OSError, ValueError) as error:
        sys.exit(f"{path} is not a notebook that can be read: {first_line(error)}")


def first_line(error):
    """The first line of an exception's text."""
    return f"{error}".partition("\n")[0]


def code(notebook):
    """All code as one text."""
    return "\n".join(cell.source for cell in code_cells(notebook))


def take_a_twentieth(notebook):
    """Set the one line `SHARE = ...` to 0.05."""
    pattern = re.compile("^SHARE = .*$", re.MULTILINE)
    count = len(pattern.findall(code(notebook)))
    if count != 1:
        sys.exit(
            f"--quick needs one line `SHARE = 1.0` in the code; there are {count}."
        )
    for cell in code_cells(notebook):
        cell.source = pattern.sub("SHARE = 0.05", cell.source)
    notebook.metadata["note"] = QUICK


def check(notebook, folder):
    """Exit with a reason if what the run needs is not there."""
    build = folder / "build"
    try:
        build.mkdir(exist_ok=True)
        tempfile.TemporaryFile(dir=build).close()
    except OSError as error:
        sys.exit(f"{build} cannot be written: {error.strerror}.")
    if shutil.disk_usage(build).free < SPACE:
        sys.exit(f"{build} has less than {SPACE / 1e6:.0f} MB left: make room.")
    source = code(notebook)
    for name in [*IDX, FILTERS]:
        if (MNIST if name in IDX else FILTERS) in source:
            check_file(folder, name)


def check_file(folder, name):
    """Exit with a reason if a data file cannot be read to its end."""
    try:
        if name == FILTERS:
            weights = np.load(folder / name)
            if weights.dtype.kind not in "iuf" or not np.isfinite(weights).all():
                raise ValueError("real, finite numbers are needed")
        elif unpacked_start(folder / name) != IDX[name]:
            raise ValueError("not a file in MNIST's format")
    except (OSError, ValueError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        sys.exit(f"{name}: {reason}.\nTo restore it: git checkout {name}")


def unpacked_start(path):
    """The first four bytes in a gzip file, which is read to its end."""
    with gzip.open(path) as file:
        start = file.read(4)
        while file.read(1 << 20):
            pass
    return start


# After the run


def displays(notebook, cell_id, holds):
    """The outputs of the cell of that id whose data or metadata hold that name."""
    cells = (cell for cell in notebook.cells if cell.get("id") == cell_id)
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return [o for o in outputs if holds in {*o.get("data", {}), *o.get("metadata", {})}]


def bring_answers(notebook):
    """Copy the summary's table to the cell `answers`; its {label: result}."""
    results = {}
    for table in displays(notebook, "summary", "results"):
        results = table.metadata["results"]
        for cell in (c for c in notebook.cells if c.get("id") == "answers"):
            cell.source = table.data["text/markdown"]
    return results


def update_readme(text, results):
    """README's text with the notebook's values in its table of results."""
    above, start, rest = text.partition(MARKS[0])
    table, end, below = rest.partition(MARKS[1])
    head, rows = table.split("\n")[:3], table.split("\n")[3:]
    rows = [updated(row, results) if row.startswith("|") else row for row in rows]
    return above + start + "\n".join(head + rows) + end + below


def updated(row, results):
    """A row of README's table with the notebook's value."""
    label = row.split("|")[1].strip()
    if label not in results:
        sys.exit(
            f"README.md quotes {label!r}, which is no result here. Nothing is saved."
        )
    return f"| {label} | {results[label]['text']} |"


def write(files):
    """Write {path: bytes}: each file whole, and none if one cannot be written."""
    parts = {
        path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp"): path
        for path in files
    }
    try:
        for part, path in parts.items():
            part.parent.mkdir(exist_ok=True)
            part.write_bytes(files[path])
        for part, path in parts.items():
            part.replace(path)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


def content(notebook):
    """A notebook's file."""
    return (nbformat.writes(notebook).rstrip("\n") + "\n").encode()


def keep(notebook, path):
    """Write the notebook and its page to build/: their paths."""
    build = path.parent / "build"
    names = build / path.name, build / f"{path.stem}.html"
    write({names[0]: content(notebook)})  # first: it is there even if the page fails
    write({names[1]: make_page(notebook, folder=path.parent).encode()})
    return names


def keep_partial(notebook, path, reason):
    """Keep what has run; a sentence on where it is."""
    left = f"{path.name} is left as it was."
    if not any(cell.execution_count or cell.outputs for cell in code_cells(notebook)):
        return f"Nothing had run; {left}"
    notes = (
        notebook.metadata.get("note", ""),
        f"This run did not reach its end: {reason}",
    )
    notebook.metadata["note"] = " ".join(notes).strip()
    keep(notebook, path)
    return f"What had run is in {path.parent / 'build'}; {left}"


def save_all(notebook, path, before, results):
    """Update the notebook, and README.md and docs/ if they are about its data set."""
    if path.read_bytes() != before:
        sys.exit(f"{path.name} has been edited meanwhile. Nothing is saved.")
    files, readme = {path: content(notebook)}, path.parent / "README.md"
    if not about_mnist(notebook):
        print(f"DIGITS is not {MNIST}: README.md and docs/ are left as they were.")
    elif not whole(notebook):
        print("SHARE is not 1.0: README.md and docs/ are left as they were.")
    elif readme.exists():
        files[readme] = update_readme(readme.read_text("utf-8"), results).encode()
        for picture in displays(notebook, "staircase", "image/png"):
            png = base64.b64decode(picture.data["image/png"])
            files[path.parent / "docs" / "staircase.png"] = png
    write(files)
    report(files)


def about_mnist(notebook):
    """Whether no line `DIGITS = ...` names another folder than MNIST's."""
    values = re.findall("^DIGITS = ([^#\n]*)", code(notebook), re.MULTILINE)
    folders = [PurePosixPath(value.strip().strip("\"'")) for value in values]
    return all(folder == PurePosixPath(MNIST) for folder in folders)


def whole(notebook):
    """Whether no line `SHARE = ...` leaves images out."""
    values = re.findall("^SHARE = ([^#\n]*)", code(notebook), re.MULTILINE)
    return all(value.strip() in ("1", "1.0") for value in values)


def report(paths):
    """Say what has been written."""
    for path in paths:
        print("written:", path)


def times(seconds, total):
    """The line about times: minutes, and the seconds of each chapter."""
    parts = [f"{short(title)} {took:.0f} s" for title, took in seconds.items() if title]
    return f"{total / 60:.1f} minutes" + (f": {', '.join(parts)}" if parts else "")


def short(title):
    """A chapter's name: Q1 for Question 1, with its title or without."""
    number = re.match(r"Q(?:uestion )?(\d+)", title)
    return f"Q{number[1]}" if number else title


def carry_out(notebook, path, before, save):
    """Check, run, keep in build/, and save if asked."""
    began = time.perf_counter()
    check(notebook, path.parent)
    try:
        seconds = run(notebook, path.parent)
    except RunFailed as failure:
        print(flush=True)
        reason = f"{failure}".replace("\n", " ")
        sys.exit(f"Failed in {failure}\n{keep_partial(notebook, path, reason)}")
    results = bring_answers(notebook)
    report(keep(notebook, path))
    if save:
        save_all(notebook, path, before, results)
    print(times(seconds, time.perf_counter() - began))


def main(path, save=False, quick=False):
    """Run the notebook at the path; exit with a reason if that does not work."""
    before, notebook = read(path)
    notebook.metadata.pop("note", None)
    if quick:
        take_a_twentieth(notebook)
    notebook.metadata["code_sha256"] = code_hash(notebook)
    try:
        carry_out(notebook, path, before, save)
    except Stopped as stopped:
        print(flush=True)
        where = keep_partial(notebook, path, "it was stopped.")
        name = signal.Signals(stopped.args[0]).name
        print(f"Stopped by {name}. {where}", file=sys.stderr)
        sys.exit(128 + stopped.args[0])


def arguments():
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", nargs="?", type=Path, default=NOTEBOOK)
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--save", action="store_true", help="update notebook and README, too"
    )
    how.add_argument("--quick", action="store_true", help="a twentieth of the images")
    return parser.parse_args()


if __name__ == "__main__":
    given = arguments()
    for stream in sys.stdout, sys.stderr:  # a console that is not UTF-8 shows "?"
        stream.reconfigure(errors="replace")
    for each in SIGNALS:
        ignored = signal.getsignal(each) == signal.SIG_IGN
        if not (ignored and each.name == "SIGHUP"):  # which nohup has ignored
            signal.signal(each, stop)
    main(given.notebook.resolve(), given.save, given.quick)
