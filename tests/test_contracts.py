"""Contracts of the experiments: what is trained, chosen, tested and answered.

The notebook is rehearsed once on few images (rehearsal.py says what differs there).
These tests read what was recorded, and speak when a fit sees another set of images than
it may, when what is tested is not what was chosen, when an experiment's settings are
not those in SETTINGS, and when an answer of Questions 1 and 3 is not what its words
ask. The other Questions: test_answers.py; figures and tables: test_figures.py.

Things are found by section, function and a word of what is asked, so that cells, names
and sentences may change. Whether functions are right is for their unit tests."""

import itertools
import math
import re

import numpy as np
import pytest
from rehearsal import fingerprints, rehearse
from scipy import stats
from scipy.special import logsumexp

SETTINGS = {  # of experiments: those that the text or the saved figures name
    "1.6": {"epochs": 10, "batch_size": 50, "learning_rate": 0.1, "lam": 1e-4},
    "1.8": {"epochs": 5, "batch_size": 50},
    "3.3": {"epochs": 8, "batch_size": 64, "learning_rate": 0.1},
    "3.4": {"epochs": 8},
    "variants": {"epochs": 2, "batch_size": 100, "learning_rate": 0.1},
    "widths": {"epochs": 8, "batch_size": 128, "learning_rate": 0.1},
    "ConvNet": {"epochs": 20, "batch_size": 50, "learning_rate": 0.3},
    "wide MLP": {"epochs": 30, "batch_size": 100, "learning_rate": 0.7},
}
# Sections of Questions 1 and 3: first run, tuning, test, classes, bonus.
QUESTIONS = {1: ("1.6", "1.8", "1.9", "1.10", "1.13")}
QUESTIONS[3] = "3.3", "3.4", "3.5", "3.6", "3.8"
both_questions = pytest.mark.parametrize("q", QUESTIONS)


@pytest.fixture(scope="session")
def seen():
    """The Rehearsal."""
    return rehearse()


# --- Numbers in texts, and numbers to compare them with (accuracies in percent) -------


def numbers(text):
    """The numbers in a text, each as (value, half a unit of its last digit)."""
    found = []
    pattern = r"(?<![\w.])([-+]?\d+(?:,\d{3})*(?:\.(\d+))?)(?:e([-+]?\d+))?"
    for mantissa, decimals, exponent in re.findall(pattern, text):
        power = 10.0 ** int(exponent or 0)
        half = 0.501 * power * 10.0 ** -len(decimals)
        found.append((float(mantissa.replace(",", "")) * power, half))
    return found


def says(text, *values):
    """Whether the numbers in a text are these values, in this order and to the last
    digit shown; other numbers may stand between them."""
    found = iter(numbers(text))
    return all(any(abs(n - v) <= half for n, half in found) for v in values)


def percent(runs, name):
    return [100 * getattr(run, name) for run in runs]


def mean_sd(values):
    return np.mean(values), np.std(values, ddof=1)


def scores_of(model, x):
    chunks = [model.forward(x[i : i + 500]) for i in range(0, len(x), 500)]
    return np.concatenate(chunks).astype(np.float64)


def hits_of(model, part):
    return scores_of(model, part.x).argmax(axis=1) == part.y


def loss_of(scores, y):
    return np.mean(logsumexp(scores, axis=1) - scores[np.arange(len(y)), y])


def interval(hits):
    """Accuracy, and its 95% Wilson interval."""
    test = stats.binomtest(int(np.sum(hits)), len(hits))
    ends = test.proportion_ci(method="wilson")
    return 100 * np.mean(hits), 100 * ends.low, 100 * ends.high


def duel(a, b):
    """How many only a gets right, only b, and McNemar's p (0.001 if below)."""
    only_a, only_b = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    p = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    return only_a, only_b, max(p, 0.001)


# --- What was recorded ----------------------------------------------------------------


def settings_of(run):
    """Without what only says how often the log is written."""
    return {key: run.settings[key] for key in run.settings if key != "log_every"}


def starts(calls):
    """The untrained models of calls of fit."""
    seeded = [(c.given["make_model"], c.given["seed"]) for c in calls]
    return [make(rng=np.random.default_rng(seed)) for make, seed in seeded]


def tuning(seen, q):
    """The Runs of the grid, the leaders' Runs, and what tune was given."""
    (call,) = seen.of("tune", QUESTIONS[q][1])
    return *call.result, call.given


def pair_of(run, given):
    """The values of the grid's settings: λ or batch size, then learning rate."""
    return [run.settings[name] for name in sorted(given["grid"])]


def chosen(seen, q):
    """The Runs of the chosen settings: the best mean accuracy in validation."""
    _, leaders, _ = tuning(seen, q)
    return max(leaders, key=lambda runs: np.mean(percent(runs, "valid")))


def networks(seen):
    """The Runs on distorted images: the wide MLP, the ConvNet."""
    runs = {type(run.model).__name__: run for run in seen.fits("6.5")}
    return runs["MLP"], runs["ConvNet"]


def by_sklearn(seen, name):
    """What scikit-learn fitted: "Logistic", and LinearRegression's "rounded", "hot"."""
    fitted = {}
    for call in seen.of("sklearn"):
        kind = "hot" if np.ndim(call.given["y"]) == 2 else "rounded"
        logistic = type(call.result).__name__ == "LogisticRegression"
        fitted["Logistic" if logistic else kind] = call.result
    return fitted[name]


def classify(seen, name, x):
    """The classes that a model gives to pixels, by a word of its label in a table."""
    if "rounded" in name:
        return np.rint(by_sklearn(seen, "rounded").predict(x)).clip(0, 9)
    if "hot" in name or name == "linear regression":
        return by_sklearn(seen, "hot").predict(x).argmax(axis=1)
    if "Logistic" in name:
        return by_sklearn(seen, "Logistic").predict(x)
    run = chosen(seen, 3 if "MLP" in name else 1)[0]
    if "45" in name:
        run = seen.fits("1.11")[0]
    if "distorted" in name:
        run = networks(seen)["ConvNet" in name]
    return scores_of(run.model, x).argmax(axis=1)


def check_model(model, q):
    """A model of Question 1, or of Question 3 with 256 hidden units."""
    kind, shape = {1: ("Single_layer_classifier", (784, 10)), 3: ("MLP", (784, 256))}[q]
    assert type(model).__name__ == kind
    assert (model if q == 1 else model.layers[0]).W.shape == shape


# --- Which images train, choose and test ----------------------------------------------


def test_every_answer_stands_in_its_section(seen):
    given = [(c.given["section"], c.given["asked"]) for c in seen.of("answer")]
    assert [section for section, _ in given] == [c.section for c in seen.of("answer")]
    (line,) = re.findall(r"\d+ of \d+ answered", "".join(seen.printed.values()))
    assert [n for n, _ in numbers(line)] == [len(set(given))] * 2


def test_fits_are_on_training_images_and_watched_in_validation(seen):
    training, validation, _ = seen.parts
    for call in seen.of("fit"):
        part, valid, run = call.given["part"], call.given["valid"], call.result
        known = [seen.sets.get(row) for row in fingerprints(part.x)]
        assert known == [("training", label) for label in part.y]
        assert len(part.y) == len(training.y) or call.section in ("1.13", "3.8")
        assert valid is None or fingerprints(valid.x) == fingerprints(validation.x)
        if math.isfinite(run.valid):
            valid = np.mean(hits_of(run.model, validation))
            assert run.valid == run.log[-1]["validation accuracy"] == valid
            assert run.train == np.mean(hits_of(run.model, part))
    for call in seen.of("sklearn"):
        assert fingerprints(call.given["x"]) == fingerprints(training.x)
        y = call.given["y"]
        assert ((np.argmax(y, axis=1) if y.ndim == 2 else y) == training.y).all()


def test_no_step_learns_from_a_validation_or_test_image(seen):
    for read in seen.reads:
        if read.learned and not read.sets.keys() <= {"training"}:
            assert read.section in ("1.3", "1.4", "3.2", "6.5")  # checks; distorted
            assert read.sets.keys() == {"other"}
    for call in seen.of("get_minibatch"):
        if call.section[0] in "13" and call.section != "1.2":
            rows = fingerprints(call.given["x"][:50])
            assert {seen.sets[row][0] for row in rows} == {"training"}, call.section


def test_the_test_set_waits_for_all_choices_of_its_question(seen):
    opened = [read for read in seen.reads if "test" in read.sets]
    for q, (_, choice, *reported, _) in QUESTIONS.items():
        of_question = [read for read in opened if read.section[0] == str(q)]
        last = [*seen.of("answer", choice), *seen.of("fit", choice)]
        assert min(read.at for read in of_question) > max(call.at for call in last)
        model = chosen(seen, q)[0].model  # nothing else than what was chosen is tested
        tested = [r.model for r in of_question if r.section in reported]
        assert tested and all(m is model for m in tested)
    assert min(read.at for read in opened) > seen.of("answer", "1.8")[-1].at
    assert "6.5" not in {read.section for read in opened}


# --- Questions 1 and 3: a first run, tuning, test, less data --------------------------


@both_questions
def test_the_first_run(seen, q):
    section = QUESTIONS[q][0]
    run = seen.fits(section)[0]
    lam = {} if q == 1 else {"lam": chosen(seen, 1)[0].settings["lam"]}
    assert settings_of(run) == SETTINGS[section] | lam
    check_model(run.model, q)
    assert says(seen.answer(section, "validation set"), 100 * run.valid)
    columns = []  # of the printed log
    for word in re.findall(r"\w+", seen.lines(section, "epoch", "loss")[0]):
        if word in ("training", "validation"):
            part = word
        elif word in ("loss", "accuracy"):
            columns.append(f"{part} {word}")
    lines = [line for line in seen.lines(section, "%") if re.match(r" *\d", line)]
    epochs = [int(numbers(line)[0][0]) for line in lines]
    assert epochs == [1, *range(2, len(run.log) + 1, 2)]  # "every second", page 1
    for epoch, line in zip(epochs, lines, strict=True):
        row = run.log[epoch - 1]
        told = [row[c] * (100 if "accuracy" in c else 1) for c in columns]
        assert len(columns) == 4 and says(line, row["epoch"], *told)


@both_questions
def test_every_choice_is_made_by_validation_on_the_whole_grid(seen, q):
    section = QUESTIONS[q][1]
    tried, leaders, given = tuning(seen, q)
    lam = {} if q == 1 else {"lam": chosen(seen, 1)[0].settings["lam"]}
    budget = SETTINGS[section] | lam
    pairs = list(itertools.product(*given["grid"].values()))
    assert len(tried) == len(pairs)
    for pair in pairs:
        pair = dict(zip(given["grid"], pair, strict=True))
        (run,) = [r for r in tried if settings_of(r) == budget | pair]
        check_model(run.model, q)
        assert run.seed == tried[0].seed
    best = sorted(percent(tried, "valid"))[-4:]
    leading = [settings_of(runs[0]) for runs in leaders]
    firsts = [run for run in tried if settings_of(run) in leading]
    assert sorted(percent(firsts, "valid")) == best
    for runs in leaders:  # from three fresh seeds, the same for all
        seeds = [run.seed for run in runs]
        assert seeds == [run.seed for run in leaders[0]]
        assert len({tried[0].seed, *seeds}) == 4
        assert all(settings_of(run) == settings_of(runs[0]) for run in runs)
        assert all(len(run.log) == budget["epochs"] for run in runs)


@both_questions
def test_what_was_chosen_is_answered(seen, q):
    section, runs = QUESTIONS[q][1], chosen(seen, q)
    _, leaders, given = tuning(seen, q)
    value = np.mean(percent(runs, "valid"))
    valid, tied = seen.parts[1], []
    mean_hits = [
        np.mean([hits_of(r.model, valid) for r in two], axis=0) for two in leaders
    ]
    for others, hits in zip(leaders, mean_hits, strict=True):
        difference = mean_hits[0] - hits
        error = difference.std() / math.sqrt(len(difference))
        if others is not runs and difference.mean() < 2 * error:
            tied.append(pair_of(others[0], given))
    found, _, others = seen.answer(section, "optimal").partition("tied")
    assert leaders[0] is runs and says(found, *pair_of(runs[0], given))
    assert others.count("learning rate") == len(tied)
    assert not tied or says(others, *itertools.chain(*tied))
    trained = np.mean(percent(runs, "train"))
    found = seen.answer(section, "over-fitting")
    assert re.search("training.*validation.*points", found)
    assert says(found, trained, value, trained - value)


@both_questions
def test_what_was_chosen_is_tested(seen, q):
    section, runs, test = QUESTIONS[q][2], chosen(seen, q), seen.parts[2]
    (line,) = seen.lines(section, "validation:")
    assert says(line, *mean_sd(percent(runs, "valid")))
    hits = hits_of(runs[0].model, test)
    found = seen.answer(section, "test set")
    assert says(found, *interval(hits)) and f"seed {runs[0].seed}" in found
    found = seen.answer(QUESTIONS[q][3], "best performing class")
    counts = [
        (np.sum(hits[test.y == k]), np.sum(~hits[test.y == k])) for k in range(10)
    ]
    accuracies = [100 * right / (right + wrong) for right, wrong in counts]
    assert re.match("best.*worst", found)
    for text, choose in zip(found.split("worst"), (np.argmax, np.argmin), strict=True):
        k = choose(accuracies)
        p = [stats.fisher_exact([counts[k], counts[j]])[1] for j in range(10)]
        near = [j for j in range(10) if p[j] >= 0.05 / 45 and j != k]
        assert says(text, k, accuracies[k])
        assert [n for n, _ in numbers(text)][2:] == near


def less_data(seen, q):
    """{percentage: Runs} of the bonus."""
    fitted = {10: [], 20: [], 50: []}
    for call in seen.of("fit", QUESTIONS[q][4]):
        share = len(call.given["part"].y) / len(seen.parts[0].y)
        fitted[round(100 * share)].append(call.result)
    return fitted | {100: chosen(seen, q)}


@both_questions
def test_smaller_sets_have_the_chosen_settings_and_a_larger_lambda(seen, q):
    curve, whole = less_data(seen, q), chosen(seen, q)
    for percentage, runs in curve.items():
        for run, reference in zip(runs, whole, strict=True):
            check_model(run.model, q)
            lam = pytest.approx(reference.settings["lam"] * 100 / percentage)
            assert settings_of(run) == settings_of(reference) | {"lam": lam}
            assert run.seed == reference.seed
    calls = seen.of("fit", QUESTIONS[q][4])
    drawn = {frozenset(fingerprints(c.given["part"].x)) for c in calls}
    assert len(drawn) == 9  # at random: each seed has other images
    tested = {k: [hits_of(r.model, seen.parts[2]) for r in curve[k]] for k in curve}
    means = [(k, 100 * np.mean(hits)) for k, hits in tested.items()]
    assert says(seen.answer(QUESTIONS[q][4], "test accuracy"), *itertools.chain(*means))


# --- Question 1: the rest -------------------------------------------------------------


def test_q1_sizes_and_minibatches(seen):
    training, validation, _ = seen.parts
    found = seen.answer("1.1", "size")
    assert says(found, len(training.y), len(validation.y))
    assert re.search(r"\d training.*\d validation", found)
    assert seen.lines("1.1")[0] == str(len(training.y))
    for part in seen.parts:
        (line,) = seen.lines("1.1", f"{part.name}:")
        assert says(line, *part.x.shape, *part.y.shape)
    epochs = [re.findall(r"\d", t)[1:] for t in seen.lines("1.2", "epoch")]
    assert len(epochs) == 2 and epochs[0] != epochs[1]
    assert all(sorted(order) == list("0123456789") for order in epochs)
    assert {c.given["batch_size"] for c in seen.of("get_minibatch", "1.2")} == {4}


def test_q1_checks_before_the_first_run(seen):
    assert says(seen.lines("1.4", "p [")[0], 0.2, 0.3, 0.5, 0.2, -0.7, 0.5)
    assert says(seen.lines("1.4", "loss 1")[0], -math.log(0.3))
    calls = seen.of("check_gradient")
    wrong = [c.section for c in calls if isinstance(c.result, AssertionError)]
    assert wrong == ["1.4"] and seen.lines("1.4", "AssertionError")
    naive, safe = (numbers(line)[0][0] for line in seen.lines("1.4", "nan in"))
    assert naive > 50 and safe == 0
    read = [read for read in seen.reads if read.section == "1.4"][-1]
    assert read.x.max() == 255 and read.W.std() == pytest.approx(0.05, rel=0.1)
    (line,), training = seen.lines("1.5", "training images"), seen.parts[0]
    W = next(read for read in seen.reads if read.section == "1.5").W
    scores = training.x @ W
    right = np.mean(scores.argmax(axis=1) == training.y)
    assert says(line, loss_of(scores, training.y), 100 * right)
    assert re.search("loss.*accuracy", line) and W.std() == pytest.approx(1e-3, rel=0.1)
    assert says(seen.lines("1.5", "log 10")[0], math.log(10))


def loops(seen):
    """The bare loops of 1.6, as reads: of twenty images, of batches, and the rest."""
    reads = [r for r in seen.reads if r.section == "1.6" and r.x is not None]
    reads = [read for read in reads if read.learned]
    rest = [read for read in reads if read.model is not reads[0].model]
    grown = [r for r in rest if r.model is rest[0].model and len(r.x) <= 42]
    return [r for r in reads if r.model is reads[0].model], grown[:20], rest


def gradient(seen, read):
    """Of the mean loss of a read's images with respect to the weights."""
    y = [seen.sets[row][1] for row in fingerprints(read.x)]
    scores = (read.x @ read.W).astype(np.float64)
    p = np.exp(scores - logsumexp(scores, axis=1, keepdims=True))
    return read.x.T @ (p - np.eye(10)[y]) / len(y)


def test_q1_the_same_loop_memorises_and_grows(seen):
    few, grown, rest = loops(seen)
    assert {len(set(fingerprints(read.x))) for read in few} == {20}
    assert all(len(read.x) == 42 for read in grown)
    for first, second in few[:2], few[99:101], grown[:2], grown[-2:]:
        step = -0.1 * (gradient(seen, first) + 1e-4 * 2 * first.W)
        np.testing.assert_allclose(second.W - first.W, step, atol=1e-7)
    lines = seen.lines("1.6", "step ")
    for line in lines:
        read = few[int(numbers(line)[0][0])]
        y = np.array([seen.sets[row][1] for row in fingerprints(read.x)])
        scores = read.x @ read.W
        right = np.sum(scores.argmax(axis=1) == y)
        assert says(line, loss_of(scores, y), right, 20)
    assert len(lines) > 2 and right == 20
    # The cosines: of an untrained model, and of the one that has grown.
    whole = [k for k, r in enumerate(rest) if len(r.x) == len(seen.parts[0].y)]
    assert rest[whole[0]].W.std() < 0.01 and rest[whole[1]].model is grown[0].model
    lines = seen.lines("1.6", "cosine")
    assert ["untrained" in line for line in lines] == [True] * 4 + [False] * 4
    for k, line in enumerate(lines):
        exact = gradient(seen, rest[whole[k // 4]])
        reads = rest[whole[k // 4] + 1 + 200 * (k % 4) :][:200]  # "of 200 draws"
        found = [gradient(seen, read) for read in reads]
        cosines = [np.sum(g * exact) / np.linalg.norm(g) for g in found]
        assert says(line, len(reads[0].x), np.mean(cosines) / np.linalg.norm(exact))
        assert len({len(read.x) for read in reads}) == 1
        assert len({tuple(fingerprints(read.x)) for read in reads}) > 100  # drawn anew


def test_q1_initial_weights_differ_in_their_deviation_only(seen):
    runs = seen.fits("1.7")
    first = seen.fits("1.6")[0]  # "the same run"
    assert all(settings_of(run) == settings_of(first) for run in runs)
    assert {run.seed for run in runs} == {first.seed}
    spread = [model.W.std() for model in starts(seen.of("fit", "1.7"))]
    found = seen.answer("1.7", "xavier")
    for name, sd in ("Xavier", math.sqrt(2 / 794)), ("0.001", 1e-3), (", 1", 1):
        k = np.argmin(np.abs(np.subtract(spread, sd)))
        assert spread[k] == pytest.approx(sd, rel=0.03)
        assert says(re.search(rf"{name}:? ([\d.]+%)", found)[1], 100 * runs[k].valid)


def test_q1_scikit_learn_gets_the_same_problem(seen):
    training, _, test = seen.parts
    ours, logistic = chosen(seen, 1)[0], by_sklearn(seen, "Logistic")
    lam = ours.settings["lam"]
    assert pytest.approx(1 / (2 * lam * len(training.y))) == logistic.C
    assert not logistic.fit_intercept and logistic.n_iter_.max() < logistic.max_iter
    (longer,) = seen.fits("1.11")  # "nine times the epochs"
    assert settings_of(longer) == settings_of(ours) | {"epochs": 45}
    assert longer.seed == ours.seed
    for label in seen.answer("1.11", "training / test").split(";"):
        right = [np.mean(classify(seen, label, p.x) == p.y) for p in (training, test)]
        assert says(label, 100 * right[0], 100 * right[1])
    weights = logistic.coef_.T, ours.model.W, longer.model.W
    J = [loss_of(training.x @ W, training.y) + lam * np.sum(W**2.0) for W in weights]
    lines = seen.lines("1.11", "J =")
    for name, value, line in zip(("Logistic", "ours:", "45"), J, lines, strict=True):
        (j, _), (above, _) = numbers(line.split("J")[1])
        assert name in line and j == pytest.approx(value, abs=1.1e-5)
        assert above == pytest.approx(100 * value / J[0] - 100, abs=0.02, rel=1e-3)
