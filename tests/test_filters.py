"""CIFAR-10 and the blur of Question 4, the descents of Question 5 and of Further."""

import hashlib
import itertools
import shutil
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from conftest import assert_gradient, finite_difference
from load_definitions import ROOT
from scipy import ndimage

pytestmark = pytest.mark.filterwarnings("error")

SAMPLE = ROOT / "data" / "cifar10_sample.bin"
MEMBER = "cifar-10-batches-bin/data_batch_1.bin"
NOBODY = "http://127.0.0.1:9/"  # no server listens on this port


def records(count):
    """CIFAR-10's records with random pixels: (count, 3073) bytes."""
    rows = np.random.default_rng(count).integers(0, 256, (count, 3073), np.uint8)
    rows[:, 0] = np.arange(count) % 10
    return rows


# --- CIFAR-10 ---------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 20, 1003])
def test_records_are_read(nb, tmp_path, count):
    rows = records(count)
    rows.tofile(tmp_path / "batch.bin")
    images, labels = nb.read_cifar(tmp_path / "batch.bin")
    assert images.shape == (min(count, 1000), 3, 32, 32)
    np.testing.assert_array_equal(labels, rows[:1000, 0])
    pixels = images[:, [0, 1, 2], [31, 4, 5], [0, 6, 7]]  # of each colour, one
    places = [1 + 31 * 32, 1 + 1024 + 4 * 32 + 6, 1 + 2 * 1024 + 5 * 32 + 7]
    np.testing.assert_array_equal(pixels, rows[:1000, places])


def test_the_sample_holds_photographs(nb):
    """In a photograph neighbours are alike, and so are colours."""
    images, labels = nb.read_cifar(SAMPLE)
    assert len(images) == 20
    assert labels.max() < len(nb.CIFAR_NAMES) == 10
    contrast = np.std(images, axis=(2, 3)).mean()
    for axis in 1, 2, 3:
        assert np.abs(np.diff(images.astype(float), axis=axis)).mean() < 0.6 * contrast


BROKEN = {
    "empty": b"",
    "a byte short": records(20).tobytes()[:-1],
    "a byte more": records(20).tobytes() + b"\0",
    "label above 9": b"\x0a" + bytes(3072),
}
broken = pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)


@broken
def test_what_is_not_of_records_is_refused(nb, tmp_path, content):
    path = tmp_path / "batch.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"batch\.bin .* records of 3,073 bytes"):
        nb.read_cifar(path)


@pytest.fixture
def folder(tmp_path):
    """A data folder that has the sample only."""
    (tmp_path / "data").mkdir()
    shutil.copy(SAMPLE, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def source(tmp_path):
    """(url, hash) of an archive like CIFAR-10's, on a server in this process."""
    site, name = tmp_path / "site", "cifar-10-binary.tar.gz"
    (site / MEMBER).parent.mkdir(parents=True)
    records(30).tofile(site / MEMBER)
    (site / MEMBER).with_name("readme.html").write_text("hello")
    with tarfile.open(site / name, "w:gz") as tar:
        tar.add((site / MEMBER).parent, arcname="cifar-10-batches-bin")
    handler = partial(SimpleHTTPRequestHandler, directory=site)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        digest = hashlib.md5((site / name).read_bytes()).hexdigest()
        yield f"http://127.0.0.1:{server.server_port}/{name}", f"md5:{digest}"
        server.shutdown()
        thread.join()


def half_extracted(folder, content=BROKEN["a byte short"]):
    path = folder / MEMBER
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def check_downloaded(found):
    images, labels, name = found
    assert name == "data_batch_1.bin"
    np.testing.assert_array_equal(images.reshape(30, 3072), records(30)[:, 1:])
    np.testing.assert_array_equal(labels, records(30)[:, 0])


def test_archive_is_downloaded_once(nb, folder, source):
    check_downloaded(nb.load_cifar(folder, *source))
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert files == {SAMPLE.name, MEMBER, "cifar-10-binary.tar.gz"}  # no readme
    check_downloaded(nb.load_cifar(folder, NOBODY, source[1]))
    half_extracted(folder)
    check_downloaded(nb.load_cifar(folder, NOBODY, source[1]))  # from the archive


@broken
def test_file_that_cannot_be_read_is_replaced(nb, folder, source, content):
    half_extracted(folder, content)
    check_downloaded(nb.load_cifar(folder, *source))


@pytest.mark.parametrize("trouble", ["no network", "no such page", "other bytes"])
@pytest.mark.parametrize("half", [False, True])
def test_sample_stands_in(nb, folder, source, capsys, trouble, half):
    url, digest = source
    asked = {
        "no network": (NOBODY, digest),
        "no such page": (f"{url}.html", digest),
        "other bytes": (url, "md5:" + 32 * "0"),
    }
    path = half_extracted(folder) if half else folder / MEMBER
    before = path.read_bytes() if half else None
    images, labels, name = nb.load_cifar(folder, *asked[trouble])
    assert name == SAMPLE.name
    assert "going on with the sample" in capsys.readouterr().out
    for found, expected in zip((images, labels), nb.read_cifar(SAMPLE), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert (path.read_bytes() if path.exists() else None) == before  # the user's stays
    assert not list(folder.glob("*.tar.gz")) + list(folder.rglob("*.broken"))


def test_source_is_the_home_page(nb, folder, monkeypatch):
    asked = []
    monkeypatch.setattr(nb, "download_cifar", lambda *given: asked.append(given))
    with pytest.raises(FileNotFoundError):  # the download has left nothing to read
        nb.load_cifar(folder)
    url = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    assert asked == [(folder, url, "md5:c32a1d4ab5d03f1284b67883e8d87530")]


# --- Gaussian blur ----------------------------------------------------------------


@pytest.mark.parametrize(("size", "sigma"), [(1, 1.0), (3, 0.4), (4, 1.0), (7, 1.5)])
def test_gaussian_filters(nb, size, sigma):
    u, v = np.indices((size, size)) - (size - 1) / 2
    bell = np.exp(-(u**2 + v**2) / (2 * sigma**2))
    expected = np.zeros((3, 3, size, size))
    expected[range(3), range(3)] = bell / bell.sum()
    found = nb.gaussian_filters(size, sigma)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize(("size", "sigma"), [(1, 1.0), (5, 1.0), (7, 1.5)])
def test_blur_is_scipys(nb, rng, size, sigma):
    images, radius = rng.random((2, 3, 12, 9)), size // 2
    expected = ndimage.gaussian_filter(
        images, (0, 0, sigma, sigma), radius=(0, 0, radius, radius), mode="nearest"
    )
    found = nb.blur(images, size, sigma)
    assert found.shape == images.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)


# --- The L2 loss ------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 1e-300, 1e300])
def test_l2_loss_of_3_and_4_is_5(nb, scale):
    l2, target, output = nb.L2_loss(), np.array([[1], [2]]), np.array([[4], [-2]])
    distance = l2.forward(scale * target, scale * output)
    assert type(distance) is float
    assert distance == pytest.approx(5 * scale, rel=1e-14)
    np.testing.assert_allclose(l2.backward(), [[0.6], [-0.8]], rtol=1e-14)
    np.testing.assert_allclose(l2.backward(output_grad=-5.0), [[-3], [4]], rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.float32])
@pytest.mark.parametrize(("target", "output"), [(3, 5), (5, 3)])
def test_l2_loss_of_any_numbers(nb, dtype, target, output):
    """Unsigned bytes: 3 - 5 is not 254."""
    l2 = nb.L2_loss()
    assert l2.forward(np.array([target], dtype), np.array([output], dtype)) == 2.0
    np.testing.assert_array_equal(l2.backward(), [np.sign(output - target)])


def test_l2_loss_of_float32_is_precise(nb):
    """Summed in float32, it would be right to seven digits at most."""
    output = np.full(3000, np.float32(0.1))
    distance = nb.L2_loss().forward(np.zeros(3000, np.float32), output)
    assert distance == pytest.approx(float(output[0]) * np.sqrt(3000), rel=1e-14)


@pytest.mark.parametrize("shape", [(2, 3), (0, 3)])
def test_l2_loss_at_distance_zero(nb, rng, shape):
    l2, same = nb.L2_loss(), rng.random(shape)
    assert l2.forward(same, same.copy()) == 0.0
    np.testing.assert_array_equal(l2.backward(2.0), np.zeros(shape), strict=True)


def test_gradient_of_the_l2_loss(nb, rng):
    l2, (target, output) = nb.L2_loss(), rng.standard_normal((2, 3, 4))
    l2.forward(target, output)
    numerical = finite_difference(lambda x: 2.5 * l2.forward(target, x), output)
    l2.forward(target, output)
    assert_gradient(l2.backward(output_grad=2.5), numerical)


@pytest.mark.parametrize("shape", [(2, 1), (3,), (1, 2, 3), ()])
def test_l2_loss_of_shapes_that_only_broadcast(nb, shape):
    with pytest.raises(ValueError, match=r"C_output of shape \(2, 3\) needed"):
        nb.L2_loss().forward(np.zeros((2, 3)), np.zeros(shape))


# --- The given filters ------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8, np.uint16])
def test_filters_are_loaded(nb, tmp_path, dtype):
    weights = np.arange(6).reshape(2, 3).astype(dtype)
    np.save(tmp_path / "w.npy", weights)
    found = nb.load_filters(tmp_path / "w.npy", (2, 3))
    np.testing.assert_array_equal(found, weights.astype(np.float64), strict=True)


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ([[1.0, 2.0], [np.nan, 3.0]], "finite"),
        ([[1.0, 2.0], [-np.inf, 3.0]], "finite"),
        (np.zeros((2, 2)), "not all 0"),
        (np.ones((2, 2), complex), "real"),
        (np.ones((2, 2), bool), "numbers"),
        (np.full((2, 2), "1"), "numbers"),
        (np.ones((2, 3)), r"\(2, 2\) needed, \(2, 3\) given"),
        (np.ones(4), r"\(2, 2\) needed, \(4,\) given"),
        (np.ones((2, 2), object), "Object arrays"),
    ],
)
def test_filters_that_are_refused(nb, tmp_path, weights, says):
    np.save(tmp_path / "w.npy", weights)
    with pytest.raises(ValueError, match=says) as caught:
        nb.load_filters(tmp_path / "w.npy", (2, 2))
    assert "w.npy" in str(caught.value) or says == "Object arrays"


def test_new_layer(nb):
    layer = nb.new_layer(nb.Convolution_Layer)
    other = nb.new_layer(nb.Fast_Convolution_Layer, seed=1)
    assert type(layer) is nb.Convolution_Layer
    assert type(other) is nb.Fast_Convolution_Layer
    assert layer.W.shape == (20, 3, 5, 5)
    assert layer.b is None
    assert layer.W.dtype == np.float64
    assert [layer.W.min(), layer.W.max()] == pytest.approx([-1, 1], abs=0.01)
    assert [layer.W.mean(), layer.W.var()] == pytest.approx([0, 1 / 3], abs=0.05)
    again = nb.new_layer(nb.Convolution_Layer, seed=0)
    np.testing.assert_array_equal(layer.W, again.W)
    assert not np.array_equal(layer.W, other.W)


# --- Rules ------------------------------------------------------------------------


@pytest.fixture
def gradients(rng):
    """Seven gradients of two filters of four weights; some are tiny."""
    return rng.standard_normal((7, 2, 2, 2)) * [[1.0, 1e-8], [1e3, 1e-4]]


def symmetric(rng, size):
    root = rng.standard_normal((size, size))
    return root @ root.T + np.eye(size)


def test_plain_and_whitened(nb, rng, gradients):
    A = symmetric(rng, 4)
    plain, whitened = nb.Plain(0.25), nb.Whitened(0.25, A)
    for gradient in gradients:
        np.testing.assert_array_equal(plain(gradient), 0.25 * gradient)
        step = whitened(gradient)
        assert step.shape == gradient.shape
        undone = step.reshape(2, 4) @ A
        np.testing.assert_allclose(undone.reshape(2, 2, 2), 0.25 * gradient, atol=1e-10)
    with pytest.raises(np.linalg.LinAlgError):
        nb.Whitened(0.25, np.ones((4, 4)))


def test_momentum_is_a_sum_that_forgets(nb, gradients):
    rule = nb.Momentum(0.25)
    steps = [rule(gradient) for gradient in gradients]
    for t, step in enumerate(steps):
        weights = 0.25 * 0.9 ** np.arange(t, -1, -1)
        expected = np.tensordot(weights, gradients[: t + 1], axes=1)
        np.testing.assert_allclose(step, expected, rtol=1e-12)


def test_adam_is_its_authors(nb, gradients):
    """Means in which the weights of the past fall by 0.9 and 0.999, and add up to 1."""
    rule = nb.Adam(0.25)
    for t, gradient in enumerate(gradients):
        age = np.arange(t, -1, -1)
        mean = np.average(gradients[: t + 1], axis=0, weights=0.9**age)
        square = np.average(gradients[: t + 1] ** 2, axis=0, weights=0.999**age)
        expected = 0.25 * mean / (np.sqrt(square) + 1e-8)
        np.testing.assert_allclose(rule(gradient), expected, rtol=1e-9)


# --- Descents ---------------------------------------------------------------------


@pytest.fixture
def task(nb, rng):
    """(layer, images, the outputs of hidden filters, those filters, patches): 9 images,
    so that the last of five mini-batches is short."""
    x, W0 = rng.random((9, 2, 6, 5)), rng.standard_normal((3, 2, 3, 2))
    layer = nb.Convolution_Layer(2, 3, (3, 2), bias=False, rng=1, dtype=np.float64)
    hidden = nb.Convolution_Layer(2, 3, (3, 2), bias=False, dtype=np.float64)
    hidden.set_weights(W0)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 2), axis=(2, 3))
    patches = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 12)
    return layer, x, hidden.forward(x), W0, patches


def matrices_of(nb, target, patches):
    outputs = target.transpose(0, 2, 3, 1).reshape(-1, 3)
    return nb.image_matrices(patches, outputs, 9)


def test_measure(nb, task):
    layer, x, target, W0, _ = task
    measure = nb.measure_filters(layer, x, target, W0)
    distance = np.sqrt(np.sum((layer.forward(x) - target) ** 2))
    assert measure.distance == pytest.approx(distance, rel=1e-12)
    error = np.sqrt(np.sum((layer.W - W0) ** 2) / np.sum(W0**2))
    assert measure.error == pytest.approx(error, rel=1e-12)
    layer.set_weights(W0)
    assert nb.measure_filters(layer, x, target, W0) == (0, 0)


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("seed", [0, 3])
def test_descend(nb, task, squared, seed):
    """Against the gradient of the regression, in the same mini-batches."""
    layer, x, target, W0, patches = task
    P, T = patches.reshape(9, -1, 12), target.transpose(0, 2, 3, 1).reshape(9, -1, 3)
    W, rng = layer.W.reshape(3, 12).copy(), np.random.default_rng(seed)

    def expected_measure():
        residual = P @ W.T - T
        distance, size = np.linalg.norm(residual), np.linalg.norm(W0)
        return distance, np.linalg.norm(W - W0.reshape(3, 12)) / size

    history = [expected_measure()]
    for _ in range(3):
        for picked in np.split(rng.permutation(9), [2, 4, 6, 8]):
            residual = (P[picked] @ W.T - T[picked]).reshape(-1, 3)
            gradient = residual.T @ P[picked].reshape(-1, 12)
            W -= 0.01 * (gradient if squared else gradient / np.linalg.norm(residual))
        history.append(expected_measure())
    given = {} if (squared, seed) == (True, 0) else {"squared": squared, "seed": seed}
    found = nb.descend(layer, x, target, W0, nb.Plain(0.01), 3, **given)
    np.testing.assert_allclose(found.W.reshape(3, 12), W, rtol=1e-11)
    np.testing.assert_allclose(found.history, history, rtol=1e-11)
    assert layer.grad_input is None  # nobody needs it


@pytest.mark.parametrize("centred", [False, True])
def test_gradient_from_the_matrices(nb, rng, task, centred):
    """That of half the squared distance; centred, with the bias that fits best."""
    layer, x, target, _, patches = task
    picked = [5, 0, 3]

    def half_squared(W):
        layer.set_weights(W.reshape(3, 2, 3, 2))
        residual = layer.forward(x[picked]) - target[picked]
        if centred:
            residual -= residual.mean(axis=(0, 2, 3), keepdims=True)
        return np.sum(residual**2) / 2

    matrices = matrices_of(nb, target, patches)
    kept = [np.copy(matrix) for matrix in matrices]
    A_b, T_b = nb.batch_matrices(matrices, picked, centred)
    W = rng.standard_normal((3, 12))
    assert_gradient(W @ A_b - T_b, finite_difference(half_squared, W))
    for matrix, copy in zip(matrices, kept, strict=True):
        np.testing.assert_array_equal(matrix, copy)


def make_rules(nb, A):
    """Fresh rules: Momentum and Adam remember."""
    return {
        "plain": (nb.Plain(0.01), False),
        "momentum": (nb.Momentum(0.005), False),
        "Adam": (nb.Adam(0.1), False),
        "whitened": (nb.Whitened(2.0, A), False),
    }


@pytest.mark.parametrize("seed", [0, 3])
def test_all_descents_at_once_are_those_one_by_one(nb, task, seed):
    layer, x, target, W0, patches = task
    A, start = patches.T @ patches, layer.W.copy()
    given = {} if seed == 0 else {"seed": seed}
    flat_W, flat_W0 = start.reshape(3, 12), W0.reshape(3, 12)
    matrices = matrices_of(nb, target, patches)
    rules = make_rules(nb, A) | {"diverges": (nb.Plain(1e200), False)}
    found = nb.descend_all(rules, flat_W, flat_W0, matrices, 4, **given)
    assert not np.isfinite(found.pop("diverges")[-1])
    np.testing.assert_array_equal(flat_W, start.reshape(3, 12))
    assert list(found) == ["plain", "momentum", "Adam", "whitened"]
    for name, (rule, _) in make_rules(nb, A).items():
        layer.set_weights(start)
        one = nb.descend(layer, x, target, W0, rule, 4, **given)
        errors = [measure.error for measure in one.history]
        np.testing.assert_allclose(found[name], errors, rtol=1e-9, err_msg=name)
    for one, other in itertools.combinations(found.values(), 2):
        assert abs(one[1] - other[1]) > 1e-3  # each rule has its own way


def test_centred_descent_is_blind_to_a_bias(nb, task):
    layer, _, target, W0, patches = task
    rules = {False: (nb.Plain(0.01), False), True: (nb.Plain(0.01), True)}
    flat = layer.W.reshape(3, 12), W0.reshape(3, 12)
    shifted = target + np.array([3.0, -5.0, 7.0])[:, None, None]
    without, with_bias = (
        nb.descend_all(rules, *flat, matrices_of(nb, outputs, patches), 5)
        for outputs in (target, shifted)
    )
    np.testing.assert_allclose(without[True], with_bias[True], rtol=1e-9)
    assert abs(without[False][-1] - with_bias[False][-1]) > 0.1


def test_whitened_descent_arrives_where_plain_descent_does_not(nb):
    """On the sample's 20 photographs: their A has a condition number of millions."""
    x = nb.read_cifar(SAMPLE)[0] / 255
    C0 = nb.new_layer(nb.Fast_Convolution_Layer)
    W0 = nb.load_filters(ROOT / "C0_weights.npy", C0.W.shape)
    C0.set_weights(W0)
    target = C0.forward(x)
    windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(2, 3))
    patches = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 75)
    A = patches.T @ patches
    ends = {}
    for rule in nb.Plain(5 / np.linalg.eigvalsh(A)[-1]), nb.Whitened(2.0, A):
        C = nb.new_layer(nb.Fast_Convolution_Layer)
        history = nb.descend(C, x, target, W0, rule, passes=20).history
        ends[type(rule)] = history[-1].error
        assert history[-1].distance < 0.2 * history[0].distance
    assert ends[nb.Whitened] < 1e-12 < 0.5 < ends[nb.Plain]


def test_whitening_of_inputs_that_miss_a_direction_is_refused(nb, rng):
    patches = rng.standard_normal((50, 3)) @ rng.standard_normal((3, 4))
    with pytest.raises(np.linalg.LinAlgError, match="all directions"):
        nb.Whitened(1.0, patches.T @ patches)
