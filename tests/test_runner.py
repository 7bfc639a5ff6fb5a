"""Tests of tools/run_notebook.py on small notebooks, run as a user would run it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
import run_notebook
from code_hash import code_cells
from nbformat.v4 import new_code_cell, new_notebook, new_output
from paths import ROOT

TABLE = """\
| section | question | result |
| --: | :-- | :-- |
| [1.9](#1.9-Test) | Test | 91.9% |
"""
README = "<!-- results -->\n| 1.9 | Test | 12.3% |\n<!-- /results -->\n12.3%\n"
CELLS = {
    "share": "SHARE = 1.0  # of the images",
    "noise": "import warnings; warnings.warn('mind the gap'); print('bar', end='\\r')",
    "asserts": "print(__debug__)",
    "page-1": "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()",
    "answers": f"display({{'text/markdown': {TABLE!r}}}, raw=True)",
}
on_posix = pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")


def make_notebook(folder, cells=CELLS):
    """Write a notebook of {id: source}, and a README beside it; return its path."""
    cells = [new_code_cell(source, id=name) for name, source in cells.items()]
    cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(new_notebook(cells=cells), folder / "made up.ipynb")
    (folder / "README.md").write_text(README, encoding="utf-8")
    return folder / "made up.ipynb"


def start(*arguments, **settings):
    """Start the tool with these environment variables, and SIGINT as in a terminal."""
    return subprocess.Popen(
        [sys.executable, ROOT / "tools" / "run_notebook.py", *arguments],
        env=os.environ | settings,
        encoding="utf-8",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=None if os.name == "nt" else default_sigint,
    )


def default_sigint():
    """Undo what a shell does to background processes: it lets them ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_save_updates_notebook_readme_and_figure(tmp_path):
    """Without warnings and progress bars, and even if Python ignores assertions."""
    path = make_notebook(tmp_path)
    tool = start(path, "--save", PYTHONOPTIMIZE="1")
    out, err = tool.communicate(timeout=300)
    assert (tool.returncode, err) == (0, "") and "mind the gap" in out
    executed = nbformat.read(path, as_version=4)
    outputs = [output for cell in code_cells(executed) for output in cell.outputs]
    printed = [output.text for output in outputs if "text" in output]
    assert printed == ["True\n"]
    page = tmp_path / "build" / "made up.html"
    assert page.with_suffix(".ipynb").read_bytes() == path.read_bytes()
    assert "91.9%" in page.read_text("utf-8")
    expected = README.replace("12.3%", "91.9%", 1)  # not the one below the table
    assert (tmp_path / "README.md").read_text("utf-8") == expected
    assert (tmp_path / "docs" / "test_errors.png").read_bytes()[1:4] == b"PNG"


def test_save_saves_nothing_if_the_notebook_was_edited(tmp_path):
    edit = "with open('made up.ipynb', 'a') as file: file.write(' ')"
    path = make_notebook(tmp_path, CELLS | {"edit": edit})
    before = path.read_text("utf-8")
    tool = start(path, "--save")
    _, err = tool.communicate(timeout=300)
    assert tool.returncode == 1 and path.name in err
    assert path.read_text("utf-8") == before + " "
    assert (tmp_path / "README.md").read_text("utf-8") == README
    assert not (tmp_path / "docs").exists()


BEFORE_THE_RUN = {
    "SHARE = 1.0": (CELLS | {"share": "SHARE = 0.5"}, README),
    "<!-- /results -->": (CELLS, README.replace("/", "")),
    "README.md": (CELLS, None),
}


@pytest.mark.parametrize("lacking", BEFORE_THE_RUN)
def test_save_notices_before_the_run_what_is_lacking(tmp_path, lacking):
    cells, readme = BEFORE_THE_RUN[lacking]
    path = make_notebook(tmp_path, cells)
    (tmp_path / "README.md").unlink()
    if readme:
        (tmp_path / "README.md").write_text(readme, encoding="utf-8")
    before = path.read_bytes()
    tool = start(path, "--save")
    _, err = tool.communicate(timeout=60)
    assert tool.returncode == 1 and lacking in err and len(err.splitlines()) == 1
    assert path.read_bytes() == before and not (tmp_path / "build").exists()


PAGE_1 = {"text/markdown": TABLE, "image/png": "AAAA"}
LACKING = {
    "| 1.9 | Test |": PAGE_1 | {"text/markdown": TABLE.replace("Test", "Exam")},
    "text/markdown": {"image/png": "AAAA"},
    "image/png": {"text/markdown": TABLE},
}


@pytest.mark.parametrize("lacking", LACKING)
def test_save_says_what_page_1_lacks(tmp_path, lacking):
    path = make_notebook(tmp_path)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-1].outputs = [new_output("display_data", LACKING[lacking])]
    with pytest.raises(SystemExit, match=re.escape(lacking)):
        run_notebook.readme_and_figure(notebook, tmp_path)


def test_quick_uses_a_twentieth_of_the_images_and_its_own_file_names(tmp_path):
    tool = start(make_notebook(tmp_path, {"share": "SHARE = 1.0"}), "--quick")
    tool.communicate(timeout=300)
    page, notebook = sorted((tmp_path / "build").iterdir())
    assert (page.name, notebook.name) == ("made up-quick.html", "made up-quick.ipynb")
    assert nbformat.read(notebook, as_version=4).cells[0].source == "SHARE = 0.05"


# Runs that end early

WORKERS = """\
print("so far", flush=True)
import joblib, numpy, os, subprocess, sys, time
from pathlib import Path
joblib.Parallel(2)(map(joblib.delayed(len), [numpy.ones(10**6)] * 2))
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
Path("pid").write_text(str(os.getpid()))
"""


def processes_of(folder):
    """List the processes whose temporary files go to this folder."""
    processes = {p: p.info["environ"] or {} for p in psutil.process_iter(["environ"])}
    return [p for p in processes if str(folder) in processes[p].get("TMPDIR", "")]


def wait_until(condition):
    """Wait until condition() holds; fail after two minutes."""
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def temporary(tmp_path):
    """A folder for temporary files. In the end, no file and no process is left."""
    folder = tmp_path / "tü"
    folder.mkdir()
    yield folder
    _, alive = psutil.wait_procs(processes_of(folder), timeout=10)
    for process in alive:
        process.kill()
    assert not alive and not [*folder.iterdir()]


LAST_LINES = {
    "SIGINT": "time.sleep(600)",
    "SIGTERM": "time.sleep(600)",
    "error": "raise ValueError",
    "kernel killed": "os.kill(os.getpid(), 9)",
}


@on_posix
@pytest.mark.parametrize("name", LAST_LINES)
def test_a_run_that_ends_early_keeps_its_outputs(tmp_path, temporary, name):
    cells = {"a": "1 + 1", "b": WORKERS + LAST_LINES[name], "c": "2"}
    tool = start(make_notebook(tmp_path, cells), TMPDIR=str(temporary))
    wait_until((tmp_path / "pid").exists)
    if name.startswith("SIG"):
        assert len(processes_of(temporary)) > 3  # tool, kernel, and others
        tool.send_signal(getattr(signal, name))
    _, err = tool.communicate(timeout=300)
    assert tool.returncode == 1 and len(err.splitlines()) == 1
    partial = nbformat.read(tmp_path / "build/made up-partial.ipynb", as_version=4)
    first, second, third = partial.cells
    assert first.outputs and second.outputs[0].text == "so far\n" and not third.outputs
    shared_memory = f"*-{(tmp_path / 'pid').read_text()}-*"
    wait_until(lambda: not [*Path("/dev/shm").glob(shared_memory)])


@on_posix
def test_a_signal_while_the_kernel_starts_leaves_one_line(tmp_path, temporary):
    tool = start(make_notebook(tmp_path), TMPDIR=str(temporary))
    wait_until(lambda: [*temporary.glob("*/kernel.json")])
    tool.send_signal(signal.SIGINT)
    _, err = tool.communicate(timeout=60)
    assert tool.returncode == 1 and len(err.splitlines()) == 1
