"""The sheet's 53 items, each with the evidence that a grader must see as saved.

One table, ITEMS: item, section, kind of evidence, and what must be there. Evidence is
looked for in a whole section (its saved prints, answers, tables, alternative texts; its
code or Markdown), so cells may be split, renamed, and moved within it. The failing test
has the item's number. The sheet's own names are pinned; other names, grids, seeds and
words as little as possible. What figures show is held by test_seen_*.py.
"""

import ast
import re
import sys

import pytest
import test_notebook as reading
from load_definitions import ROOT

# What several items ask alike
PERCENT = r"\d+\.\d+ ?%"
CHECKED = r"relative error \d\.\de-(?:0[89]|1\d)$"
LINES = r"(?:.*\n)*"
LOG = (
    rf"^ *epoch .*loss +.*accuracy.*\n(?: *\d+ +\d\.\d+ +{PERCENT} .*{PERCENT}\n){{4}}"
)
CURVES = "loss and accuracy over the epochs, training and validation"
ON_VALIDATION = f"[Aa]ccuracy on the validation set.*{PERCENT}"
ON_TEST = rf"test set: {PERCENT} \(\d.* to \d.*\)"
TUNED = "validation accuracy, and training minus validation"
NAMED = rf"best \S.* with {PERCENT}.*;\s+worst \S.* with {PERCENT}"
TEN = rf"^\| class, test.*\n{LINES}\| accuracy \(%\)(?: \| \d+\.\d\d){{10}} \|$"
LESS_DATA = "test accuracy over the percentage of training data"
LESS = rf"^.* 10% \| 20% \| 50% .*\n{LINES}\| .*test.*(?: \| \d[\d.]+\s±\s[\d.]+){{4}}"

# Patterns; of "text" and "code" they go over lines; of "prints*4" four must be there.
# "check" names a function below.
ITEMS = rf"""
 0  all   check     nothing_learns
 0  top   text      Rishav Saha.*22573
 1  1.1   code      idx2numpy\.convert
 1  1.1   prints    ^42000$
 1  1.1   prints    ^training: .*\(42000, 784\).*\n.*\(18000, 784\).*\n.*\(10000, 784\)
 1  top   text      70%.*at random
 2  1.2   code      def get_minibatch\(.*\byield\b
 2  1.2   prints    ^epoch 1: (\[.*\] \[.*\])\nepoch 2: (?!\1)\[.*\] \[.*\]
 3  1.3   code      class Single_layer_classifier\b.*def __init__\(.*\bstd=1e-3\b
 3  1.7   table     \| σ .*\n{LINES}\| 0\.001 .*{PERCENT}.*\n{LINES}\| Xavier .*%
 4  1.3   code      class Single_layer_classifier\b.*def forward\(self, input_x\)
 5  1.3   code      def backward_Ldata\(self, grad_from_loss\).*backward_Lreg\(self\)
 5  1.3   prints*2  {CHECKED}
 6  1.4   code      def loss_function\(input_y, scores\).*def loss_backward\(.*scores\)
 6  1.4   prints*2  {CHECKED}
 7  1.5   code      def evaluate\(model, part\)
 7  1.5   prints    accuracy {PERCENT}
 8  1.6   code      def train\(.*\bepochs\b.*\blam\b.*-=
 8  1.6   text      W \\leftarrow W - .*sheet.{{,40}}constant
 8  1.4   text      sheet.{{,80}}\bsum\b
 8  top   text      \*mean\*.*\bsum\b.*constant
 9  1.6   prints    {LOG}
10  1.6   figure    {CURVES}
11  1.6   prints    {ON_VALIDATION}
12  1.8   code      \btune\(.*\blam\b
12  1.8   prints    over-fitting.*{PERCENT}.*{PERCENT}.* \d\.\d\d points
12  1.8   check     tuned
13  1.8   figure    {TUNED}
13  1.8   check     tuned
14  1.9   prints    {ON_TEST}
15  1.10  prints    {NAMED}
15  1.10  table     {TEN}
16  1.11  code      \.fit\(.*LinearRegression\(\)
17  1.11  table     training .* test .*\n{LINES}\| ours .*{PERCENT}.*\n{LINES}\| Linear
18  1.12  text*3    ^- [^\n]+
19  1.13  figure    {LESS_DATA}
19  1.13  table     {LESS}
20  2.1   code*3    ^class (?:Add|Multiply|Divide)\b.*?def forward\(.*?def backward\(
20  2.2   code*5    ^class (?:CosPi|SinPi|Tanh|Sigmoid|Log)\b.*?forward\(.*?backward\(
20  2.3   text      \bshape\b
21  2.3   code      class Func\b.*def __init__\(self.*def forward\(self, x, y, z\)
21  2.3   code      def backward\(self, output\b.*return \[.*x.*, .*y.*, .*z.*\]
22  2.4   prints    \(2, 4, 1\).* \[0, 0\.43721\d*, -0\.30697\d*\]
23  2.4   prints    \(9, 14, 3\).* \[0, -1\.14834\d*, 2\.6721\d*e-07\]
24  2.4   prints    \(128, 42, 666\).* \[0, -0\.42245\d*, 0\]
25  2.4   prints    \(52, 14, 28\).* \[0, -0\.42245\d*, 0\]
26  3.1   code      class Linear\b.*__init__\(self, in_.*def forward\(.*def backward\(
26  3.1   prints*3  ^Linear.*{CHECKED}
27  3.1   code      class ReLU\b.*def forward\(.*def backward\(
27  3.1   prints    ^ReLU.*{CHECKED}
28  3.2   code      class MLP\(.*Linear\(.*ReLU\(\)
28  3.2   prints*4  {CHECKED}
29  3.3   code      \bfit\(
29  3.3   prints    {LOG}
30  3.3   figure    {CURVES}
31  3.3   prints    {ON_VALIDATION}
32  3.4   code      \btune\(
32  3.4   figure    {TUNED}
32  3.4   check     tuned
33  3.5   prints    {ON_TEST}
34  3.6   prints    {NAMED}
34  3.6   table     {TEN}
35  3.7   text*3    ^- [^\n]+
36  3.8   figure    {LESS_DATA}
36  3.8   table     {LESS.replace("test", "MLP.*test")}
37  4.3   code      class Convolution_Layer.*filter_size, .*bias=.*stride=.*padding=
37  4.3   code      def __init__\(.*dilation=.*default_rng\(rng\)
38  4.3   code      class Convolution_Layer.*def forward\(.*np\.pad\(.*for .* in
38  4.3   prints*2  difference \de-1\d$
39  4.3   code      class Convolution_Layer.*def backward\(.*return self\.grad_W
39  4.3   prints*2  ^Conv.* W .*{CHECKED}
40  4.3   code      class Convolution_Layer.*def set_weights\(self, new_weights\)
41  all   code      def download_cifar\(.*\bload_cifar\(
41  4.1   prints    images \(1000, 3, 32, 32\)
41  4.1   text      first 1,000 images
42  4.4   code      \.set_weights\(.*gaussian
42  4.4   figure    Gaussian filters
43  4.4   prints    first 5 images.*outputs \(5, 3, 32, 32\)
44  4.4   figure    first 5 images.*input.*blurred
45  4.4   code      replace=False|\.permutation\(
45  4.4   figure    10 random images.*input.*blurred
46  5.2   code      \("C0_weights\.npy".*\.set_weights\(
46  5.2   prints    weights \(20, 3, 5, 5\)
46  5.2   text      C0_weights.*\bours\b
46  5.6   figure    20 filters.*true.*whitened
47  5.2   prints    images \(100, 3, 32, 32\).*outputs \(100, 20, 28, 28\)
48  5.1   code      class L2_loss.*forward\(self, C0_output, C_output\).*output_grad
48  5.1   prints    {CHECKED}
49  5.2   code      \.uniform\(-1, 1\b
50  5.3   code      L2_loss\(\).*\.backward\(.*\.backward\(.*\(Convolution_Layer\)
50  5.3   prints*4  ^ *\d+ +\d+ +\d\.\d+ +\d+ +\d\.\d+$
50  5.5   code      \(Convolution_Layer\)
50  5.5   prints    e[+]0\d\n(?: *\d+ +\S+ +\S+\n){{3,}} *\d+ +\S+ +\S+e-1\d\n(?! *\d)
51  5.5   prints    L2 dist.*whitened \d\.\de-(?:09|1\d)\b
52  all   check     nothing_learns
"""


def nothing_learns(section):
    """No package that does the learning is imported, nothing of ours; data is here."""
    code = "\n".join(cell.source for cell in section.cells)
    modules = set(re.findall(r"^ *(?:from|import) ([\w.]+)", code, re.M))
    allowed = """idx2numpy numpy IPython joblib matplotlib pooch scipy threadpoolctl
        tqdm sklearn sklearn.linear_model sklearn.metrics sklearn.model_selection"""
    roots = {m if m.startswith("sklearn") else m.split(".")[0] for m in modules}
    here = (ROOT / "data/mnist").is_dir() and (ROOT / "C0_weights.npy").is_file()
    return here and roots <= {*allowed.split(), *sys.stdlib_module_names}


def tuned(section):
    """A table of all pairs of a grid {setting: values}, three numbers each; what is
    chosen is 0, or not at its edge, or a step beyond is printed, and is no better."""
    two = r"\d+\.\d\d\s/\s\d+\.\d\d"
    three = rf"(?:\*\*)?{two}<br>[+-]\d+\.\d\d(?:\*\*)?|diverges"
    for header, *rows in reading.tables(section.cells):
        if all(re.fullmatch(three, text) for row in rows for text in row[1:]):
            edges = header[1:], [row[0].replace("= ", "") for row in rows]
            break
    tree = ast.parse("\n".join(cell.source for cell in section.cells))
    dicts = [node for node in ast.walk(tree) if isinstance(node, ast.Dict)]
    grids = [d for d in dicts if all(isinstance(v, ast.List) for v in d.values)]
    values = [[float(text.split()[-1]) for text in edge] for edge in edges]
    if sorted(values) not in [sorted(map(ast.literal_eval, g.values)) for g in grids]:
        return False
    text = reading.printed(section.cells)
    chosen = re.search(r"optimal.*?:\s([^:]*)", text)[1].split(", ")
    if all(c in edges[0][1:-1] + edges[1][1:-1] or c.endswith(" 0") for c in chosen):
        return True
    beyond = re.findall(r"^beyond it.*, (\S+)\s±\s(\S+)$", text, re.M)
    return beyond and all(float(gain) <= 2 * float(error) for gain, error in beyond)


def is_there(section, answers, kind, times, what):
    """Whether a section, with its answers, has the evidence of a row of ITEMS."""
    if kind == "check":
        return globals()[what](section)
    texts = {
        "code": ["\n\n".join(cell.source for cell in section.cells)],
        "text": ["\n\n".join(section.text)],
        "prints": [reading.printed(section.cells), *answers],  # each on a line
        "table": reading.shown(section.cells, "text/markdown"),
        "figure": reading.figures(section.cells),
    }[kind]
    flags = re.M | re.S if kind in ("code", "text") else re.M
    return sum(len(re.findall(what, text, flags)) for text in texts) >= times


@pytest.mark.parametrize("item", range(53))
def test_item(saved, item):
    whole = reading.Section([], reading.code_cells(saved))
    places = reading.sections(saved) | {"all": whole}
    answers = reading.answers(saved)
    for row in ITEMS.strip("\n").split("\n"):
        number, key, kind, what = row.split(maxsplit=3)
        kind, _, times = kind.partition("*")
        if number == str(item):
            told = [f"{a[1]}: {found}" for a, found in answers.items() if a[0] == key]
            there = is_there(places[key], told, kind, int(times or 1), what)
            why = "" if reading.is_fresh(saved) else f"STALE: {reading.SAVE}; "
            assert there, f"{why}section {key}, {kind}: {what}"
