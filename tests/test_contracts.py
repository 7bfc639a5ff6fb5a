"""Contracts of the experiments: what is trained, chosen, tested and answered.

The notebook is rehearsed once on few images (rehearsal.py says what differs there).
These tests read what was recorded, and speak when a fit sees another set of images than
it may, when what is tested is not what was chosen, when a setting is not the one that
stands in SETTINGS or in the text, and when an answer or a printed line does not say
what its words ask. Figures and tables: test_figures.py. Whether the functions are right
is for their unit tests; here they are taken to be.

Things are found by section, by function and by a word of what is asked, so that cells,
names and sentences may change. Who changes an experiment's settings changes SETTINGS."""

import functools
import itertools
import math
import re

import numpy as np
import pytest
from rehearsal import fingerprints, rehearse
from scipy import ndimage, stats
from scipy.special import expit, logsumexp

SETTINGS = {  # of experiments, by section; the text or the saved figures say them
    "1.6": {"epochs": 10, "batch_size": 50, "learning_rate": 0.1, "lam": 1e-4},
    "1.8": {"epochs": 5, "batch_size": 50},
    "3.3": {"epochs": 8, "batch_size": 64, "learning_rate": 0.1},
    "3.4": {"epochs": 8},
    "6.1": {"epochs": 2, "batch_size": 100, "learning_rate": 0.1},  # the variants
    "6.1 units": {"epochs": 8, "batch_size": 128, "learning_rate": 0.1},
    "ConvNet": {"epochs": 20, "batch_size": 50, "learning_rate": 0.3},
    "wide MLP": {"epochs": 30, "batch_size": 100, "learning_rate": 0.7},
}
# Sections of Questions 1 and 3: first run, tuning, test, classes, bonus.
QUESTIONS = {1: ("1.6", "1.8", "1.9", "1.10", "1.13")}
QUESTIONS[3] = "3.3", "3.4", "3.5", "3.6", "3.8"
POINTS = (2, 4, 1), (9, 14, 3), (128, 42, 666), (52, 14, 28)  # the sheet's


@pytest.fixture(scope="session")
def seen():
    """The Rehearsal."""
    return rehearse()


both_questions = pytest.mark.parametrize("question", QUESTIONS)

# --- Numbers in texts, and numbers to compare them with (accuracies in percent) -------


def numbers(text):
    """(value, half a unit of its last digit) of the numbers in a text."""
    found = []
    pattern = r"(?<![\w.])([-+]?\d+(?:,\d{3})*(?:\.(\d+))?)(?:e([-+]?\d+))?"
    for match in re.finditer(pattern, text):
        power = 10.0 ** int(match[3] or 0)
        unit = power * 10.0 ** -len(match[2] or "")
        found.append((float(match[1].replace(",", "")) * power, 0.501 * unit))
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
    return np.concatenate(
        [model.forward(x[i : i + 500]) for i in range(0, len(x), 500)]
    )


def hits_of(model, part):
    return scores_of(model, part.x).argmax(axis=1) == part.y


def accuracy_of(model, part):
    return 100 * np.mean(hits_of(model, part))


def loss_of(scores, y):
    scores = np.asarray(scores, dtype=np.float64)
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


def states(seen, section, number, noun):
    """Whether a section's text has the number (in digits or as a word) by the noun."""
    word = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 10: "ten"}.get(number)
    number, text = rf"(?:{number:,g}|{word})", re.sub(r"[*$`]", "", seen.prose[section])
    between = r"\W+(?:\w+\W+){0,3}"
    pattern = rf"\b{number}{between}{noun}|{noun}\w*{between}{number}\b"
    return re.search(pattern, text, re.IGNORECASE)


def settings_of(run):
    """Without what only says how often the log is written."""
    return {key: run.settings[key] for key in run.settings if key != "log_every"}


def parts_of(seen):
    """The Parts: training, validation, test."""
    return seen.of("load_digits")[0].result


def tuning(seen, question):
    """What tune gave: (Runs of the grid, the leaders' Runs), and what it was given."""
    (call,) = seen.of("tune", QUESTIONS[question][1])
    return *call.result, call.given


def chosen(seen, question):
    """The Runs of the chosen settings: the best mean accuracy in validation."""
    _, leaders, _ = tuning(seen, question)
    return max(leaders, key=lambda runs: np.mean(percent(runs, "valid")))


def estimators(seen):
    """{what it is: fitted estimator} of scikit-learn's."""
    found = {}
    for call in seen.calls:
        if call.name == "sklearn":
            kind = "one-hot" if np.ndim(call.given["y"]) == 2 else "rounded"
            name = type(call.result).__name__
            found[kind if name == "LinearRegression" else name] = call.result
    return found


@functools.cache
def classifiers(seen):
    """{word of its label: function of pixels -> classes} of the models compared."""
    fitted = estimators(seen)
    by_model = {"softmax": chosen(seen, 1)[0], "256": chosen(seen, 3)[0]}
    by_model["45 epochs"] = seen.fits("1.11")[0]
    by_model["800"], by_model["ConvNet"] = networks(seen)
    found = {
        word: lambda x, m=run.model: scores_of(m, x).argmax(axis=1)
        for word, run in by_model.items()
    }
    found["rounded"] = lambda x: np.rint(fitted["rounded"].predict(x)).clip(0, 9)
    found["one-hot"] = lambda x: fitted["one-hot"].predict(x).argmax(axis=1)
    found["LogisticRegression"] = fitted["LogisticRegression"].predict
    return found


def networks(seen):
    """The Runs on distorted images: the wide MLP, the ConvNet."""
    runs = seen.fits("6.5")
    kinds = [type(run.model).__name__ for run in runs]
    return runs[kinds.index("MLP")], runs[kinds.index("ConvNet")]


# --- Which images train, choose and test ----------------------------------------------


def test_every_answer_stands_in_its_section(seen):
    given = [call.given for call in seen.of("answer")]
    assert len({(a["section"], a["asked"]) for a in given}) == seen.ns["ASKED"]
    assert [a["section"] for a in given] == [c.section for c in seen.of("answer")]


def test_fits_are_on_training_images_and_watched_in_validation(seen):
    training, validation, _ = parts_of(seen)
    for call in seen.of("fit"):
        part, valid = call.given["part"], call.given["valid"]
        known = [seen.sets.get(row) for row in fingerprints(part.x)]
        assert known == [("training", label) for label in part.y]
        if call.section in ("1.13", "3.8"):  # less data
            continue
        assert len(part.y) == len(training.y), "a fit on some of the training images"
        if valid is None:
            continue
        assert fingerprints(valid.x) == fingerprints(validation.x)
        assert (valid.y == validation.y).all()
        run = call.result
        if not math.isnan(run.valid):
            assert 100 * run.train == pytest.approx(accuracy_of(run.model, training))
            assert 100 * run.valid == pytest.approx(accuracy_of(run.model, validation))
            assert run.log[-1]["validation accuracy"] == run.valid
    for call in seen.calls:
        if call.name == "sklearn":
            assert fingerprints(call.given["x"]) == fingerprints(training.x)


def test_no_step_learns_from_a_validation_or_test_image(seen):
    for read in seen.reads:
        if read.learned and not read.sets.keys() <= {"training"}:
            made = read.section in ("1.3", "1.4", "3.2", "6.5")  # checks; distorted
            assert made and read.sets.keys() == {"other"}, read.section
    for call in seen.of("get_minibatch"):
        if call.section not in ("1.2", "5.3", "5.6", "6.3", "6.4"):
            rows = fingerprints(call.given["x"][:50])
            assert {seen.sets[row][0] for row in rows} == {"training"}, call.section


def test_the_test_set_waits_for_all_choices_of_its_question(seen):
    done = {q: max(c.at for c in seen.of("answer", QUESTIONS[q][1])) for q in QUESTIONS}
    opened = [read for read in seen.reads if "test" in read.sets]
    assert min(read.at for read in opened) > done[1]
    for read in opened:
        if type(read.model).__name__ == "MLP":
            assert read.at > done[3]
    for call in seen.of("fit", "3.4"):
        assert min(r.at for r in opened if r.section[0] == "3") > call.at
    last_fit = max(call.at for call in seen.of("fit", "6.5"))
    for read in opened:
        if any(read.model is run.model for run in networks(seen)):
            assert read.at > last_fit
    # Before Question 3's bonus nothing else than what was chosen is tested.
    for question in QUESTIONS:
        _, _, test_section, classes, _ = QUESTIONS[question]
        models = [r.model for r in opened if r.section in (test_section, classes)]
        assert models and all(m is chosen(seen, question)[0].model for m in models)


# --- Questions 1 and 3: a first run, tuning, test, less data --------------------------


@both_questions
def test_the_first_run(seen, question):
    section = QUESTIONS[question][0]
    run = seen.fits(section)[0]
    lam = {} if question == 1 else {"lam": chosen(seen, 1)[0].settings["lam"]}
    assert settings_of(run) == SETTINGS[section] | lam
    check_model(run.model, question)
    assert [row["epoch"] for row in run.log] == list(range(1, len(run.log) + 1))
    assert says(seen.answer(section, "validation set"), 100 * run.valid)
    (header,) = seen.lines(section, "training loss")  # the printed log
    columns = re.findall(r"\w+ (?:loss|accuracy)", header)
    last = run.settings["epochs"]
    lines = [line for line in seen.lines(section, "%") if re.match(r" *\d", line)]
    epochs = [int(numbers(line)[0][0]) for line in lines]
    assert epochs == [1, *range(2, last + 1, 2)]  # "printed for every second" (page 1)
    for epoch, line in zip(epochs, lines, strict=True):
        row = run.log[epoch - 1]
        told = [row[c] * (100 if "accuracy" in c else 1) for c in columns]
        assert len(columns) == 4 and says(line, epoch, *told)


def check_model(model, question):
    """A model of Question 1, or of Question 3 with 256 hidden units."""
    kind = {1: "Single_layer_classifier", 3: "MLP"}[question]
    assert type(model).__name__ == kind
    if question == 3:
        assert model.layers[0].W.shape == (784, 256)


@both_questions
def test_every_choice_is_made_by_validation_on_the_whole_grid(seen, question):
    section = QUESTIONS[question][1]
    tried, leaders, given = tuning(seen, question)
    budget = SETTINGS[section]
    if question == 1:
        assert states(seen, section, budget["epochs"], "epoch")
        assert states(seen, section, budget["batch_size"], "batches")
    else:
        budget = budget | {"lam": chosen(seen, 1)[0].settings["lam"]}
        assert states(seen, section, 4, "pairs")
    pairs = [
        dict(zip(given["grid"], v)) for v in itertools.product(*given["grid"].values())
    ]
    assert len(pairs) == len(tried) >= 12
    for pair in pairs:
        (run,) = [r for r in tried if settings_of(r) == budget | pair]
        check_model(run.model, question)
    assert len({run.seed for run in tried}) == 1
    best = sorted(percent(tried, "valid"), reverse=True)[:4]
    assert len(leaders) == 4
    firsts = [
        next(t for t in tried if settings_of(t) == settings_of(r[0])) for r in leaders
    ]
    assert sorted(percent(firsts, "valid"), reverse=True) == best
    for runs in leaders:
        assert len({run.seed for run in runs} - {tried[0].seed}) == len(runs) == 3
        assert all(settings_of(run) == settings_of(runs[0]) for run in runs)
        assert all(len(run.log) == budget["epochs"] for run in runs)
        assert [run.seed for run in runs] == [run.seed for run in leaders[0]]
    fitted = [call.result for call in seen.of("fit", section)]
    assert all(any(run is f for f in fitted) for run in (*tried, *sum(leaders, [])))


def pair_of(run, given):
    """The values of the grid's settings, λ and batch size before the learning rate."""
    return [run.settings[name] for name in sorted(given["grid"])]


@both_questions
def test_what_was_chosen_is_answered(seen, question):
    section = QUESTIONS[question][1]
    _, leaders, given = tuning(seen, question)
    best = chosen(seen, question)
    found = seen.answer(section, "optimal")
    value, others = np.mean(percent(best, "valid")), ""
    error = math.sqrt(value * (100 - value) / len(parts_of(seen)[1].y))
    tied = [r for r in leaders if r is not best]
    tied = [r[0] for r in tied if np.mean(percent(r, "valid")) > value - error]
    if tied:
        found, others = found.split("standard error")
        assert says(others, error)
    assert says(found, *pair_of(best[0], given))
    assert says(others, *itertools.chain(*(pair_of(run, given) for run in tied)))
    words = {1: "λ.*learning rate", 3: "batch size.*learning rate"}[question]
    assert len(re.findall(words, found.replace(", ", "\n", 0))) == 1
    assert len([n for n, half in numbers(others) if n != 0]) <= 1 + 2 * len(tied)
    trained = np.mean(percent(best, "train"))
    found = seen.answer(section, "over-fitting")
    assert re.search("training.*validation.*points", found)
    assert says(found, trained, value, trained - value)


@both_questions
def test_what_was_chosen_is_tested(seen, question):
    section = QUESTIONS[question][2]
    runs = chosen(seen, question)
    (line,) = seen.lines(section, "validation:")
    assert says(line, *mean_sd(percent(runs, "valid")))
    hits = hits_of(runs[0].model, parts_of(seen)[2])
    found = seen.answer(section, "test set")
    assert says(found.split("seed")[0], *interval(hits))
    assert says(found.split("seed")[1], runs[0].seed)


@both_questions
def test_best_and_worst_class(seen, question):
    hits, y = (
        hits_of(chosen(seen, question)[0].model, parts_of(seen)[2]),
        parts_of(seen)[2].y,
    )
    found = seen.answer(QUESTIONS[question][3], "Best" if question == 1 else "best")
    classes = [interval(hits[y == k]) for k in range(10)]
    accuracies = [value for value, _, _ in classes]
    assert re.match("best.*worst", found)
    for text, k in zip(found.split("worst"), (np.argmax, np.argmin), strict=True):
        k = k(accuracies)
        value, low, high = classes[k]
        near = [j for j, a in enumerate(accuracies) if low <= a <= high and j != k]
        assert [n for n, _ in numbers(text)][2:] == near and says(text, k, value)


def less_data(seen, question):
    """{percentage: Runs} of the bonus."""
    section, runs = QUESTIONS[question][4], chosen(seen, question)
    fitted = {10: [], 20: [], 50: []}
    size = len(parts_of(seen)[0].y)
    for call in seen.of("fit", section):
        fitted[round(100 * len(call.given["part"].y) / size)].append(call.result)
    return fitted | {100: runs}


@both_questions
def test_smaller_sets_have_the_chosen_settings_and_a_larger_lambda(seen, question):
    curve, whole = less_data(seen, question), chosen(seen, question)
    for percentage, runs in curve.items():
        for run, reference in zip(runs, whole, strict=True):
            check_model(run.model, question)
            assert run.seed == reference.seed
            lam = reference.settings["lam"] * 100 / percentage
            expected = settings_of(reference) | {"lam": pytest.approx(lam)}
            assert settings_of(run) == expected
    drawn = [
        fingerprints(c.given["part"].x) for c in seen.of("fit", QUESTIONS[question][4])
    ]
    for rows in drawn:
        assert len(set(rows)) == len(rows)
    assert len({frozenset(rows) for rows in drawn}) == 9  # other images for each seed
    found = seen.answer(QUESTIONS[question][4], "test accuracy")
    test = parts_of(seen)[2]
    means = {k: np.mean([accuracy_of(r.model, test) for r in curve[k]]) for k in curve}
    assert says(found, *itertools.chain(*means.items()))


# --- Question 1: the rest -------------------------------------------------------------


def test_q1_sizes_and_minibatches(seen):
    parts = parts_of(seen)
    assert says(seen.answer("1.1", "size"), len(parts[0].y), len(parts[1].y))
    assert re.search(r"\d training.*\d validation", seen.answer("1.1", "size"))
    assert seen.lines("1.1")[0] == str(len(parts[0].y))
    for part in parts:
        (line,) = seen.lines("1.1", f"{part.name}:")
        assert says(line, *part.x.shape, *part.y.shape)
    epochs = [
        [int(n) for n in re.findall(r"\d", line)[1:]]
        for line in seen.lines("1.2", "epoch")
    ]
    assert len(epochs) == 2 and epochs[0] != epochs[1]
    assert all(sorted(order) == list(range(10)) for order in epochs)
    calls = seen.of("get_minibatch", "1.2")
    assert (
        calls[0].given["batch_size"] == 4
        and calls[0].given["rng"] is calls[1].given["rng"]
    )


def test_q1_checks_before_the_first_run(seen):
    assert says(" ".join(seen.lines("1.4", "p [[")), 0.2, 0.3, 0.5, 0.2, -0.7, 0.5)
    assert says(" ".join(seen.lines("1.4", "loss 1")), -math.log(0.3))
    wrong = [
        c for c in seen.of("check_gradient") if isinstance(c.result, AssertionError)
    ]
    assert [call.section for call in wrong] == ["1.4"] and seen.lines(
        "1.4", "AssertionError"
    )
    naive, safe = (numbers(line)[0][0] for line in seen.lines("1.4", "nan in"))
    assert naive > 50 and safe == 0
    read = [read for read in seen.reads if read.section == "1.4"][-1]
    assert read.x.max() == 255 and states(seen, "1.4", 255, "pixels")
    assert read.W.std() == pytest.approx(0.05, rel=0.1)
    (line,) = seen.lines("1.5", "training images")
    read = next(read for read in seen.reads if read.section == "1.5")
    assert read.W.std() == pytest.approx(1e-3, rel=0.1)
    training = parts_of(seen)[0]
    loss = loss_of(training.x @ read.W, training.y)
    right = np.mean((training.x @ read.W).argmax(axis=1) == training.y)
    assert says(line, loss, 100 * right) and "loss" in line and "accuracy" in line
    assert says(" ".join(seen.lines("1.5", "log 10")), 10, math.log(10))


def loops(seen):
    """The bare loops of 1.6: reads of twenty images over and over, then of batches."""
    reads = [r for r in seen.reads if r.section == "1.6" and r.loop and r.learned]
    few = [read for read in reads if read.model is reads[0].model]
    rest = [read for read in reads if read.model is not reads[0].model]
    grown = [read for read in rest if read.model is rest[0].model and len(read.x) == 42]
    return few, grown, rest


def gradient(seen, read):
    """Of the mean loss of a read's images with respect to the weights."""
    y = [seen.sets[row][1] for row in fingerprints(read.x)]
    scores = (read.x @ read.W).astype(np.float64)
    p = np.exp(scores - logsumexp(scores, axis=1, keepdims=True))
    return read.x.T @ (p - np.eye(10)[y]) / len(y)


def test_q1_the_same_loop_memorises_and_grows(seen):
    few, grown, _ = loops(seen)
    assert {len(set(fingerprints(read.x))) for read in few} == {20}
    assert len(grown) == math.ceil(len(parts_of(seen)[0].y) / 42)
    for first, second in few[:2], few[99:101], grown[:2]:
        assert first.W.std() > 0
        step = -0.1 * (gradient(seen, first) + 1e-4 * 2 * first.W)
        np.testing.assert_allclose(second.W - first.W, step, atol=1e-7)
    assert few[0].W.std() == pytest.approx(1e-3, rel=0.1)
    lines = seen.lines("1.6", "step")
    assert len(lines) >= 4 and [numbers(line)[0][0] for line in lines[:2]] == [0, 100]
    for line in lines:
        read = few[int(numbers(line)[0][0])]
        y = np.array([seen.sets[row][1] for row in fingerprints(read.x)])
        right = np.sum((read.x @ read.W).argmax(axis=1) == y)
        assert says(line, loss_of(read.x @ read.W, y), right, 20)
    assert right == 20


def test_q1_cosines_of_small_batches(seen):
    _, _, rest = loops(seen)
    whole = len(parts_of(seen)[0].y)
    starts = [k for k, read in enumerate(rest) if len(read.x) == whole]
    assert len(starts) == 2 and rest[starts[0]].model is not rest[starts[1]].model
    assert rest[starts[0]].W.std() < 0.01  # untrained, and the one that has grown
    assert rest[starts[1]].model is loops(seen)[1][0].model
    for start, word in zip(starts, ("untrained", ", trained"), strict=True):
        exact = gradient(seen, rest[start])
        for k, size in enumerate((1, 5, 50, 500)):
            reads = rest[start + 1 + 20 * k :][:20]  # "the mean of 20 draws"
            assert {len(read.x) for read in reads} == {size}
            found = [gradient(seen, read) for read in reads]
            cosine = np.mean([np.sum(g * exact) / np.linalg.norm(g) for g in found])
            (line,) = [
                f", {t}" for t in seen.lines("1.6", "cosine") if says(t, size) and
                f", {t}".find(word) >= 0 and numbers(t)[0][0] == size
            ]  # fmt: skip
            assert says(line, size, cosine / np.linalg.norm(exact))
    assert states(seen, "1.6", 20, "draws")


def spreads(seen):
    """The Runs of 1.7 with the deviation of their initial weights, as measured."""
    calls = seen.of("fit", "1.7")
    starts = [
        c.given["make_model"](rng=np.random.default_rng(c.given["seed"])) for c in calls
    ]
    return [(call.result, start) for call, start in zip(calls, starts, strict=True)]


def test_q1_initial_weights_differ_in_their_deviation_only(seen):
    assert {frozenset(settings_of(r).items()) for r, _ in spreads(seen)} == {
        frozenset(SETTINGS["1.6"].items())  # "the same run"
    }
    first = seen.fits("1.6")[0]
    assert {run.seed for run, _ in spreads(seen)} == {first.seed}
    found = seen.answer("1.7", "Xavier")
    for name, sd in ("Xavier", math.sqrt(2 / 794)), ("0.001", 1e-3), (", 1", 1):
        runs = [r for r, s in spreads(seen) if s.W.std() == pytest.approx(sd, rel=0.05)]
        text = re.search(rf"{name} ([\d.]+%)", found)
        assert text and says(text[1], 100 * runs[0].valid)


def test_q1_scikit_learn_gets_the_same_problem(seen):
    training = parts_of(seen)[0]
    lam = chosen(seen, 1)[0].settings["lam"]
    logistic = estimators(seen)["LogisticRegression"]
    assert pytest.approx(1 / (2 * lam * len(training.y))) == logistic.C
    assert not logistic.fit_intercept and logistic.n_iter_.max() < logistic.max_iter
    for call in seen.calls:
        if call.name == "sklearn":
            y = call.given["y"]
            np.testing.assert_array_equal(
                np.argmax(y, 1) if y.ndim == 2 else y, training.y
            )
    (longer,) = seen.fits("1.11")
    expected = settings_of(chosen(seen, 1)[0])
    assert states(seen, "1.11", 9, "epochs") or "nine times" in seen.prose["1.11"]
    assert settings_of(longer) == expected | {"epochs": 9 * expected["epochs"]}
    assert longer.seed == chosen(seen, 1)[0].seed
    found = seen.answer("1.11", "Training / test")
    by_label = dict(re.findall(r"(?:^|; )(\D+?) (\d.*?)(?=;|$)", found))
    words = {"ours": "softmax", "rounded": "rounded", "one-hot": "one-hot"}
    for label, word in (words | {"LogisticRegression": "LogisticRegression"}).items():
        (text,) = [t for name, t in by_label.items() if label in name]
        values = [
            100 * np.mean(classifiers(seen)[word](p.x) == p.y) for p in parts_of(seen)
        ]
        assert says(text, values[0], values[2])


def test_q1_the_objective(seen):
    training, lam = parts_of(seen)[0], chosen(seen, 1)[0].settings["lam"]
    weights = {"LogisticRegression:": estimators(seen)["LogisticRegression"].coef_.T}
    weights |= {"ours:": chosen(seen, 1)[0].model.W, "45": seen.fits("1.11")[0].model.W}
    J = {
        k: loss_of(training.x @ W, training.y) + lam * np.sum(W**2.0)
        for k, W in weights.items()
    }
    for name, value in J.items():
        (line,) = [t for t in seen.lines("1.11", "J =") if name in t.split("J =")[0]]
        value_text, above = line.split("=")[1].split(",")
        assert numbers(value_text)[0][0] == pytest.approx(value, abs=1.1e-5)
        above_is = 100 * value / J["LogisticRegression:"] - 100
        assert numbers(above)[0][0] == pytest.approx(above_is, abs=0.02, rel=1e-3)
