"""How the notebook's results look: texts, tables and figures. Nothing here computes a result."""

import math
import sys
import textwrap

import numpy as np
from IPython.display import Markdown, display
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap
from matplotlib.ticker import LogFormatter
from sklearn.metrics import ConfusionMatrixDisplay
from tqdm import tqdm

BLUE, ORANGE, GREEN, PINK, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"
NAMES = {"lam": "λ", "learning_rate": "learning rate", "batch_size": "batch size"}
plt.rcParams |= {
    "axes.prop_cycle": plt.cycler(color=[BLUE, ORANGE, GREEN, PINK, SKY, "black"])
    + plt.cycler(linestyle=["-", "--", "-.", ":", "-", "--"]),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
    "figure.titlesize": 10,
    "font.size": 10,
    "image.cmap": "gray",
    "legend.fontsize": 9,
    "legend.frameon": False,
}

# Texts and tables


def percent(value, low=None, high=None):
    """A fraction in percent, with its interval if given."""
    interval = "" if low is None else f" ({100 * low:.2f} to {100 * high:.2f})"
    return f"{100 * value:.2f} %{interval}"


def mean_sd(values):
    """Fractions as mean ± sample standard deviation, in percent."""
    return f"{100 * np.mean(values):.2f} ± {100 * np.std(values, ddof=1):.2f} %"


def paired(only_a, only_b, p):
    """McNemar's counts and p."""
    return f"{only_a} : {only_b}, p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"


def numbers(values):
    """Numbers as texts of six digits; no minus zero."""
    return [f"{v + 0:.6g}" for v in values]


def best_and_worst(accuracies, names):
    """The best and the worst class, from their (value, low, high)."""
    values = [value for value, _, _ in accuracies]
    places = ("best", np.argmax(values)), ("worst", np.argmin(values))
    return ", ".join(f"{which} {names[k]}: {percent(values[k])}" for which, k in places)


def table(header, rows, metadata=None):
    """Display a table: the first column left-aligned, the others right-aligned."""
    lines = [header, [":--"] + ["--:"] * (len(header) - 1), *rows]
    text = "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
    display(Markdown(text.replace(" %", "\N{NO-BREAK SPACE}%")), metadata=metadata)


def candidates(grid, fitted, trained):
    """Table of (settings, runs), with the training accuracy of each first seed."""
    rows = []
    for (settings, runs), accuracy in zip(fitted, trained, strict=True):
        valid = [history["valid"][-1][2] for _, history in runs]
        rows.append((*(f"{settings[k]:g}" for k in grid), percent(accuracy), mean_sd(valid)))
    table([*map(NAMES.get, grid), "training, first seed", "validation, all seeds"], rows)


def progress(iterable, label):
    """Wrap an iterable in a one-line bar that disappears when done; no label, no bar."""
    return tqdm(iterable, label, file=sys.stdout, leave=False, disable=label is None, ncols=80)


def download_bar(label):
    """A bar for a download in bytes, of a length that the downloader sets."""
    return tqdm(total=1, desc=label, unit="B", unit_scale=True, file=sys.stdout, leave=False)


# Figures of any question


def show(fig, alt):
    """Display a figure once, with its alternative text, and close it."""
    display(fig, metadata={"image/png": {"alt": alt}})
    plt.close(fig)


class PlainLog(LogFormatter):
    """Labels of a log axis as plain numbers, also between the powers of ten if there is room."""

    def __call__(self, x, pos=None):
        return f"{x:g}" if super().__call__(x, pos) else ""


def log_axis(axis):
    """Make an axis logarithmic, with plain labels."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    for setter in axis.set_major_formatter, axis.set_minor_formatter:
        setter(PlainLog(minor_thresholds=(1.5, 0.5)))


def panels(curves, xlabel, title, xscale="linear"):
    """A panel with a log axis for each {ylabel: {name: (x, y)}}; y (runs, points): mean ± sd."""
    fig, axes = plt.subplots(1, len(curves), figsize=(8, 3.1), squeeze=False)
    for ax, (ylabel, lines) in zip(axes[0], curves.items(), strict=True):
        log_axis(ax.yaxis)
        for name, (x, y) in lines.items():
            y = np.atleast_2d(y)
            mean, sd = y.mean(axis=0), y.std(axis=0, ddof=min(len(y) - 1, 1))
            ax.plot(x, mean, marker="." if len(mean) < 100 else "", label=name)
            ax.fill_between(x, mean - sd, mean + sd, alpha=0.3)
        ax.set(xlabel=xlabel, ylabel=ylabel, xscale=xscale)
        if xscale == "log":
            ax.set_xticks(x, [f"{value:,.0f}" for value in x])
            ax.set_xticks([], minor=True)
    handles, labels = ax.get_legend_handles_labels()
    if len(labels) > 1:
        fig.legend(handles, labels, loc="outside lower center", ncols=4)
    fig.suptitle(title)
    show(fig, f"{title}: {', '.join(curves)} over {xlabel}")


def histories(runs, title):
    """Loss and error over the epochs, for runs (model, history) of several seeds or of one."""
    curves = {"cross-entropy (nats)": {}, "error (%)": {}}
    for part, name in ("train", "training"), ("valid", "validation"):
        epoch, loss, accuracy = np.array([history[part] for _, history in runs]).T
        curves["cross-entropy (nats)"][name] = epoch[:, 0], loss.T
        curves["error (%)"][name] = epoch[:, 0], 100 - 100 * accuracy.T
    panels(curves, "epoch", title)


def images(pictures, alt, titles=(), columns=10, row_names=(), **options):
    """A grid of images (k, H, W) or (k, H, W, 3); alt is its caption too."""
    rows = max(1, math.ceil(len(pictures) / columns))
    height = 8 / columns * pictures.shape[1] / pictures.shape[2] + 0.22 * bool(len(titles))
    fig, axes = plt.subplots(rows, columns, figsize=(8, rows * height + 0.3), squeeze=False)
    for k, ax in enumerate(axes.flat):
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        if k < len(pictures):
            ax.imshow(pictures[k], **options)
        if k < len(titles):
            ax.set_title(titles[k], fontsize=9, pad=2)
    for ax, name in zip(axes[:, 0], row_names, strict=False):
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
    fig.suptitle(alt)
    show(fig, alt)


def templates(rows, titles, shape, alt):
    """{name: W (pixels, k)}: a row of k templates for each, on a colour scale of its own."""
    scaled = [W.T / np.percentile(np.abs(W), 99.5) for W in rows.values()]
    pictures, k = np.concatenate(scaled).reshape(-1, *shape), len(titles)
    alt += ": orange for, purple against, white 0"
    options = {"cmap": "PuOr_r", "vmin": -1, "vmax": 1}
    images(pictures, alt, titles, columns=k, row_names=[*rows], **options)


def mistakes(data, indices, predicted, name):
    """Test images of these indices, each titled true → predicted."""
    x, y = data.test
    pairs = zip(y[indices], predicted, strict=True)
    titles = [f"{data.names[true]} → {data.names[wrong]}" for true, wrong in pairs]
    alt = f"{name}: its {len(titles)} most confident mistakes, true → predicted"
    images(x[indices].reshape(-1, *data.shape), alt, titles)


def heat_maps(accuracies, grid, title):
    """Validation accuracy of each pair, the best framed, and training minus validation."""
    trained, valid = 100 * accuracies
    best, gap = np.unravel_index(np.nanargmax(valid), valid.shape), trained - valid
    highest, widest = np.nanmax(valid), np.nanmax(np.abs(gap))
    fig, axes = plt.subplots(1, 2, figsize=(8.4, 0.42 * len(valid) + 1.3))
    for ax, values, what, cmap, low, high in (
        (axes[0], valid, "validation accuracy (%)", "viridis", highest - 3, highest),
        (axes[1], gap, "training − validation (points)", "PuOr_r", -widest, widest),
    ):
        picture = ax.imshow(values, cmap=cmap, vmin=low, vmax=high, aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            text = "–" if math.isnan(value) else f"{value:.2f}"
            dark = picture.to_rgba(value)[1] < 0.45 and text != "–"
            ax.text(j, i, text, ha="center", va="center", color="white" if dark else "black")
        ylabel, xlabel = map(NAMES.get, grid)
        ax.set(title=what, xlabel=xlabel, ylabel=ylabel)
        for ticks, names in zip((ax.set_yticks, ax.set_xticks), grid.values(), strict=True):
            ticks(range(len(names)), [f"{v:g}" for v in names])
        ax.spines[:].set_visible(False)
    frame = {"fill": False, "edgecolor": ORANGE, "linewidth": 2.5}
    axes[0].add_patch(plt.Rectangle((best[1] - 0.48, best[0] - 0.48), 0.96, 0.96, **frame))
    fig.suptitle(title)
    show(fig, f"{title}: accuracy for each {ylabel} and {xlabel}; the best is framed")


def classes(confusion, accuracies, names, title):
    """Accuracy of each class, (value, low, high), beside the confusion matrix."""
    fig, axes = plt.subplots(1, 2, figsize=(8.4, 3.9), width_ratios=(1, 1.2))
    values, low, high = 100 * np.array(accuracies).T
    axes[0].errorbar(values, names, xerr=(values - low, high - values), fmt="o", capsize=3)
    for k, label, colour in (values.argmax(), "best", GREEN), (values.argmin(), "worst", ORANGE):
        axes[0].plot(values[k], names[k], "o", ms=9, color=colour, zorder=3, label=label)
    axes[0].set(xlabel="accuracy (%), with 95 % interval", ylabel="class")
    axes[0].invert_yaxis()
    axes[0].legend()
    most = 2.5 * max((confusion - np.diag(confusion.diagonal())).max(), 1)
    shown = ConfusionMatrixDisplay(confusion, display_labels=names)
    options = {"cmap": "Oranges", "colorbar": False, "im_kw": {"vmax": most}}
    shown.plot(ax=axes[1], text_kw={"size": 8}, **options)
    axes[1].set(xlabel="predicted", ylabel="true")
    alt = f"{title}: test accuracy of each class, and confusion matrix"
    fig.suptitle(alt)
    show(fig, alt)


def learning_curves(curves, fractions, size):
    """{name: (training, test) accuracies (2, fractions, seeds)}: figure, table, last as a text."""
    x = [f * size for f in fractions]
    errors = {name: (x, 100 - 100 * tested.T) for name, (_, tested) in curves.items()}
    panels({"test error (%)": errors}, "training images", "Less training data, mean ± sd", "log")
    rows = []
    for name, both in curves.items():
        for part, accuracies in zip(("training", "test"), both, strict=True):
            rows.append((f"{name}: {part}", *map(mean_sd, accuracies)))
    table(["accuracy", *(f"{f:.0%} of the data" for f in fractions)], rows)
    return f"{rows[-1][1]} to {rows[-1][-1]}"


# Figures of Questions 2, 4 and 5, and of the last chapter

PLACES = {  # of the inputs, and of the node that computes each edge
    "x": (0, 2.4), "y": (0, 1.75), "half": (0, 0.65), "z": (0, 0), "a": (2.4, 2.4), "h": (1.2, 1.2),
    "b": (2.4, 1.2), "s": (1.2, 0), "d": (2.4, 0), "n": (3.6, 1.8), "u": (4.8, 0.9), "v": (6, 0.9),
    "f": (7.2, 0.9),
}  # fmt: skip
SIGNS = {"CosPi": "cos π·", "SinPi": "sin π·", "Multiply": "×", "Tanh": "tanh", "Add": "+",
         "Divide": "÷", "Sigmoid": "σ", "Log": "log"}  # fmt: skip


def graph(func, title):
    """A Func, after forward and backward: on each edge the value and, below it, the gradient."""
    fig, ax = plt.subplots(figsize=(8, 3.6))
    inputs = {"x": "x", "y": "y", "z": "z", "half": "½"}
    signs = inputs | {name: SIGNS[type(node).__name__] for name, node, _ in func.nodes}
    arrow = {"arrowstyle": "-|>", "color": "0.6", "shrinkA": 15, "shrinkB": 17}
    style = {"ha": "center", "va": "center", "fontsize": 9}
    edges = [(PLACES[r], PLACES[name], r) for name, _, reads in func.nodes for r in reads]
    for start, end, name in [*edges, (PLACES["f"], (8.3, 0.9), "f")]:
        ax.annotate("", end, start, arrowprops=arrow)
        x, y = np.add(start, end) / 2
        for number, above, colour in (func.values, 0.13, BLUE), (func.grads, -0.13, ORANGE):
            text, white = f"{number[name] + 0:.4g}", {"fc": "white", "ec": "none", "pad": 0.5}
            ax.text(x, y + above, text, color=colour, bbox=white, **style)
    for name, sign in signs.items():
        colour = "#FFF3D6" if name in inputs else "#E3EEF7"
        circle = {"boxstyle": "circle", "fc": colour, "ec": "0.5"}
        ax.text(*PLACES[name], sign, bbox=circle, **style)
    ax.set(xlim=(-0.3, 8.4), ylim=(-0.4, 2.8), title=title)
    ax.axis("off")
    show(fig, f"Computational graph of f: {title}")


def geometry(settings, reads, blurred):
    """For each setting: the pixels that are read (1 first, 2 second output, 3 both), and a blur."""
    fig, axes = plt.subplots(2, len(settings), figsize=(8.5, 4.8))
    colours = ListedColormap(["#EEEEEE", BLUE, ORANGE, PINK])
    for (above, below), options, read, blur in zip(axes.T, settings, reads, blurred, strict=True):
        above.pcolormesh(read[::-1], cmap=colours, vmin=0, vmax=3, edgecolors="white")
        above.set(xticks=[], yticks=[], aspect="equal")
        above.set_title(", ".join(f"{k} {v}" for k, v in options.items()) or "stride 1, dilation 1")
        below.imshow(blur)
        below.set(xticks=[], yticks=[], xlabel="32 × 32 → {} × {}".format(*blur.shape))
    handles = [plt.Rectangle((0, 0), 1, 1, color=colours(k)) for k in (1, 2, 3)]
    names = "read for the first output", "for the second", "for both"
    fig.legend(handles, names, loc="outside upper center", ncols=3)
    show(fig, "Pixels that a 3 × 3 filter reads, and a blurred image, for four geometries")


def filters(rows, alt):
    """{name: filters (k, 3, h, w) in [-1, 1]}: a row of k colour images for each, grey for 0."""
    pictures = np.concatenate([*rows.values()]).transpose(0, 2, 3, 1).clip(-1, 1) / 2 + 0.5
    images(pictures, alt, columns=len(pictures) // len(rows), row_names=[*rows])


def bowl(curvatures, paths):
    """Contours of half the sum of curvature times coordinate squared; {name: path (k, 2)}."""
    fig, axes = plt.subplots(1, len(paths), figsize=(8.5, 2.6), sharey=True)
    a, b = np.meshgrid(np.linspace(-11, 11, 200), np.linspace(-3.2, 3.2, 200))
    height = (curvatures[0] * a**2 + curvatures[1] * b**2) / 2
    for ax, (name, path) in zip(axes, paths.items(), strict=True):
        ax.contour(a, b, height, np.geomspace(1, 150, 8), colors="0.8")
        ax.plot(*path.T, marker=".")
        ax.set(title=name, xlabel="a", ylabel="b", xlim=(-11, 11), ylim=(-3.2, 3.2))
    show(fig, f"Paths of gradient descent in a bowl: {', '.join(paths)}")


def staircase(steps):
    """{name: (accuracy, low, high)}: test errors with intervals, falling from left to right."""
    fig, ax = plt.subplots(figsize=(8, 3.6))
    error, high, low = 100 - 100 * np.array([*steps.values()]).T
    x = range(len(steps))
    ax.step(x, error, where="mid", color="0.8")
    ax.errorbar(x, error, (error - low, high - error), fmt="o", capsize=5)
    for k in x:
        ax.annotate(f"{error[k]:.2f} %", (k, error[k]), (9, 5), textcoords="offset points")
    log_axis(ax.yaxis)
    ax.set_xticks(x, [textwrap.fill(name, 16) for name in steps])
    title = "Test error, with 95 % intervals"
    ax.set(ylabel="test error (%)", xlim=(-0.3, len(steps) - 0.3), title=title)
    show(fig, f"{title}: {', '.join(steps)}")


def methods(histories):
    """{name: (passes + 1, 2)}: distance of the outputs, and error of the filters."""
    curves = {"L2 distance of the outputs": {}, "relative error of the filters": {}}
    for name, history in histories.items():
        for lines, values in zip(curves.values(), history.T, strict=True):
            lines[name] = range(len(values)), values
    panels(curves, "passes over the images", "Learning the filters")


def methods_table(histories):
    """Table of passes, last distance and last error; returns these two as texts {name: text}."""
    rows = [(n, len(h) - 1 or "", *(f"{end:.2g}" for end in h[-1])) for n, h in histories.items()]
    table(["", "passes", "L2 distance of the outputs", "relative error of the filters"], rows)
    return {name: f"distance {distance}, error {error}" for name, _, distance, error in rows}
