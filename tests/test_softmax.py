"""Question 1: mini-batches, the softmax classifier, its loss, and the trainer."""

import math

import numpy as np
import pytest
from conftest import assert_gradient, assert_weight_gradient, finite_difference
from scipy.special import log_softmax, logsumexp
from scipy.special import softmax as scipy_softmax

pytestmark = pytest.mark.filterwarnings("error")


def problem(rng, count=7, width=5, classes=4, dtype=np.float64):
    """Random inputs (count, width), labels (count,) and scores (count, classes)."""
    x = rng.standard_normal((count, width)).astype(dtype)
    scores = (3 * rng.standard_normal((count, classes))).astype(dtype)
    return x, rng.integers(0, classes, count), scores


# --- Mini-batches ----------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 4, 23, 24, 100])
def test_every_sample_comes_once_with_its_label(nb, rng, batch_size):
    y = np.arange(23)
    x = np.stack([y, -y, 10 * y], axis=1).astype(np.float32)
    batches = list(nb.get_minibatch(x, y, batch_size, rng))
    full, rest = divmod(23, batch_size)
    assert [len(y_b) for _, y_b in batches] == [batch_size] * full + [rest] * (rest > 0)
    x_seen, y_seen = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    np.testing.assert_array_equal(np.sort(y_seen), y)
    np.testing.assert_array_equal(x_seen, x[y_seen])
    assert x_seen.dtype == x.dtype


def order_of(nb, rng):
    x, y = np.arange(50)[:, None], np.arange(50)
    return np.concatenate([y_b for _, y_b in nb.get_minibatch(x, y, 8, rng)]).tolist()


def test_each_epoch_has_its_own_order(nb, rng):
    first, second = order_of(nb, rng), order_of(nb, rng)
    assert first != second
    assert list(range(50)) not in (first, second)


def test_one_seed_gives_one_order(nb):
    seeds = [order_of(nb, np.random.default_rng(seed)) for seed in (5, 5, 6)]
    assert seeds[0] == seeds[1] != seeds[2]


# --- The loss --------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 50])
def test_loss_is_scipys(nb, rng, count):
    _, y, scores = problem(rng, count)
    expected = -log_softmax(scores, axis=1)[np.arange(count), y].mean()
    assert nb.loss_function(y, scores) == pytest.approx(expected, rel=1e-13)


def test_softmax_is_scipys(nb, rng):
    scores = problem(rng)[2] * [1, 10, 100, 1000]
    np.testing.assert_allclose(nb.softmax(scores), scipy_softmax(scores, axis=1), atol=1e-15)


@pytest.mark.parametrize("constant", [-1000.0, 0.5, 1000.0])
def test_loss_ignores_a_constant(nb, rng, constant):
    _, y, scores = problem(rng)
    shifted = scores + constant
    assert nb.loss_function(y, shifted) == pytest.approx(nb.loss_function(y, scores), abs=1e-11)
    gradients = [nb.loss_backward(y, s) for s in (scores, shifted)]
    np.testing.assert_allclose(*gradients, rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_scores_stay_finite(nb, dtype):
    scores = np.array([[1e4, -1e4, 0], [-1e4, -1e4, 1e4], [1e4, 1e4, -1e4]], dtype)
    y = np.array([1, 2, 0])
    expected = np.mean(logsumexp(scores.astype(float), axis=1) - scores[np.arange(3), y])
    assert nb.loss_function(y, scores) == pytest.approx(expected, rel=1e-6)
    expected_gradient = (scipy_softmax(scores.astype(float), axis=1) - np.eye(3)[y]) / 3
    np.testing.assert_allclose(nb.loss_backward(y, scores), expected_gradient, atol=1e-7)


@pytest.mark.parametrize("classes", [2, 10, 37])
def test_first_loss_is_log_of_the_class_count(nb, rng, classes):
    x, y, _ = problem(rng, 200, 30, classes)
    model = nb.Single_layer_classifier(30, classes, std=1e-6, rng=rng)
    assert nb.loss_function(y, model.forward(x)) == pytest.approx(math.log(classes), abs=1e-4)


def test_loss_gradient(nb, rng):
    _, y, scores = problem(rng)
    kept = scores.copy()
    grad = nb.loss_backward(y, scores)
    np.testing.assert_array_equal(scores, kept)
    assert_gradient(grad, finite_difference(lambda s: nb.loss_function(y, s), scores))
    np.testing.assert_allclose(grad.sum(axis=1), 0, atol=1e-16)


def test_loss_and_gradient_come_together(nb, rng):
    _, y, scores = problem(rng)
    loss, grad = nb.loss_and_gradient(y, scores)
    assert type(loss) is float and loss == nb.loss_function(y, scores)
    np.testing.assert_array_equal(grad, nb.loss_backward(y, scores))


@pytest.mark.parametrize(
    ("labels", "scores"),
    [((6,), (7, 4)), ((7, 4), (7, 4)), ((7, 1), (7, 4)), ((4,), (4,)), ((0,), (0, 4))],
)
def test_labels_that_do_not_fit_the_scores(nb, labels, scores):
    with pytest.raises(ValueError) as caught:
        nb.loss_and_gradient(np.zeros(labels, int), np.zeros(scores))
    assert str(labels) in str(caught.value) and str(scores) in str(caught.value)


# --- The classifier --------------------------------------------------------------------------


def test_scores_have_no_bias(nb, rng):
    x, _, _ = problem(rng)
    model = nb.Single_layer_classifier(5, 4, rng=rng, dtype=np.float64)
    assert model.W.shape == (5, 4)
    np.testing.assert_allclose(model.forward(x), np.einsum("ni,im->nm", x, model.W), atol=1e-15)


def test_data_gradient(nb, rng):
    x, y, _ = problem(rng)
    model = nb.Single_layer_classifier(5, 4, std=1, rng=rng, dtype=np.float64)
    grad = model.backward_Ldata(nb.loss_backward(y, model.forward(x)))
    assert_weight_gradient(model, "W", grad, lambda: nb.loss_function(y, model.forward(x)))


def test_regularisation_gradient(nb, rng):
    model = nb.Single_layer_classifier(5, 4, std=1, rng=rng, dtype=np.float64)
    assert_weight_gradient(model, "W", model.backward_Lreg(), lambda: np.sum(model.W**2))


def test_default_initial_weights_are_small(nb, rng):
    W = nb.Single_layer_classifier(200, 100, rng=rng).W
    assert W.std() == pytest.approx(1e-3, rel=0.03) and W.dtype == np.float32


@pytest.mark.parametrize("std", [1e-3, 0.5])
def test_initial_weights_are_normal(nb, rng, std):
    W = nb.Single_layer_classifier(200, 100, std=std, rng=rng).W
    assert W.std() == pytest.approx(std, rel=0.03)
    assert abs(W.mean()) < 0.03 * std


# --- The gradient check that the notebook uses -----------------------------------------------


def test_numerical_gradient_is_right_and_keeps_the_array(nb, rng):
    array = rng.standard_normal((3, 4))
    kept = array.copy()
    grad = nb.numerical_gradient(lambda: float(np.sum(np.sin(array))), array)
    assert_gradient(grad, np.cos(kept), bound=1e-9)
    np.testing.assert_array_equal(array, kept)


def test_relative_error(nb):
    a = np.array([3.0, 4.0])
    assert nb.relative_error(a, a) == 0
    assert nb.relative_error(0 * a, 0 * a) == 0
    assert nb.relative_error(a, -a) == pytest.approx(1)
    assert nb.relative_error(a, 3 * a) == pytest.approx(0.5)
    assert nb.relative_error(1e-100 * a, 3e-100 * a) == pytest.approx(0.5)


@pytest.mark.parametrize("wrong", [1.001, -1, np.nan])
def test_gradient_check_fails_on_a_wrong_gradient(nb, wrong, capsys):
    array = np.array([1.0, 2.0])
    right = 2 * array

    def square():
        return np.sum(array**2)

    error = nb.check_gradient("square", square, array, right)
    assert error == nb.relative_error(right, nb.numerical_gradient(square, array)) < 1e-9
    line = capsys.readouterr().out
    assert line.startswith("square ") and line.endswith(f"relative error {error:.1e}\n")
    with pytest.raises(AssertionError, match="broken"):
        nb.check_gradient("broken", square, array, right * wrong)


def test_gradient_check_takes_a_bound(nb):
    array = np.array([1.0])
    error = nb.check_gradient("loose", lambda: array[0] ** 2, array, np.array([2.01]), bound=1e-2)
    assert error == pytest.approx(0.01 / 4.01, rel=1e-6)


# --- The trainer -----------------------------------------------------------------------------

MODELS = {
    "softmax": lambda nb, dtype: nb.Single_layer_classifier(
        6, 3, rng=np.random.default_rng(1), dtype=dtype
    ),
    "MLP": lambda nb, dtype: nb.MLP(6, 8, 3, rng=np.random.default_rng(1), dtype=dtype),
}


@pytest.fixture(params=MODELS)
def make_model(request, nb):
    """A function that makes the same fresh model at each call."""
    return lambda dtype=np.float32: MODELS[request.param](nb, dtype)


def toy(seed, count=90, dtype=np.float32):
    """Three well separated clouds in 6 dimensions."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % 3
    x = rng.standard_normal((count, 6)) + 6 * np.eye(3, 6)[y]
    return x.astype(dtype), y


def fit(nb, model, train_set=None, valid_set=None, **changes):
    settings = {"epochs": 5, "batch_size": 20, "learning_rate": 0.2, "lam": 1e-4}
    settings |= {"rng": np.random.default_rng(2)} | changes
    return nb.train(model, toy(0) if train_set is None else train_set, valid_set, **settings)


def arrays_of(model):
    """The model's own weights and biases, also before there are gradients."""
    if hasattr(model, "W"):
        return [model.W]
    return [array for layer in model.weighted for array in (layer.W, layer.b)]


def weights(model):
    return [array.copy() for array in arrays_of(model)]


def column(history, part, index):
    """Epochs (0), losses (1) or accuracies (2) of a part of the history."""
    return [row[index] for row in history[part]]


def test_training_learns_separable_data(nb, make_model):
    history = fit(nb, make_model(), valid_set=toy(1), epochs=10)
    losses = column(history, "train", 1)
    assert losses[-1] < 0.3 * losses[0]
    assert history["train"][-1][2] > 0.95
    assert history["valid"][-1][2] > 0.95


def test_history_has_one_row_an_epoch(nb, make_model):
    history = fit(nb, make_model(), valid_set=toy(1), epochs=4)
    assert set(history) == {"train", "valid"}
    assert column(history, "train", 0) == [0.5, 1.5, 2.5, 3.5]  # a mean over the epoch
    assert column(history, "valid", 0) == [1, 2, 3, 4]
    assert all(0 <= row[2] <= 1 for rows in history.values() for row in rows)


@pytest.mark.parametrize(
    ("epochs", "every", "at"), [(10, 4, [2, 6, 10]), (8, 4, [4, 8]), (3, 5, [3]), (2, 1, [1, 2])]
)
def test_validation_every_few_epochs_ends_with_the_last(nb, make_model, epochs, every, at):
    always = fit(nb, make_model(), valid_set=toy(1), epochs=epochs)
    history = fit(nb, make_model(), valid_set=toy(1), epochs=epochs, valid_every=every)
    assert history["valid"] == [always["valid"][epoch - 1] for epoch in at]
    assert history["train"] == always["train"]


def test_training_without_validation(nb, make_model):
    history = fit(nb, make_model(), epochs=3)
    assert len(history["train"]) == 3 and history["valid"] == []


def test_last_validation_figures_are_the_final_models(nb, make_model):
    model, (x, y) = make_model(), toy(1)
    history = fit(nb, model, valid_set=(x, y))
    log_p = log_softmax(model.forward(x).astype(float), axis=1)
    loss, accuracy = -log_p[np.arange(len(y)), y].mean(), np.mean(log_p.argmax(axis=1) == y)
    assert history["valid"][-1] == pytest.approx((5, loss, accuracy), rel=1e-5)
    assert nb.evaluate(model, (x, y)) == pytest.approx((loss, accuracy), rel=1e-5)


def test_logged_loss_weighs_every_sample_alike(nb, make_model):
    """At learning rate 0 the logged figures are those of the whole set, short batch included."""
    model, (x, y) = make_model(), toy(0, count=50)
    history = fit(nb, model, (x, y), learning_rate=0, batch_size=20, epochs=2)
    for _, *logged in history["train"]:
        assert logged == pytest.approx(nb.evaluate(model, (x, y)), rel=1e-5)


def test_training_is_deterministic(nb, make_model):
    first, again, other = (make_model() for _ in range(3))
    histories = [
        fit(nb, model, rng=np.random.default_rng(seed))
        for model, seed in ((first, 7), (again, 7), (other, 8))
    ]
    assert histories[0] == histories[1] != histories[2]
    for a, b in zip(weights(first), weights(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_training_stays_in_float32(nb, make_model):
    model, (x, y) = make_model(), toy(0)
    fit(nb, model, (x, y))
    scores = model.forward(x)
    arrays = [scores, nb.loss_backward(y, scores), *sum(model.parameters(), ())]
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}


def test_training_leaves_the_data_alone(nb, make_model):
    x, y = toy(0)
    x.flags.writeable = y.flags.writeable = False
    fit(nb, make_model(), (x, y), valid_set=(x, y))


@pytest.mark.parametrize("rate", [1e4, 1e10, 1e30])
def test_divergence_stops_and_blames_the_learning_rate(nb, make_model, rate):
    with pytest.raises(FloatingPointError, match="learning rate"):
        fit(nb, make_model(), learning_rate=rate, lam=0.1, epochs=50)


def test_divergence_in_the_last_step_is_noticed_in_validation(nb, make_model):
    with pytest.raises(FloatingPointError, match="learning rate"):
        settings = {"epochs": 1, "batch_size": 90, "lam": 1e20}
        fit(nb, make_model(), valid_set=toy(1), learning_rate=1e30, **settings)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_stop_training(nb, make_model, bad):
    model, (x, y) = make_model(), toy(0)
    fit(nb, model, (x, y), epochs=1)
    arrays_of(model)[0][0, 0] = bad
    with pytest.raises(FloatingPointError, match="learning rate"):
        fit(nb, model, (x, y))


def test_custom_batches_are_used(nb, make_model):
    calls = []

    def batches(x, y, batch_size, rng):
        calls.append((len(x), len(y), batch_size))
        for start in range(0, len(x), batch_size):
            yield x[start : start + batch_size] * 0, y[start : start + batch_size]

    model = make_model()
    model.forward(toy(0)[0])
    history = fit(nb, model, batches=batches, epochs=3, lam=0, learning_rate=0)
    assert calls == [(90, 90, 20)] * 3
    assert column(history, "train", 1) == pytest.approx([math.log(3)] * 3)  # all inputs were zero


@pytest.mark.parametrize("lam", [0.0, 0.3])
def test_step_is_plain_gradient_descent_on_the_mean(nb, make_model, lam):
    """Each value moves by -rate * (its gradient); W's has 2 lam W added, biases go free."""
    model, (x, y) = make_model(np.float64), toy(0, 12, np.float64)
    nb.take_step(model, x, y, 0.0, 0.0)
    values = arrays_of(model)
    before, expected = [value.copy() for value in values], []
    for value in values:

        def loss(moved, value=value):
            kept = value.copy()
            value[...] = moved
            result = nb.loss_function(y, model.forward(x))
            value[...] = kept
            return result

        decay = 2 * lam * value if value.ndim == 2 else 0
        expected.append(0.1 * (finite_difference(loss, value) + decay))
    nb.take_step(model, x, y, 0.1, lam)
    for value, start, step in zip(values, before, expected, strict=True):
        assert_gradient(start - value, step)


def test_step_reports_figures_from_before_it(nb, make_model):
    model, (x, y) = make_model(np.float64), toy(0, 12, np.float64)
    scores = model.forward(x)
    loss, correct = nb.take_step(model, x, y, 0.5, 0.0)
    assert loss == pytest.approx(-log_softmax(scores, axis=1)[np.arange(12), y].mean())
    assert correct == np.sum(scores.argmax(axis=1) == y)


def test_softmax_step_is_exactly_the_formula(nb, rng):
    """W -= rate * (grad + lam * 2W)."""
    x, y, _ = problem(rng)
    model = nb.Single_layer_classifier(5, 4, std=1, rng=rng, dtype=np.float64)
    W = model.W.copy()
    grad = x.T @ (scipy_softmax(x @ W, axis=1) - np.eye(4)[y]) / len(y)
    nb.take_step(model, x, y, 0.25, 0.125)
    np.testing.assert_allclose(model.W, W - 0.25 * (grad + 0.125 * 2 * W), rtol=1e-13, atol=1e-15)
