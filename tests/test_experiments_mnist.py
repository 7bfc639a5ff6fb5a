"""Questions 1 and 3: what is trained, chosen, tested and reported, worked out again."""

import itertools
import math
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
from references import accuracy_of, loss_of, paired_difference, wilson_interval
from saved_notebook import read_numbers
from scipy.special import softmax
from small_run import assert_reported

Sections = namedtuple("Sections", "first tuning test classes bonus")
SECTIONS = {
    "softmax": Sections("1.6", "1.8", "1.9", "1.10", "1.13"),
    "mlp": Sections("3.3", "3.4", "3.5", "3.6", "3.8"),
}


@pytest.fixture(params=["softmax", "mlp"])
def question(request, ns):
    """Results of Question 1 or 3: question.runs is softmax_runs or mlp_runs, …"""
    prefix = f"{request.param}_"
    names = [name for name in vars(ns) if name.startswith(prefix)]
    results = {name.removeprefix(prefix): getattr(ns, name) for name in names}
    return SimpleNamespace(
        **results,
        make_model=getattr(ns, f"make_{request.param}"),
        sections=SECTIONS[request.param],
    )


def accuracy(model, dataset):
    return accuracy_of(model.forward(dataset.x), dataset.y)


def mean_and_std(values):
    values = np.array(values, dtype=float)
    return values.mean(), values.std(ddof=1)


def assert_fit(run, model, **settings):
    """Assert that a model was trained on all training images, with these settings."""
    arguments = run.fit_of(model)
    assert arguments["train"] is run.names.train
    assert arguments["batches"] is None  # get_minibatch
    assert {name: arguments[name] for name in settings} == settings


# The loop of section 1.6, first runs, and initial weights


def test_the_bare_loop_takes_the_sheets_steps(run, ns):
    """The sum over each mini-batch, a constant rate, the penalty of the first run."""
    W, lam = ns.snapshots[0].astype(float), ns.softmax_guess["lam"]
    step = 0
    for epoch in run.calls_of("get_minibatch", "q1-growing"):
        for x, y in ns.get_minibatch(**epoch.arguments):
            if step in ns.snapshots:
                np.testing.assert_allclose(ns.snapshots[step], W, atol=3e-6)
                assert_reported(run.lines["1.6"], step, loss_of(x @ W, y))
            G = softmax(x @ W, axis=1) - np.eye(10)[y]
            W = W - ns.alpha * (x.T @ G + lam * 2 * W)
            step += 1
    np.testing.assert_allclose(ns.classifier.W, W, atol=3e-6)
    assert_reported(run.lines["1.6"], step, accuracy(ns.classifier, ns.validation))


def test_templates_are_the_weights_after_their_number_of_steps(run, ns):
    arguments = run.images("q1-growing-figure")
    assert arguments["column_labels"] == ns.CLASS_NAMES
    rows = arguments["images"].reshape(-1, 10, 784)
    for templates, label in zip(rows, arguments["row_labels"], strict=True):
        step, full_colour = read_numbers(label)
        weights = ns.snapshots[int(step)].T
        scale = np.abs(weights).max() / np.abs(templates).max()
        assert full_colour == pytest.approx(scale, rel=0.06)  # two digits
        np.testing.assert_allclose(scale * templates, weights, rtol=1e-4)


def test_first_run(run, ns, question):
    model, lines = question.first_run.model, run.lines[question.sections.first]
    assert_fit(run, model, make_model=question.make_model, **question.guess)
    finals = [line for line in lines if line.startswith("validation accuracy")]
    assert_reported(finals, accuracy(model, ns.validation))
    for epoch, values in question.first_run.log[1::2].iterrows():  # 2, 4, …
        assert_reported(lines, epoch, *values)


def test_the_total_loss_is_the_sum_of_loss_and_penalty(run, ns):
    W = ns.softmax_first_run.model.W.astype(float)
    loss, penalty = loss_of(ns.train.x @ W, ns.train.y), 1e-4 * np.sum(W**2)
    (line,) = [line for line in run.lines["1.6"] if "total" in line]
    assert_reported([line], loss, penalty, loss + penalty)


def test_logs_of_the_first_and_the_chosen_run_are_plotted(run, question):
    for section, log in (
        (question.sections.first, question.first_run.log),
        (question.sections.test, question.runs["log"].iloc[0]),
    ):
        plotted = [c.arguments["log"] for c in run.calls_of("show_log", section)]
        assert any(log is other for other in plotted), section


def test_table_and_answer_of_initial_weights(run, ns):
    """The runs differ in the standard deviation; the initial loss is that of untrained
    models."""
    reported = []
    for (name, row), fitted in zip(ns.init_table.iterrows(), ns.init_runs, strict=True):
        assert_fit(run, fitted.model, **ns.softmax_guess)
        W = run.fit_of(fitted.model)["make_model"](rng=0).W
        std = math.sqrt(2 / (784 + 10)) if "Xavier" in name else float(name)
        unit_weights = ns.make_softmax(rng=0, std=1).W
        np.testing.assert_allclose(W, std * unit_weights, rtol=1e-5)
        epochs = [n for name in row.index for n in read_numbers(name)]
        assert len(epochs) == 3 and epochs[-1] == len(fitted.log)
        validation = fitted.log["validation accuracy"][epochs]
        initial_loss = loss_of(ns.train.x @ W, ns.train.y)
        assert [*row] == pytest.approx([*validation, initial_loss], rel=1e-4)
        reported += [name.split()[0], accuracy(fitted.model, ns.validation)]
    assert_reported(run.answers("1.7"), *reported)


# Tuning


def test_the_mlp_has_the_penalty_of_question_1(ns):
    assert ns.mlp_fixed["lam"] == ns.softmax_settings["lam"]


def test_every_pair_of_the_grid_is_trained_from_the_same_three_seeds(question):
    seeds = sorted({*question.trials["seed"]})
    assert len(seeds) == 3
    pairs = itertools.product(*question.grid.values(), seeds)
    columns = [*question.grid, "seed"]
    trials = question.trials[columns].itertuples(index=False, name=None)
    assert sorted(trials) == sorted(pairs)


def test_trials_are_fits_with_the_settings_of_their_row(run, ns, question):
    for _, row in question.trials.iterrows():
        settings = {name: row[name] for name in (*question.grid, "seed")}
        settings |= question.fixed | {"make_model": question.make_model}
        assert_fit(run, row["model"], **settings)
        for name, dataset in ("train", ns.train), ("validation", ns.validation):
            measured = row[f"{name}_accuracy"]
            assert measured == pytest.approx(accuracy(row["model"], dataset))


def test_the_best_pair_on_the_validation_set_is_chosen(question):
    groups = question.trials.groupby(list(question.grid))["validation_accuracy"]
    means = {pair: np.mean(values.to_numpy()) for pair, values in groups}
    chosen = tuple(question.best[name] for name in question.grid)
    assert means[chosen] == np.nanmax(list(means.values()))
    for name, value in question.best.items():
        assert question.runs[name].tolist() == 3 * [value]
    assert question.settings == question.fixed | question.best


def test_the_chosen_pair_is_reported_with_its_accuracies(run, question):
    validation = mean_and_std(question.runs["validation_accuracy"])
    train = mean_and_std(question.runs["train_accuracy"])
    values = [*question.best.values(), *validation, *train]
    values += [train[0] - validation[0], 100 - train[0], 100 - validation[0]]
    assert_reported(run.answers(question.sections.tuning), *values)


def test_the_pair_beyond_the_grid(run, ns):
    """Both values halved; the seed of the first chosen run, for comparison."""
    chosen = ns.mlp_runs.iloc[0]
    halved = {name: value / 2 for name, value in ns.mlp_best.items()}
    settings = ns.mlp_settings | halved | {"seed": chosen["seed"]}
    assert_fit(run, ns.beyond_run.model, make_model=ns.make_mlp, **settings)
    for values, model in (ns.mlp_best, chosen["model"]), (halved, ns.beyond_run.model):
        percentage = accuracy(model, ns.validation)
        assert_reported(run.lines["3.4"], *values.values(), percentage)


# Test accuracy, and classes


def test_the_first_chosen_run_is_evaluated_on_the_test_set(run, ns, question):
    assert question.model is question.runs["model"].iloc[0]
    predictions = question.model.forward(ns.test.x).argmax(axis=1)
    np.testing.assert_array_equal(question.predictions, predictions)
    np.testing.assert_array_equal(question.correct, predictions == ns.test.y)
    accuracies = wilson_interval(question.correct)
    accuracies += (accuracy(question.model, ns.validation),)
    accuracies += mean_and_std(question.runs["validation_accuracy"])
    assert_reported(run.answers(question.sections.test), *accuracies)


def test_the_paired_difference_of_both_models(run, ns):
    difference = paired_difference(ns.mlp_correct, ns.softmax_correct)
    assert_reported(run.lines["3.5"], *difference)


def test_best_and_worst_class(run, ns, question):
    """And what the worst class is most often mistaken for."""
    (answer,) = run.answers(question.sections.classes)
    correct = [question.correct[ns.test.y == k] for k in range(10)]
    accuracies = [np.mean(c) for c in correct]
    best, worst = np.argmax(accuracies), np.argmin(accuracies)
    intervals = wilson_interval(correct[best]), wilson_interval(correct[worst])
    assert_reported([answer], best, *intervals[0], worst, *intervals[1])
    mistakes = question.predictions[(ns.test.y == worst) & ~question.correct]
    counts = np.bincount(mistakes)
    lines = run.lines[question.sections.classes]
    assert_reported(lines, worst, counts.argmax(), counts.max())


def test_table_of_classes(run, ns, question):
    (call,) = run.calls_of("show_table", question.sections.classes)
    table = call.arguments["table"]
    rows = table.loc[["accuracy (%)", "95% CI low", "95% CI high"]]
    for k, name in enumerate(ns.CLASS_NAMES):
        interval = wilson_interval(question.correct[ns.test.y == k])
        assert rows[name].tolist() == pytest.approx(interval), f"class {name}"


def test_the_confusion_matrix_counts_test_images(run, ns):
    """The true class is the row, the predicted class the column."""
    expected = np.zeros((10, 10), int)
    np.add.at(expected, (ns.test.y, ns.softmax_predictions), 1)
    ax = run.figure("q1-confusion").axes[0]
    texts = sorted(ax.texts, key=lambda text: text.get_position()[::-1])
    counts = [int(text.get_text()) for text in texts]
    np.testing.assert_array_equal(np.reshape(counts, (10, 10)), expected)
    assert "predicted" in ax.get_xlabel() and ax.yaxis_inverted()


# scikit-learn


def test_linear_regression_has_no_gradient_left(ns):
    """The squared error on the training images is minimal."""
    x, y = ns.train
    for model, target in (ns.digit_model, y), (ns.one_hot_model, np.eye(10)[y]):
        residual = model.predict(x) - target
        assert np.linalg.norm(x.T @ residual) < 0.01 * np.linalg.norm(x.T @ target)


def test_logistic_regression_has_no_gradient_left(ns):
    """Our own objective, with the chosen λ and without biases, is minimal."""
    x, y = ns.train
    W, lam = ns.logistic.coef_.T, ns.softmax_settings["lam"]
    gradient = x.T @ (softmax(x @ W, axis=1) - np.eye(10)[y]) / len(y) + 2 * lam * W
    assert np.abs(gradient).max() < 2e-4
    expected_C = 1 / (2 * lam * len(y)) if lam else math.inf
    assert math.isclose(ns.logistic.C, expected_C)
    assert not ns.logistic.intercept_.any()


def test_accuracies_beside_scikit_learn(run, ns):
    (answer,) = run.answers("1.11")
    ours, rounded, one_hot, logistic, *_ = answer.split("<br>")
    for column, (x, y) in enumerate((ns.train, ns.test)):
        digits = ns.digit_model.predict(x)[:, None]
        for line, scores in (
            (ours, x @ ns.softmax_model.W),
            (rounded, -np.abs(digits - np.arange(10))),  # the nearest digit wins
            (one_hot, ns.one_hot_model.predict(x)),
            (logistic, x @ ns.logistic.coef_.T),
        ):
            reported = read_numbers(line)[column]
            assert reported == pytest.approx(accuracy_of(scores, y), abs=0.006), line
    assert "rounded" in rounded and "one-hot" in one_hot and "Logistic" in logistic


# Less training data, and one digit


def test_smaller_sets_have_the_chosen_settings_and_a_larger_lambda(run, ns, question):
    """And random images, not those at the start of the file."""
    first_images = set()
    smaller = question.subsets[question.subsets["percentage"] < 100]
    for _, row in smaller.iterrows():
        lam = pytest.approx(question.settings["lam"] * 100 / row["percentage"])
        expected = question.settings | {"lam": lam, "make_model": question.make_model}
        arguments = run.fit_of(row["model"])
        assert {name: arguments[name] for name in expected} == expected
        x = arguments["train"].x
        assert len(np.unique(x, axis=0)) == len(ns.train.x) * row["percentage"] // 100
        first_images.add(x[0].tobytes())
    assert len(first_images) > 1


def test_all_training_data_means_the_chosen_runs(question):
    full = question.subsets[question.subsets["percentage"] == 100]
    assert full["model"].tolist() == question.runs["model"].tolist()


def test_accuracy_by_percentage_is_measured_on_the_test_set(run, ns, question):
    reported = []
    for percentage, trials in question.subsets.groupby("percentage"):
        accuracies = [accuracy(model, ns.test) for model in trials["model"]]
        assert trials["test_accuracy"].tolist() == pytest.approx(accuracies)
        reported += [percentage, np.mean(accuracies)]
    assert_reported(run.answers(question.sections.bonus), *reported)


def test_one_digit_forward_and_backward(run, ns):
    """The nearest mistake: its title is correct, and each panel has the array or
    the gradient that its own title names."""
    (first, _, second), (x, y) = ns.mlp_model.layers, ns.validation
    p = softmax(ns.mlp_model.forward(x), axis=1)
    p_true = p[np.arange(len(y)), y]
    is_wrong = p.argmax(axis=1) != y
    k = np.argmax(np.where(is_wrong, p_true, -1))
    x, p, Y = x[k], p[k], np.eye(10)[y[k]]
    a = x @ first.W + first.b
    h = np.maximum(a, 0)
    grad_h = second.W @ (p - Y)
    grad_a = grad_h * (a > 0)
    expected = {"x": x, "a": a, "h": h, "s": h @ second.W + second.b, "p": p}
    expected |= {"∂L/∂x": first.W @ grad_a, "∂L/∂a": grad_a, "∂L/∂h": grad_h}
    expected |= {"∂L/∂s": p - Y, "∂L/∂p": -Y / p}

    fig = run.figure("q3-digit")
    assert_reported([fig.get_suptitle()], y[k], p.argmax(), -math.log(p_true[k]))
    for ax in fig.axes:
        symbol = ax.get_title().split("\n")[-1].split(" = ")[0]
        bars = [bar.get_width() for bar in ax.patches]
        array = np.ravel(bars or ax.images[0].get_array())
        array = array[np.isfinite(array)]  # a square may have empty places
        np.testing.assert_allclose(array, expected.pop(symbol), rtol=1e-3, atol=1e-5)
        assert ax.images or ax.yaxis_inverted()  # class 0 is on top
    assert not expected


def test_orange_is_positive_in_the_figure_of_one_digit(run):
    for ax in run.figure("q3-digit").axes:
        for bar in ax.patches:
            red, _, blue, _ = bar.get_facecolor()
            assert (red > blue) == (bar.get_width() > 0), ax.get_title()
        for image in ax.images:
            low, high = image.get_clim()
            assert image.get_cmap().name == "PuOr_r" and low == -high < 0


@pytest.mark.parametrize("name", ["softmax", "mlp"])
def test_the_title_of_a_chosen_log_names_its_seed(run, ns, name):
    runs, section = getattr(ns, f"{name}_runs"), {"softmax": "1.9", "mlp": "3.5"}[name]
    (call,) = run.calls_of("show_log", section)
    log = call.arguments["log"]
    seeds = [row["seed"] for _, row in runs.iterrows() if row["log"] is log]
    assert read_numbers(call.arguments["title"]) == seeds
