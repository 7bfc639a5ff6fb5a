"""The sheet's 53 items, each with the evidence that a grader must see as saved.

ITEMS: item, section, kind of evidence, and what must be there, anywhere in the section,
in as few words as possible. What figures show is held by test_seen_*.py.
"""

import re
import sys

import numpy as np
import pytest
import reading
from load_definitions import ROOT

# What several items ask alike; (?s): prints are wrapped
PERCENT = r"\d+\.\d+ ?%"
CHECKED = r"error.*\de-(?:0[89]|1\d)$"
LOG = r"loss.*accuracy.*\n(?:\D*\n)?(?: *\d+(?:[ %]+\d+\.\d+){3,}[ %]*\n){4}"
NAMED = rf"(?s)best .*{PERCENT}.*worst\s.*{PERCENT}"
LESS = "test & accuracy & percent|share|fraction"
SHARES = r"\b10\b & \b20\b & \b50\b & test"
CONV = "Convolution_Layer(3, 2, 5)"

# "prints", "figure" (alternative texts), "table" (its labels), "says" (here or on page
# 1), "names" (in code): each part, between &, is in one text; with *3 three times.
# "code" is true, with the definitions and what is below.
ITEMS = rf"""
 0  all   code      nothing_learns(cells)
 0  top   says      Rishav Saha & 22573
 1  1.1   prints    ^42000$ & \(42000, 784\) & \(18000, 784\) & \(10000, 784\)
 1  1.1   says      random
 2  1.2   code      sorted(len(y) for _, y in get_minibatch(x, y, 4, 0)) == [2, 4, 4]
 2  1.2   prints    ^epoch 1\b(.*)\nepoch 2\b(?!\1$).*\d
 3  1.3   code      9e-4 < Single_layer_classifier(784, 10, rng=0).W.std() < 1.1e-3
 3  1.7   table     σ & 0\.001 & Xavier & accuracy
 4  1.3   code      Single_layer_classifier(3, 2).forward(x).shape == (10, 2)
 5  1.3   code      Single_layer_classifier(3, 2).backward_Lreg().shape == (3, 2)
 5  1.4   prints*3  {CHECKED}
 6  1.4   prints*3  {CHECKED}
 7  1.5   prints    accuracy.*{PERCENT}
 8  1.6   says      mean & sum & constant
 9  1.6   prints    {LOG}
10  1.6   figure    loss & accuracy
11  1.6   prints    validation.*{PERCENT}
12  1.8   prints    (?s)λ.*training.*{PERCENT}.*validation.*{PERCENT}
13  1.8   figure    validation & minus|difference|gap
13  1.8   code      tuned(cells)
14  1.9   prints    (?s)test.*{PERCENT}
15  1.10  prints    {NAMED}
15  1.10  table*10  accuracy
16  1.11  names     LinearRegression
17  1.11  table     ours & Linear & training & test
18  1.12  says      ### 1\.12.*\n(?:\W*\w+){{20}}
19  1.13  figure    {LESS}
19  1.13  table     {SHARES}
20  2.2   code      Sigmoid().forward(0.0) == 0.5
20  2.2   prints*5  {CHECKED}
21  2.3   code      len((f := Func()).backward(f.forward(2.25, 4, 1))) == 3
22  2.4   prints    \(2, 4, 1\).*\b0(?:\.0*)?, 0\.4372\d*, -0\.30[67]\d*
23  2.4   prints    \(9, 14, 3\).*\b0(?:\.0*)?, -1\.148\d*, 2\.67\d*e-0?7
24  2.4   prints    \(128, 42, 666\).*\b0(?:\.0*)?, -0\.422\d*, 0\b
25  2.4   prints    \(52, 14, 28\).*\b0(?:\.0*)?, -0\.422\d*, 0\b
26  3.1   prints*3  Linear.*{CHECKED}
27  3.1   prints    ReLU.*{CHECKED}
28  3.2   code      MLP(3, 4, 2).forward(x).shape == (10, 2)
28  3.2   prints*4  {CHECKED}
29  3.3   prints    {LOG}
30  3.3   figure    loss & accuracy
31  3.3   prints    validation.*{PERCENT}
32  3.4   figure    validation & minus|difference|gap
32  3.4   code      tuned(cells)
33  3.5   prints    (?s)test.*{PERCENT}
34  3.6   prints    {NAMED}
34  3.6   table*10  accuracy
35  3.7   says      ### 3\.7.*\n(?:\W*\w+){{20}}
36  3.8   figure    {LESS}
36  3.8   table     MLP & {SHARES}
37  4.3   code      {CONV[:-1]}, bias=True, stride=2, padding=1, dilation=2).W.any()
38  4.3   prints    difference.*\de-1\d
39  4.3   code      (c := {CONV}).backward(c.forward(images)).shape == (2, 3, 5, 5)
39  4.3   prints*3  {CHECKED}
40  4.3   code      [c := {CONV}, c.set_weights(c.W + 1), c.W.mean() > 0.5][-1]
41  4.1   prints    \(1000, 3, 32, 32\)
41  4.1   says      1,?000|thousand
42  4.4   figure    Gaussian & filter
43  4.4   prints    \(5, 3, \d\d, \d\d\)
44  4.4   figure    first|five|5 & blurred
45  4.4   figure    random & blurred
46  5.2   prints    \(20, 3, 5, 5\)
46  5.2   says      \bours\b|our own
46  5.6   figure    (?:20|twenty) & true & learned
47  5.2   prints    \(100, 20, 28, 28\)
48  5.1   code      L2_loss().forward(zeros(2), array([3.0, 4.0])) == 5
48  5.1   prints    {CHECKED}
49  5.3   names     uniform
50  5.3   names     (?<!Fast_)Convolution_Layer
50  5.3   prints*5  ^ *\d+0 +\d[\d.]+ +\d\.\d+
50  5.5   prints    (?s)filter error.*\de-1\d
51  5.5   prints    (?si)L2 dist.*\d
52  all   code      nothing_learns(cells)
"""

x, y = np.linspace(-1, 1, 30).reshape(10, 3), np.arange(10) % 3
images = np.ones((1, 3, 8, 8))


def nothing_learns(cells):
    """No package that does the learning is imported, nothing of ours; data is here."""
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    allowed = """idx2numpy numpy pandas IPython joblib matplotlib pooch scipy tqdm
        sklearn.linear_model sklearn.metrics sklearn.model_selection threadpoolctl"""
    modules = re.findall(r"^ *(?:from|import) (sklearn[\w.]*|\w+)", code, re.M)
    here = (ROOT / "data/mnist").is_dir() and (ROOT / "C0_weights.npy").is_file()
    return here and not {*modules} - {*allowed.split()} - sys.stdlib_module_names


def tuned(cells):
    """A table of all pairs of a grid; where the best lies on an edge other than 0, a
    line is printed on a step beyond."""
    kinds = "difference|minus|−", "validation", "training"
    found = {kind: {} for kind in (*kinds, None)}
    for labels, text in max(reading.frames(cells), key=len).items():
        pair = [float(x) for x in labels if re.fullmatch(r"[\d.]+(e-?\d+)?", x)]
        kind = next((k for k in kinds if re.search(k, " ".join(labels))), None)
        mean, *deviation = text.split(" ± ")
        assert deviation or kind != "validation", f"no standard deviation: {text}"
        found[kind][tuple(pair)] = float(mean)
    valid = found["validation"]
    sides = [sorted({*side}) for side in zip(*valid, strict=True)]
    pairs = {(a, b) for a in sides[0] for b in sides[1]}
    lost = [kind for kind in kinds if set(found[kind]) != pairs]
    assert len(pairs) >= 4 and not lost, f"not all pairs of {sides} for {lost}"
    best = max(pairs, key=lambda pair: np.nan_to_num(valid[pair]))
    ends = [x for x, side in zip(best, sides, strict=True) if x in (side[0], side[-1])]
    beyond = re.search(r"beyond.*%|%.*beyond", reading.printed(cells))
    assert beyond or not any(ends), f"{best} is on an edge: print a step beyond"
    return True


@pytest.mark.parametrize("item", range(53))
def test_item(saved, nb, item):
    places = reading.sections(saved)
    rows = [row.split(maxsplit=3) for row in ITEMS.strip("\n").split("\n")]
    for _, key, kind, what in [row for row in rows if row[0] == str(item)]:
        cells = places[key]
        kind, _, least = kind.partition("*")
        if kind == "code":
            names = vars(np) | vars(nb) | globals() | {"cells": cells}
            assert eval(what, names), f"section {key}: {what}"
            continue
        texts = {
            "prints": [reading.printed(cells)],
            "figure": [alt for alt, _ in reading.figures(cells)],
            "table": ["\n".join(map(" ".join, t)) for t in reading.frames(cells)]
            + reading.plain(cells),
            "says": [reading.markdown(places["top"] + cells)],
            "names": [cell.source for cell in cells if cell.cell_type == "code"],
        }[kind]
        parts = [re.compile(part, re.M) for part in what.split(" & ")]
        counts = [min(len(part.findall(text)) for part in parts) for text in texts]
        there = max(counts, default=0) >= int(least or 1)
        assert there, f"section {key} has no {kind} {what}: {texts}"
