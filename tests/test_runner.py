"""tools/run_notebook.py, on small notebooks made up here."""

import base64
import gzip
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import execute
import nbformat
import numpy as np
import psutil
import pytest
import run_notebook
from code_hash import code_hash
from conftest import run_tool
from load_definitions import ROOT
from nbconvert import ScriptExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

LABEL, SECTION = "softmax, test accuracy", "1.1 Test"
ANSWER = "91.9\N{NO-BREAK SPACE}%"
RESULTS = {LABEL: {"text": ANSWER, "section": SECTION, "value": 0.919}}
TABLE = f"""\
| item | answer | where |
| :-- | --: | :-- |
| {LABEL} | {ANSWER} | [{SECTION}](#1.1-Test) |"""


def pixel(colour):
    """A PNG of one pixel in base64."""
    file = io.BytesIO()
    Image.new("RGB", (1, 1), colour).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


PIXEL, BLUE = pixel("red"), pixel("blue")
README = """# Title

| figure | value |
| :-- | --: |
| outside the marks | stays |
| softmax, test accuracy | 12.3 % |

<!-- results -->
| figure | value |
| :-- | --: |
| softmax, test accuracy | 12.3 % |
<!-- /results -->

| figure | value |
| :-- | --: |
| softmax, test accuracy | also stays |
"""
UPDATED = README.replace("12.3 % |\n<!--", f"{ANSWER} |\n<!--")

SUMMARY = f"""\
table = {{"text/markdown": {TABLE!r}}}
display(table, metadata={{"results": {RESULTS!r}}}, raw=True)"""

OTHER = f"""\
other = {{"image/png": {BLUE!r}, "text/markdown": "another table"}}
display(other, metadata={{"results": {{"other": {{"text": ""}}}}}}, raw=True)"""

STAIRCASE = f"display({{'image/png': {PIXEL!r}}}, raw=True)"

NOISE = """\
import os, sys, warnings
from tqdm import tqdm
for _ in tqdm(range(3), "bar", file=sys.stdout, leave=False, ascii=False): pass
for _ in tqdm(range(3), "to stderr"): pass
warnings.warn("mind the gap")
display({"application/vnd.jupyter.widget-view+json": {}, "text/plain": "-"}, raw=True)
print(f"backend {os.environ['MPLBACKEND']}, Ω, data {open('data.txt').read()}")"""

BARS = """\
print("before")
for _ in tqdm(range(3), file=sys.stdout, leave=False): pass"""

ONLY_BARS = BARS.partition("\n")[2]

# What would be otherwise if any of the user's settings reached the kernel.
UNSET = """\
print("intruder" in globals(), "matplotlib" in globals(), "elsewhere" in globals())
from matplotlib import pyplot as plt
print(plt.rcParams["lines.linewidth"], plt.rcParams["font.size"])
_ = plt.plot([1, 2])"""

CELLS = {
    "noise": NOISE,
    "bars": BARS,
    "only-bars": ONLY_BARS,
    "summary": SUMMARY,
    "other": OTHER,
    "unset": UNSET,
    "staircase": STAIRCASE,
}
BUILD = {"build/made up.ipynb", "build/made up.html"}


def make_notebook(folder, **sources):
    """A notebook of code cells with these ids, as Jupyter might leave it: its path."""
    cells = [
        new_markdown_cell("## Q1 First\n\n### 1.1 Test ∇\n\n# 1.1 Test", id="heading"),
        new_markdown_cell("old", id="answers"),
    ]
    cells += [new_code_cell(source, id=name) for name, source in sources.items()]
    for cell in cells[2:]:
        cell.execution_count = 7
        cell.metadata["execution"] = {"iopub.status.busy": "2026-01-01"}
        cell.outputs = [new_output("stream", text="from an earlier run\n")]
    path = folder / "made up.ipynb"
    widgets = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    language = {"name": "python", "version": "3.9"}
    metadata = {"widgets": widgets, "language_info": language}
    nbformat.write(new_notebook(cells=cells, metadata=metadata), path)
    (folder / "data.txt").write_text("42")
    (folder / "README.md").write_text(README, encoding="utf-8")
    return path


def files(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")
    }


def source_of(notebook, cell_id):
    (cell,) = (c for c in notebook.cells if c.id == cell_id)
    return cell.source


def unfriendly_settings(folder):
    """Settings of a user, each of which would change or break the run: environment."""
    ipython = folder / "ipython"
    (ipython / "profile_default" / "startup").mkdir(parents=True)
    (ipython / "profile_default" / "startup" / "a.py").write_text("intruder = 1")
    config = "c.InlineBackend.figure_formats = {'jpeg'}"
    (ipython / "profile_default" / "ipython_config.py").write_text(config)
    (ipython / "profile_default" / "ipython_kernel_config.py").write_text(config)
    (folder / "python.py").write_text("intruder = 2")
    (folder / "matplotlibrc").write_text("lines.linewidth: 9\nfont.size: 99")
    kernel = folder / "share" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text('{"argv": ["no-such-python"], "language": "?"}')
    return {
        "IPYTHONDIR": str(ipython),
        "JUPYTER_PATH": str(folder / "share"),
        "JUPYTER_PREFER_ENV_PATH": "0",
        "MATPLOTLIBRC": str(folder),
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": str(folder),
        "PYTHONSTARTUP": str(folder / "python.py"),
        "PYTHONWARNINGS": "error",
    }


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A run without --save, on a Windows console: before, the run, and after."""
    folder = tmp_path_factory.mktemp("a run")
    path = make_notebook(folder, **CELLS)
    (folder / "matplotlibrc").write_text("lines.linewidth: 8")
    before = files(folder)
    environment = unfriendly_settings(tmp_path_factory.mktemp("user"))
    environment["PYTHONWARNINGS"] = "ignore"  # the tool's own imports warn
    environment["PYTHONIOENCODING"] = "cp1252"
    run = run_tool(path, cwd=folder.parent, **environment)
    return path, before, run, files(folder)


@pytest.fixture(scope="module")
def executed(ran):
    """The notebook that this run left in build/."""
    return nbformat.reads(ran[3]["build/made up.ipynb"].decode(), as_version=4)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a run with --save, and the run."""
    folder = tmp_path_factory.mktemp("saved")
    path = make_notebook(folder, **CELLS)
    return path, run_tool(path, "--save")


def test_a_run_touches_nothing_but_build(ran):
    _, before, run, after = ran
    assert run.returncode == 0, run.stderr
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == BUILD


def test_a_run_says_what_it_does_and_where(ran):
    path, _, run, _ = ran
    line = r"^\[  [3-9]/9\] 1\.1 Test +\d+\.\d s$"
    assert len(re.findall(line, run.stdout, re.MULTILINE)) == 7
    assert "bar:   0%|" in run.stdout and "to stderr: 100%|" in run.stdout
    for kind in "ipynb", "html":
        assert str(path.parent / "build" / f"made up.{kind}") in run.stdout
    assert re.search(r"^\d+\.\d minutes: Q1 \d+ s\n\Z", run.stdout, re.MULTILINE)


def test_build_holds_clean_outputs(executed):
    nbformat.validate(executed)
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2, 3, 4, 5, 6, 7]
    assert not [cell.id for cell in code if "execution" in cell.metadata]
    (noise,), (before,), nothing = (cell.outputs for cell in code[:3])
    assert not nothing and before.text == "before\n"
    assert noise.text == (
        "backend module://matplotlib_inline.backend_inline, Ω, data 42\n"
    )
    assert source_of(executed, "answers") == TABLE


def test_build_holds_a_page(ran):
    page = ran[3]["build/made up.html"].decode()
    assert page.count('href="#1.1-Test"') == 3  # in two tables, and at the heading
    assert PIXEL in page and "Ω" in page and 'role="note"' not in page


def test_warnings_are_shown_and_not_kept(saved):
    path, run = saved
    assert "mind the gap" in run.stdout
    assert "mind the gap" not in str(nbformat.read(path, as_version=4).cells[2].outputs)


def test_settings_of_the_user_do_not_reach_the_run(executed):
    text, picture = next(c.outputs for c in executed.cells if c.id == "unset")
    assert text.text == "False False False\n1.5 10.0\n"
    assert "image/png" in picture.data and "image/jpeg" not in picture.data


def test_warnings_are_not_errors_in_the_run(monkeypatch, tmp_path):
    for name, text in unfriendly_settings(tmp_path).items():
        monkeypatch.setenv(name, text)
    (tmp_path / "home").mkdir()
    kept = execute.settings(tmp_path / "home")
    assert not {"PYTHONWARNINGS", "PYTHONSTARTUP", "MPLBACKEND"} & set(kept)
    assert kept["PATH"] == os.environ["PATH"]


def test_metadata_are_the_same_for_each_version_of_python(executed):
    assert set(executed.metadata) == {"code_sha256", "kernelspec", "language_info"}
    assert "version" not in str(executed.metadata)
    script, resources = ScriptExporter().from_notebook_node(executed)
    assert resources["output_extension"] == ".py"
    assert "# ## Q1 First" in script and "get_ipython" not in script


def test_files_are_as_jupyter_writes_them(ran, tmp_path):
    after = ran[3]["build/made up.ipynb"]
    nbformat.write(nbformat.reads(after.decode(), as_version=4), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == after
    assert after.endswith(b"}\n")


def test_save_updates_notebook_readme_and_picture(saved):
    path, run = saved
    assert run.returncode == 0, run.stderr
    assert path.read_bytes() == (path.parent / "build" / path.name).read_bytes()
    notebook = nbformat.read(path, as_version=4)
    assert source_of(notebook, "answers") == TABLE
    assert notebook.metadata.code_sha256 == code_hash(notebook)
    assert (path.parent / "README.md").read_text(encoding="utf-8") == UPDATED
    picture = path.parent / "docs" / "staircase.png"
    assert picture.read_bytes() == base64.b64decode(PIXEL)
    assert not list(path.parent.rglob("*.tmp"))


def test_the_hash_is_of_code_alone():
    def hash_of(*sources):
        cells = [new_code_cell(source) for source in sources]
        return code_hash(new_notebook(cells=[new_markdown_cell("# text"), *cells]))

    first = hash_of("a = 1\nb = 2", "c = 3")
    assert first == hash_of("# why\na = 1\n\n  # so\nb = 2\n", "c = 3")
    others = [
        hash_of("a = 1", "b = 2\nc = 3"),
        hash_of("c = 3", "a = 1\nb = 2"),
        hash_of("a = 1  # why\nb = 2", "c = 3"),
        hash_of("a = 1\n b = 2", "c = 3"),
    ]
    assert len({first, *others}) == 5
    assert hash_of("a") == (
        "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    )
    lines = {"cells": [{"cell_type": "code", "source": ["# b\n", "a"]}]}
    assert code_hash(lines) == hash_of("a")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("as it is\n", "as it is\n"),
        ("10%\r20%\r30%\ndone", "30%\ndone"),
        ("windows\r\nline\r\n", "windows\nline\n"),
        ("a\rb\r\nc", "b\nc"),
        ("bar\r   \r", ""),
        ("before\nbar\r    \rafter\n", "before\nafter\n"),
    ],
)
def test_carriage_returns_overwrite(text, left):
    assert execute.overwritten(text) == left


def test_long_lines_take_no_time():
    texts = [300_000 * part for part in ("x", "\rx", "x\n", "\r")]
    outputs = [new_output("stream", text=text) for text in texts]
    began = time.perf_counter()
    execute.merged(outputs)
    assert time.perf_counter() - began < 5


def test_texts_between_pictures_stay_between_them():
    picture = new_output("display_data", data={"image/png": PIXEL})
    texts = [new_output("stream", text=text) for text in ("a", "b\n", "c\n")]
    merged = execute.merged([texts[0], texts[1], picture, texts[2]])
    assert [o.get("text", "picture") for o in merged] == ["ab\n", "picture", "c\n"]


def outputs_of(cell):
    """What a made-up run gives a cell."""
    table, picture = {"text/markdown": TABLE}, {"image/png": PIXEL}
    known = {"summary": (table, {"results": RESULTS}), "staircase": (picture, {})}
    data, metadata = known.get(cell.id, ({"text/plain": "2"}, {}))
    return [new_output("display_data", data=data, metadata=metadata)]


@pytest.fixture
def pretend(monkeypatch):
    """pretend(action): from then on "running" only gives the cells known outputs."""

    def patch(action=lambda notebook: None):
        def run(notebook, folder):
            for cell in execute.code_cells(notebook):
                cell.outputs = outputs_of(cell)
            action(notebook)
            return {"Q1 First": 61.0, "Question 12: Next": 1.6, "All of it": 2, "": 5.0}

        monkeypatch.setattr(run_notebook, "run", run)

    return patch


def test_saving_again_changes_nothing(tmp_path, pretend, capsys):
    path = make_notebook(tmp_path, summary=SUMMARY, staircase=STAIRCASE)
    pretend()
    run_notebook.main(path, save=True)
    before = files(tmp_path)
    assert set(before) >= {"docs/staircase.png", "README.md"}
    run_notebook.main(path, save=True)
    assert files(tmp_path) == before
    assert "0.0 minutes: Q1 61 s, Q12 2 s, All of it 2 s\n" in capsys.readouterr().out


@pytest.mark.parametrize("label", ["softmax, other", "figure", "softmax"])
def test_readme_with_an_unknown_label_saves_nothing(tmp_path, pretend, label):
    path = make_notebook(tmp_path, summary=SUMMARY, staircase=STAIRCASE)
    readme = README.replace("<!-- /results", f"| {label} | 1 % |\n<!-- /results")
    (tmp_path / "README.md").write_text(readme, encoding="utf-8")
    before = files(tmp_path)
    pretend()
    with pytest.raises(SystemExit, match=repr(label)):
        run_notebook.main(path, save=True)
    after = files(tmp_path)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == BUILD


def test_a_notebook_of_another_kind_is_saved_alone(tmp_path, pretend):
    path = make_notebook(tmp_path, only="1 + 1")
    (tmp_path / "README.md").unlink()
    pretend()
    run_notebook.main(path, save=True)
    notebook = nbformat.read(path, as_version=4)
    assert source_of(notebook, "answers") == "old"
    assert notebook.cells[-1].outputs[0].data == {"text/plain": "2"}
    assert set(files(tmp_path)) == {"made up.ipynb", "data.txt", *BUILD}


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ('DIGITS = "data/mnist"  # the folder', False),
        ("DIGITS = 'data/mnist/'", False),
        ('DIGITS = "data/fashion"  # not "data/mnist"', True),
        ("DIGITS = FOLDER", True),
    ],
)
def test_readme_is_about_mnist(tmp_path, pretend, monkeypatch, capsys, line, other):
    path = make_notebook(tmp_path, data=line, summary=SUMMARY, staircase=STAIRCASE)
    monkeypatch.setattr(run_notebook, "check", lambda notebook, folder: None)
    (tmp_path / "build").mkdir()
    pretend()
    run_notebook.main(path, save=True)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text == (README if other else UPDATED)
    assert (tmp_path / "docs").exists() != other
    assert ("README.md and docs/ are left" in capsys.readouterr().out) == other
    assert source_of(nbformat.read(path, as_version=4), "answers") == TABLE


def test_edits_made_meanwhile_are_kept(tmp_path, pretend):
    path = make_notebook(tmp_path, summary=SUMMARY)
    pretend(lambda notebook: path.write_text("edited"))
    with pytest.raises(SystemExit, match="edited"):
        run_notebook.main(path, save=True)
    assert path.read_text() == "edited"
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == README


# Writing


def test_what_cannot_all_be_written_is_not_written(tmp_path):
    (tmp_path / "first").write_text("before")
    (tmp_path / "folder").write_text("in the way of the second file")
    with pytest.raises(OSError):
        run_notebook.write({tmp_path / "first": b"1", tmp_path / "folder" / "x": b"2"})
    assert (tmp_path / "first").read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 2


def test_two_runs_at_once_do_not_spoil_a_file(tmp_path):
    contents, failures = [letter * 1_000_000 for letter in (b"a", b"b")], []

    def write_often(content):
        try:
            for _ in range(40):
                run_notebook.write({tmp_path / "file": content})
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=write_often, args=[c]) for c in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if os.name != "nt":  # Windows may refuse one of two that replace a file at once
        assert not failures
    assert (tmp_path / "file").read_bytes() in contents


# Quick runs


def test_a_quick_run_says_so_and_saves_nothing(tmp_path, capsys):
    source = 'print("share", SHARE)'
    path = make_notebook(tmp_path, share="a = 1\nSHARE = 1.0  # of it", shown=source)
    before = files(tmp_path)
    run_notebook.main(path, quick=True)
    after = files(tmp_path)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == BUILD
    notebook = nbformat.reads(after["build/made up.ipynb"].decode(), as_version=4)
    assert notebook.cells[-1].outputs[0].text == "share 0.05\n"
    assert source_of(notebook, "share") == "a = 1\nSHARE = 0.05"
    page = after["build/made up.html"].decode()
    body = page.partition("<main>")[2]
    assert 0 < body.index(run_notebook.QUICK) < body.index("1.1 Test")
    assert notebook.metadata.code_sha256 == code_hash(notebook)


@pytest.mark.parametrize("lines", [["a = 1"], ["SHARE = 1.0", "a = 1\nSHARE = 2"]])
def test_a_quick_run_needs_one_share(tmp_path, pretend, lines):
    path = make_notebook(
        tmp_path, **{f"cell-{i}": line for i, line in enumerate(lines)}
    )
    pretend(lambda notebook: pytest.fail("the cells were run"))
    with pytest.raises(SystemExit, match="--quick needs one line"):
        run_notebook.main(path, quick=True)


def test_a_full_run_after_a_quick_one_has_no_note(tmp_path, pretend):
    path = make_notebook(tmp_path, share="SHARE = 1.0")
    pretend()
    run_notebook.main(path, quick=True)
    run_notebook.main(tmp_path / "build" / path.name, save=True)
    saved = nbformat.read(tmp_path / "build" / path.name, as_version=4)
    assert "note" not in saved.metadata


def test_quick_and_save_exclude_each_other(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run_notebook.py", "--quick", "--save"])
    with pytest.raises(SystemExit) as refusal:
        run_notebook.arguments()
    assert refusal.value.code == 2
    assert "not allowed with argument --quick" in capsys.readouterr().err


# Failures before the first cell


@pytest.fixture
def data(tmp_path):
    """A folder with the data files, of the right form."""
    (tmp_path / "data" / "mnist").mkdir(parents=True)
    for name, magic in run_notebook.IDX.items():
        (tmp_path / name).write_bytes(gzip.compress(magic + bytes(3_000_000)))
    np.save(tmp_path / "C0_weights.npy", np.zeros(75))
    return tmp_path


READS = {"data": 'DIGITS = "data/mnist"', "filters": 'np.load("C0_weights.npy")'}
IMAGES = "data/mnist/t10k-images-idx3-ubyte.gz"


def test_good_data_files_pass(data, pretend):
    pretend()
    run_notebook.main(make_notebook(data, **READS))
    assert set(files(data)) >= BUILD


@pytest.mark.parametrize("name", [*run_notebook.IDX, "C0_weights.npy"])
@pytest.mark.parametrize("harm", ["missing", "empty", "cut", "of another kind"])
def test_a_bad_data_file_is_named_before_the_run(data, pretend, name, harm):
    whole = (data / name).read_bytes()
    another = np.array([{}]) if name.endswith("npy") else gzip.compress(bytes(999))
    (data / name).unlink()
    if harm == "of another kind" and name.endswith("npy"):
        np.save(data / name, another)
    elif harm != "missing":
        kinds = {
            "empty": b"",
            "cut": whole[: len(whole) // 2],
            "of another kind": another,
        }
        (data / name).write_bytes(kinds[harm])
    pretend(lambda notebook: pytest.fail("the cells were run"))
    with pytest.raises(SystemExit) as end:
        run_notebook.main(make_notebook(data, **READS))
    lines = end.value.code.splitlines()
    assert lines[0].startswith(f"{name}: ") and len(lines) == 2
    assert lines[1].endswith(f"git checkout {name}")


def test_data_that_the_notebook_does_not_read_may_be_missing(data, pretend):
    (data / IMAGES).unlink()
    pretend()
    run_notebook.main(make_notebook(data, filters=READS["filters"]))
    (data / "C0_weights.npy").unlink()
    run_notebook.main(make_notebook(data, only="1"))


def test_a_build_that_cannot_be_written_stops_at_once(tmp_path, pretend):
    path = make_notebook(tmp_path, only="1")
    (tmp_path / "build").write_text("a file")
    pretend(lambda notebook: pytest.fail("the cells were run"))
    with pytest.raises(SystemExit, match="build cannot be written"):
        run_notebook.main(path)


@pytest.mark.parametrize("content", [None, b"no JSON", b"\xff"])
def test_a_file_that_is_no_notebook_is_named(tmp_path, content):
    path = tmp_path / "some.ipynb"
    if content:
        path.write_bytes(content)
    with pytest.raises(SystemExit, match=r"some\.ipynb is not a notebook"):
        run_notebook.main(path)


# Failures in the run


def partial(path):
    """The notebook that a run left in build/ when it did not reach its end."""
    page = (path.parent / "build" / f"{path.stem}.html").read_text(encoding="utf-8")
    assert 'role="note">This run did not reach its end' in page
    notebook = nbformat.read(path.parent / "build" / path.name, as_version=4)
    assert "version" not in notebook.metadata.language_info
    return notebook


def test_a_failing_cell_leaves_a_partial_notebook_and_its_page(tmp_path):
    sources = {
        "good": "1 + 1",
        "bad": "print('so far')\nraise ValueError('broken,\\nΩ')",
        "after": "2",
    }
    path = make_notebook(tmp_path, **sources)
    before = files(tmp_path)
    run = run_tool(path, "--save", PYTHONIOENCODING="cp1252")
    assert run.returncode == 1
    assert len(run.stderr.splitlines()) <= 5 and "Traceback" not in run.stderr
    for part in "cell bad (1.1 Test)", "ValueError: broken, ?", "left as it was":
        assert part in run.stderr
    assert str(tmp_path / "build") in run.stderr
    good, bad, after = execute.code_cells(partial(path))
    assert good.outputs[0].data["text/plain"] == "2" and not after.outputs
    assert [o.output_type for o in bad.outputs] == ["stream", "error"]
    left = files(tmp_path)
    assert {name: left[name] for name in before} == before
    assert set(left) - set(before) == BUILD


def alive(ids):
    """Which of the processes are still at work."""
    processes = [psutil.Process(pid) for pid in ids if psutil.pid_exists(pid)]
    return [p.pid for p in processes if p.status() != psutil.STATUS_ZOMBIE]


ORPHAN = """\
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"])
open("ids.txt", "w").write(f"{os.getpid()} {child.pid}")
print("so far", flush=True)
"""


def test_a_kernel_that_dies_leaves_no_process(tmp_path, capsys):
    source = f"{ORPHAN}import time; time.sleep(0.5); os._exit(1)"
    path = make_notebook(tmp_path, good="1", bad=source)
    before = path.read_bytes()
    with pytest.raises(SystemExit) as end:
        run_notebook.main(path, save=True)
    assert "cell bad (1.1 Test):\nthe kernel died" in end.value.code
    assert len(end.value.code.splitlines()) <= 5
    assert partial(path).cells[-1].outputs[0].text == "so far\n"
    assert path.read_bytes() == before
    assert not alive(map(int, (tmp_path / "ids.txt").read_text().split()))
    assert "Traceback" not in capsys.readouterr().err


def test_a_run_that_ends_well_leaves_no_process(tmp_path):
    path = make_notebook(tmp_path, start=ORPHAN)
    run_notebook.main(path)
    assert not alive(map(int, (tmp_path / "ids.txt").read_text().split()))


WORKERS = """\
print("so far", flush=True)
import os, time
from joblib import Parallel, delayed

def work(i):
    open(f"worker-{os.getpid()}.txt", "w").close()
    time.sleep(99)

Parallel(n_jobs=2)(delayed(work)(i) for i in range(2))"""


def started(path):
    """The tool at work on a notebook."""
    tool = ROOT / "tools" / "run_notebook.py"
    return subprocess.Popen(
        [sys.executable, tool, path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stop(process, number, when):
    """Send a signal when it is time: exit code, stderr, and what is left alive."""
    end = time.monotonic() + 90
    while not when(process):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, errors = process.communicate(timeout=90)
    return process.returncode, errors, alive(child.pid for child in children)


needs_signals = pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")


@needs_signals
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_cell_ends_its_workers(tmp_path, number):
    path = make_notebook(tmp_path, good="1 + 1", workers=WORKERS, after="2")
    before = path.read_bytes()
    code, errors, left = stop(
        started(path), number, lambda p: len(list(tmp_path.glob("worker-*"))) == 2
    )
    assert code == 128 + number and not left
    assert errors.count("\n") == 1 and f"Stopped by {number.name}" in errors
    workers = [int(file.stem.split("-")[1]) for file in tmp_path.glob("worker-*")]
    assert len(workers) == 2 and not alive(workers)
    good, stopped, after = execute.code_cells(partial(path))
    assert good.outputs and stopped.outputs[0].text == "so far\n" and not after.outputs
    assert path.read_bytes() == before


@needs_signals
def test_a_signal_while_the_kernel_starts(tmp_path):
    path = make_notebook(tmp_path, good="1 + 1")
    before = files(tmp_path)
    code, errors, left = stop(
        started(path), signal.SIGINT, lambda p: psutil.Process(p.pid).children()
    )
    assert code == 130 and not left
    assert errors.count("\n") == 1 and "Nothing had run" in errors
    assert files(tmp_path) == before


@needs_signals
def test_a_signal_while_the_page_is_made(tmp_path):
    path = make_notebook(tmp_path, good="1 + 1")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(new_markdown_cell("$x_1 = 2$ " * 1500))  # takes seconds
    nbformat.write(notebook, path)
    executed = tmp_path / "build" / path.name
    code, errors, left = stop(
        started(path),
        signal.SIGTERM,
        lambda p: executed.exists() and not time.sleep(0.2),
    )
    assert code == 143 and not left
    assert errors.count("\n") == 1
    assert partial(path).cells[2].outputs[0].data["text/plain"] == "2"
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize(("side", "kept"), [(60, True), (200, False)])
def test_only_large_pictures_lose_colours(side, kept):
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    small = execute.smaller(base64.b64encode(file.getvalue()).decode())
    picture = Image.open(io.BytesIO(base64.b64decode(small))).convert("RGB")
    assert np.array_equal(picture, pixels) == kept
    assert kept or len(picture.getcolors(65536)) <= 256


@pytest.mark.parametrize(("share", "saved"), [("1.0", True), ("0.05  # few", False)])
def test_save_of_a_share_leaves_the_readme(tmp_path, pretend, capsys, share, saved):
    path = make_notebook(tmp_path, share=f"SHARE = {share}", summary=SUMMARY)
    before = (tmp_path / "README.md").read_bytes()
    pretend()
    run_notebook.main(path, save=True)
    assert ((tmp_path / "README.md").read_bytes() != before) == saved
    assert ("SHARE is not 1.0" in capsys.readouterr().out) == (not saved)


def test_a_full_disk_is_noticed_before_the_run(tmp_path, pretend, monkeypatch):
    path = make_notebook(tmp_path, only="1 + 1")
    pretend()
    full = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(run_notebook.shutil, "disk_usage", lambda path: full)
    with pytest.raises(SystemExit, match="make room"):
        run_notebook.main(path)
