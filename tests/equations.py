"""Numeric equations in a text's formulas, worked out as Python."""

import re
from itertools import pairwise

import numpy as np

NUMBER = r"-? *(?:\d+(?:\.\d+)?|\.\d+)"
PYTHON = {  # what LaTeX is in Python, one after the other
    r"(?<!\\)\\[,;:! ]|\\left\b|\\right\b|\{,\}": "",
    r"\(([^()]*,[^()]*)\)": r" matrix([\1])",
    r"\\begin\{pmatrix\}": " matrix([[",
    r"\\end\{pmatrix\}": "]])",
    r"\\\\": "],[",
    "&": ",",
    r"\\frac *(\d)": r"\\frac{\1}",
    r"(\\frac *\{[^{}]*\}) *(\d)": r"\1{\2}",
    r"\\frac *\{([^{}]*)\} *\{([^{}]*)\}": r"((\1)/(\2))",
    rf"\\(log|exp|sqrt|sin|cos|tanh) *({NUMBER})": r"\1(\2)",
    r"\\cdot|\\times|·|×": "*",
    r"\^": "**",
    r"\{": "(",
    r"\}": ")",
    r"\\([a-z]+)": r" \1 ",
    r"([\d)\]]) *(?=[a-zA-Z(])|(\)|\b[a-zA-Z]) +(?=\w)": r"\1\2*",
}
KNOWN = {name: vars(np)[name] for name in ("matrix", "log", "exp", "sqrt", "pi", "e")}


def value(latex, known):
    """The value of a numeric expression with known names, or None if it is none."""
    for way, other in PYTHON.items():
        latex = re.sub(way, other, latex)
    try:
        found = eval(latex.strip(), KNOWN | known | {"__builtins__": {}})
    except Exception:  # Python has many kinds, too
        return None
    return found if isinstance(found, float | int | np.matrix) else None


def half_a_digit(latex):
    """Half a unit of the last digit of a number or vector that is written out, or 0."""
    if not re.fullmatch(rf" *\(?{NUMBER}(?: *, *{NUMBER})*\)? *", latex):
        return 0
    return 0.501 * 10.0 ** -max(map(len, re.findall(r"\.(\d+)", latex)), default=0)


def equations(paragraph):
    """(statement, whether it holds) of each numeric equation in a paragraph.

    What one of them says of a letter, as x = 3 does, the next ones know."""
    known, found = {}, []
    formulas = re.findall(r"\$\$(.+?)\$\$|\$([^$]+)\$", paragraph, re.S)
    text = r"\quad".join(" ".join("".join(formula).split()) for formula in formulas)
    for statement in re.split(r"[,.;]? *\\q?quad|[,.;]$", text.replace("−", "-")):
        sides = re.split(r"=|\\approx\b", statement)
        name = sides[0].strip(" \\")
        worked = [(side, value(side, known)) for side in sides[name.isidentifier() :]]
        worked = [(side, number) for side, number in worked if number is not None]
        known[name] = worked[-1][1] if worked else None
        for (a, left), (b, right) in pairwise(worked):
            share = 0.4 if "approx" in statement else 1e-9
            near = max(half_a_digit(a), half_a_digit(b), share * np.max(np.abs(right)))
            same = np.shape(left) == np.shape(right)
            holds = same and np.max(np.abs(left - right)) <= near
            found.append((statement, bool(holds)))
    return found
