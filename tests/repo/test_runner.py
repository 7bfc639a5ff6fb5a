"""Tests of tools/run_notebook.py on small notebooks, run as a user would run it."""

import os
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook
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


def make_notebook(folder, cells=CELLS, readme=README):
    """Write a notebook of {id: source}, and a README beside it; return its path."""
    cells = [new_code_cell(source, id=name) for name, source in cells.items()]
    cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(new_notebook(cells=cells), folder / "made up.ipynb")
    (folder / "README.md").write_text(readme, encoding="utf-8")
    return folder / "made up.ipynb"


def start(*arguments, **settings):
    """Start the tool with these environment variables."""
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
    outputs = [output for cell in executed.cells for output in cell.outputs]
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


LACKING = {
    "SHARE = 1.0": (CELLS | {"share": "SHARE = 0.5"}, README),
    "<!-- /results -->": (CELLS, README.replace("/", "")),
}


@pytest.mark.parametrize("lacking", LACKING)
def test_save_notices_before_the_run_what_is_lacking(tmp_path, lacking):
    path = make_notebook(tmp_path, *LACKING[lacking])
    before = path.read_bytes()
    tool = start(path, "--save")
    _, err = tool.communicate(timeout=60)
    assert tool.returncode == 1 and lacking in err and len(err.splitlines()) == 1
    assert path.read_bytes() == before and not (tmp_path / "build").exists()


def test_quick_uses_a_twentieth_of_the_images_and_its_own_file_names(tmp_path):
    tool = start(make_notebook(tmp_path, {"share": "SHARE = 1.0"}), "--quick")
    tool.stdout.close()  # nobody reads on, as after `| head`
    assert (tool.wait(timeout=300), tool.stderr.read()) == (0, "")
    page, notebook = sorted((tmp_path / "build").iterdir())
    assert (page.name, notebook.name) == ("made up-quick.html", "made up-quick.ipynb")
    assert nbformat.read(notebook, as_version=4).cells[0].source == "SHARE = 0.05"


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
@pytest.mark.parametrize("last_line", ["time.sleep(600)", "raise ValueError"])
def test_a_run_that_ends_early_keeps_its_outputs(tmp_path, last_line):
    """By Ctrl-C or by an error; no process is left."""
    code = "print('so far', flush=True); import time; open('mark', 'w')\n"
    path = make_notebook(tmp_path, {"a": "1 + 1", "b": code + last_line, "c": "2"})
    tool, end = start(path), time.monotonic() + 120
    while not (tmp_path / "mark").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    processes = psutil.Process(tool.pid).children(recursive=True)
    if "sleep" in last_line:
        assert processes
        tool.send_signal(signal.SIGINT)
    _, err = tool.communicate(timeout=300)
    assert tool.returncode == 1 and len(err.splitlines()) == 1
    assert not psutil.wait_procs(processes, timeout=10)[1]
    partial = nbformat.read(tmp_path / "build/made up-partial.ipynb", as_version=4)
    first, second, third = partial.cells
    assert first.outputs and second.outputs[0].text == "so far\n" and not third.outputs
