"""What tools/run_notebook.py promises to whoever types it, on small notebooks.

A run leaves an executed copy and its page in build/, and touches nothing else; it says
what it does, a line a section; no setting of a user changes it. With --save, notebook,
README and picture are brought up to date together, or not at all. However it ends, what
has run is kept, a sentence says where, and no process and no temporary file is left.
What cannot be run gets a sentence. What is imported is declared, in files that agree.
"""

import ast
import base64
import gzip
import io
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import packages_distributions
from pathlib import Path
from subprocess import DEVNULL, PIPE
from unittest.mock import patch

import execute
import nbformat
import numpy as np
import psutil
import pytest
import runner
from code_hash import code_hash
from conftest import DOT
from jupyter_client.manager import start_new_kernel
from load_definitions import ROOT, definition_source
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

TOOL = ROOT / "tools" / "run_notebook.py"
PATIENCE = 300  # seconds, with a machine that does other things besides
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")

HEAD = "| section | asked | found |\n| --: | :-- | :-- |\n"
OLD, NEW = "| 1.9 | Test | 12.3% |", "| 1.9 | Test | 91.9%<br>both |"
LINKED = NEW.replace("1.9", "[1.9](#1.9-Test-accuracy)", 1)  # as page 1 has it
README = f"{OLD}\n\n<!-- results -->\n{HEAD}{OLD}\n<!-- /results -->\n\n{OLD}\n"
BAR = "for _ in tqdm(range(3), 'bar', file=sys.stdout, leave=False, ncols=50): pass"
CELLS = {
    "share": "SHARE = 1.0  # of the images",
    "answers": f"""\
import os, sys, warnings
from IPython.display import Markdown, display
from tqdm import tqdm
display(Markdown({HEAD!r}), display_id="answers");""",
    "noise": f"""\
{BAR}
warnings.warn("mind the gap")
print("Ω, data", open("data.txt").read())
{BAR}""",
    "bar": BAR,
    "settings": """\
backend = os.environ["MPLBACKEND"]
print("intruder" in globals(), __debug__, backend.startswith("module:"))
from matplotlib import pyplot as plt
print(plt.rcParams["lines.linewidth"])
import tempfile
print(tempfile.mkdtemp())
plt.plot([1, 2]);""",
    "staircase": f"""\
about = {{"image/png": {{"alt": "a dot"}}}}
display({{"image/png": {DOT!r}}}, raw=True, metadata=about)""",
    "end": f"""\
display(Markdown({HEAD + LINKED!r}), display_id="answers", update=True)
print("1 of 1 answered")""",
}
BUILD = {"build/made up.ipynb", "build/made up.html"}


def make_notebook(folder, sources, **outputs):
    """A notebook of code cells {id: source}, as Jupyter might leave it: its path."""
    cells = [new_markdown_cell("# Title\n\n## 1 First\n\n### 1.1 Test ∇")]
    old = new_output("stream", text="from an earlier run\n")
    for name, source in sources.items():
        cells.append(new_code_cell(source, id=name, outputs=[outputs.get(name, old)]))
        cells[-1].metadata.execution = {"iopub.status.busy": "2026-01-01"}
        cells[-1].metadata.tags = ["parameters"] if name == "share" else []
    folder.mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=cells), folder / "made up.ipynb")
    (folder / "data.txt").write_text("42")
    (folder / "README.md").write_text(README, encoding="utf-8")
    return folder / "made up.ipynb"


def files(folder):
    found = folder.rglob("*.*")
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found}


def assert_only_build_is_new(before, after):
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == BUILD


def built(path):
    """The notebook that a run left in build/, and its code cells by id."""
    notebook = nbformat.read(path.parent / "build" / path.name, as_version=4)
    return notebook, {cell.id: cell for cell in execute.code_cells(notebook)}


def start(path, *options, tool=TOOL, **environment):
    """A tool at work, with options of Python, its output in pipes."""
    pipes = {"stdout": PIPE, "stderr": PIPE, "encoding": "utf-8", "errors": "replace"}
    settings = os.environ | {"PYTHONIOENCODING": "utf-8"} | environment
    command = [sys.executable, *options, tool, path]
    return subprocess.Popen(command, env=settings, **pipes)


def main(path, *options):
    """What the command line does, in this process."""
    with patch.object(sys, "argv", ["run_notebook.py", str(path), *options]):
        runner.main([])


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A run with a user's settings, each of which would change or break it, and a
    console of Windows: its path, the files before, what it printed."""
    path = make_notebook(tmp_path_factory.mktemp("a run"), CELLS)
    before = files(path.parent)
    remnant = path.parent / "data" / "tmpa_long_1"  # of a download
    remnant.parent.mkdir()
    remnant.touch()
    remnant.with_name("tmpof_today").touch()  # of one that may be at work
    os.utime(remnant, (0, 0))
    user = tmp_path_factory.mktemp("user")
    for name, text in {
        "profile_default/startup/a.py": "intruder = 1",
        "python.py": "intruder = 2",
        "matplotlibrc": "lines.linewidth: 9",
        "kernels/python3/kernel.json": '{"argv": ["no"], "language": "", "name": ""}',
    }.items():
        (user / name).parent.mkdir(parents=True, exist_ok=True)
        (user / name).write_text(text)
    names = "IPYTHONDIR", "JUPYTER_PATH", "MATPLOTLIBRC"
    settings = {name: str(user) for name in names} | {
        "JUPYTER_PREFER_ENV_PATH": "0",
        "MPLBACKEND": "Agg",
        "PYTHONOPTIMIZE": "1",
        "PYTHONSTARTUP": str(user / "python.py"),
        "PYTHONWARNINGS": "ignore",
        "PYTHONIOENCODING": "cp1252",
    }
    tool = start(path, **settings)
    out, errors = tool.communicate(timeout=PATIENCE)
    assert tool.returncode == 0, errors
    return path, before, out


def test_it_touches_nothing_but_build(ran):
    assert_only_build_is_new(ran[1], files(ran[0].parent))
    assert [p.name for p in (ran[0].parent / "data").iterdir()] == ["tmpof_today"]
    page = (ran[0].parent / "build" / "made up.html").read_text(encoding="utf-8")
    assert "91.9%" in page and DOT in page and "Ω" in page


def test_a_line_a_section_and_warnings_and_nothing_moves_in_a_pipe(ran):
    path, _, out = ran
    (line,) = [line for line in out.splitlines() if "1.1 Test" in line]
    assert line.endswith(" s") and f"{len(CELLS) + 1}/{len(CELLS) + 1}]" in line
    assert "mind the gap" in out and str(path.parent / "build" / path.name) in out
    assert "\r" not in out and "%|" not in out


def test_outputs_are_clean_and_page_1_is_filled(ran):
    notebook, cells = built(ran[0])
    assert [cell.execution_count for cell in cells.values()] == [1, 2, 3, 4, 5, 6, 7]
    assert not [name for name, cell in cells.items() if "execution" in cell.metadata]
    assert [o.text for o in cells["noise"].outputs] == ["Ω, data 42\n"]
    assert not cells["bar"].outputs
    (table,) = cells["answers"].outputs
    assert table.data["text/markdown"] == HEAD + LINKED
    assert [o.get("text") for o in cells["end"].outputs] == ["1 of 1 answered\n"]
    (dot,) = cells["staircase"].outputs
    assert dot.metadata["image/png"]["alt"] == "a dot"
    assert notebook.metadata.language_info.nbconvert_exporter == "python"  # as Lab has
    assert notebook.metadata.code_sha256 == code_hash(notebook)


def test_a_large_picture_keeps_its_colours(rng):
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (150, 150, 3), np.uint8)).save(file, "PNG")
    small = execute.smaller(base64.b64encode(file.getvalue()).decode())
    assert len(Image.open(io.BytesIO(base64.b64decode(small))).getcolors()) > 200


def test_settings_of_the_user_do_not_reach_it(ran):
    text, picture = built(ran[0])[1]["settings"].outputs
    *lines, folder = text.text.splitlines()
    assert lines == ["False True True", "1.5"] and "image/png" in picture.data
    assert not Path(folder).exists()  # temporary files go with the run


@pytest.fixture
def runs(monkeypatch):
    """Nothing is run, and only the answers change; the first cell's sources."""
    sources = []

    def run(notebook, folder):
        sources.append(notebook.cells[1].source)
        for output in runner.outputs(notebook, "answers"):
            if "data" in output:
                table = output.data["text/markdown"].replace(OLD, LINKED)
                output.data["text/markdown"] = table

    monkeypatch.setattr(runner, "run", run)
    return sources


def test_quick_takes_a_twentieth(tmp_path, runs):
    path = make_notebook(tmp_path, CELLS)
    before = files(tmp_path)
    main(path, "--quick")
    assert runs == ["SHARE = 0.05"]
    assert_only_build_is_new(before, files(tmp_path))
    with pytest.raises(SystemExit):
        main(path, "--quick", "--save")


def filled(folder, answers=HEAD + LINKED, end="1 of 1 answered"):
    """A notebook with the outputs that saving is about."""
    table = new_output("display_data", {"text/markdown": answers})
    picture = new_output("display_data", {"image/png": DOT})
    last = new_output("stream", text=end)
    return make_notebook(folder, CELLS, answers=table, staircase=picture, end=last)


def test_save_brings_notebook_readme_and_picture_up_to_date(tmp_path, runs):
    main(filled(tmp_path, answers=HEAD + OLD), "--save")
    after = files(tmp_path)
    assert after["made up.ipynb"] == after["build/made up.ipynb"]
    rows = f"{OLD}\n\n<!-- results -->\n{HEAD}{NEW}\n<!-- /results -->\n\n{OLD}\n"
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == rows
    assert after["docs/staircase.png"] == base64.b64decode(DOT)
    main(tmp_path / "made up.ipynb", "--save")
    assert files(tmp_path) == after


@pytest.mark.parametrize("why", ["unknown row", "answers missing", "edited meanwhile"])
def test_save_saves_all_or_nothing(tmp_path, runs, monkeypatch, why):
    path = filled(tmp_path, end=f"{why != 'answers missing':d} of 1 answered")
    if why == "unknown row":
        text = README.replace("<!-- /", "| 1.9 | Other | 1% |\n<!-- /")
        (tmp_path / "README.md").write_text(text, encoding="utf-8")
    elif why == "edited meanwhile":
        monkeypatch.setattr(runner, "read", lambda p: (b"", nbformat.read(p, 4)))
    before = files(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(path, "--save")
    assert "\n" not in end.value.code
    assert_only_build_is_new(before, files(tmp_path))


def test_with_a_note_save_leaves_readme_and_picture(tmp_path, runs, capsys, nb):
    with patch.object(nb, "NOTES", ["A try."]):  # as the notebook shows it
        main(filled(tmp_path, answers=nb.answers_table().data), "--save")
    after = files(tmp_path)
    out = capsys.readouterr().out
    assert after["README.md"].decode() == README and "A try." in out and "README" in out
    assert "docs/staircase.png" not in after
    assert after["made up.ipynb"] == after["build/made up.ipynb"]


def test_where_build_has_no_room_it_is_kept_elsewhere(tmp_path, runs, capsys):
    path = make_notebook(tmp_path, CELLS)
    (tmp_path / "build").write_text("in the way")
    before = files(tmp_path)
    main(path)
    notebook, page = map(Path, re.findall("written: (.*)", capsys.readouterr().out))
    assert page.exists() and files(tmp_path) == before
    shutil.rmtree(notebook.parent)


def test_the_hash_is_of_code_alone():
    texts = "a = 1", "# why\na = 1\n\n  # so", "a = 2"
    notebooks = [new_notebook(cells=[new_code_cell(text)]) for text in texts]
    first, same, other = map(code_hash, notebooks)
    assert first == same != other


def idx(*sizes):
    """A file in MNIST's format of zeros of these sizes."""
    head = bytes([0, 0, 8, len(sizes)]) + b"".join(n.to_bytes(4, "big") for n in sizes)
    return gzip.compress(head + bytes(math.prod(sizes)))


LABELS, MISFIT, SAMPLE = runner.MNIST[3], idx(6), "data/cifar10_sample.bin"
FILTERS, ALL = "C0_weights.npy", ("C0_weights.npy", LABELS, SAMPLE)
HARMS = [(name, harm) for name in ALL for harm in (None, b"", b"?" * 99)]
LONG = gzip.compress(gzip.decompress(idx(7)) + b"?")
HARMS += [(LABELS, harm) for harm in (idx(7)[:-5], idx(7, 1), LONG, MISFIT)]
HARMS += [(FILTERS, np.ones((20, 5, 5))), (FILTERS, np.array([{}]))]
HARMS += [(FILTERS, number * np.ones((20, 3, 5, 5))) for number in (0, np.nan, 1j)]


@pytest.mark.parametrize(("name", "harm"), [("data.txt", b""), *HARMS])
def test_a_bad_data_file_is_named_with_its_remedy(tmp_path, runs, name, harm):
    path = make_notebook(tmp_path, {"a": f'"data/mnist", {ALL}'})
    (tmp_path / "data" / "mnist").mkdir(parents=True)
    for each in runner.MNIST:
        (tmp_path / each).write_bytes(idx(7, 3, 3) if "images" in each else idx(7))
    np.save(tmp_path / FILTERS, np.ones((20, 3, 5, 5)))
    (tmp_path / SAMPLE).write_bytes(bytes(61_460))
    (tmp_path / name).unlink()
    if isinstance(harm, bytes):
        (tmp_path / name).write_bytes(harm)
        (tmp_path / ".git").mkdir()
    elif harm is not None:
        np.save(tmp_path / name, harm)
    try:
        main(path)
    except SystemExit as end:
        assert name in end.code and "pickle" not in end.code
        git = isinstance(harm, bytes) and shutil.which("git")
        assert ("git checkout" if git else "archive") in end.code
        misfit = "6 labels for 7 images" in end.code and end.code.endswith("data/mnist")
        assert misfit == (harm is MISFIT)
    assert len(runs) == (name == "data.txt")


@pytest.mark.parametrize("content", [None, b"no JSON", b"\xff"])
def test_a_file_that_is_no_notebook_is_named(tmp_path, content):
    if content:
        (tmp_path / "some.ipynb").write_bytes(content)
    with pytest.raises(SystemExit, match=r"some\.ipynb"):
        main(tmp_path / "some.ipynb")


@pytest.mark.parametrize("name", ["run_notebook", "make_page"])
@pytest.mark.parametrize(
    ("version", "said"),
    [("3, 8", "3.10"), ("*sys.version_info,", "-r requirements.txt")],
)
def test_an_old_python_or_one_without_packages_gets_a_line(name, version, said):
    for source in TOOL, TOOL.with_stem("start"):
        ast.parse(source.read_text(encoding="utf-8"), feature_version=(3, 6))
    code = f"""import runpy, sys; sys.path.insert(0, {str(TOOL.parent)!r})
sys.version_info = ({version}); runpy.run_module({name!r}, run_name="__main__")"""
    command = [sys.executable, "-S", "-c", code]
    run = subprocess.run(command, capture_output=True, text=True)
    assert said in run.stderr and len(run.stderr.splitlines()) == 1


CHILD = """\
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open("ids.txt", "w").write(f"{os.getpid()} {child.pid}")
print("so far", flush=True)
print("ready", file=sys.stderr, flush=True)
"""


def partial(folder, last):
    """A notebook of which a run does not reach the end."""
    return make_notebook(folder, {"good": "1 + 1", "last": CHILD + last, "after": "2"})


def assert_kept(path, message):
    """What has run is in build/, a message says so, and no process is left."""
    assert "Traceback" not in message and len(message.strip().splitlines()) <= 4
    assert str(path.parent / "build") in message
    notebook, cells = built(path)
    assert notebook.cells[0].id == "not-at-its-end"
    good, last, after = cells.values()
    assert good.outputs[0].data["text/plain"] == "2" and not after.outputs
    assert last.outputs[0].text == "so far\n"
    assert (path.parent / "build" / "made up.html").exists()
    assert "from an earlier run" in path.read_text(encoding="utf-8")
    ids = map(int, (path.parent / "ids.txt").read_text().split())
    left = [psutil.Process(pid) for pid in ids if psutil.pid_exists(pid)]
    assert not [p for p in left if p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize(
    ("last", "reason"),
    [("raise ValueError('broken,\\nΩ')", "ValueError: broken, Ω"), ("os._exit(1)", "")],
)
def test_a_cell_that_fails_and_a_kernel_that_dies(tmp_path, capsys, last, reason):
    path = partial(tmp_path, f"time.sleep(0.5); {last}")
    with pytest.raises(SystemExit) as end:
        main(path, "--save")
    assert "last (1.1 Test ∇)" in end.value.code and reason in end.value.code
    assert re.search("1.1 Test.*failed", capsys.readouterr().out)
    assert_kept(path, end.value.code)


TALKS = """
from pathlib import Path
download = Path("data", "tmpa_long_1")
download.touch()
try:
    while True:
        print(1, file=sys.stderr, flush=True)
        time.sleep(0.1)
finally:
    time.sleep(0.5)
    download.unlink()
"""
CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129, "closed pipe": 1}


@posix
def test_signals_and_closed_pipes(tmp_path):
    tools = {}
    for name in CODES:
        if name == "SIGHUP" and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
            continue  # under nohup
        tools[name] = start(partial(tmp_path / name, TALKS))
        (tmp_path / name / "data").mkdir()
        while "ready" not in tools[name].stdout.readline():
            assert tools[name].poll() is None, tools[name].stderr.read()
    for name, tool in tools.items():  # all are at work; they end side by side
        if name == "closed pipe":
            tool.stdout.close()
        else:
            tool.send_signal(getattr(signal, name))
    for name, tool in tools.items():
        errors = tool.stderr.read()
        assert tool.wait(timeout=PATIENCE) == CODES[name]
        assert_kept(tmp_path / name / "made up.ipynb", errors)
        assert not [*(tmp_path / name / "data").iterdir()]


@posix
@pytest.mark.parametrize("when", ["run_notebook", "make_page", "the kernel starts"])
def test_a_signal_while_it_is_imported_or(tmp_path, when):
    tool = TOOL.with_stem("make_page" if when == "make_page" else TOOL.stem)
    path = partial(tmp_path, "time.sleep(600)")
    tool = start(path, "-X", "importtime", tool=tool)
    while "nbformat" not in tool.stderr.readline():
        assert tool.poll() is None
    children = []
    while when == "the kernel starts" and not children:
        children = psutil.Process(tool.pid).children()
    tool.send_signal(signal.SIGINT)
    _, errors = tool.communicate(timeout=PATIENCE)
    assert tool.returncode == 130 and "Traceback" not in errors
    assert not psutil.wait_procs(children, timeout=PATIENCE)[1]  # it sees our end


PARALLEL = """
pixels = in_file(np.ones((9, 784)))
assert side_by_side([delayed(np.sum)(pixels)] * 4, "") == [9 * 784] * 4
"""


def test_a_kernel_that_a_server_shuts_down_leaves_nothing(tmp_path):
    names = "TMPDIR", "TEMP", "TMP", "JOBLIB_TEMP_FOLDER"
    settings = {"env": os.environ | dict.fromkeys(names, str(tmp_path)), "cwd": ROOT}
    manager, client = start_new_kernel(**settings, stdout=DEVNULL, stderr=DEVNULL)
    reply = client.execute_interactive(definition_source() + PARALLEL, timeout=PATIENCE)
    assert reply["content"]["status"] == "ok" and list(tmp_path.iterdir())
    client.stop_channels()
    manager.shutdown_kernel()
    end = time.monotonic() + 60
    while (left := list(tmp_path.iterdir())) and time.monotonic() < end:
        time.sleep(0.1)
    assert not left


def test_what_is_imported_is_declared_and_in_one_way():
    names = "requirements.txt", "tests/requirements.txt", "pyproject.toml"
    *texts, project = [(ROOT / name).read_text("utf-8") for name in names]
    lists = [re.findall(r"^[A-Za-z].*>=.*,<.*", text, re.M) for text in texts]
    quoted = re.findall(r"\[\n(.*?)\n\]", project, re.S)
    assert [re.findall('"(.*)"', part) for part in quoted] == lists
    declared = {re.match(r"[\w.-]+", line)[0].lower() for line in lists[0]}
    pinned = (ROOT / "constraints.txt").read_text("utf-8").lower()
    assert not [name for name in declared if f"\n{name}==" not in pinned]
    sources = [file.read_text("utf-8") for file in TOOL.parent.glob("*.py")]
    nodes = [n for s in [definition_source(), *sources] for n in ast.walk(ast.parse(s))]
    names = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    owners = packages_distributions()
    used = {d.lower() for n in names for d in owners.get(n.partition(".")[0], ())}
    assert used and not used - declared
