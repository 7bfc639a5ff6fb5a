"""Tests of tools/run_notebook.py on small notebooks, run as a user would run it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import nbformat
import psutil
import pytest
from code_hash import code_cells
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from paths import ROOT

TOOL = ROOT / "tools" / "run_notebook.py"
HEAD = "| section | question | result |\n| --: | :-- | :-- |\n"
README_HEAD = "| where | what | answer |\n| --: | :-- | :-- |\n"  # README's own is kept
OLD, NEW = "| 1.9 | Test | 12.3% |", "| 1.9 | Test | 91.9%<br>both |"
LINKED = HEAD + NEW.replace("1.9", "[1.9](#1.9-Test)", 1)
README = f"{OLD}\n<!-- results -->\n{README_HEAD}{OLD}\n<!-- /results -->\n{OLD}\n"
QUIET = {"PYTHONUTF8": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}  # no warnings
CELLS = {
    "share": "SHARE = 1.0  # of the images",
    "page-1": """\
import time, warnings
from IPython.display import Markdown, display
from matplotlib import pyplot as plt
display(Markdown("later"), display_id="figure");""",
    "answers": 'display(Markdown("later"), display_id="table");',
    "first": "## 1 First ∇",
    "noise": "warnings.warn('mind the gap'); print('bar', end='\\r'); print('Ω  ')",
    "slow": "### 1.2 Slow",
    **dict.fromkeys(("slow-1", "slow-2"), "time.sleep(0.3)"),
    "user": "print('intruder' in globals(), __debug__, plt.rcParams['axes.grid'])",
    "fill": f"""\
fig, ax = plt.subplots(figsize=(1, 1))
plt.close(fig)
display(fig, display_id="figure", update=True)
display(Markdown({LINKED!r}), display_id="table", update=True);""",
}


def make_notebook(folder, cells=CELLS, readme=README):
    """Write a notebook of {id: source}, and a README beside it; return its path."""
    notebook = new_notebook()
    for name, source in cells.items():
        new_cell = new_markdown_cell if source.startswith("#") else new_code_cell
        notebook.cells.append(new_cell(source, id=name))
    notebook.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, folder / "made up.ipynb")
    (folder / "README.md").write_text(readme, encoding="utf-8")
    return folder / "made up.ipynb"


def start(*arguments, **settings):
    """Start the tool with these environment variables, and SIGINT as in a terminal."""
    return subprocess.Popen(
        [sys.executable, TOOL, *arguments],
        env=os.environ | QUIET | settings,
        encoding="utf-8",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=None if os.name == "nt" else default_sigint,
    )


def default_sigint():
    """Undo what a shell does to background processes: it lets them ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(*arguments, **settings):
    """Run the tool; return its exit status, stdout and stderr."""
    tool = start(*arguments, **settings)
    out, err = tool.communicate(timeout=300)
    return tool.returncode, out, err


def wait_until(condition, tool=None, seconds=120):
    """Wait until condition() holds; fail if the tool ends or the time is over."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end and (tool is None or tool.poll() is None)
        time.sleep(0.05)


@pytest.fixture(scope="module")
def saved_run(tmp_path_factory):
    """Run with --save under a user's settings; return the notebook's path, stdout."""
    user = tmp_path_factory.mktemp("user")
    (user / "profile_default/startup").mkdir(parents=True)
    (user / "profile_default/startup/a.py").write_text("intruder = 1")
    (user / "matplotlibrc").write_text("axes.grid: True")
    path = make_notebook(tmp_path_factory.mktemp("run"))
    settings = {"IPYTHONDIR": str(user), "MATPLOTLIBRC": str(user)}
    status, out, err = run(path, "--save", **settings, PYTHONOPTIMIZE="1")
    assert (status, err) == (0, "")
    return path, out


def test_each_section_is_timed(saved_run):
    lines = [line.split() for line in saved_run[1].splitlines()]
    times = {line[0]: float(line[-2]) for line in lines if line[-1:] == ["s"]}
    assert "1" in times and times["1.2"] > 0.5  # the sum of its two cells


def test_outputs_are_saved_without_warnings_progress_bars_user_settings(saved_run):
    assert "mind the gap" in saved_run[1] and "\r" not in saved_run[1]
    executed = nbformat.read(saved_run[0], as_version=4)
    outputs = [output for cell in code_cells(executed) for output in cell.outputs]
    printed = [output.text for output in outputs if "text" in output]
    assert printed == ["Ω  \n", "False True False\n"]


def test_save_updates_notebook_readme_and_figure(saved_run):
    folder = saved_run[0].parent
    built = folder / "build" / saved_run[0].name
    assert built.read_bytes() == saved_run[0].read_bytes()
    expected = README.replace(f"{README_HEAD}{OLD}", f"{README_HEAD}{NEW}")
    assert (folder / "README.md").read_text("utf-8") == expected
    assert (folder / "docs" / "test_errors.png").read_bytes()[1:4] == b"PNG"
    assert "91.9%" in built.with_suffix(".html").read_text("utf-8")


def test_saving_twice_gives_the_same_files(saved_run):
    folder = saved_run[0].parent
    files = [path for path in folder.rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    assert run(saved_run[0], "--save")[0] == 0
    assert {path: path.read_bytes() for path in files} == before


@pytest.mark.parametrize(
    ("problem", "named"),
    [
        ("unknown row", "Other"),
        ("SHARE", "SHARE = 1.0"),
        ("build", "build"),
        ("edited", "made up.ipynb"),
    ],
)
def test_save_saves_all_or_nothing(tmp_path, problem, named):
    cells, readme = CELLS, README
    if problem == "unknown row":  # README asks for it, and page 1 does not have it
        readme = README.replace("Test", "Other")
    if problem == "SHARE":
        cells = CELLS | {"share": "SHARE = 0.5"}
    if problem == "build":
        (tmp_path / "build").write_text("in the way")
    if problem == "edited":
        cells = CELLS | {"edit": "print(file=open('made up.ipynb', 'a'))"}
    path = make_notebook(tmp_path, cells, readme)
    before = path.read_text("utf-8")
    status, _, err = run(path, "--save")
    assert status == 1 and len(err.splitlines()) == 1 and named in err
    assert path.read_text("utf-8") == before + "\n" * (problem == "edited")
    assert (tmp_path / "README.md").read_text("utf-8") == readme
    assert not (tmp_path / "docs").exists()


def test_a_quick_run_takes_a_twentieth_and_has_a_name_of_its_own(tmp_path):
    status, _, _ = run(make_notebook(tmp_path, {"share": "SHARE = 1.0"}), "--quick")
    page, quick = sorted((tmp_path / "build").iterdir())
    assert status == 0
    assert (page.name, quick.name) == ("made up-quick.html", "made up-quick.ipynb")
    assert nbformat.read(quick, as_version=4).cells[0].source == "SHARE = 0.05"


def test_a_file_that_is_not_a_notebook_gives_one_line(tmp_path):
    (tmp_path / "made up.ipynb").write_text("{}")
    status, _, err = run(tmp_path / "made up.ipynb")
    assert status == 1 and len(err.splitlines()) == 1


def test_without_packages_one_line_names_the_command():
    command = [sys.executable, "-S", TOOL]
    tool = subprocess.run(command, capture_output=True, text=True)
    (line,) = tool.stderr.splitlines()
    assert tool.returncode == 1 and "pip install -r requirements.txt" in line


WORKERS = """\
print("so far", flush=True)
import joblib, numpy, os, subprocess, sys, time
from pathlib import Path
joblib.Parallel(2)(map(joblib.delayed(len), [numpy.ones(10**6)] * 2))
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
Path("pid").write_text(str(os.getpid()))
Path("ready").touch()
"""
ENDS = {  # how a run ends early: the last line of its second cell
    "SIGINT": "time.sleep(600)",
    "SIGTERM": "time.sleep(600)",
    "SIGHUP": "time.sleep(600)",
    "death": "os.kill(os.getpid(), 9)",
    "error": "raise ValueError('broken,\\nΩ')",
}
MESSAGES = {"death": "1.3 GB", "error": "ValueError: broken, Ω"}


def processes_of(folder):
    """List the processes whose temporary files go to this folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # ended, or somebody else's
            if process.environ().get("TMPDIR", "").startswith(str(folder)):
                found.append(process)
    return found


@pytest.fixture(scope="module")
def ended_runs(tmp_path_factory):
    """Start one run for each of ENDS, all at once; return {name: (folder, tool)}."""
    runs = {}
    for name, last_line in ENDS.items():
        folder = tmp_path_factory.mktemp("ends")
        (folder / "tü").mkdir()
        path = make_notebook(folder, {"a": "1 + 1", "b": WORKERS + last_line, "c": "2"})
        runs[name] = folder, start(path, TMPDIR=str(folder / "tü"))
    yield runs
    for _, tool in runs.values():
        tool.terminate()
        tool.communicate(timeout=60)


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
@pytest.mark.parametrize("end", ENDS)
def test_a_run_that_ends_early_keeps_its_outputs_and_leaves_nothing(ended_runs, end):
    folder, tool = ended_runs[end]
    if end.startswith("SIG"):
        wait_until((folder / "ready").exists, tool)
        assert len(processes_of(folder)) > 3  # tool, kernel, and others
        tool.send_signal(getattr(signal, end))
    _, err = tool.communicate(timeout=300)
    assert tool.returncode == 1
    assert len(err.splitlines()) == 1 and MESSAGES.get(end, "") in err
    partial = nbformat.read(folder / "build/made up-partial.ipynb", as_version=4)
    first, second, third = partial.cells
    assert first.outputs and second.outputs[0].text == "so far\n" and not third.outputs
    wait_until(lambda: not processes_of(folder), seconds=10)
    shared = Path("/dev/shm").glob(f"*-{(folder / 'pid').read_text()}-*")
    assert not [*(folder / "tü").iterdir(), *shared]


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
def test_a_signal_while_the_kernel_starts_leaves_one_line(tmp_path):
    (tmp_path / "tmp").mkdir()
    tool = start(make_notebook(tmp_path), TMPDIR=str(tmp_path / "tmp"))
    wait_until(lambda: [*(tmp_path / "tmp").glob("*/kernel.json")], tool)
    tool.send_signal(signal.SIGINT)
    _, err = tool.communicate(timeout=60)
    assert tool.returncode == 1 and len(err.splitlines()) == 1
    wait_until(lambda: not processes_of(tmp_path), seconds=10)
    assert not [*(tmp_path / "tmp").iterdir()]
