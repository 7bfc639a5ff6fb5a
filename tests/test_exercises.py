"""The blocks of Python in the text run where the notebook has run."""

import re

import pytest
from reader import read_notebook

BLOCK = r"(?s)```python\n(.*?)```(?:\s*<details>(.*?)</details>)?"  # and its answer
TEXTS = {c.id: c.source for c in read_notebook().cells if "```python" in c.source}


def solved(code, answer):
    """A block; statements in the answer to it replace its line with `...`."""
    statements = re.findall(r"`(return .+?|[\w.]+ = .+?)`", answer)
    fill = lambda gap: "\n".join(gap[1] + statement for statement in statements)  # noqa: E731
    return re.sub(r"(?m)^( *).*\.\.\..*$", fill, code)


@pytest.mark.parametrize("cell_id", TEXTS)
def test_a_block_runs_with_its_answer(run, cell_id):
    for code, answer in re.findall(BLOCK, TEXTS[cell_id]):
        names = {**run.namespace}
        exec(compile(solved(code, answer), f"<{cell_id}>", "exec"), names)
