"""tools/run_notebook.py, on small notebooks made up here."""

import base64
import io
import re

import nbformat
import pytest
import run_notebook
from conftest import run_tool
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

LABEL, SECTION = "softmax, test accuracy", "1.1 Test"
ANSWER = "91.9\N{NO-BREAK SPACE}%"
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

<!-- results -->
| figure | value |
| :-- | --: |
| softmax, test accuracy | 12.3 % |
<!-- /results -->

| figure | value |
| :-- | --: |
| softmax, test accuracy | also stays |
"""

SUMMARY = f"""\
results = {{{LABEL!r}: [{ANSWER!r}, {SECTION!r}]}}
display({{"text/markdown": {TABLE!r}}}, metadata={{"results": results}}, raw=True)"""

OTHER = f"""\
other = {{"image/png": {BLUE!r}, "text/markdown": "another table"}}
display(other, metadata={{"results": {{"other": ["", ""]}}}}, raw=True)"""

STAIRCASE = f"display({{'image/png': {PIXEL!r}}}, raw=True)"

NOISE = """\
import os, sys, warnings
from tqdm import tqdm
for _ in tqdm(range(3), "bar", file=sys.stdout, leave=False, ascii=False): pass
for _ in tqdm(range(3), "to stderr"): pass
warnings.warn("mind the gap")
display({"application/vnd.jupyter.widget-view+json": {}, "text/plain": "a widget"}, raw=True)
print(f"backend {os.environ['MPLBACKEND']}, Ω, data {open('data.txt').read()}")"""


BARS = """\
print("before")
for _ in tqdm(range(3), file=sys.stdout, leave=False): pass"""

ONLY_BARS = BARS.partition("\n")[2]
CELLS = {"noise": NOISE, "bars": BARS, "only-bars": ONLY_BARS, "summary": SUMMARY, "other": OTHER}
CELLS["staircase"] = STAIRCASE


def make_notebook(folder, **sources):
    """A notebook of code cells with these ids, as Jupyter might have left it; returns its path."""
    cells = [
        new_markdown_cell("# 1.1 Test ∇", id="heading"),
        new_markdown_cell("old", id="answers"),
    ]
    cells += [new_code_cell(source, id=name) for name, source in sources.items()]
    for cell in cells[2:]:
        cell.execution_count, cell.metadata["execution"] = 7, {"iopub.status.busy": "2026-01-01"}
    path = folder / "made up.ipynb"
    widgets = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    metadata = {"widgets": widgets, "language_info": {"name": "python", "version": "3.9"}}
    nbformat.write(new_notebook(cells=cells, metadata=metadata), path)
    (folder / "data.txt").write_text("42")
    (folder / "README.md").write_text(README, encoding="utf-8")
    return path


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


def source_of(notebook, cell_id):
    (cell,) = (c for c in notebook.cells if c.id == cell_id)
    return cell.source


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A run without --save, on a console of Windows' code page: before, the run, and after."""
    folder = tmp_path_factory.mktemp("a run")
    path = make_notebook(folder, **CELLS)
    before = files(folder)
    settings = {"PYTHONIOENCODING": "cp1252", "MPLBACKEND": "Agg"}
    return path, before, run_tool(path, cwd=folder.parent, **settings), files(folder)


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
    assert set(after) - set(before) == {"build/made up.ipynb", "build/made up.html"}


def test_a_run_says_what_it_does_and_where(ran):
    path, _, run, _ = ran
    assert len(re.findall(r"^\[  [3-8]/8\] 1\.1 Test \? +\d+\.\d s$", run.stdout, re.M)) == 6
    assert "bar:   0%|" in run.stdout and "to stderr: 100%|" in run.stdout
    assert "mind the gap" in run.stdout
    for kind in "ipynb", "html":
        assert str(path.parent / "build" / f"made up.{kind}") in run.stdout


def test_build_holds_clean_outputs_and_a_page(ran):
    _, _, _, after = ran
    executed = nbformat.reads(after["build/made up.ipynb"].decode(), as_version=4)
    nbformat.validate(executed)
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2, 3, 4, 5, 6]
    assert not [cell.id for cell in code if "execution" in cell.metadata]
    assert "widgets" not in executed.metadata
    assert executed.metadata.language_info == {"name": "python"}
    (noise,), (before,), nothing = (cell.outputs for cell in code[:3])
    assert not nothing and before.text == "before\n"
    assert noise.text == "backend module://matplotlib_inline.backend_inline, Ω, data 42\n"
    assert source_of(executed, "answers") == TABLE
    page = after["build/made up.html"].decode()
    assert page.index("@media print { pre { white-space: pre-wrap") < page.index("</head>")
    assert page.count('href="#1.1-Test"') == 2  # in the answers and in the summary
    assert PIXEL in page and "Ω" in page


def test_save_updates_notebook_readme_and_picture(saved):
    path, run = saved
    assert run.returncode == 0, run.stderr
    assert path.read_bytes() == (path.parent / "build" / path.name).read_bytes()
    assert source_of(nbformat.read(path, as_version=4), "answers") == TABLE
    text = (path.parent / "README.md").read_text(encoding="utf-8")
    assert text == README.replace("12.3 %", "91.9\N{NO-BREAK SPACE}%")
    assert (path.parent / "docs/staircase.png").read_bytes() == base64.b64decode(PIXEL)
    assert not list(path.parent.rglob("*.tmp"))


@pytest.fixture
def pretend(monkeypatch):
    """pretend(action): from then on "running" a notebook only gives its cells known outputs."""

    def outputs_of(cell):
        table, picture = {"text/markdown": TABLE}, {"image/png": PIXEL}
        results = {"results": {LABEL: [ANSWER, SECTION]}}
        known = {"summary": (table, results), "staircase": (picture, {})}
        data, metadata = known.get(cell.id, ({"text/plain": "2"}, {}))
        return [new_output("display_data", data=data, metadata=metadata)]

    def patch(action=lambda folder: None):
        def run(notebook, folder):
            for cell in (c for c in notebook.cells if c.cell_type == "code"):
                cell.outputs = outputs_of(cell)
            action(folder)

        monkeypatch.setattr(run_notebook, "run", run)

    return patch


def test_saving_again_changes_nothing(tmp_path, pretend):
    path = make_notebook(tmp_path, summary=SUMMARY, staircase=STAIRCASE)
    pretend()
    run_notebook.main(path, save=True)
    before = files(tmp_path)
    assert set(before) >= {"docs/staircase.png", "README.md"}
    run_notebook.main(path, save=True)
    assert files(tmp_path) == before


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
    assert set(after) - set(before) == {"build/made up.ipynb", "build/made up.html"}


def test_a_notebook_of_another_kind_is_saved_alone(tmp_path, pretend):
    path = make_notebook(tmp_path, only="1 + 1")
    (tmp_path / "README.md").unlink()
    pretend()
    run_notebook.main(path, save=True)
    notebook = nbformat.read(path, as_version=4)
    assert source_of(notebook, "answers") == "old"
    assert notebook.cells[-1].outputs[0].data == {"text/plain": "2"}
    assert set(files(tmp_path)) == {
        "made up.ipynb", "data.txt", "build/made up.ipynb", "build/made up.html"
    }  # fmt: skip


def test_edits_made_meanwhile_are_kept(tmp_path, pretend):
    path = make_notebook(tmp_path, summary=SUMMARY)
    pretend(lambda folder: path.write_text("edited"))
    with pytest.raises(SystemExit, match="edited"):
        run_notebook.main(path, save=True)
    assert path.read_text() == "edited"
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == README


def test_what_cannot_all_be_written_is_not_written(tmp_path):
    (tmp_path / "first").write_text("before")
    (tmp_path / "second.tmp").mkdir()  # in the way of the second file
    with pytest.raises(OSError):
        run_notebook.write({tmp_path / "first": b"after", tmp_path / "second": b"after"})
    assert (tmp_path / "first").read_text() == "before"
    assert not (tmp_path / "first.tmp").exists()


def test_failing_cell_stops_the_run_and_keeps_every_file(tmp_path):
    path = make_notebook(tmp_path, good="1 + 1", bad="raise ValueError('broken, Ω')", after="2")
    before = files(tmp_path)
    run = run_tool(path, "--save", PYTHONIOENCODING="cp1252")
    assert run.returncode != 0
    assert "Traceback" in run.stderr and "ValueError" in run.stderr
    assert "left as it was" in run.stderr
    assert files(tmp_path) == before


def test_a_kernel_that_dies_stops_the_run(tmp_path):
    path = make_notebook(tmp_path, bad="import os; os._exit(1)")
    before = files(tmp_path)
    with pytest.raises(SystemExit, match="left as it was"):
        run_notebook.main(path, save=True)
    assert files(tmp_path) == before
