"""Every MNIST test accuracy that a committed version of the notebook has shown: a CSV.

python benchmarks/test_openings.py

Read from the saved outputs in the git history, oldest version first; one row for each
distinct model, settings, images and figure (in %), with the first version. What
was shown only as a curve (test error against shift) or in words ("more than ten
points") has no row. "split 1", "split 2": different draws of the 42,000 images.
"""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = "DLCV_Assignment1.ipynb"
HEADER = "commit", "date", "model", "settings", "images trained on", "figure", "note"
WIDE = "MLP on distorted digits"
MODELS = {"q1": "softmax", "q3": "MLP", "further": WIDE}  # by the start of a cell's id


def git(*arguments):
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def check_history():
    """Leave, and say so, where there is no whole history to read."""
    try:
        top = Path(git("rev-parse", "--show-toplevel").strip()).resolve()
        shallow = git("rev-parse", "--is-shallow-repository").strip() == "true"
    except (OSError, subprocess.CalledProcessError):
        sys.exit("No git or no git history here: the CSV stays as it is.")
    if shallow:
        sys.exit("Shallow history (git fetch --unshallow): the CSV stays as it is.")
    if top != ROOT or not git("log", "-1", "--format=%h", "--", NOTEBOOK):
        sys.exit(f"The history here is not {NOTEBOOK}'s: the CSV stays as it is.")


def versions():
    """(commit, date, notebook) of each version, oldest first."""
    date = "--date=format:%Y-%m-%d %H:%M"
    options = "--reverse", "--format=%h %ad", "--diff-filter=AM"
    for line in git("log", date, *options, "--", NOTEBOOK).splitlines():
        commit, date = line.split(" ", 1)
        yield commit, date, json.loads(git("show", f"{commit}:{NOTEBOOK}"))


def tables(notebook):
    """(cell's id, header, rows) of each table in the saved outputs."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            text = "".join(output.get("data", {}).get("text/markdown", ""))
            lines = [line for line in text.splitlines() if line.startswith("|")]
            rows = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
            if len(rows) > 2:
                yield cell.get("id", ""), rows[0], rows[2:]


def found(pattern, text, default="not shown"):
    match = re.search(pattern, text, re.DOTALL)
    return match[1] if match else default


def source(notebook, kind):
    cells = (cell for cell in notebook["cells"] if cell["cell_type"] == kind)
    return "\n".join("".join(cell["source"]) for cell in cells)


def chosen(notebook, first, second):
    """What the best row of a table of candidates has in its first two columns."""
    for _, header, rows in tables(notebook):
        if header[:2] == [first, second]:
            return rows[0][:2]
    return ["not shown"] * 2


class Version:
    """What one version's code and tables say of the models' settings."""

    def __init__(self, notebook, splits):
        self.notebook = notebook
        self.prose, self.code = source(notebook, "markdown"), source(notebook, "code")
        zeros = self.training_zeros()
        self.split = splits.setdefault(zeros, f"split {len(splits)}")
        self.lam, self.rate = chosen(notebook, "λ", "learning rate")
        self.epochs, self.batch = self.budget()
        # Whose is the chosen model: since the third edition, the first fresh seed's.
        self.seed = found(r"def fit_leaders\([^)]*seeds=\((\d+)", self.code, "0")
        self.settings = {
            "softmax": self.softmax(), "MLP": self.mlp(), WIDE: self.wide(),
            "ConvNet": self.convnet(),
        }  # fmt: skip

    def training_zeros(self):  # how many there are: it tells the splits apart
        for cell_id, _, rows in tables(self.notebook):
            if cell_id in ("q1-counts", "q1-samples"):
                return rows[0][1].replace(",", "")
        return None

    def budget(self):
        early = r"epochs, batch_size = (\d+), (\d+)"
        late = r"softmax_budget = .*?(\d+).*?(\d+)}"
        match = re.search(f"{early}|{late}", self.code)
        return [g for g in match.groups() if g] if match else ["not shown"] * 2

    def softmax(self, epochs=None):
        batches = f"batches of {self.batch}, rate {self.rate}"
        return f"{epochs or self.epochs} epochs, {batches}, λ {self.lam}"

    def mlp(self, epochs=None):
        batch, rate = chosen(self.notebook, "batch size", "learning rate")
        units = found(r"HIDDEN = (\d+)", self.code)
        first = r'mlp_(?:settings|budget) = {"epochs": (\d+)'
        later = r'fit_seeds\(new_mlp[^)]*epochs=(\d+)|\nbudget = {"epochs": (\d+)'
        if epochs is None:
            match = re.search(first + "|" + later, self.code)
            epochs = next(g for g in match.groups() if g) if match else "not shown"
        lam = found(r"mlp_lam = \([^=]*\), (\S+)\n", self.code, self.lam)
        batches = f"batches of {batch}, rate {rate}"
        lam = lam if lam == "not shown" else f"{float(lam):g}"
        return f"{units} hidden units, {epochs} epochs, {batches}, λ {lam}"

    def wide(self):
        text = found(r"wide_settings = {(.*?)}", self.code, "")
        epochs = found(r"EPOCHS = (\d+)", self.code)
        epochs = found(r"epochs.: (\d+)", text, epochs)
        units = found(r"MLP(?:\(|, )PIXELS, (\d+)", self.code)
        budget = f"{epochs} epochs, {batch_and_rate(text)}"
        return f"distorted, {units} hidden units, {budget}, λ 0"

    def convnet(self, epochs=None):
        text = found(r"convnet_settings = {(.*?)}", self.code, "")
        epochs = epochs or found(r"epochs.: (\d+)", text)
        return f"distorted, {epochs} epochs, {batch_and_rate(text)}, λ 0"

    def row(self, model, images, figure, settings=None, note=None, **more):
        """model, settings, images, figure, note; a split matters if not all train."""
        images = int(str(images).replace(",", ""))
        settings = settings or self.settings[model]
        if images != 60000:
            settings += f", {self.split}"
        if note is None:
            note = f"seed {0 if model in (WIDE, 'ConvNet') else self.seed}"
        figure = found(r"([\d.]+)", figure)
        return more.get("name", model), settings, images, figure, note


def batch_and_rate(text):
    batch = found(r"batch_size.: (\d+)", text)
    rate = found(r"learning_rate.: ([\d.]+)", text)
    return f"batches of {batch}, rate {rate}"


def report_rows(v):
    """Of the tables of the chosen models: from 42,000 and from 60,000 images."""
    for cell_id, _, rows in tables(v.notebook):
        for label, *values in rows:
            pattern = r"(?:\w+ )?test, (?:.*trained on|from)(?: all)? ([\d,]+)"
            match = re.match(pattern, label)
            if match and cell_id.partition("-")[0] in MODELS:
                yield v.row(MODELS[cell_id.partition("-")[0]], match[1], values[0])


def report_answers(v):
    """Of the summary since the third edition: one test accuracy for each question."""
    for item, answer in answers(v.notebook):
        if item.endswith("Report final performance on MNIST test set"):
            model = MODELS[item.partition(":")[0].lower()]
            yield v.row(model, 42000, answer)


def scikit_rows(v):
    """Of the comparison with scikit-learn."""
    arguments = found(r"LogisticRegression\((C=[^)]*)\)", v.code)
    arguments = re.sub(r"C=\w+", f"C=1/(2λN) for λ {v.lam}", arguments)
    for _, header, rows in tables(v.notebook):
        if header[1:4] != ["training", "validation", "test"] or "%" not in rows[0][3]:
            continue
        for name, *values in rows:
            if name.startswith("ours"):
                settings = v.softmax(found(r"(\d+) epochs", name, ""))
                yield v.row("softmax", 42000, values[2], settings)
            else:
                settings = arguments if name.startswith("Log") else "the defaults"
                yield v.row(name, 42000, values[2], settings, "no seed")


def less_data_rows(v):
    """Of the bonus: means over seeds, from parts of the training set."""
    fixed_updates = "updates is held fixed" in v.code
    shorter = found(r'shorter = mlp_settings \| {"epochs": (\d+)}', v.code, "")
    five = re.search(r"learning_curve\(new_softmax, softmax_settings, 5", v.code)
    for cell_id, header, rows in tables(v.notebook):
        if not cell_id.endswith("-bonus"):
            continue
        for name, *values in rows:
            if header[0] != "test accuracy" and not name.endswith(": test"):
                continue
            model = "MLP" if name.startswith("MLP") else "softmax"
            settings = v.mlp(shorter or None) if model == "MLP" else v.softmax()
            if fixed_updates:
                settings += ", as many updates for fewer images"
            elif "λ fixed" not in name:
                settings += " at 42,000, growing as 1/N"
            else:
                settings += " for any number of images"
            seeds = 5 if five and model == "softmax" else 3
            for title, value in zip(header[1:], values, strict=True):
                images = 42000 * int(found(r"(\d+)\s?%", title)) // 100
                note = f"mean of {seeds} seeds, sd {found(r'± ([0-9.]+)', value)}"
                yield v.row(model, images, value, settings, note)


def class_rows(v):
    """Best and worst class, on its own test images."""
    for cell_id, header, rows in tables(v.notebook):
        if header[1:] == ["label", "test accuracy"]:
            model = MODELS[cell_id.partition("-")[0]]
            for which, label, value in rows:
                name = f"{model}, {which} class: {label}"
                yield v.row(model, 42000, value, name=name)
    for item, answer in answers(v.notebook):
        pattern = r"(best) (\S+?)[,:] ([\d.]+) %.*(worst) (\S+?)[,:] ([\d.]+) %"
        match = re.match(pattern, answer)
        if match:
            model = "MLP" if item.startswith(("3.", "MLP", "Q3")) else "softmax"
            for which, label, value in (match.groups()[:3], match.groups()[3:]):
                name = f"{model}, {which} class: {label}"
                yield v.row(model, 42000, value, name=name)


def answers(notebook):
    """(item, answer) of the summary, from its metadata."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            results = output.get("metadata", {}).get("results", {})
            for item, answer in results.items():
                if isinstance(answer, dict):  # since the third edition
                    yield item, answer["text"]
                elif isinstance(answer, list):
                    yield item, answer[0]


def further_rows(v):
    """Of the staircase and of the shifted digits, and what only the prose has."""
    for item, answer in answers(v.notebook):
        item = item.removeprefix("Further: ")
        if item == "The same MLP and ConvNet, test set":
            for name, value in re.findall(r"(MLP|ConvNet) ([\d.]+) %", answer):
                yield v.row("ConvNet" if name == "ConvNet" else WIDE, 42000, value)
        if item in ("Distorted digits, MLP, test", "ConvNet, test"):
            yield v.row("ConvNet" if item.startswith("Conv") else WIDE, 42000, answer)
        pattern = r"ConvNet,(?: test images)? shifted by ([\d, ]+) pixels"
        shifts = found(pattern, item, "")
        for shift, value in zip(shifts.split(", "), answer.split(", "), strict=False):
            if shift:
                name = f"ConvNet, test images shifted by {shift} pixels"
                yield v.row("ConvNet", 42000, value, name=name)
    match = re.search(r"for the ConvNet after (\d+) epochs, ([\d.]+) %", v.prose)
    if match:
        note = "in the prose only; settings but for the epochs are that version's"
        yield v.row("ConvNet", 42000, match[2], v.convnet(match[1]), note)
    if re.search(r"at six pixels it errs on .*?the MLP on more than a third", v.prose):
        note = "in the prose only, as an error of more than a third: an upper bound"
        name = f"{WIDE}, test images shifted by 6 pixels"
        yield v.row(WIDE, 42000, "66.7", note=note, name=name)


KINDS = (
    report_rows, report_answers, scikit_rows, less_data_rows, class_rows, further_rows,
)  # fmt: skip


def main():
    check_history()
    rows, seen, splits = [], set(), {None: "split not shown"}
    for commit, date, notebook in versions():
        v, shown, new = Version(notebook, splits), 0, 0
        for kind in KINDS:
            for row in kind(v):
                shown += 1
                if row[:4] not in seen:
                    seen.add(row[:4])
                    rows.append((commit, date, *row))
                    new += 1
        print(f"{commit} {date}: {shown} figures, {new} new")
    table = Path(__file__).resolve().with_suffix(".csv")
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADER, *rows])


if __name__ == "__main__":
    main()
