"""Questions 1 and 3: what is trained, chosen, tested and answered, worked out again."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from references import accuracy, accuracy_of, assert_in_order, loss_of, wilson_interval
from scipy.special import softmax

CHECKS = "1.4", "2.2", "2.4", "3.1", "3.2", "4.3", "5.1"  # sections that check
SECTIONS = {  # of tuning, test accuracy, classes, less data
    "softmax": ("1.8", "1.9", "1.10", "1.13"),
    "mlp": ("3.4", "3.5", "3.7", "3.9"),
}


@pytest.fixture(params=SECTIONS)
def question(request, ns):
    """Results of Question 1 or 3: question.runs is softmax_runs or mlp_runs, …"""
    prefix = f"{request.param}_"
    names = [name for name in vars(ns) if name.startswith(prefix)]
    results = {name.removeprefix(prefix): getattr(ns, name) for name in names}
    results["make_model"] = getattr(ns, f"make_{request.param}")
    return SimpleNamespace(**results, sections=SECTIONS[request.param])


def assert_fit(run, ns, model, **settings):
    """Assert that a model was trained on all training images, with these settings."""
    arguments = run.fit_of(model)
    assert arguments["train"] is ns.train
    assert arguments["augment"] is None
    assert {name: arguments[name] for name in settings} == settings


def mean_and_std(values):
    return float(np.mean(values)), float(np.std(values, ddof=1))


def test_the_largest_error_of_all_gradient_checks_is_reported(run):
    """On page 1; with the sections that check. 2.2 and 2.4 print their largest."""
    checks = [c for c in run.calls["check_gradient"] if c.section in CHECKS]
    assert {check.section for check in checks} == {*CHECKS}
    largest = max(check.result for check in checks)
    expected = f"relative error {largest:.0e} in sections {', '.join(CHECKS)}"
    assert run.answer("1.4").endswith(expected)
    for section, kind in ("2.2", "8 nodes"), ("2.4", "5 points"):
        errors = [check.result for check in checks if check.section == section]
        assert f"{kind}: {max(errors):.1e}" in run.printed[section]


def test_the_bare_loop_takes_the_sheets_steps(run, ns):
    """The gradient of the sum over each mini-batch, at a constant rate, with λ. It is
    the first run: its log has a row for each epoch; three of them are shown."""
    W, rng, step = ns.snapshots[0].astype(float), np.random.default_rng(0), 0
    (shown,) = [table for table in run.tables("1.6") if "training loss" in table]
    assert shown.equals(ns.first_log.loc[[1, 5, 10]])
    for epoch in range(1, 11):
        for x, y in ns.get_minibatch(*ns.train, 50, rng):
            if step in ns.snapshots:
                np.testing.assert_allclose(ns.snapshots[step], W, atol=3e-6)
            G = softmax(x @ W, axis=1) - np.eye(10)[y]
            W = W - 0.002 * (x.T @ G + 2 * 0.005 * W)
            step += 1
        sets = (ns.train.x @ W, ns.train.y), (ns.validation.x @ W, ns.validation.y)
        expected = [f(*pair) for pair in sets for f in (loss_of, accuracy_of)]
        row = ns.first_log.loc[epoch, ns.LOG_COLUMNS]
        np.testing.assert_allclose(row, expected, rtol=1e-4)
    assert [*ns.snapshots] == [0, 10, step]
    np.testing.assert_allclose(ns.snapshots[step], W, atol=3e-6)


def test_the_loops_last_epoch_and_total_loss_are_reported(run, ns):
    """The penalty's λ is that of the mean over 50 images instead of their sum."""
    loss, *_ = end = ns.first_log.iloc[-1]
    penalty = 0.005 / 50 * np.linalg.norm(ns.classifier.W.astype(float)) ** 2
    parts = [f"{value:.4f}" for value in (loss, penalty, loss + penalty)]
    assert_in_order(run.answer("1.6"), end.iloc[3], end.iloc[1])
    assert_in_order(run.printed["1.6"], *parts, end.iloc[3], end.iloc[1])


@pytest.mark.parametrize("section", ["1.7", "3.3"])
def test_initial_weights_differ_in_their_standard_deviation(run, ns, section):
    """As the rows of the table say, in each layer; beside them, the initial loss, and
    accuracies on the validation set."""
    table, fits, epochs, size = {
        "1.7": (ns.init_table, ns.init_runs, [1, 5, 10], 50),
        "3.3": (ns.mlp_init_table, ns.mlp_init_runs, [1, 2], 64),
    }[section]
    assert table.equals(run.tables(section)[-1].set_axis(table.columns, axis=1))
    for (name, row), fitted in zip(table.iterrows(), fits, strict=True):
        settings = {"epochs": epochs[-1], "batch_size": size, "learning_rate": 0.1}
        assert_fit(run, ns, fitted.model, seed=0, **settings)
        start = run.fit_of(fitted.model)["make_model"](rng=0)
        for layer in getattr(start, "layers", [start])[::2]:  # without the ReLU
            (n, m), rule = layer.W.shape, name.split(", ")[-1]
            rules = {"Xavier": math.sqrt(2 / (n + m)), "He": math.sqrt(2 / n)}
            sigma = rules.get(rule) or float(rule)
            assert layer.W.std() == pytest.approx(sigma, rel=0.03)
        loss = loss_of(start.forward(ns.train.x), ns.train.y)
        expected = loss, *fitted.log.iloc[:, 3][epochs]
        assert [*row] == pytest.approx(expected, rel=1e-5)
        assert row.iloc[-1] == pytest.approx(accuracy(fitted.model, ns.validation))
    lines = [f"{end:.2f}% (σ = {name})" for name, end in table.iloc[:, -1].items()]
    if section == "1.7":
        assert run.answer("1.7") == ", ".join(lines)
        (noise,) = run.calls_in("show_images", "q1-init-noise")  # of the last row
        shown = 3 * noise.arguments["images"].reshape(3, 10, 784)
        start, end = start.W.T, fitted.model.W.T
        np.testing.assert_allclose(shown, [start, end, end - start], atol=1e-6)
    else:
        assert np.ptp(fits[0].model.forward(ns.test.x).argmax(axis=1)) == 0  # one class


def test_signal_and_gradient_through_ten_layers(run):
    """He's rule keeps their mean squares, the upper ten lines. Both rules have the same
    draws, so Xavier's are He's times the ratios of their σ²: 784 / 1040 in the first
    layer, then ½."""
    halved = 0.5 ** np.arange(10)
    cases = [1, *(784 / 1040 * halved)], halved
    for ax, ratios in zip(run.axes_in("q3-init-table"), cases, strict=True):
        lines = [line.get_ydata() for line in ax.lines[:20]]
        xavier, he = np.split(np.array(sorted(lines, key=lambda line: line[-1])), 2)
        assert he.min() > 0.1 and he.max() < 10
        np.testing.assert_allclose(xavier / he, np.tile(ratios, (10, 1)), rtol=1e-3)
        y = {text.get_text(): text.get_position()[1] for text in ax.texts}
        assert y["He"] > 1 > 0.1 > y["Xavier"]


def test_every_pair_of_the_grid_is_trained_from_three_seeds(run, ns, question):
    trials = question.trials[[*question.grid, "seed"]].to_numpy().tolist()
    pairs = itertools.product(*question.grid.values(), [1, 2, 3])
    assert sorted(trials) == sorted(map(list, pairs))
    for _, row in question.trials.iterrows():
        settings = {name: row[name] for name in (*question.grid, "seed")}
        settings |= question.fixed | {"make_model": question.make_model}
        assert_fit(run, ns, row["model"], **settings)
        for name, dataset in ("train", ns.train), ("validation", ns.validation):
            measured = row[f"{name}_accuracy"]
            assert measured == pytest.approx(accuracy(row["model"], dataset))


def test_the_best_pair_on_the_validation_set_is_chosen_and_reported(run, ns, question):
    groups = question.trials.groupby(list(question.grid))["validation_accuracy"]
    means = {pair: np.mean(values.to_numpy()) for pair, values in groups}
    chosen = tuple(question.best[name] for name in question.grid)
    assert means[chosen] == np.nanmax([*means.values()])
    for name, value in question.best.items():
        assert question.runs[name].tolist() == 3 * [value]
    assert question.settings == question.fixed | question.best
    assert ns.mlp_fixed["lam"] == ns.softmax_settings["lam"]
    validation = mean_and_std(question.runs["validation_accuracy"])
    train = mean_and_std(question.runs["train_accuracy"])
    gap, shown = train[0] - validation[0], [f"{value:g}" for value in chosen]
    answer = run.answer(question.sections[0])
    assert_in_order(answer, *shown, *train, *validation, gap)


def test_the_first_chosen_run_is_evaluated_on_the_test_set(run, ns, question):
    """What is recorded for page 1 is also printed."""
    assert question.model is question.runs["model"].iloc[0]
    predictions = question.model.forward(ns.test.x).argmax(axis=1)
    np.testing.assert_array_equal(question.predictions, predictions)
    np.testing.assert_array_equal(question.correct, predictions == ns.test.y)
    accuracies = [*mean_and_std(question.runs["validation_accuracy"])]
    accuracies.append(accuracy(question.model, ns.validation))
    accuracies += wilson_interval(question.correct)
    for text in run.answer(question.sections[1]), run.printed[question.sections[1]]:
        assert_in_order(text, *accuracies)


def test_best_and_worst_class(run, ns, question):
    """Of the MLP, with a table of all classes and seeds."""
    section = question.sections[2]
    correct = question.model.forward(ns.test.x).argmax(axis=1) == ns.test.y
    rows = [wilson_interval(correct[ns.test.y == k]) for k in range(10)]
    best, worst = np.argmax(rows, axis=0)[0], np.argmin(rows, axis=0)[0]
    for text in run.answer(section), run.printed[section]:
        assert_in_order(text, "best", best, *rows[best], "worst", worst, *rows[worst])
    for table in run.tables(section):
        assert ([*table.index], [*table.columns]) == ([1, 2, 3], ns.CLASS_NAMES)
        for model, row in zip(ns.mlp_runs["model"], table.to_numpy(), strict=True):
            correct = model.forward(ns.test.x).argmax(axis=1) == ns.test.y
            expected = [100 * correct[ns.test.y == k].mean() for k in range(10)]
            np.testing.assert_allclose(row, expected)


def test_no_gradient_is_left_in_what_scikit_learn_fits(ns):
    """To the training images: our own objective, with the chosen λ and without biases;
    squared errors of the digit and of the one-hot columns."""
    x, y = ns.train
    W, lam = ns.logistic.coef_.T, ns.softmax_settings["lam"]
    gradient = x.T @ (softmax(x @ W, axis=1) - np.eye(10)[y]) / len(y) + 2 * lam * W
    assert np.abs(gradient).max() < 2e-4
    assert math.isclose(ns.logistic.C, 1 / (2 * lam * len(y)) if lam else math.inf)
    assert not ns.logistic.intercept_.any()
    for model, target in (ns.digit_model, y), (ns.one_hot_model, np.eye(10)[y]):
        residuals = model.predict(x) - target
        assert np.abs(x.T @ residuals / len(y)).max() < 0.01
        assert np.abs(residuals.mean(axis=0)).max() < 0.01  # of the bias


def test_accuracies_beside_scikit_learn(run, ns):
    """Of each classifier on the training, then on the test images."""
    parts = []
    for scores_of in (
        lambda x: x @ ns.softmax_model.W,
        lambda x: -np.abs(ns.digit_model.predict(x)[:, None] - np.arange(10)),
        ns.one_hot_model.predict,
        lambda x: x @ ns.logistic.coef_.T,
    ):
        parts += [accuracy_of(scores_of(x), y) for x, y in (ns.train, ns.test)]
    assert_in_order(run.answer("1.11"), *parts)
    (table,) = run.tables("1.11")
    columns = [name for word in ("training", "test") for name in table if word in name]
    assert table[columns].to_numpy().ravel().tolist() == pytest.approx(parts)


def test_half_the_best_batch_size_and_rate_are_tried_with_the_same_seeds(run, ns):
    pairs = zip(ns.mlp_runs.iloc, ns.halved_trials.iloc, strict=True)
    for best, trial in pairs:
        halved = {name: best[name] / 2 for name in ("batch_size", "learning_rate")}
        assert_fit(run, ns, trial["model"], seed=best["seed"], **ns.mlp_fixed, **halved)
    ends = []
    for runs in ns.mlp_runs, ns.halved_trials:
        ends.append(mean_and_std([accuracy(m, ns.validation) for m in runs["model"]]))
    (mean, std), (halved_mean, halved_std) = ends
    parts = "difference", halved_mean - mean
    parts += "standard error", math.hypot(std, halved_std) / math.sqrt(3)
    assert_in_order(run.printed["3.4"], *parts)


def test_smaller_sets_have_the_chosen_settings_and_differ_by_seed(run, ns, question):
    smaller, first_images = question.subsets[question.subsets["percentage"] < 100], {}
    for _, row in smaller.iterrows():
        expected = question.settings | {"make_model": question.make_model}
        expected["seed"] = row["seed"]
        arguments = run.fit_of(row["model"])
        assert {name: arguments[name] for name in expected} == expected
        size = len(ns.train.x) * row["percentage"] // 100
        assert arguments["train"].x.shape == (size, 784)
        first_images[row["seed"]] = arguments["train"].x[0].tobytes()
    assert len({*first_images.values()}) == len(first_images) == 3


def test_the_penalty_on_every_tenth_image(run, ns):
    """A row for each λ and number of epochs, the rest as chosen; accuracies on these
    images and on the validation set."""
    table, tenth = run.tables("1.13")[-1], ns.Dataset(*(a[::10] for a in ns.train))
    for lam, epochs in itertools.product([0, 0.001], [5, 50]):
        settings = ns.softmax_settings | {"lam": lam, "epochs": epochs}
        calls = run.calls_in("fit", "q1-penalty")
        calls = [call for call in calls if settings.items() <= call.arguments.items()]
        assert [call.arguments["seed"] for call in calls] == [1, 2, 3]
        models, row = [call.result.model for call in calls], []
        for dataset in tenth, ns.validation:
            mean, std = mean_and_std([accuracy(model, dataset) for model in models])
            row.append(f"{mean:.2f} ± {std:.2f}")
        row.append(pytest.approx(np.mean([np.vdot(m.W, m.W) for m in models])))
        assert table.loc[f"λ = {lam:g}, {epochs} epochs"].tolist() == row
    assert [name.split()[0] for name in table] == ["training", "validation", "‖W‖²"]


def test_accuracy_by_percentage_is_measured_on_the_test_set(run, ns, question):
    """And training accuracies on each model's own images."""
    parts = []
    for percentage, trials in question.subsets.groupby("percentage"):
        own = [run.fit_of(model)["train"] for model in trials["model"]]
        for name, datasets in ("train", own), ("test", 3 * [ns.test]):
            accuracies = [*map(accuracy, trials["model"], datasets)]
            assert trials[f"{name}_accuracy"].tolist() == pytest.approx(accuracies)
        parts += [percentage, float(np.mean(accuracies))]
    assert parts[::2] == [10, 20, 50, 100]
    assert_in_order(run.answer(question.sections[3]), *parts)
    assert trials["model"].tolist() == question.runs["model"].tolist()  # of 100%
