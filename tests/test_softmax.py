"""Question 1's data, classifier, loss, gradient check and accuracies."""

import gzip
import math

import numpy as np
import pytest
from references import accuracy_of, assert_gradient, assert_seeded, loss_of
from scipy import special

pytestmark = pytest.mark.filterwarnings("error")


# Data


def idx_bytes(array):
    """The bytes of an array of bytes in MNIST's file format, IDX."""
    shape = np.array(array.shape, ">u4").tobytes()
    return bytes([0, 0, 8, array.ndim]) + shape + array.tobytes()


@pytest.fixture
def mnist_files(rng, tmp_path):
    """Write 20 + 9 images to tmp_path; return {prefix: (images, labels)}.

    The first pixel of each image is its position in the file."""
    files = {}
    for prefix, count in ("train", 20), ("t10k", 9):
        images = rng.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        images[:, 0, 0] = np.arange(count)
        labels = rng.integers(0, 10, count).astype(np.uint8)
        files[prefix] = images, labels
        for array, kind in (images, "images-idx3"), (labels, "labels-idx1"):
            path = tmp_path / f"{prefix}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(idx_bytes(array)))
    return files


def positions_in_file(dataset):
    return np.rint(255 * dataset.x[:, 0]).astype(int)


def test_load_mnist_scales_pixels_and_keeps_each_label_with_its_image(
    nb, mnist_files, tmp_path
):
    train, validation, test = nb.load_mnist(tmp_path)
    for dataset, prefix in (train, "train"), (validation, "train"), (test, "t10k"):
        images, labels = mnist_files[prefix]
        positions = positions_in_file(dataset)
        expected = images.reshape(-1, 784)[positions] / 255
        np.testing.assert_allclose(dataset.x, expected, rtol=1e-6)
        np.testing.assert_array_equal(dataset.y, labels[positions])
        assert dataset.x.dtype == np.float32
        assert dataset.y.dtype == np.int64


def test_load_mnist_draws_training_and_validation_images_at_random(
    nb, mnist_files, tmp_path
):
    datasets = nb.load_mnist(tmp_path)
    train, validation, test = (positions_in_file(data).tolist() for data in datasets)
    assert (len(train), len(validation)) == (14, 6)
    assert sorted(train + validation) == [*range(20)]
    assert train != sorted(train)
    assert test == [*range(9)], "the test set is the whole file, in order"


@pytest.mark.parametrize("share", [5, 0, -0.5, 1.01])
def test_load_mnist_refuses_a_share_outside_0_to_1(nb, mnist_files, tmp_path, share):
    with pytest.raises(AssertionError, match="share"):
        nb.load_mnist(tmp_path, share)


@pytest.mark.parametrize("batch_size", [1, 4, 23, 24])
def test_minibatches_have_every_sample_once_with_its_label(nb, rng, batch_size):
    x, y = rng.random((23, 2, 3), dtype=np.float32), np.arange(23)
    batches = list(nb.get_minibatch(x, y, batch_size, rng))
    full, rest = divmod(23, batch_size)
    sizes = [len(y_b) for _, y_b in batches]
    assert sizes == [batch_size] * full + [rest] * (rest > 0)
    all_x, all_y = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    assert sorted(all_y) == [*range(23)]
    np.testing.assert_array_equal(all_x, x[all_y])


def test_minibatches_come_in_an_order_drawn_from_the_seed(nb):
    y = np.arange(50)

    def order(rng):
        rng = np.random.default_rng(rng)
        return np.concatenate([y_b for _, y_b in nb.get_minibatch(y, y, 8, rng)])

    assert_seeded(order)


@pytest.mark.parametrize("function", ["get_minibatch", "distorted_minibatch"])
def test_minibatches_refuse_a_seed(nb, rng, function):
    """It would give the same mini-batches in every epoch."""
    batches = getattr(nb, function)(rng.random((6, 784)), np.arange(6), 2, 0)
    with pytest.raises(AssertionError, match="Generator"):
        next(batches)


# Classifier


def test_initial_weights_are_drawn_from_the_seed(nb):
    assert_seeded(lambda rng: nb.Single_layer_classifier(5, 4, rng=rng).W)


def test_initial_weights_are_normal_with_standard_deviation_std(nb):
    W = nb.make_softmax(std=0.05, rng=0).W
    assert (W.shape, W.dtype) == ((784, 10), np.float32)
    assert W.std() == pytest.approx(0.05, rel=0.03)
    assert abs(W.mean()) < 0.0015
    assert abs(W).max() > 0.15, "no normal distribution: its tails are missing"


@pytest.mark.parametrize("lam", [0.0, 0.3])
def test_gradient_of_the_classifier(nb, rng, lam):
    """Of the loss with the penalty; section 1.4 checks both parts."""
    model = nb.Single_layer_classifier(5, 4, std=1, rng=rng, dtype=np.float64)
    x, y = rng.standard_normal((7, 5)), rng.integers(0, 4, 7)

    def penalised_loss():
        return loss_of(x @ model.W, y) + lam * np.sum(model.W**2)

    model.backward(nb.loss_backward(y, model.forward(x)), lam)
    numerical = nb.numerical_gradient(penalised_loss, model.W)
    assert_gradient(model.grad_W, numerical)


# Loss


@pytest.mark.parametrize(
    ("dtype", "scale", "rtol"),
    [(np.float64, 3, 1e-12), (np.float64, 1e4, 1e-12), (np.float32, 1e4, 1e-6)],
)
def test_loss_and_its_gradient_agree_with_scipy(nb, rng, dtype, scale, rtol):
    """However large the scores are; each row has its own largest score."""
    row_scales = [[1], [9], [1], [0], [2], [5], [1]]
    scores = (scale * rng.standard_normal((7, 4)) * row_scales).astype(dtype)
    y = rng.integers(0, 4, 7)
    p = special.softmax(scores.astype(float), axis=1)

    np.testing.assert_allclose(nb.softmax(scores), p, rtol, atol=1e-30)
    loss = nb.loss_function(y, scores)
    assert loss == pytest.approx(loss_of(scores.astype(float), y), rel=rtol)
    assert type(loss) is float
    gradient = nb.loss_backward(y, scores)
    np.testing.assert_allclose(gradient, (p - np.eye(4)[y]) / 7, rtol, atol=1e-15)
    assert gradient.dtype == dtype


@pytest.mark.parametrize("function", ["loss_function", "loss_backward"])
@pytest.mark.parametrize(
    "labels",
    [[0, -1, 2], [0, 3, 1], [1], [[0], [1], [2]], [0.0, 1.0, 2.0], [True] * 3],
    ids=str,
)
def test_loss_rejects_wrong_labels(nb, rng, function, labels):
    scores = rng.standard_normal((3, 3))
    with pytest.raises((AssertionError, IndexError)):
        getattr(nb, function)(np.array(labels), scores)


# Gradient check


def test_numerical_gradient_agrees_with_derivatives(nb, rng):
    """The other tests of gradients rely on it. The array is left as it was."""
    x, y = rng.uniform(0.5, 2, (2, 3, 4))
    before = x.copy()
    numerical = nb.numerical_gradient(lambda: np.sum(y * np.log(x) + np.sin(x)), x)
    np.testing.assert_allclose(numerical, y / x + np.cos(x), rtol=1e-7)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("relative_error", [2e-7, -2e-7, -1, np.nan])
def test_check_gradient_fails_above_1e_7(nb, rng, relative_error):
    x = rng.standard_normal((3, 4))
    wrong = np.cos(x) * (1 + 2 * relative_error)
    with pytest.raises(AssertionError, match="sine"):
        nb.check_gradient("sine", lambda: np.sum(np.sin(x)), x, wrong)


def test_check_gradient_fails_for_a_gradient_of_another_shape(nb, rng):
    array = rng.standard_normal((3, 4))
    with pytest.raises(AssertionError):
        nb.check_gradient("", lambda: np.sum(array), array, np.ones((1, 4)))


def test_numerical_gradient_refuses_float32(nb):
    with pytest.raises(AssertionError, match="float64"):
        nb.numerical_gradient(lambda: 0.0, np.zeros(3, np.float32))


# Accuracies


def test_evaluate_and_predict_take_all_images(nb, rng):
    x, y = rng.standard_normal((2600, 3)), rng.integers(0, 3, 2600)
    model = nb.Network([])  # its scores are its inputs
    loss, accuracy = nb.evaluate(model, nb.Dataset(x, y))
    assert loss == pytest.approx(loss_of(x, y), rel=1e-12)
    assert accuracy == pytest.approx(accuracy_of(x, y))
    np.testing.assert_array_equal(nb.predict(model, x), x.argmax(axis=1))


def test_a_model_with_an_infinite_score_has_no_accuracy(nb):
    x = np.array([[0.0, np.inf], [1.0, 0.0]])
    with np.errstate(invalid="ignore"):
        _, accuracy = nb.evaluate(nb.Network([]), nb.Dataset(x, np.array([1, 0])))
    assert math.isnan(accuracy)
