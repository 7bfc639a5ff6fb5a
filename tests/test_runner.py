"""What tools/run_notebook.py promises to whoever types it, on small notebooks."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import run_notebook
from code_hash import code_cells
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

HEAD = "| section | asked | found |\n| --: | :-- | :-- |\n"
OLD, NEW = "| 1.9 | Test | 12.3% |", "| 1.9 | Test | 91.9%<br>both |"
LINKED = HEAD + NEW.replace("1.9", "[1.9](#1.9-Test)", 1)
README = f"{OLD}\n<!-- results -->\n{HEAD}{OLD}\n<!-- /results -->\n{OLD}\n"
CELLS = {
    "share": "SHARE = 1.0  # of the images",
    "answers": """\
import time, warnings
from IPython.display import Markdown, display
from matplotlib import pyplot as plt
display(Markdown("later"), display_id="picture")
display(Markdown("later"), display_id="table")""",
    "first": "## 1 First ∇",
    "noise": "warnings.warn('mind the gap'); print('bar', end='\\r'); print('Ω  ')",
    "slow": "### 1.2 Slow",
    **dict.fromkeys(("slow-1", "slow-2"), "time.sleep(0.3)"),
    "user": "print('intruder' in globals(), __debug__, plt.rcParams['axes.grid'])",
    "page": f"""\
fig, ax = plt.subplots(figsize=(1, 1))
plt.close(fig)
display(fig, display_id="picture", update=True)
display(Markdown({LINKED!r}), display_id="table", update=True);""",
}


def make_notebook(folder, cells=CELLS, readme=README):
    """A notebook of {id: source} in the folder, beside a README: its path."""
    notebook = new_notebook()
    for name, source in cells.items():
        new_cell = new_markdown_cell if source.startswith("#") else new_code_cell
        notebook.cells.append(new_cell(source, id=name))
    notebook.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, folder / "made up.ipynb")
    (folder / "README.md").write_text(readme, encoding="utf-8")
    return folder / "made up.ipynb"


def start(*arguments, **settings):
    """The tool at work on a notebook, with its output in a pipe."""
    env = os.environ | {"PYTHONUTF8": "1"} | settings
    command = [sys.executable, run_notebook.__file__, *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, env=env, encoding="utf-8", **pipes)


def main(monkeypatch, *arguments):
    """The tool at work in this process."""
    monkeypatch.setattr(sys, "argv", ["run_notebook.py", *map(str, arguments)])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    run_notebook.main()


@pytest.fixture(scope="module")
def saved_run(tmp_path_factory):
    """A run with --save and a user's settings: the notebook's path, what it printed."""
    user = tmp_path_factory.mktemp("user")
    (user / "profile_default/startup").mkdir(parents=True)
    (user / "profile_default/startup/a.py").write_text("intruder = 1")
    (user / "matplotlibrc").write_text("axes.grid: True")
    path = make_notebook(tmp_path_factory.mktemp("run"))
    settings = {"IPYTHONDIR": str(user), "MATPLOTLIBRC": str(user)}
    tool = start(path, "--save", **settings, PYTHONOPTIMIZE="1")
    return path, tool.communicate(timeout=300)[0]


def test_sections_are_timed_and_results_clean_and_free_of_the_users_settings(saved_run):
    lines = [line.split() for line in saved_run[1].splitlines()]
    times = {line[0]: float(line[-2]) for line in lines if line[-1:] == ["s"]}
    assert times["1.2"] >= 0.6 > times["1"]
    assert "mind the gap" in saved_run[1] and "\r" not in saved_run[1]
    executed = nbformat.read(saved_run[0], as_version=4)
    outputs = [output for cell in code_cells(executed) for output in cell.outputs]
    printed = [output.text for output in outputs if "text" in output]
    assert printed == ["Ω  \n", "False True False\n"]  # no bar, no warning


def test_save_brings_notebook_readme_and_picture_up_to_date(saved_run):
    folder = saved_run[0].parent
    built = folder / "build" / saved_run[0].name
    assert built.read_bytes() == saved_run[0].read_bytes()
    rows = f"{OLD}\n<!-- results -->\n{HEAD}{NEW}\n<!-- /results -->\n{OLD}\n"
    assert (folder / "README.md").read_text("utf-8") == rows
    assert (folder / "docs" / "staircase.png").read_bytes()[1:4] == b"PNG"
    assert "91.9%" in built.with_suffix(".html").read_text("utf-8")


@pytest.mark.parametrize("why", ["Other", "SHARE", "build"])
def test_save_saves_all_or_nothing(tmp_path, monkeypatch, why):
    readme = README.replace("Test", why)  # which page 1 does not show
    share = {"share": "SHARE = 0.5"} if why == "SHARE" else {}
    path = make_notebook(tmp_path, CELLS | share, readme)
    if why == "build":
        (tmp_path / "build").write_text("in the way")
    before = path.read_bytes()
    with pytest.raises(SystemExit, match=why):
        main(monkeypatch, path, "--save")
    assert path.read_bytes() == before and not (tmp_path / "docs").exists()
    assert (tmp_path / "README.md").read_text("utf-8") == readme


def test_quick_takes_a_twentieth_under_a_name_of_its_own(tmp_path, monkeypatch):
    main(monkeypatch, make_notebook(tmp_path, {"share": "SHARE = 1.0"}), "--quick")
    page, quick = sorted((tmp_path / "build").iterdir())
    assert (page.name, quick.name) == ("made up-quick.html", "made up-quick.ipynb")
    assert nbformat.read(quick, as_version=4).cells[0].source == "SHARE = 0.05"


CHILD = """\
import joblib, numpy, os, subprocess, sys, time
joblib.Parallel(2)(map(joblib.delayed(len), [numpy.ones(10**6)] * 2))
print(os.getpid(), file=open("pid", "w"))
code = "import time\\nwhile not time.sleep(.1): print(time.time(), file=open('t', 'w'))"
subprocess.Popen([sys.executable, "-c", code])
print("so far", flush=True)
while not os.path.exists("t"): time.sleep(0.1)
"""
ENDS = {
    "SIGINT": (130, "time.sleep(600)", "Stopped."),
    "SIGTERM": (143, "time.sleep(600)", "Stopped."),
    "kill -9": (1, "os.kill(os.getpid(), 9)", "1.3 GB"),
    "error": (1, "raise ValueError('broken,\\nΩ')", "ValueError: broken, Ω"),
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run for each of ENDS, all at once: {name: (its folder, the tool at work)}."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
    runs = {}
    for how, (_, last, _) in ENDS.items():
        folder = tmp_path_factory.mktemp("ends")
        (folder / "tü").mkdir()
        path = make_notebook(folder, {"a": "1 + 1", "b": CHILD + last, "c": "2"})
        runs[how] = folder, start(path, TMPDIR=str(folder / "tü"))
    yield runs
    for _, tool in runs.values():
        tool.terminate()


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
@pytest.mark.parametrize("how", ENDS)
def test_what_has_run_is_kept_and_nothing_is_left(begun, how):
    folder, tool = begun[how]
    status, _, said = ENDS[how]
    if how.startswith("SIG"):
        while not (folder / "t").exists():
            assert tool.poll() is None
            time.sleep(0.1)
        tool.send_signal(getattr(signal, how))
    out, _ = tool.communicate(timeout=300)
    assert tool.returncode == status and said in out and "Traceback" not in out
    (partial,) = (folder / "build").glob("made up-partial.*")
    good, last, after = nbformat.read(partial, as_version=4).cells
    assert good.outputs and last.outputs[0].text == "so far\n" and not after.outputs
    beat = (folder / "t").read_text()
    time.sleep(0.3)
    assert (folder / "t").read_text() == beat  # the child has ended
    shared = Path("/dev/shm").glob(f"*-{int((folder / 'pid').read_text())}-*")
    assert not [*(folder / "tü").iterdir(), *shared]


def test_without_packages_a_line_names_the_command():
    command = [sys.executable, "-S", run_notebook.__file__, "--quick"]
    ended = subprocess.run(command, capture_output=True, text=True)
    (line,) = ended.stderr.splitlines()
    assert "-r requirements.txt" in line and line.endswith("run_notebook.py --quick")
