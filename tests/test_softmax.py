"""Question 1's model: classifier, loss, gradient checks, and the counting of hits."""

import math

import numpy as np
import pytest
from conftest import (
    Echo,
    assert_gradient,
    assert_seeded,
    assert_weight_gradient,
    finite_difference,
)
from scipy import special
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info, threadpool_limits

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def x(rng):
    """7 inputs of 5 numbers."""
    return rng.standard_normal((7, 5))


@pytest.fixture
def scores(rng):
    """Scores of 7 images for 4 classes."""
    return 3 * rng.standard_normal((7, 4))


@pytest.fixture
def y(rng):
    return rng.integers(0, 4, 7)


@pytest.fixture
def model(nb, rng):
    return nb.Single_layer_classifier(5, 4, std=1, rng=rng, dtype=np.float64)


# --- The loss ----------------------------------------------------------------------


def test_softmax_is_scipys(nb, scores):
    scores = scores * [1, 10, 100, 200]
    found, expected = nb.softmax(scores), special.softmax(scores, axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_loss_is_scipys(nb, y, scores, count):
    y, scores = y[:count], scores[:count]
    expected = -special.log_softmax(scores, axis=1)[np.arange(count), y].mean()
    assert nb.loss_function(y, scores) == pytest.approx(expected, rel=1e-12, abs=0)
    assert type(nb.loss_function(y, scores)) is float


def test_loss_gradient(nb, y, scores):
    kept = scores.copy()
    grad = nb.loss_backward(y, scores)
    np.testing.assert_array_equal(scores, kept)
    assert_gradient(grad, finite_difference(lambda s: nb.loss_function(y, s), scores))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_scores_stay_finite(nb, dtype):
    scores = np.array([[1e4, -1e4, 0], [1e4, 1e4, -1e4], [-1e4] * 3, [1, 2, 3]], dtype)
    y, exact = np.array([1, 0, 2, 2]), scores.astype(float)
    loss = np.mean(special.logsumexp(exact, axis=1) - exact[np.arange(4), y])
    assert nb.loss_function(y, scores) == pytest.approx(loss, rel=1e-6)
    grad = (special.softmax(exact, axis=1) - np.eye(3)[y]) / 4
    np.testing.assert_allclose(nb.loss_backward(y, scores), grad, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_labels_of_any_integer_type(nb, y, scores, dtype):
    loss, grad = nb.loss_and_gradient(y, scores)
    found_loss, found_grad = nb.loss_and_gradient(y.astype(dtype), scores)
    assert found_loss == loss
    np.testing.assert_array_equal(found_grad, grad)


WRONG_LABELS = {  # (labels for scores (3, 4), what the message says)
    "negative": (np.array([0, -1, 2]), r"integers from 0 up.*-1"),
    "fractional": (np.array([0, 1.5, 2]), r"integers from 0 up.*1\.5"),
    "whole floats": (np.array([0.0, 1, 2]), r"integers from 0 up"),
    "booleans": (np.array([True, False, True]), r"integers from 0 up"),
    "too large": (np.array([0, 4, 2]), r"label is 4.*4 scores"),
    "a column": (np.array([[0], [1], [2]]), r"labels \(N,\).*\(3, 4\) and \(3, 1\)"),
    "one-hot": (np.eye(4, dtype=int)[:3], r"labels \(N,\).*\(3, 4\) and \(3, 4\)"),
    "too few": (np.array([0, 1]), r"labels \(N,\).*\(3, 4\) and \(2,\)"),
    "a single one": (np.array(1), r"labels \(N,\).*\(3, 4\) and \(\)"),
}


@pytest.mark.parametrize("kind", WRONG_LABELS)
def test_labels_that_are_wrong(nb, scores, kind):
    labels, message = WRONG_LABELS[kind]
    for function in nb.loss_function, nb.loss_backward:
        with pytest.raises(ValueError, match=message):
            function(labels, scores[:3])
    with pytest.raises(ValueError):
        nb.evaluate(Echo(), nb.Part(scores[:3], labels, "odd"))


@pytest.mark.parametrize(("labels", "shape"), [((4,), (4,)), ((0,), (0, 4))])
def test_scores_that_are_wrong(nb, labels, shape):
    with pytest.raises(ValueError) as caught:
        nb.loss_and_gradient(np.zeros(labels, int), np.zeros(shape))
    said = str(caught.value)
    assert "N above 0" in said and f"{shape} and {labels} were given" in said


# --- The classifier ----------------------------------------------------------------


def test_scores_have_no_bias(model, x):
    expected = np.einsum("ni,im->nm", x, model.W)
    np.testing.assert_allclose(model.forward(x), expected, rtol=1e-12)
    assert not model.forward(0 * x).any()


@pytest.mark.parametrize("lam", [0.0, 0.3])
def test_gradients(nb, model, x, y, lam):
    """The mean loss, the sum of W squared, and both together."""

    def loss():
        return nb.loss_function(y, model.forward(x))

    def square():
        return np.sum(model.W**2)

    grad = nb.loss_backward(y, model.forward(x))
    assert_weight_gradient(model, "W", model.backward_Ldata(grad), loss)
    assert_weight_gradient(model, "W", model.backward_Lreg(), square)
    model.backward(grad, lam)
    assert_weight_gradient(model, "W", model.grad_W, lambda: loss() + lam * square())
    model.backward(grad)
    np.testing.assert_array_equal(model.grad_W, model.backward_Ldata(grad))
    ((value, gradient),) = model.parameters()
    assert value is model.W and gradient is model.grad_W


@pytest.mark.parametrize("shape", [(1, 4), (7, 1), (4,), (), (4, 7), (7, 4, 1)])
def test_gradient_of_another_shape_is_refused(model, x, shape):
    model.forward(x)
    for backward in model.backward_Ldata, model.backward:
        with pytest.raises(ValueError) as caught:
            backward(np.ones(shape))
        assert f"shape (7, 4) needed, {shape} given" in str(caught.value)


@pytest.mark.parametrize("std", [None, 0.5])
def test_initial_weights_are_normal(nb, std):
    given = {} if std is None else {"std": std}
    W, std = nb.Single_layer_classifier(200, 100, rng=0, **given).W, std or 1e-3
    assert W.shape == (200, 100) and W.dtype == np.float32
    assert W.std() == pytest.approx(std, rel=0.03) and abs(W.mean()) < 0.03 * std
    beyond = [np.mean(np.abs(W) > k * std) for k in (1, 2)]
    assert beyond == pytest.approx([0.317, 0.046], abs=0.01)


def test_classifier_takes_a_seed_or_a_generator(nb):
    assert_seeded(lambda rng: nb.Single_layer_classifier(5, 4, rng=rng).W)


def test_logistic_regression_has_the_same_minimum(nb, rng):
    """With C = 1 / (2 lam N) our objective's gradient vanishes at scikit-learn's W."""
    x, y, lam = rng.standard_normal((60, 5)), rng.integers(0, 4, 60), 0.01
    theirs = LogisticRegression(C=1 / (2 * lam * 60), fit_intercept=False, tol=1e-10)
    model = nb.Single_layer_classifier(5, 4, dtype=np.float64)
    model.W = nb.fit_sklearn(theirs, x, y).coef_.T
    assert np.linalg.norm(model.W) > 0.1
    model.backward(nb.loss_backward(y, model.forward(x)), lam)
    np.testing.assert_allclose(model.grad_W, 0, atol=1e-7)


# --- The gradient check ------------------------------------------------------------


def test_numerical_gradient_is_right_and_keeps_the_array(nb, rng):
    array = rng.standard_normal((3, 4))
    kept = array.copy()
    grad = nb.numerical_gradient(lambda: np.sum(np.sin(array)), array)
    assert_gradient(grad, np.cos(kept), bound=1e-9)
    np.testing.assert_array_equal(array, kept)


@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_numerical_gradient_of_other_numbers(nb, dtype):
    array = np.array([1, 2, 3], dtype)
    with pytest.raises(TypeError, match=f"float64 array.*{np.dtype(dtype)}"):
        nb.numerical_gradient(lambda: np.sum(array**2), array)


def test_relative_error(nb):
    a = np.array([3.0, 4.0])
    for other, error in (a, 0), (-a, 1), (3 * a, 0.5), (0 * a, 1), (a[::-1], 0.02**0.5):
        assert nb.relative_error(a, other) == pytest.approx(error, rel=1e-12)
    assert nb.relative_error(0 * a, 0 * a) == 0
    assert nb.relative_error(1e-100 * a, 3e-100 * a) == pytest.approx(0.5)


@pytest.mark.parametrize("wrong", [1.001, -1, np.nan])
def test_gradient_check_fails_on_a_wrong_gradient(nb, wrong, capsys):
    array = np.array([1.0, 2.0])
    right = 2 * array

    def square():
        return np.sum(array**2)

    error = nb.check_gradient("square", square, array, right)
    numerical = nb.numerical_gradient(square, array)
    assert error == nb.relative_error(right, numerical) < 1e-9
    line = capsys.readouterr().out
    assert line.startswith("square ") and line.endswith(f" {error:.1e}\n")
    with pytest.raises(AssertionError, match="broken"):
        nb.check_gradient("broken", square, array, right * wrong)


def test_gradient_check_has_a_bound_of_1e_7(nb):
    array = np.array([1.0])

    def check(relative, **options):
        wrong = np.array([2 + 4 * relative])
        return nb.check_gradient("", lambda: array[0] ** 2, array, wrong, **options)

    assert check(0.5e-7) == pytest.approx(0.5e-7, rel=1e-2)
    assert check(1e-3, bound=1e-2) == pytest.approx(1e-3, rel=1e-2)
    for relative, options in (2e-7, {}), (2e-2, {"bound": 1e-2}):
        with pytest.raises(AssertionError):
            check(relative, **options)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 3), (2, 1)])
def test_gradient_check_refuses_a_gradient_that_only_broadcasts(nb, shape):
    """The sum of all entries has the gradient 1 everywhere: broadcast, it would fit."""
    array = np.zeros((2, 3))
    with pytest.raises(ValueError) as caught:
        nb.check_gradient("sum", array.sum, array, np.ones(shape))
    assert "(2, 3)" in str(caught.value) and str(shape) in str(caught.value)


# --- What a model gets right -------------------------------------------------------


def test_predicted_is_the_class_of_the_largest_score(nb):
    scores = np.array(
        [[1, 3, 2], [-5, -6, -7], [0, 0, 1], [np.nan, 9, 1], [0, 1, np.nan]]
    )
    np.testing.assert_array_equal(nb.predict_class(scores), [1, 0, 2, -1, -1])


def test_scores_come_a_thousand_images_at_a_time(nb, rng):
    x, echo = rng.standard_normal((2500, 3)), Echo()
    np.testing.assert_array_equal(nb.predict_scores(echo, x), x)
    np.testing.assert_array_equal(nb.predict_scores(echo, x[:7], chunk=3), x[:7])
    assert echo.counts == [1000, 1000, 500, 3, 3, 1]


def test_evaluate_and_correct_are_over_all_images(nb, rng):
    part = nb.Part(rng.standard_normal((2500, 3)), rng.integers(0, 3, 2500), "kites")
    name, loss, accuracy = nb.evaluate(Echo(), part)
    hits = part.x.argmax(axis=1) == part.y
    expected = -special.log_softmax(part.x, axis=1)[np.arange(2500), part.y].mean()
    assert name == "kites" and accuracy == np.mean(hits) and type(accuracy) is float
    assert loss == pytest.approx(expected, rel=1e-12)
    np.testing.assert_array_equal(nb.correct(Echo(), part), hits)


def test_an_image_without_scores_is_wrong(nb):
    """argmax alone would take nan for the largest score, and so for the right one."""
    part = nb.Part(np.array([[np.nan, 0], [0, 1.0]]), np.array([0, 1]), "odd")
    np.testing.assert_array_equal(nb.correct(Echo(), part), [False, True])
    assert nb.evaluate(Echo(), part).accuracy == 0.5


@pytest.mark.parametrize(("right", "count"), [(0, 10), (3, 10), (10, 10), (917, 1000)])
def test_wilson_is_its_formula(nb, right, count):
    accuracy, low, high = nb.wilson(np.arange(count) < right)
    p, z = right / count, special.ndtri(0.975)
    middle = (p + z**2 / (2 * count)) / (1 + z**2 / count)
    spread = math.sqrt(p * (1 - p) / count + z**2 / (4 * count**2))
    half = z / (1 + z**2 / count) * spread
    assert accuracy == p
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=1e-12)


def test_mcnemar_is_the_binomial_test_of_the_disagreements(nb, rng):
    a, b = rng.random((2, 200)) < [[0.8], [0.6]]
    only_a, only_b = sum(a & ~b), sum(b & ~a)
    p = binomtest(only_a, only_a + only_b, 0.5).pvalue
    assert only_a != only_b
    assert nb.mcnemar(a, b) == (only_a, only_b, pytest.approx(p))
    assert nb.mcnemar(b, a) == (only_b, only_a, pytest.approx(p))
    assert nb.mcnemar(a, a) == (0, 0, 1.0)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [(3, 12, "= 0.035"), (15, 3, "= 0.008"), (3, 40, "< 0.001"), (1, 0, "= 1.000")],
)
def test_versus(nb, only_a, only_b, p):
    a = np.arange(100) < only_a
    b = np.arange(100) >= 100 - only_b
    assert nb.versus(a, b) == f"{only_a} : {only_b}, p {p}"


def part_of(nb, predicted, y, classes=3):
    """A Part of which Echo predicts these classes."""
    return nb.Part(np.eye(classes)[predicted], np.array(y), "odd")


def test_score_classes(nb):
    part = part_of(nb, [0, 1, 1, 1, 1, 2, 2, 0, 2], [0, 0, 0, 1, 1, 2, 2, 2, 2])
    confusion, accuracies = nb.score_classes(Echo(), part, 3)
    np.testing.assert_array_equal(confusion, [[1, 2, 0], [0, 2, 0], [1, 0, 3]])
    assert accuracies == [
        nb.wilson(np.arange(count) < right) for right, count in ((1, 3), (2, 2), (3, 4))
    ]
    assert nb.best_and_worst(accuracies) == (1, 0)


def test_a_class_without_images(nb):
    """Classes 1 and 3 are absent, though 3 is predicted; neither is best or worst."""
    part = part_of(nb, [0, 3, 0, 0, 2], [0, 0, 2, 2, 2], classes=4)
    confusion, accuracies = nb.score_classes(Echo(), part, 4)
    np.testing.assert_array_equal(
        confusion, [[1, 0, 0, 1], [0] * 4, [2, 0, 1, 0], [0] * 4]
    )
    assert np.isnan([accuracies[k] for k in (1, 3)]).all()
    assert [accuracies[k][0] for k in (0, 2)] == pytest.approx([1 / 2, 1 / 3])
    assert nb.best_and_worst(accuracies) == (0, 2)


def test_an_image_without_scores_has_no_place_in_the_confusion(nb):
    part = part_of(nb, [0, 1, 2, 2], [0, 1, 2, 1])
    part.x[3, 0] = np.nan
    confusion, accuracies = nb.score_classes(Echo(), part, 3)
    np.testing.assert_array_equal(confusion, np.eye(3))
    assert [value for value, _, _ in accuracies] == [1, 0.5, 1]


def test_confident_mistakes(nb):
    """Confidence is a probability: the largest score is not the surest."""
    x = [[9, 0, 0], [50, 49, 0], [0, 3, 0], [0, 0, 5], [1, 0, 0], [0, 4, 0]]
    y = [0, 1, 0, 1, 2, 1]  # wrong: 1 (p 0.73), 2 (0.91), 3 (0.99), 4 (0.58)
    part = nb.Part(np.array(x, float), np.array(y), "odd")
    for count in 3, 20:  # never one that is right
        indices, predicted = nb.confident_mistakes(Echo(), part, count)
        np.testing.assert_array_equal(indices, [3, 2, 1, 4][:count])
        np.testing.assert_array_equal(predicted, [2, 1, 0, 0][:count])
    right = nb.Part(part.x[:1], part.y[:1], "easy")
    assert [len(found) for found in nb.confident_mistakes(Echo(), right, 20)] == [0, 0]


def test_predictor_has_the_scores_of_a_function(nb, scores):
    predictor = nb.Predictor(lambda x: -2 * x)
    np.testing.assert_array_equal(nb.predict_scores(predictor, scores), -2 * scores)


def blas_threads():
    return {
        pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"
    }


def test_fit_sklearn_fits_with_one_thread_and_returns_the_estimator(nb, x, y):
    class Watched:
        def fit(self, *given):
            self.given, self.threads = given, blas_threads()
            return self

    watched = Watched()
    with threadpool_limits(2, "blas"):
        assert nb.fit_sklearn(watched, x, y) is watched
        assert watched.threads == {1} != blas_threads()
    assert watched.given == (x, y)


def test_roughness(nb, rng):
    """Two templates of 2 x 3, by hand: 14 neighbours in all; then two limits."""
    W = np.array([[1, 0, 0, 2, 0, 0], [0, 2, 0, 0, 1, 1]], float).T
    steps = [1, 0, 2, 0, 1, 0, 0, 2, 2, 1, 0, 0, 1, 1]
    mean_square = (1 + 4 + 4 + 1 + 1) / 12
    by_hand = math.sqrt(np.mean(np.square(steps)) / mean_square / 2)
    assert nb.roughness(W, (2, 3)) == pytest.approx(by_hand, rel=1e-12)
    assert nb.roughness(np.full((12, 2), -3.0), (4, 3)) == 0
    random = nb.roughness(rng.standard_normal((2500, 4)), (50, 50))
    assert random == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("how", ["correct", "evaluate", "score_classes"])
def test_labels_in_a_column_are_refused_when_a_model_is_judged(nb, rng, how):
    model = nb.Single_layer_classifier(3, 2, rng=0)
    part = nb.Part(rng.random((4, 3)), np.zeros((4, 1), int), "some")
    arguments = (model, part, 2)[: 3 if how == "score_classes" else 2]
    with pytest.raises(ValueError, match=r"labels \(N,\) are needed"):
        getattr(nb, how)(*arguments)
