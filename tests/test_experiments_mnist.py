"""Questions 1 and 3: what is trained, chosen, tested and reported, worked out again."""

import itertools
import math
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
from references import accuracy_of, loss_of, paired_difference, wilson_interval
from scipy.special import softmax
from small_run import (
    assert_reported,
    labels_by_image,
    numbers_in,
    reports,
    small_run,
)

Sections = namedtuple("Sections", "first tuning test classes bonus")
SECTIONS = {
    "softmax": Sections("1.6", "1.8", "1.9", "1.10", "1.13"),
    "mlp": Sections("3.3", "3.4", "3.5", "3.6", "3.8"),
}


@pytest.fixture(scope="module")
def run():
    return small_run()


@pytest.fixture(scope="module")
def ns(run):
    return run.names


@pytest.fixture(params=["softmax", "mlp"])
def question(request, ns):
    """Results of Question 1 or 3: question.runs is softmax_runs or mlp_runs, …"""
    prefix = f"{request.param}_"
    names = [name for name in vars(ns) if name.startswith(prefix)]
    question = SimpleNamespace(
        **{name.removeprefix(prefix): getattr(ns, name) for name in names}
    )
    question.make_model = getattr(ns, f"make_{request.param}")
    question.sections = SECTIONS[request.param]
    return question


def accuracy(model, dataset):
    return accuracy_of(model.forward(dataset.x), dataset.y)


def mean_and_std(values):
    values = np.array(values, dtype=float)
    return values.mean(), values.std(ddof=1)


def shapes(model):
    """The shapes of a model's arrays of weights and biases."""
    model.forward(np.zeros((1, 784), np.float32))
    model.backward(np.zeros((1, 10), np.float32))  # parameters() also gives gradients
    return [value.shape for value, _ in model.parameters()]


def assert_fit(run, model, make_model, **settings):
    """Assert that a model was trained on all training images, with these settings."""
    arguments = run.fit_of(model)
    assert arguments["train"] is run.names.train
    assert {name: arguments[name] for name in settings} == settings
    assert arguments["batches"].__name__ == "get_minibatch"
    assert type(model) is type(make_model(rng=0))
    assert shapes(model) == shapes(make_model(rng=0))


# 1.1 to 1.5: data, loss and accuracy


def test_sizes_of_the_three_sets_are_printed(run, ns):
    for dataset in ns.train, ns.validation, ns.test:
        assert_reported(run.lines("1.1"), *dataset.x.shape, *dataset.y.shape)


def test_training_and_validation_sets_are_70_and_30_percent(ns):
    assert 3 * len(ns.train.y) == 7 * len(ns.validation.y)


def test_samples_are_training_images_of_the_class_above_them(run, ns):
    arguments = run.images("q1-samples")
    images, names = arguments["images"], arguments["column_labels"]
    labels = labels_by_image(ns.train)
    shown = [ns.CLASS_NAMES[labels[image.tobytes()]] for image in images]
    assert shown == list(names) == ns.CLASS_NAMES


def test_initial_loss_and_accuracy(run, ns):
    (call,) = run.calls_of("evaluate", "q1-first-loss")
    assert call.arguments["dataset"] is ns.train
    scores = ns.train.x @ call.arguments["model"].W
    loss, accuracy = loss_of(scores, ns.train.y), accuracy_of(scores, ns.train.y)
    assert_reported(run.lines("1.5"), loss, accuracy, math.log(10))


# 1.6: the sheet's step


def test_the_bare_loop_takes_the_sheets_steps(run, ns):
    """The sum over each mini-batch, a constant rate, the penalty of the first run."""
    W, lam = ns.snapshots[0].astype(float), ns.softmax_guess["lam"]
    step = 0
    for epoch in run.calls_of("get_minibatch", "q1-growing"):
        for x, y in ns.get_minibatch(**epoch.arguments):
            if step in ns.snapshots:
                np.testing.assert_allclose(ns.snapshots[step], W, atol=3e-6)
                assert_reported(run.lines("1.6"), step, loss_of(x @ W, y))
            G = softmax(x @ W, axis=1) - np.eye(10)[y]
            W = W - ns.alpha * (x.T @ G + lam * 2 * W)
            step += 1
    np.testing.assert_allclose(ns.classifier.W, W, atol=3e-6)
    assert_reported(run.lines("1.6"), step, accuracy(ns.classifier, ns.validation))


def test_templates_are_the_weights_after_their_number_of_steps(run, ns):
    arguments = run.images("q1-growing-figure")
    assert list(arguments["column_labels"]) == ns.CLASS_NAMES
    rows = arguments["images"].reshape(-1, 10, 784)
    for templates, label in zip(rows, arguments["row_labels"], strict=True):
        (step, _), (scale, _) = numbers_in(label)  # full colour is printed in brackets
        weights = ns.snapshots[int(step)].T
        actual_scale = np.abs(weights).max() / np.abs(templates).max()
        assert scale == pytest.approx(actual_scale, rel=0.06)  # two digits
        np.testing.assert_allclose(actual_scale * templates, weights, rtol=1e-4)


# First runs, and initial weights (1.7)


def test_first_run(run, ns, question):
    model = question.first_run.model
    assert_fit(run, model, question.make_model, **question.guess)
    percentage = accuracy(model, ns.validation)
    assert_reported(run.lines(question.sections.first), percentage)


def test_the_log_of_the_first_run_is_printed(run, question):
    rows = run.rows(question.sections.first)
    for epoch, values in question.first_run.log.iterrows():
        assert pytest.approx([epoch, *values], rel=1e-3) in rows


def test_the_mlp_starts_from_the_lambda_of_question_1(ns):
    assert ns.mlp_guess["lam"] == ns.softmax_settings["lam"]
    assert ns.mlp_settings["lam"] == ns.softmax_settings["lam"]


def test_logs_of_the_first_and_the_chosen_run_are_plotted(run, question):
    for section, log in (
        (question.sections.first, question.first_run.log),
        (question.sections.test, question.runs["log"].iloc[0]),
    ):
        plotted = [c.arguments["log"] for c in run.calls_of("show_log", section)]
        assert any(log is other for other in plotted), section


def test_initial_weights_have_the_standard_deviation_of_their_row(run, ns):
    for name, fitted in zip(ns.init_table.index, ns.init_runs, strict=True):
        std = math.sqrt(2 / (784 + 10)) if name == "Xavier" else float(name)
        make_model = run.fit_of(fitted.model)["make_model"]
        unit_weights = ns.make_softmax(rng=0, std=1).W
        np.testing.assert_allclose(make_model(rng=0).W, std * unit_weights, rtol=1e-5)


def test_runs_differ_in_their_initial_weights_only(run, ns):
    seed = run.fit_of(ns.softmax_first_run.model)["seed"]
    for fitted in ns.init_runs:
        assert_fit(run, fitted.model, ns.make_softmax, **ns.softmax_guess, seed=seed)


def test_table_and_answer_of_initial_weights(run, ns):
    reported = []
    for (name, row), fitted in zip(ns.init_table.iterrows(), ns.init_runs, strict=True):
        for column in row.index[:3]:
            epoch = int(numbers_in(column)[0][0])
            assert row[column] == fitted.log["validation accuracy"][epoch]
        reported += [] if name == "Xavier" else [float(name)]
        reported.append(accuracy(fitted.model, ns.validation))
    assert_reported(run.answers("1.7"), *reported)


def test_initial_loss_for_other_initial_weights(run, ns):
    """It is that of untrained models on the training set."""
    trained = [fitted.model for fitted in ns.init_runs]
    calls = [call.arguments for call in run.calls_of("evaluate", "q1-init")]
    initial = [arguments for arguments in calls if arguments["model"] not in trained]
    for loss, arguments in zip(ns.init_table.iloc[:, 3], initial, strict=True):
        assert arguments["dataset"] is ns.train
        scores = ns.train.x @ arguments["model"].W
        assert loss == pytest.approx(loss_of(scores, ns.train.y), rel=1e-4)


# 1.8 and 3.4: tuning


def test_every_pair_of_the_grid_is_trained_from_the_same_three_seeds(run, question):
    pairs = list(itertools.product(*question.grid.values()))
    seeds = question.trials.groupby(list(question.grid))["seed"].agg(tuple)
    assert sorted(seeds.index) == sorted(pairs)
    assert len(set(seeds)) == 1 and len(set(seeds.iloc[0])) == 3
    assert len(question.trials) == 3 * len(pairs)


def test_trials_are_fits_with_the_settings_of_their_row(run, ns, question):
    for _, row in question.trials.iterrows():
        settings = {name: row[name] for name in (*question.grid, "seed")}
        settings |= question.fixed
        assert_fit(run, row["model"], question.make_model, **settings)
        assert row["train_accuracy"] == pytest.approx(accuracy(row["model"], ns.train))
        assert row["validation_accuracy"] == pytest.approx(
            accuracy(row["model"], ns.validation)
        )


def test_the_best_pair_on_the_validation_set_is_chosen(question):
    groups = question.trials.groupby(list(question.grid))["validation_accuracy"]
    means = {pair: np.mean(values.to_numpy()) for pair, values in groups}
    chosen = tuple(question.best[name] for name in question.grid)
    assert means[chosen] == np.nanmax(list(means.values()))
    for name, value in question.best.items():
        assert question.runs[name].tolist() == 3 * [value]
    assert question.settings == question.fixed | question.best


def test_the_chosen_pair_is_reported_with_its_accuracies(run, question):
    runs = question.runs
    validation = mean_and_std(runs["validation_accuracy"])
    train = mean_and_std(runs["train_accuracy"])
    values = [*question.best.values(), *validation, *train]
    values += [train[0] - validation[0], 100 - train[0], 100 - validation[0]]
    assert_reported(run.answers(question.sections.tuning), *values)


def test_the_whole_grid_is_plotted(run, question):
    calls = run.calls_of("show_tuning", question.sections.tuning)
    (arguments,) = [
        c.arguments for c in calls if c.arguments["trials"] is question.trials
    ]
    assert {arguments["row_setting"], "learning_rate"} == set(question.grid)


def test_the_pair_beyond_the_grid(run, ns):
    """Both values halved; the seed of the first chosen run, for comparison."""
    chosen = ns.mlp_runs.iloc[0]
    halved = {name: ns.mlp_best[name] / 2 for name in ("batch_size", "learning_rate")}
    settings = ns.mlp_settings | halved | {"seed": chosen["seed"]}
    assert_fit(run, ns.beyond_run.model, ns.make_mlp, **settings)
    for values, model in (ns.mlp_best, chosen["model"]), (halved, ns.beyond_run.model):
        percentage = accuracy(model, ns.validation)
        assert_reported(run.lines("3.4"), *values.values(), percentage)


# 1.9, 1.10, 3.5 and 3.6: test accuracy, classes


def test_the_first_chosen_run_is_evaluated_on_the_test_set(run, ns, question):
    assert question.model is question.runs["model"].iloc[0]
    predictions = question.model.forward(ns.test.x).argmax(axis=1)
    np.testing.assert_array_equal(question.predictions, predictions)
    np.testing.assert_array_equal(question.correct, predictions == ns.test.y)
    validation = mean_and_std(question.runs["validation_accuracy"])
    interval = wilson_interval(question.correct)
    assert_reported(run.answers(question.sections.test), *interval, *validation)


def test_the_paired_difference_of_both_models(run, ns):
    difference = paired_difference(ns.mlp_correct, ns.softmax_correct)
    assert_reported(run.lines("3.5"), *difference)


def test_best_and_worst_class(run, ns, question):
    """Where two classes are equal, either will do."""
    correct = [question.correct[ns.test.y == k] for k in range(10)]
    accuracies = [np.mean(c) for c in correct]
    best = np.flatnonzero(accuracies == np.max(accuracies))
    worst = np.flatnonzero(accuracies == np.min(accuracies))
    candidates = [
        (i, *wilson_interval(correct[i]), j, *wilson_interval(correct[j]))
        for i in best
        for j in worst
    ]
    answers = run.answers(question.sections.classes)
    assert any(reports(answer, *c) for answer in answers for c in candidates)


def test_what_the_worst_class_is_mistaken_for(run, ns, question):
    accuracies = [np.mean(question.correct[ns.test.y == k]) for k in range(10)]
    candidates = []
    for worst in np.flatnonzero(accuracies == np.min(accuracies)):
        wrong = (ns.test.y == worst) & ~question.correct
        classes, counts = np.unique(question.predictions[wrong], return_counts=True)
        rivals = classes[counts == counts.max()]
        candidates += [(worst, rival, counts.max()) for rival in rivals]
    lines = run.lines(question.sections.classes)
    assert any(reports(line, *c) for line in lines for c in candidates), candidates


def test_the_confusion_matrix_counts_test_images(run, ns):
    """The true class is the row, the predicted class the column."""
    counts = np.zeros((10, 10), int)
    for true_class, predicted in zip(ns.test.y, ns.softmax_predictions, strict=True):
        counts[true_class, predicted] += 1
    ax = run.figure("q1-confusion").axes[0]
    shown = np.full((10, 10), -1)
    for text in ax.texts:
        column, row = text.get_position()
        shown[round(row), round(column)] = int(text.get_text())
    np.testing.assert_array_equal(shown, counts)
    assert "predicted" in ax.get_xlabel() and "predicted" not in ax.get_ylabel()
    assert ax.yaxis_inverted()  # as in a table, class 0 is on top
    colours = np.array(ax.images[0].get_array())
    np.testing.assert_array_equal(colours, counts * (1 - np.eye(10)))


# 1.11: scikit-learn


@pytest.mark.parametrize("one_hot", [False, True])
def test_linear_regression_has_no_gradient_left(ns, one_hot):
    """Its squared error on the training images is minimal for the named target."""
    x, y = ns.train
    model, target = (ns.one_hot, np.eye(10)[y]) if one_hot else (ns.digits, y)
    residual = model.predict(x) - target
    assert np.linalg.norm(x.T @ residual) < 0.01 * np.linalg.norm(x.T @ target)


def test_logistic_regression_has_no_gradient_left(ns):
    """Our own objective, with the chosen λ and without biases, is minimal."""
    x, y = ns.train
    W, lam = ns.logistic.coef_.T, ns.softmax_settings["lam"]
    gradient = x.T @ (softmax(x @ W, axis=1) - np.eye(10)[y]) / len(y) + 2 * lam * W
    assert np.abs(gradient).max() < 2e-4
    assert not ns.logistic.intercept_.any()


def nearest_digit(numbers):
    return np.abs(np.arange(10) - numbers[:, None]).argmin(axis=1)


def test_accuracies_beside_scikit_learn(run, ns):
    predictions = {
        "ours": lambda x: (x @ ns.softmax_model.W).argmax(axis=1),
        "LinearRegression, rounded": lambda x: nearest_digit(ns.digits.predict(x)),
        "LinearRegression, one-hot": lambda x: ns.one_hot.predict(x).argmax(axis=1),
        "LogisticRegression": lambda x: (x @ ns.logistic.coef_.T).argmax(axis=1),
    }
    values = []
    for name in ns.classifiers:
        for data in ns.train, ns.test:
            values.append(100 * np.mean(predictions[name](data.x) == data.y))
    assert_reported(run.answers("1.11"), *values)


# 1.13 and 3.8: less training data


def test_smaller_sets_have_the_chosen_settings_and_a_larger_lambda(run, ns, question):
    for percentage, trials in question.subsets.groupby("percentage"):
        assert len(trials) == 3
        lam = pytest.approx(question.settings["lam"] * 100 / percentage)
        for model in trials["model"]:
            arguments = run.fit_of(model)
            used = {name: arguments[name] for name in question.settings}
            assert used == question.settings | {"lam": lam}
            size = len(ns.train.y) * percentage // 100
            assert len(arguments["train"].y) == size
            assert shapes(model) == shapes(question.make_model(rng=0))


def test_smaller_sets_are_drawn_at_random(run, question):
    """Each seed draws other images, and not those at the start of the file."""
    subsets = question.subsets[question.subsets["percentage"] < 100]
    drawn = [run.fit_of(model)["train"].x for model in subsets["model"]]
    assert len({x.tobytes() for x in drawn}) == len(drawn)
    assert len({x[0].tobytes() for x in drawn}) > 1
    assert all(len({row.tobytes() for row in x}) == len(x) for x in drawn)


def test_all_training_data_means_the_chosen_runs(question):
    full = question.subsets[question.subsets["percentage"] == 100]
    for model, chosen in zip(full["model"], question.runs["model"], strict=True):
        assert model is chosen


def test_accuracy_by_percentage_is_measured_on_the_test_set(run, ns, question):
    reported = []
    for percentage, trials in question.subsets.groupby("percentage"):
        accuracies = [accuracy(model, ns.test) for model in trials["model"]]
        assert trials["test_accuracy"].tolist() == pytest.approx(accuracies)
        reported += [percentage, np.mean(accuracies)]
    assert_reported(run.answers(question.sections.bonus), *reported)


def test_accuracy_by_percentage_is_plotted_under_its_models_name(run, ns, question):
    call = run.calls_of("show_accuracy_vs_percentage", question.sections.bonus)[0]
    plotted = call.arguments["trials"]
    assert list(plotted.values())[-1] is question.subsets
    for name, trials in plotted.items():
        assert ("MLP" in name) == isinstance(trials["model"].iloc[0], ns.MLP)


# Figures of the MLP


def test_weights_of_hidden_units(run, ns):
    images = run.images("q3-weights")["images"]
    units = {column.tobytes() for column in ns.mlp_model.layers[0].W.T}
    shown = {image.tobytes() for image in images}
    assert shown <= units and len(shown) == len(images) > 1


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
    assert reports(fig.get_suptitle(), y[k], p.argmax(), -math.log(p_true[k]))
    for ax in fig.axes:
        symbol = ax.get_title().split("\n")[-1].split(" = ")[0]
        bars = [bar.get_width() for bar in ax.patches]
        array = np.ravel(bars or ax.images[0].get_array())
        np.testing.assert_allclose(array, expected.pop(symbol), rtol=1e-3, atol=1e-5)
        assert ax.images or ax.yaxis_inverted()  # class 0 is on top
    assert not expected
