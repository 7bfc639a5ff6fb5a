"""The notebook as saved, the README beside it, and runs of the whole."""

import ast
import base64
import gzip
import json
import re
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from urllib.parse import unquote

import idx2numpy
import nbformat
import numpy as np
import pytest
from conftest import run_tool
from IPython.core.inputtransformer2 import TransformerManager
from load_definitions import NOTEBOOK, ROOT, definition_source

SAVE = "run tools/run_notebook.py --save"
CODE_LINES, CODE_CELLS, MEDIAN, CELL_LINES, CLASS_LINES, PLOTS_LINES = 1080, 120, 8, 30, 60, 280
THROW_AWAY = {"rng", "name", "rows", "_", "e", "answer", "errors"}  # any question's, anew


# --- Reading a notebook ----------------------------------------------------------------------


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook, kind=None):
    """All outputs of a notebook's code cells, or those of one kind."""
    return [o for c in code_cells(notebook) for o in c.outputs if kind in (None, o.output_type)]


def cell_of(notebook, cell_id):
    found = [cell for cell in notebook.cells if cell.id == cell_id]
    assert len(found) == 1, f"the notebook needs one cell with the id {cell_id!r}"
    return found[0]


def summary(notebook):
    """The summary's table in Markdown, and the results {item: [answer, heading]} beside it."""
    found = [o for o in cell_of(notebook, "summary").outputs if "results" in o.metadata]
    assert len(found) == 1, 'the cell `summary` displays one table, with "results" as metadata'
    return found[0].data["text/markdown"], dict(found[0].metadata["results"])


def table_rows(text):
    """The rows of a Markdown table as lists of texts, without its two lines of header."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines[2:]]
    return [[t.strip().replace("\N{NO-BREAK SPACE}", " ") for t in row] for row in rows]


def prose(notebook):
    """The text of all Markdown cells, without what is fenced off as code."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def line_count(cell):
    return len([line for line in cell.source.splitlines() if line.strip()])


def parsed(source):
    return ast.parse(TransformerManager().transform_cell(source))  # magics and all


def readme():
    return (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def saved():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    return notebook


# --- As saved --------------------------------------------------------------------------------


def test_saved_from_one_clean_run(saved):
    code = code_cells(saved)
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), SAVE
    assert not outputs(saved, "error"), SAVE
    assert not [o for o in outputs(saved, "stream") if o.name == "stderr"], SAVE
    assert not [cell.id for cell in code if "execution" in cell.metadata], SAVE
    assert "widgets" not in saved.metadata, SAVE
    assert saved.metadata.language_info == {"name": "python"}, SAVE


def test_saved_format(saved):
    assert (saved.nbformat, saved.nbformat_minor) == (4, 5)
    assert saved.metadata.kernelspec.name == "python3"
    assert NOTEBOOK.stat().st_size < 2_000_000, "2 MB at most: fewer or smaller pictures"


def test_ids_are_telling():
    ids = [cell["id"] for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]]
    assert not {i for i in ids if ids.count(i) > 1}, "give each cell an id of its own"
    bad = [i for i in ids if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", i)]
    assert not bad, "cell ids are lower-case words with dashes between"
    made = [i for i in ids if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}.*)?", i)]
    assert not made, "replace ids that Jupyter made by ones that say what the cell does"


def test_outputs_show_no_paths_addresses_or_warnings(saved):
    texts = [o.get("text", "") for o in outputs(saved)]
    texts += [
        v for o in outputs(saved) for k, v in o.get("data", {}).items() if k.startswith("text/")
    ]
    bad = re.compile(
        r"(/home/|/root/|/tmp/|/work/|\\Users\\|/Users/|object at 0x|<matplotlib|Warning|\r)"
    )
    assert not [text for text in texts if bad.search(text)]
    assert not [o for o in outputs(saved) if any("widget" in k for k in o.get("data", {}))]


def test_every_figure_has_alternative_text(saved):
    pictures = [o for o in outputs(saved) if "image/png" in o.get("data", {})]
    assert len(pictures) > 20
    without = [
        cell.id
        for cell in code_cells(saved)
        for o in cell.outputs
        if "image/png" in o.get("data", {}) and not o.metadata.get("image/png", {}).get("alt")
    ]
    assert not without, "display each figure with alternative text: plots.py has the function"
    assert not re.findall(r"!\[\s*\]\(|<img(?![^>]*\balt=)", prose(saved) + readme())


def test_links_lead_to_headings(saved):
    text = prose(saved)
    anchors = [m.strip().replace(" ", "-") for m in re.findall(r"^#+ (.+)$", text, re.M)]
    anchors = [re.sub(r"[*`]", "", anchor) for anchor in anchors]
    shown = "\n".join(o.get("data", {}).get("text/markdown", "") for o in outputs(saved))
    links = [unquote(m) for m in re.findall(r"(?:\]\(|href=\")#([^)\"]+)", text + shown)]
    assert len(links) >= 8
    assert not [link for link in links if link not in anchors], "links to no heading"
    assert not [link for link in links if anchors.count(link) > 1], "links to two headings"


def test_no_placeholder_is_left(saved):
    pattern = r"WRITE CODE|TODO|FIXME|TBD|XXX|[Pp]laceholder"
    assert not [c.id for c in saved.cells if re.search(pattern, c.source)]
    assert not re.findall(pattern, readme())


# --- One truth: results, the summary's table, the answers on top, README ---------------------


def test_summary_answers_and_results_are_the_same(saved):
    table, results = summary(saved)
    rows = [row for row in table_rows(table) if any(row[1:])]  # a row of one cell is a title
    assert sorted(row[:2] for row in rows) == sorted([k, v[0]] for k, v in results.items())
    wrong = [
        label
        for label, _, *rest in rows
        if not any(f"(#{results[label][1].replace(' ', '-')})" in text for text in rest)
    ]
    assert not wrong, "each row links to the heading that its result names"
    assert cell_of(saved, "answers").source == table, SAVE
    headings = re.findall(r"^#+ (.+)$", prose(saved), re.M)
    assert not {section for _, section in results.values()} - set(headings)


def test_readme_quotes_the_notebook(saved):
    _, results = summary(saved)
    quoted = re.search(r"<!-- results -->\n(.*?)<!-- /results -->", readme(), re.S)
    assert quoted, "README's table stands between <!-- results --> and <!-- /results -->"
    rows = table_rows(quoted[1])
    assert len(rows) >= 5
    unknown = [label for label, _ in rows if label not in results]
    assert not unknown, "README's labels are those of the notebook's results"
    assert rows == [[label, results[label][0]] for label, _ in rows], SAVE


def test_readme_shows_the_staircase(saved):
    pictures = [o.data["image/png"] for o in cell_of(saved, "staircase").outputs if "data" in o]
    assert len(pictures) == 1, SAVE
    assert re.search(r"!\[[^\]]+\]\(docs/staircase\.png\)", readme())
    assert (ROOT / "docs/staircase.png").read_bytes() == base64.b64decode(pictures[0]), SAVE


# --- Sizes -----------------------------------------------------------------------------------


def test_sizes(saved):
    sizes = [line_count(cell) for cell in code_cells(saved)]
    assert sum(sizes) <= CODE_LINES, "say less, or move what only draws to plots.py"
    assert len(sizes) <= CODE_CELLS, "join cells that make one step"
    assert statistics.median(sizes) <= MEDIAN, "split cells that make several steps"


def test_no_cell_is_long(saved):
    def bound(cell):
        is_class = any(isinstance(node, ast.ClassDef) for node in parsed(cell.source).body)
        return CLASS_LINES if is_class else CELL_LINES

    long = {c.id: line_count(c) for c in code_cells(saved) if line_count(c) > bound(c)}
    assert not long, f"at most {CELL_LINES} lines a cell, {CLASS_LINES} with a class: split these"


def test_plots_is_short():
    lines = (ROOT / "plots.py").read_text(encoding="utf-8").splitlines()
    assert len(list(filter(str.strip, lines))) <= PLOTS_LINES, (
        "plots.py holds what the notebook calls, and no options more"
    )


# --- Closed ----------------------------------------------------------------------------------


def ruff(*arguments, **settings):
    command = [sys.executable, "-m", "ruff", *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", **settings)
    return run.returncode, run.stdout + run.stderr


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_ruff(command):
    code, said = ruff(*command, ".")
    assert code == 0, said


def test_definitions_are_closed():
    """Functions use their arguments, other definitions and imports; each is defined once."""
    assert "def " in definition_source(), "no cell has the tag `definitions`"
    rules = "check", "--isolated", "--select", "F821,F811", "--output-format", "concise"
    code, said = ruff(*rules, "--stdin-filename", "definitions.py", "-", input=definition_source())
    assert code == 0, "pass these as arguments, or define them once, in a tagged cell:\n" + said


def bound_names(tree):
    """The global names that a module's code binds: assigned, defined, imported, looped over."""
    names, nodes = set(), [tree]
    inner = ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
            nodes += [n for n in ast.walk(node) if isinstance(n, ast.Global)]
            continue
        if isinstance(node, inner):  # only := binds a name outside
            nodes += [n for n in ast.walk(node) if isinstance(n, ast.NamedExpr)]
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            names.add(node.id)
        elif isinstance(node, ast.Global):
            names.update(node.names)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name.split(".")[0])
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
            names.add(node.name)
        elif isinstance(node, ast.MatchMapping):
            names.add(node.rest)
        nodes += ast.iter_child_nodes(node)
    return names - {None}


def names_of_several_questions(notebook):
    """{name: the "## " headings under which it is bound}, where there are several."""
    heading, where = "(top)", defaultdict(list)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = (re.findall(r"^## +(.+)$", cell.source, re.M) or [heading])[-1]
        elif cell.cell_type == "code":
            for name in bound_names(parsed(cell.source)) - THROW_AWAY:
                where[name] += [heading] if heading not in where[name] else []
    return {name: headings for name, headings in where.items() if len(headings) > 1}


def test_a_global_name_belongs_to_one_question(saved):
    several = names_of_several_questions(saved)
    assert not several, "rename these in one of their questions, so that any cell can run again"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("x = y = 1; z: int = 2; w += 1; v: int", "x y z w v"),
        ("(a, [b, *c]), d.e, f[0] = g", "a b c"),
        ("for i, (j, _) in k:\n    l = i\nelse:\n    m = 1", "i j _ l m"),
        ("with open(f) as g, h as (i, j):\n    k = 1", "g i j k"),
        ("def f(a):\n    b = 1\nclass C:\n    d = 1\nasync def g(): pass", "f C g"),
        ("def f():\n    global counter\n    counter = 1", "f counter"),
        ("x = [i for i in (lambda k: k)(y)]", "x"),
        ("any((last := n) for n in y)", "last"),
        ("import a.b, c as d\nfrom e import f as g, h", "a d g h"),
        ("try:\n    x = 1\nexcept E as e:\n    y = 1\nfinally:\n    z = 1", "x e y z"),
        ("if a:\n    b = 1\nelif c:\n    d = 1\nwhile (e := f()):\n    del g", "b d e g"),
        ("match a:\n    case [b, *c]: pass\n    case {'k': d, **e}: pass", "b c d e"),
        ("%matplotlib inline\nresults['x'] = layer.W = print(y)", ""),
    ],
)  # fmt: skip
def test_names_that_code_binds_are_found(source, names):
    assert bound_names(parsed(source)) == set(names.split())


def test_names_of_two_questions_are_found():
    texts = "# T", "a = 1", "## Q1\n\n### 1.1", "b = a", "b = 2; rng = 1", "## Q2", "def b(): pass"
    kinds = {"#": nbformat.v4.new_markdown_cell}
    cells = [kinds.get(text[0], nbformat.v4.new_code_cell)(text) for text in texts]
    cells += [nbformat.v4.new_code_cell("a = 2; rng = 3; c = 1")]
    found = names_of_several_questions(nbformat.v4.new_notebook(cells=cells))
    assert found == {"a": ["(top)", "Q2"], "b": ["Q1", "Q2"]}


# --- Runs of the whole -----------------------------------------------------------------------

NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[+-]?\d+)?"
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")


def numbers(text):
    """The numbers in an answer as pairs (kind, value)."""
    text = re.sub(r"\s*[×·]\s*10([⁻⁰¹²³⁴-⁹]+)", lambda m: "e" + m[1].translate(SUPERSCRIPTS), text)
    found = []
    for match in re.finditer(rf"(?<![\w.])[-−]?{NUMBER}", text):
        digits, rest = match[0].replace("−", "-"), text[match.end() :]
        if text[: match.start()].endswith(("p = ", "p < ")):
            kind = "choice"  # it says nothing where counts of few images decide
        elif re.match(rf"(\s*(±|–|to|and|of|/)\s*[-−]?{NUMBER})*\s*%", rest):
            kind = "percent"
        elif re.match(r"\s*(ms|µs|s|min|minutes?|seconds?)\b", rest):
            kind = "time"
        elif "e" in digits:
            kind = "power"  # 1.2e-10
        elif "." in digits:
            kind = "decimal"
        else:
            kind = "count" if "," in digits else "choice"  # 1,234 or 3: a class, a setting
        found.append((kind, float(digits.replace(",", ""))))
    return found


def agree(one, other, percent):
    """Whether two numbers (kind, value) agree as far as two machines compute the same."""
    kinds, (small, large) = {one[0], other[0]}, sorted((one[1], other[1]))
    if kinds == {"percent"}:
        return large - small <= percent + 1e-9
    if kinds == {"time"} or kinds == {"choice"}:
        return True
    if kinds <= {"decimal", "choice"}:
        return large - small <= 0.1 * max(abs(small), abs(large))
    if kinds <= {"power", "decimal", "choice"}:  # the order of magnitude, down to rounding errors
        least, most = sorted(max(abs(number), 1e-15) for number in (small, large))
        return small * large >= 0 and most <= 30 * least
    return kinds == {"count"} and small == large


def differences(before, again):
    """What differs by too much between two results {label: [answer, heading]}."""
    found = [label for label in before if label not in again]
    found += [label for label in again if label not in before]
    for label in set(before) & set(again):
        old, new = numbers(before[label][0]), numbers(again[label][0])
        if re.search("hyper-parameters|tuning", label):
            continue  # settings, of which several are as good
        percents = [0.3 if re.search("test|validation", label) else 0.5]
        percents += [5 if "shifted" in label else 0.5] * len(old)  # outside what was learned
        if len(old) != len(new) or not all(map(agree, old, new, percents)):
            found.append(f"{label}: {before[label][0]} before, {again[label][0]} now")
    return found


@pytest.mark.parametrize(
    ("label", "before", "again", "same"),
    [
        ("softmax, test accuracy", "92.52 %", "92.80\N{NO-BREAK SPACE}%", True),
        ("softmax, test accuracy", "92.52 %", "92.85 %", False),
        ("softmax, test accuracy", "92.52 % (91.9 to 93.0 %)", "92.5 % (92.3 to 93.4 %)", True),
        ("softmax, test accuracy", "92.52 % (91.9 to 93.0 %)", "92.5 % (92.5 to 93.0 %)", False),
        ("softmax, training accuracy", "92.52 %", "92.95 %", True),
        ("Softmax: test, from 42,000 images", "92.52 %", "92.85 %", False),
        ("Softmax: validation", "92.52 %", "92.85 %", False),
        ("ConvNet, shifted", "99.40 %, 50.1 %", "99.50 %, 54.8 %", True),
        ("ConvNet, shifted", "99.40 %, 50.1 %", "99.50 %, 55.2 %", False),
        ("MLP tuning", "batch size 64, learning rate 0.5", "batch size 32, learning rate 2", True),
        ("MLP, validation accuracy", "98.03 ± 0.05 %", "98.10 ± 0.40 %", True),
        ("MLP, validation accuracy", "98.03 ± 0.05 %", "98.40 ± 0.05 %", False),
        ("gradients", "1.2e-10", "3.0e-9", True),
        ("gradients", "1.2e-10", "1.2e-8", False),
        ("gradients", "1.2 × 10⁻¹⁰", "1.2 × 10⁻⁸", False),
        ("blur", "6.7e-16", "0.0e+00", True),
        ("blur", "6.7e-16", "0", True),
        ("blur", "6.7e-05", "0.00012", True),
        ("blur", "6.7e-05", "0", False),
        ("filters", "relative error 1.5", "relative error 1.4", True),
        ("filters", "relative error 1.5", "relative error 0.03", False),
        ("gradients", "0, 0.43721, -0.306972", "0, 0.437, -0.307", True),
        ("gradients", "0, 0.43721, -0.306972", "0, 0.437, 0.307", False),
        ("gradients", "2.67216e-07", "-2.67216e-07", False),
        ("gradients", "0", "0.437", False),
        ("p", "86 : 57, p = 0.019", "83 : 60, p = 0.065", True),
        ("p", "597 : 42, p < 0.001", "590 : 44, p < 0.001", True),
        ("weights", "7,840", "7,850", False),
        ("weights", "−7,840", "7,840", False),
        ("time", "12.3 s, 4 ms", "99 s, 0.1 ms", True),
        ("class", "best 1 (97.9 %), worst 8", "best 0 (98.1 %), worst 8", True),
        ("class", "best 1, worst 8", "best 1", False),
        ("class", "best 0, 98.2 %; worst 5, 87.4 %", "best 1, 98.0 %; worst 8, 87.6 %", True),
        ("class", "best 0, 98.2 %; worst 5, 87.4 %", "best 0, 98.2 %; worst 5, 86.4 %", False),
        ("class", "1 to 3 times", "1 to 3 %", False),
    ],
)  # fmt: skip
def test_comparison_of_answers(label, before, again, same):
    found = differences({label: [before, "1.1"]}, {label: [again, "1.1"]})
    assert (not found) == same
    assert differences({label: [before, "1.1"]}, {}) == [label]


def copy_of_repository(folder):
    """A copy of what running needs, but for data/; no cached run, no virtual environment."""
    folder.mkdir(exist_ok=True)
    for name in NOTEBOOK.name, "plots.py", "C0_weights.npy":
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "tools", folder / "tools")
    return folder


def run_offline(root, cwd):
    """Run the notebook of a copy of the repository without a network; the results of build/."""
    names = "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"
    run = run_tool(root=root, cwd=cwd, **dict.fromkeys(names, "http://127.0.0.1:9"))
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-5000:]
    executed = nbformat.read(root / "build" / NOTEBOOK.name, as_version=4)
    assert (root / "build" / NOTEBOOK.name).with_suffix(".html").exists()
    return summary(executed)[1]


@pytest.mark.slow
def test_whole_notebook_reproduces_the_saved_figures(saved, tmp_path):
    """Runs everything in a copy, without a network, from another working directory."""
    root = copy_of_repository(tmp_path / "a folder with spaces")
    archives = shutil.ignore_patterns("*.tar.gz")  # of CIFAR-10: 170 MB
    shutil.copytree(ROOT / "data", root / "data", ignore=archives)
    again = run_offline(root, tmp_path)
    assert not differences(summary(saved)[1], again)
    assert (root / NOTEBOOK.name).read_bytes() == NOTEBOOK.read_bytes()


def write_other_data(folder, names, seed=0):
    """A data set in MNIST's four files: as many kinds of noisy stripes as names, 18x16 pixels."""
    rng = np.random.default_rng(seed)
    row, column = np.indices((18, 16))
    kinds = np.stack([(row * (k + 1) + column * k) % 5 < 2 for k in range(len(names))])
    folder.mkdir()
    for part, count in ("train", 1000), ("t10k", 300):
        labels = rng.integers(0, len(kinds), count).astype(np.uint8)
        images = 120 * kinds[labels] + rng.integers(0, 136, (count, 18, 16))
        for array, name in (images.astype(np.uint8), "images-idx3"), (labels, "labels-idx1"):
            with gzip.open(folder / f"{part}-{name}-ubyte.gz", "wb") as file:
                idx2numpy.convert_to_file(file, array)


def set_variable(notebook, name, value):
    """Write another value behind `NAME = `, which must stand in exactly one place."""
    count = 0
    for cell in code_cells(notebook):
        line = f"{name} = {value}"
        cell.source, n = re.subn(
            rf"^{name} = .*", lambda _, line=line: line, cell.source, flags=re.M
        )
        count += n
    assert count == 1, f"{name} is set in one line of the notebook"


@pytest.mark.slow
def test_every_cell_runs_on_other_data(tmp_path):
    """Other images, sizes and counts in MNIST's format: only folder and class names change."""
    root = copy_of_repository(tmp_path / "copy")
    (root / "data").mkdir()
    shutil.copy(ROOT / "data" / "cifar10_sample.bin", root / "data")
    names = ["level", "steep", "steeper", "almost upright"]
    write_other_data(root / "stripes", names)
    notebook = nbformat.read(root / NOTEBOOK.name, as_version=4)
    set_variable(notebook, "CLASS_NAMES", names)
    set_variable(notebook, "DIGITS", 'Path("stripes")')
    nbformat.write(notebook, root / NOTEBOOK.name)
    results = run_offline(root, tmp_path)
    accuracies = {
        label: numbers(answer)[0][1]
        for label, (answer, _) in results.items()
        if re.search("test, from", label)
    }
    assert len(accuracies) == 4 and min(accuracies.values()) > 90, accuracies
