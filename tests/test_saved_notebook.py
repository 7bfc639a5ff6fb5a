"""The saved notebooks and the README. The slow tests run README's first command on
little data, and both whole notebooks, whose texts are compared with what is saved."""

import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from warnings import warn

import papermill
import pytest
from load_definitions import CONVNET, NOTEBOOK, ROOT
from reader import Cells, read_answers, read_notebook, read_sections
from save_run import code_digest, text_shown

README = (ROOT / "README.md").read_text("utf-8")


BOTH = pytest.mark.parametrize("path", [NOTEBOOK, CONVNET], ids=["first", "second"])


@BOTH
def test_a_notebook_was_run_from_top_to_bottom(path):
    """As it is now; without paths, warnings and progress bars. Figures have a text,
    tables HTML."""
    saved = read_notebook(path)
    digest = saved.metadata.get("code_digest")
    assert digest == code_digest(saved), "run it, then tools/save_run.py"
    code = [cell for cell in saved.cells if cell.cell_type == "code"]
    assert [c.execution_count for c in code] == [*range(1, len(code) + 1)]
    traces = r"/(home|root|tmp|Users)/|\\Users\\|object at 0x|Warning|\r"
    for output in Cells(saved.cells).outputs:
        data = output.get("data", {})
        texts = [text for kind, text in data.items() if kind.startswith("text/")]
        for text in [*texts, output.get("text", "")]:
            assert not re.search(traces, text), text
        assert "image/png" not in data or output.metadata["image/png"]["alt"]
        assert not data or {"text/html", "image/png", "text/markdown"} & {*data}
    assert path.stat().st_size < 2_200_000, "the limit of our design"


def test_readme_quotes_numbers_of_page_1(saved):
    """The result in a row of the table is a part of an answer of the row's section; or
    it says below what a number there is, which depends on rounding."""
    rows = re.findall(r"(?m)^\| ([\d.]+) \| .* \| (.*) \|$", README)
    assert rows
    for section, result in rows:
        answers = [a for (n, _), a in read_answers(saved).items() if n == section]
        if bound := re.fullmatch(r"below (\S+) (after .*)", result):
            numbers = re.findall(rf"error (\S+) {bound[2]}", "".join(answers))
            answers = [result for n in numbers if float(n) < float(bound[1])]
        missing = f"row {section}: {result} is not in {answers}"
        assert any(result in a for a in answers), missing


def test_readmes_commands_write_a_run_each():
    runs = re.findall(r"bin/papermill \S+ ([\w/.]+)", README)
    assert runs == ["run.ipynb", "further/run.ipynb"]


BLOCK = r"(?s)```python\n(.*?)```(?:\s*<details>(.*?)</details>)?"  # and its answer
TEXTS = {c.id: c.source for c in read_notebook().cells if "```python" in c.source}


def solved(code, answer):
    """A block; statements in the answer to it replace its line with `...`."""
    statements = re.findall(r"`(return .+?|[\w.]+ = .+?)`", answer)
    lines = "\n".join(r"\1" + statement for statement in statements)
    return re.sub(r"(?m)^( *).*\.\.\..*$", lines, code)


@pytest.mark.parametrize("cell_id", TEXTS)
def test_a_block_runs_with_its_answer(run, cell_id):
    for code, answer in re.findall(BLOCK, TEXTS[cell_id]):
        names = {**run.namespace}
        exec(compile(solved(code, answer), f"<{cell_id}>", "exec"), names)


@pytest.mark.slow
def test_readmes_first_command_fills_in_the_answers(saved, tmp_path):
    """On a fiftieth of MNIST, and without CIFAR-10 and a network."""
    ignore = shutil.ignore_patterns("cifar-10-*")
    shutil.copytree(ROOT / "data", tmp_path / "data", ignore=ignore)
    for file in NOTEBOOK.name, "C0_weights.npy":
        shutil.copy(ROOT / file, tmp_path / file)
    arguments = re.search(r"bin/papermill (.*)", README)[1].split()
    arguments += ["-p", "SHARE", "0.02", "--no-progress-bar"]
    proxies = dict.fromkeys(["http_proxy", "https_proxy"], "http://127.0.0.1:9")
    command = [sys.executable, "-m", "papermill", *arguments]
    subprocess.run(command, cwd=tmp_path, env=os.environ | proxies, check=True)
    answers = read_answers(read_notebook(tmp_path / "run.ipynb"))
    assert answers.keys() == read_answers(saved).keys()


ROUNDING = r"\d(\.\d+)?e-(0[89]|[1-9]\d)"  # 3e-16, say
MEASURED = r"(\d+\.\d\d+)"  # two or more decimals; the rest are settings and counts


def is_same(new, old):
    """The same settings, classes and words, and numbers to their last digit ± 1?"""
    new, old = (re.split(MEASURED, re.sub(ROUNDING, "about 0", t)) for t in (new, old))
    return new[::2] == old[::2] and all(
        abs(float(number) - float(saved)) < 1.5 * 10.0 ** -len(saved.partition(".")[2])
        for number, saved in zip(new[1::2], old[1::2], strict=True)
    )


def is_similar(new, old):
    """As many numbers, and percentages to 0.6 points? Settings and words may differ."""
    new, old = (re.findall(r"(\d[\d.]*(?:e[+-]\d+)?)(%?)", t) for t in (new, old))
    return len(new) == len(old) and all(
        not percent or abs(float(number) - float(saved)) < 0.6
        for (number, _), (saved, percent) in zip(new, old, strict=True)
    )


@pytest.mark.slow
@BOTH
def test_a_full_run_shows_what_is_saved(path, tmp_path, monkeypatch):
    """To the last digit with the same versions and kernels; without CIFAR-10, only
    Questions 1 to 3 and the second notebook are compared."""
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")  # as in CONTRIBUTING.md
    again = papermill.execute_notebook(
        path, tmp_path / "run.ipynb", cwd=ROOT, progress_bar=False
    )
    pins = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    libraries = "numpy", "scipy", "scikit-learn", "pandas"
    has_pins = all(f"{name}=={version(name)}" in pins for name in libraries)
    on_linux = (sys.platform, platform.machine()) == ("linux", "x86_64")
    agree = is_same if has_pins and on_linux else is_similar
    if agree is is_similar:
        warn("not the versions of constraints.txt: only percentages compared", None, 1)
    has_photos = (ROOT / "data/cifar-10-batches-bin").exists()
    sections = read_sections(again)
    for number, section in read_sections(read_notebook(path)).items():
        if path == CONVNET or number[0] in "123" or has_photos:
            for new, old in zip(sections[number].cells, section.cells, strict=True):
                assert agree(text_shown(new), text_shown(old)), f"cell {old.id}"
