import hashlib
import io
import os
import zipfile

import keras
import numpy as np
import PIL.Image
import pytest
import scipy.io
import scipy.stats
import tensorflow as tf

from dvae_tf import datasets, randomness
from dvae_tf import streamed as streamed_module
from dvae_tf.data import batches as batches_module
from dvae_tf.data import holding_out
from dvae_tf.data import splits as splits_module
from dvae_tf.datasets import DatasetError, Split
from dvae_tf.kinds.image import Image, frey_faces, records, sources


def numbered(count, shape=(2, 3, 1)):
    """Images that say which one they are: image i has the value i / 1000 everywhere."""
    values = (np.arange(count) / 1000).astype(np.float32)
    return np.broadcast_to(values[:, None, None, None], (count, *shape)).copy()


def numbers(images):
    return np.round(np.asarray(images)[:, 0, 0, 0] * 1000).astype(int)


def start_of_hash(*arrays):
    """The first 16 digits of the SHA-256 of the bytes of arrays, one after the other."""
    content = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    return hashlib.sha256(content).hexdigest()[:16]


def assert_partition(dataset, count):
    parts = [numbers(s.images) for s in (dataset.train, dataset.validation, dataset.test)]
    assert sorted(np.concatenate(parts)) == list(range(count))
    return parts


@pytest.fixture
def write_npz(tmp_path):
    def write(**arrays):
        path = tmp_path / "some images.npz"
        np.savez(path, **arrays)
        return str(path)

    return write


class TestSplits:
    @pytest.mark.parametrize("how", datasets.SPLITS)
    @pytest.mark.parametrize("count", [3, 9, 10, 57, 1000])
    def test_no_example_is_in_two_splits(self, how, count, write_npz):
        dataset = datasets.load(write_npz(images=numbered(count)), split=how)
        parts = assert_partition(dataset, count)
        assert len(parts[1]) == len(parts[2]) == max(count // 10, 1)

    def test_contiguous_splits_are_few_blocks_spread_over_the_sequence(self, write_npz):
        dataset = datasets.load(write_npz(images=numbered(1000)), split="contiguous")
        for split in (dataset.validation, dataset.test):
            places = numbers(split.images)
            edges = np.flatnonzero(np.diff(places) > 1)
            assert len(edges) == 3  # four blocks of 25
            assert np.ptp(places) > 700

    def test_random_split_is_the_same_every_time(self, write_npz):
        path = write_npz(images=numbered(100))
        first, second = (datasets.load(path).test.images for _ in range(2))
        np.testing.assert_array_equal(first, second)
        assert np.any(np.diff(numbers(first)) > 1)

    def test_labels_follow_their_images(self, write_npz):
        dataset = datasets.load(write_npz(images=numbered(50), labels=np.arange(50)))
        for split in (dataset.train, dataset.validation, dataset.test):
            np.testing.assert_array_equal(split.labels, numbers(split.images))

    def test_own_test_split_is_kept(self, write_npz):
        x = numbered(60)
        path = write_npz(x_train=x[:50], y_train=np.arange(50), x_test=x[50:], y_test=np.arange(10))
        dataset = datasets.load(path)
        assert_partition(dataset, 60)
        np.testing.assert_array_equal(numbers(dataset.test.images), np.arange(50, 60))

    def test_limit_takes_the_first_training_examples(self, write_npz):
        dataset = datasets.load(write_npz(images=numbered(50)))
        limited = dataset.limited(7)
        np.testing.assert_array_equal(limited.train.images, dataset.train.images[:7])
        assert limited.test is dataset.test
        with pytest.raises(DatasetError, match="`limit` must be an integer of at least 1"):
            dataset.limited(0)


class TestWhichExamplesAreHeldOut:
    """Written down: trained models have seen all others, so that the choice must never change."""

    @pytest.mark.parametrize(
        ("split", "validation", "test"),
        [
            ("random", [2, 11, 26], [4, 10, 21]),
            ("contiguous", [4, 14, 24], [9, 19, 29]),
        ],
    )
    def test_of_arrays(self, split, validation, test, write_npz, tmp_path):
        np.save(tmp_path / "x.npy", numbered(30))
        for path in (write_npz(images=numbered(30)), str(tmp_path / "x.npy")):
            dataset = datasets.load(path, split=split)
            assert numbers(dataset.validation.images).tolist() == validation
            assert numbers(dataset.test.images).tolist() == test
            kept = [i for i in range(30) if i not in validation + test]
            assert numbers(dataset.train.images).tolist() == kept

    @pytest.mark.parametrize(("split", "held_out"), [("random", [4, 19]), ("contiguous", [9, 19])])
    def test_of_arrays_with_a_test_split(self, split, held_out, write_npz):
        path = write_npz(x_train=numbered(20), x_test=numbered(3))
        dataset = datasets.load(path, split=split)
        assert numbers(dataset.validation.images).tolist() == held_out
        assert numbers(dataset.test.images).tolist() == [0, 1, 2]

    @pytest.mark.parametrize(
        ("split", "size", "digests"),
        [
            ("random", 5000, ["55ad26621306ab66"]),  # MNIST, which has a test split
            ("random", None, ["09046e847cad8e8e", "2781eecc8e0f5506"]),  # digits
            ("contiguous", None, ["31b731db25477e4d", "91c101e849bcdfcf"]),  # Frey Faces
            ("random", None, ["879ebd10e3d6c8b9", "88296e5e435d0f4f"]),
        ],
        ids=["mnist", "digits", "frey", "frey random"],
    )
    def test_of_the_data_of_record(self, split, size, digests, request):
        name = request.node.callspec.id
        count = {"mnist": 60_000, "digits": 1797}.get(name, frey_faces.NUM_FRAMES)
        places = np.arange(count)
        own = Split(np.zeros((1, 1, 1, 1)), places[:1]) if size else None
        everything = Split(np.zeros((count, 1, 1, 1)), places)
        dataset = holding_out.divide(name, everything, own, split, size)
        held_out = [dataset.validation] if size else [dataset.validation, dataset.test]
        assert [start_of_hash(s.labels.astype("<i8")) for s in held_out] == digests

    def test_mnist_holds_out_five_thousand_at_random(self, monkeypatch):
        examples = numbered(5), None
        monkeypatch.setattr(records, "load", lambda name, data_dir, cache: (examples, examples))
        source = sources.load("mnist", data_dir=None, cache="auto")
        assert (source.num_held_out, source.order) == (5000, "random")

    def test_of_digits(self):
        dataset = datasets.load("digits")
        assert dataset.validation.labels[:8].tolist() == [2, 0, 8, 4, 0, 2, 3, 3]
        assert dataset.test.labels[:8].tolist() == [2, 3, 8, 8, 7, 3, 1, 0]
        assert dataset.digest() == "cf303cd50366f813"

    def test_of_folders(self, tmp_path, rng):
        """Files are in the order of their names, part by part and capitals first."""
        names = ["10.png", "9.png", "B.png", "_.png", "a/0.png", "a/1.png", "a-b/0.png"]
        names += ["a.b/0.png", "b.png", "é.png"]
        for index in rng.permutation(len(names)):  # whatever order the directory gives them in
            path = tmp_path / names[index]
            path.parent.mkdir(exist_ok=True)
            keras.utils.save_img(path, np.full((4, 4, 1), index), scale=False)
        dataset = datasets.load(str(tmp_path))
        splits = (dataset.train, dataset.validation, dataset.test)
        found = [s.images[:, 0, 0, 0].tolist() for s in splits]
        assert found == [[0, 1, 2, 3, 5, 7, 8, 9], [4], [6]]


def test_digest_covers_every_array_of_every_split(rng):
    arrays = {
        name: (rng.random((2, 3, 3, 1), np.float32), rng.integers(0, 9, 2))
        for name in ("train", "validation", "test")
    }

    def digest(arrays):
        return datasets.Dataset("x", **{k: Split(*v) for k, v in arrays.items()}).digest()

    known = digest(arrays)
    assert known == start_of_hash(*(array for pair in arrays.values() for array in pair))
    for name, (images, labels) in arrays.items():
        assert digest(arrays | {name: (images, labels + 1)}) != known
        assert digest(arrays | {name: (np.flip(images, axis=1), labels)}) != known


def test_held_out_draws_do_not_depend_on_the_seed_of_the_run(write_npz):
    """Runs of several seeds are validated and tested on the same binary images."""
    grey = np.random.default_rng(0).random((50, 3, 3, 1)).astype(np.float32)
    dataset = datasets.load(write_npz(images=grey))
    for how in ("static", "dynamic"):
        first, second = (dataset.binarized(how, seed=seed) for seed in (0, 1))
        np.testing.assert_array_equal(first.validation.images, second.validation.images)
        np.testing.assert_array_equal(first.test.images, second.test.images)
        assert np.any(first.validation.images != first.test.images)
        assert np.all(first.train.images == second.train.images) == (how == "dynamic")


def test_a_source_may_say_how_many_are_held_out(monkeypatch):
    source = Image().load("digits", data_dir=None, cache="auto")._replace(num_held_out=7)
    monkeypatch.setattr(Image, "load", lambda *_, **__: source)
    assert len(datasets.load("digits").validation) == 7


class TestTrainingBatches:
    def test_every_example_once_an_epoch_in_another_order(self):
        # String labels are no matter: they are not in the stream.
        split = Split(numbered(60), np.array(["a", "b"] * 30))
        stream = datasets.training_batches(split, 20, seed=1).take(6).as_numpy_iterator()
        batches = [numbers(x) for x in stream]
        epochs = [np.concatenate(batches[i : i + 3]) for i in (0, 3)]
        for epoch in epochs:
            assert sorted(epoch) == list(range(60))
        assert list(epochs[0]) != list(epochs[1]) != list(range(60))

    def test_orders_do_not_repeat(self):
        """One pass of `index_shuffle` would repeat 30 of 2,000, because it knows 65,536 orders."""

        @tf.function
        def orders():
            seed = randomness.as_seed(0)
            return tf.map_fn(
                lambda i: batches_module._shuffled(tf.range(12), randomness.fold_in(seed, i), 12),
                tf.range(2000),
            )

        assert len(np.unique(orders(), axis=0)) == 2000

    def test_a_batch_is_a_function_of_seed_and_step(self):
        split = Split(numbered(60))

        def batches(count, **kwargs):
            stream = datasets.training_batches(split, 16, **kwargs)
            return list(stream.take(count).as_numpy_iterator())

        reference = batches(10, seed=1)
        for ours, theirs in zip(batches(4, seed=1, first_step=6), reference[6:], strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert np.any(batches(1, seed=2)[0] != reference[0])

    def test_left_over_examples_differ_by_epoch(self):
        stream = datasets.training_batches(Split(numbered(50)), 20, seed=1)
        assert datasets.steps_per_epoch(Split(numbered(50)), 20) == 2
        seen = [set(numbers(x)) for x in stream.take(20).as_numpy_iterator()]
        assert set.union(*seen) == set(range(50))
        left_over = {
            frozenset(set(range(50)) - a - b) for a, b in zip(seen[::2], seen[1::2], strict=True)
        }
        assert len(left_over) == 10

    def test_order_is_uniform(self):
        split = Split(numbered(8))
        firsts = [
            numbers(x)[0]
            for x in datasets.training_batches(split, 8, seed=3).take(800).as_numpy_iterator()
        ]
        assert scipy.stats.chisquare(np.bincount(firsts, minlength=8)).pvalue > 1e-4

    def test_orders_are_as_random_as_permutations(self):
        """Of a random order the standardised mean index of a batch has variance 1 / batch size."""
        count, size = 5000, 100
        indices = np.arange(count)
        standard = (indices - indices.mean()) / indices.std()
        variances = []
        for seed in range(20):
            seed = randomness.fold_in(randomness.as_seed(7), seed)
            order = batches_module._shuffled(tf.constant(indices, tf.int32), seed, count).numpy()
            assert sorted(order) == list(indices)
            variances.append(standard[order].reshape(-1, size).mean(axis=1).var() * size)
        error = np.std(variances) / np.sqrt(len(variances))
        assert abs(np.mean(variances) - 1) < 5 * error
        assert error < 0.1

    def test_no_epoch_repeats_the_order_of_another(self):
        """With seed 1 one permutation of TensorFlow's alone made the third and thirteenth equal."""
        places = batches_module._order(Split(np.zeros((55_000, 1, 1, 1), np.uint8)), 100, seed=1)
        firsts = {tuple(places(tf.constant(550 * epoch, tf.int64)).numpy()) for epoch in range(20)}
        assert len(firsts) == 20

    def test_a_small_split_is_one_batch(self):
        x = next(datasets.training_batches(Split(numbered(5)), 20, seed=1).as_numpy_iterator())
        assert sorted(numbers(x)) == list(range(5))

    @pytest.mark.parametrize("count", [1, 17, 64, 65, 67, 107, 137, 429, 550, 600, 997, 5003])
    def test_long_epochs_are_multiples_of_a_call(self, count):
        steps = datasets.steps_per_epoch(Split(np.zeros((count, 1, 1, 1))), 1)
        call = datasets.steps_per_call(steps)
        assert steps % call == 0
        assert count - steps <= 0.02 * count
        assert call == steps if count <= 64 else 32 <= call <= 64


def test_evaluation_batches_are_one_pass_in_order():
    batches = list(
        datasets.evaluation_batches(Split(numbered(23), np.arange(23)), 10).as_numpy_iterator()
    )
    assert [len(x) for x in batches] == [10, 10, 3]
    np.testing.assert_array_equal(np.concatenate([numbers(x) for x in batches]), np.arange(23))


class TestBinarized:
    @pytest.fixture
    def dataset(self, write_npz, rng):
        return datasets.load(write_npz(images=rng.random((100, 10, 10, 1))))

    def test_threshold(self, dataset):
        binary = dataset.binarized("threshold")
        for before, after in ((dataset.train, binary.train), (dataset.test, binary.test)):
            np.testing.assert_array_equal(datasets.as_float(after.images), before.images > 0.5)

    def test_static_draws_once(self, dataset):
        binary = dataset.binarized("static", seed=1)
        x, p = datasets.as_float(binary.train.images), dataset.train.images
        assert set(np.unique(x)) == {0.0, 1.0}
        for low in (0.0, 0.4, 0.8):
            inside = (p >= low) & (p < low + 0.2)
            difference = x[inside] - p[inside]
            assert abs(difference.mean()) < 5 * difference.std() / np.sqrt(inside.sum())
        again = dataset.binarized("static", seed=1)
        np.testing.assert_array_equal(again.train.images, binary.train.images)
        other = dataset.binarized("static", seed=2)
        assert np.any(other.train.images != binary.train.images)
        np.testing.assert_array_equal(other.test.images, binary.test.images)

    def test_dynamic_leaves_the_training_images_and_fixes_the_others(self, dataset):
        binary = dataset.binarized("dynamic", seed=1)
        assert binary.train is dataset.train
        assert set(np.unique(binary.validation.images)) == {0, 255}

    def test_none_and_unknown(self, dataset):
        assert dataset.binarized("none") is dataset
        with pytest.raises(DatasetError, match="`binarize` must be one of dynamic, static"):
            dataset.binarized("otsu")


class TestFiles:
    def test_digits(self):
        dataset = datasets.load("digits")
        assert dataset.image_shape == (8, 8, 1)
        sizes = [len(s.images) for s in (dataset.train, dataset.validation, dataset.test)]
        assert sizes == [1439, 179, 179]
        assert dataset.train.images.max() == 1

    @pytest.mark.parametrize("suffix", ["npz", "npy"])
    @pytest.mark.parametrize(
        ("make", "dtype"),
        [
            (lambda x: x, np.float32),
            (lambda x: x.astype(np.float64)[..., 0], np.float32),
            (lambda x: (x * 255).astype(np.uint8), np.uint8),
            (lambda x: x > 0.5, np.uint8),
        ],
    )
    def test_arrays(self, suffix, make, dtype, tmp_path, rng):
        images = make(rng.random((20, 4, 5, 1)))
        path = tmp_path / f"x.{suffix}"
        if suffix == "npz":
            np.savez(path, images=images)
        else:
            np.save(path, images)
        dataset = datasets.load(str(path))
        assert dataset.image_shape == (4, 5, 1)
        assert dataset.train.images.dtype == dtype
        low, high = (f(datasets.as_float(dataset.train.images)) for f in (np.min, np.max))
        assert 0 <= low < high <= 1

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_folder(self, channels, tmp_path, rng):
        images = rng.integers(0, 256, (12, 5, 7, channels)).astype(np.uint8)
        folder = tmp_path / "my photos"
        for index, image in enumerate(images):
            path = folder / "ab"[index % 2] / f"{index:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            keras.utils.save_img(path, image, scale=False)
        (folder / "notes.txt").write_text("not an image", encoding="utf-8")
        with pytest.warns(UserWarning, match=r"12 images are read; passed over: 1 \.txt$"):
            dataset = datasets.load(str(folder))
        kept = min(channels, 3)
        assert dataset.image_shape == (5, 7, kept)
        splits = (dataset.train, dataset.validation, dataset.test)
        loaded = np.concatenate([s.images for s in splits])
        labels = np.concatenate([s.labels for s in splits])
        for image, label in zip(loaded, labels, strict=True):
            (index,) = np.flatnonzero((images[..., :kept] == image).all(axis=(1, 2, 3)))
            assert label == index % 2

    def test_grey_with_transparency_is_grey(self, tmp_path, rng):
        pixels = rng.integers(0, 256, (3, 5, 7, 2)).astype(np.uint8)
        for index, image in enumerate(pixels):
            PIL.Image.fromarray(image, "LA").save(tmp_path / f"{index}.png")
        dataset = datasets.load(str(tmp_path))
        assert dataset.image_shape == (5, 7, 1)
        for split in (dataset.train, dataset.validation, dataset.test):
            assert (split.images == pixels[..., :1]).all(axis=(1, 2, 3)).sum() == 1

    def bad_images(self):
        good = np.full((10, 4, 4, 1), 0.5)
        nan, infinite = good.copy(), good.copy()
        nan[3, 1, 1, 0] = np.nan
        infinite[7] = np.inf
        return {
            "NaN or infinity in 1 of 10 images, first in image 3": nan,
            "first in image 7": infinite,
            r"values from 127.5 to 127.5\. Divide by 255": good * 255,
            r"values from -0.5 to -0.5\. Rescale": -good,
            "Received: int64. Convert": good.astype(np.int64),
            r"shape \(10, 16\)\. Reshape flat": good.reshape(10, 16),
            r"shape \(0, 4, 4, 1\)": good[:0],
            "must have at least 3 images": good[:2],
            "Received: complex128": good + 1j,
            r"shape \(10, 1, 4, 5\)\. Transpose \[N, channels": np.full((10, 1, 4, 5), 0.5),
            r"shape \(10, 8, 4, 5\)\. Choose up to four": np.full((10, 8, 4, 5), 0.5),
            r"values from 0\.5 to 1\.0000001\d*\. Rescale": np.append(
                good[:9], good[:1] * 2.0000002, 0
            ),
        }

    @pytest.mark.parametrize("suffix", ["npz", "npy"])
    def test_refuses_images(self, suffix, tmp_path):
        path = tmp_path / f"bad.{suffix}"
        for message, images in self.bad_images().items():
            if suffix == "npz":
                np.savez(path, images=images)
            else:
                np.save(path, images)
            with pytest.raises(DatasetError, match=message):
                datasets.load(str(path))

    @pytest.mark.parametrize("suffix", ["npz", "npy"])
    @pytest.mark.parametrize("content", [b"", b"not numpy", b"PK\x03\x04cut"])
    def test_refuses_damaged_files(self, suffix, content, tmp_path):
        path = tmp_path / f"damaged.{suffix}"
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=f"damaged.{suffix} must be a readable .{suffix}"):
            datasets.load(str(path))

    def test_refuses_files_of_another_kind(self, tmp_path):
        with (tmp_path / "a.npy").open("wb") as file:
            np.savez(file, images=numbered(5))
        with pytest.raises(DatasetError, match=r"an \.npz file by its content: rename it"):
            datasets.load(str(tmp_path / "a.npy"))
        with (tmp_path / "a.npz").open("wb") as file:
            np.save(file, numbered(5))
        with pytest.raises(DatasetError, match=r"an \.npy file by its content: rename it"):
            datasets.load(str(tmp_path / "a.npz"))
        with zipfile.ZipFile(tmp_path / "b.npz", "w") as file:
            file.writestr("images", b"no array")
        with pytest.raises(DatasetError, match="the member 'images' is no array"):
            datasets.load(str(tmp_path / "b.npz"))

    def test_reads_only_named_arrays_and_headers_first(self, tmp_path):
        """Members that would fail if they were read: a lie about the size, and a wrong checksum."""
        path = tmp_path / "x.npz"

        def header(shape, dtype) -> bytes:
            content = io.BytesIO()
            fields = {"shape": shape, "fortran_order": False, "descr": dtype}
            np.lib.format.write_array_header_1_0(content, fields)
            return content.getvalue()

        np.savez(path, images=numbered(10), labels=np.arange(10))
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("unused.npy", header((10**5, 10**5), "<f8"))
            archive.writestr("pickled.npy", header((3,), "|O"))
        assert len(datasets.load(str(path)).train) == 8
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", header((10**4, 10**3, 10**3), "|u1") + bytes(9))
        with pytest.raises(DatasetError, match=r"x\.npz must be .* lacks 9999999991 bytes"):
            datasets.load(str(path))
        (tmp_path / "x.npy").write_bytes(header((10**4, 10**3, 10**3), "|u1") + bytes(9))
        with pytest.raises(DatasetError, match=r"x\.npy must be .* lacks 9999999991 bytes"):
            datasets.load(str(tmp_path / "x.npy"))
        np.savez(path, images=np.full((10, 64, 64), 7777))
        content = path.read_bytes()
        path.write_bytes(content.replace(np.int64(7777).tobytes(), np.int64(7776).tobytes(), 1))
        with pytest.raises(DatasetError, match=r"Received: int64\. Convert"):
            datasets.load(str(path))
        np.savez(path, images=numbered(10, (64, 64, 1)).astype(float), labels=np.arange(9))
        content = path.read_bytes()
        path.write_bytes(content.replace(np.float64(np.float32(0.002)).tobytes(), bytes(8), 1))
        with pytest.raises(DatasetError, match="one label for each of its 10 images"):
            datasets.load(str(path))

    @pytest.mark.parametrize("suffix", ["npz", "npy"])
    def test_waits_for_no_pipe(self, suffix, tmp_path):
        os.mkfifo(tmp_path / f"x.{suffix}")
        with pytest.raises(DatasetError, match=r"must be a regular file\. Received: a pipe"):
            datasets.load(str(tmp_path / f"x.{suffix}"))

    def test_never_unpickles(self, tmp_path):
        np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object))
        with pytest.raises(DatasetError, match="plain arrays"):
            datasets.load(str(tmp_path / "x.npy"))

    def test_refuses_npz_without_images_or_with_odd_labels(self, write_npz):
        x = numbered(10)
        with pytest.raises(DatasetError, match=r"must hold an array `images`.* Received: pictures"):
            datasets.load(write_npz(pictures=x))
        with pytest.raises(DatasetError, match="one label for each of its 10 images"):
            datasets.load(write_npz(images=x, labels=np.arange(9)))
        with pytest.raises(DatasetError, match=r"integers or words\. Received: float64"):
            datasets.load(write_npz(images=x, labels=np.linspace(0, 1, 10)))
        whole = datasets.load(write_npz(images=x, labels=np.arange(10.0)))
        assert whole.train.labels.dtype == np.int64
        with pytest.raises(DatasetError, match="images of one shape"):
            datasets.load(write_npz(x_train=x, x_test=x[:, :1]))
        with pytest.raises(DatasetError, match="labels for both"):
            datasets.load(write_npz(x_train=x, x_test=x, y_test=np.arange(10)))

    def test_refuses_folders(self, tmp_path, rng):
        with pytest.raises(DatasetError, match="Received: a folder without any"):
            datasets.load(str(tmp_path))
        (tmp_path / "0.webp").write_bytes(b"")
        with pytest.raises(DatasetError, match=r"but with 1 \.webp\. Convert images"):
            datasets.load(str(tmp_path))
        for name in ("._2.png", ".thumbnails/0.png"):  # some system's own, and not read
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"no image")
        for index, size in enumerate((4, 5)):
            image = rng.integers(0, 256, (size, 4, 1))
            keras.utils.save_img(tmp_path / f"{index}.png", image, scale=False)
        with pytest.raises(DatasetError, match=r"one shape.* \(5, 4, 1\) in .*1\.png"):
            datasets.load(str(tmp_path))
        (tmp_path / "1.png").write_bytes(b"")
        with pytest.raises(
            DatasetError, match=r"1\.png must be a readable image.*[^:]\. Remove or"
        ):
            datasets.load(str(tmp_path))

    def test_unknown_names_list_the_known_ones(self, tmp_path):
        with pytest.raises(
            DatasetError, match=r"digits, mnist, frey, tfds:NAME.* Received: 'celeba'"
        ):
            datasets.load("celeba")
        with pytest.raises(DatasetError, match="Received: ''"):  # and not all that lies around here
            datasets.load("")
        (tmp_path / "x.csv").write_text("1,2", encoding="utf-8")
        with pytest.raises(DatasetError, match=r"must be .*\.npz, \.npy or folder"):
            datasets.load(str(tmp_path / "x.csv"))
        with pytest.raises(DatasetError, match="Received: 'no_such_data_set'"):
            datasets.load("tfds:no_such_data_set")
        with pytest.raises(DatasetError, match="`split` must be one of contiguous, random"):
            datasets.load("digits", split="sorted")


def save_images(folder, images):
    """Write images as PNG files into two sub-folders, in their order."""
    for index, image in enumerate(images):
        path = folder / "ab"[index * 2 // len(images)] / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(path, image, scale=False)
    return sorted(folder.rglob("*.png"))


def training_batches(dataset, count, **kwargs):
    stream = datasets.training_batches(dataset.train, 16, seed=1, **kwargs)
    return list(stream.take(count).as_numpy_iterator())


def cut(file):
    """Take the pixels of an image file, and leave its header."""
    file.write_bytes(file.read_bytes()[:60])


class TestStreamedFolder:
    @pytest.fixture
    def images(self, rng):
        return rng.integers(0, 256, (80, 6, 5, 3)).astype(np.uint8)

    @pytest.fixture
    def folder(self, images, tmp_path):
        save_images(tmp_path / "photos", images)
        return str(tmp_path / "photos")

    @pytest.fixture
    def streamed(self, folder):
        return datasets.load(folder, cache="none")

    def test_is_the_one_in_memory(self, folder, streamed):
        held = datasets.load(folder, cache="memory")
        assert isinstance(streamed.train.images, datasets.Streamed)
        assert isinstance(held.train.images, np.ndarray)
        assert streamed.image_shape == held.image_shape == (6, 5, 3)
        for name in ("train", "validation", "test"):
            ours, theirs = getattr(streamed, name), getattr(held, name)
            assert ours.images.shape == theirs.images.shape
            np.testing.assert_array_equal(ours.images, theirs.images)
            np.testing.assert_array_equal(ours.labels, theirs.labels)
        ours, theirs = (training_batches(dataset, 11) for dataset in (streamed, held))
        np.testing.assert_array_equal(ours, theirs)
        ours, theirs = (datasets.evaluation_batches(d.train, 30) for d in (streamed, held))
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)

    def test_is_resumed_at_any_step(self, streamed):
        assert datasets.steps_per_epoch(streamed.train, 16) == 4
        whole = training_batches(streamed, 10)
        for first in range(1, 10):
            resumed = training_batches(streamed, 10 - first, first_step=first)
            np.testing.assert_array_equal(resumed, whole[first:])
        assert np.any(whole[0] != whole[4])  # another epoch, another order

    def test_auto_streams_what_is_too_large(self, folder, monkeypatch):
        monkeypatch.setattr(streamed_module, "MAX_CACHED", 64 * 90)
        assert isinstance(datasets.load(folder).train.images, np.ndarray)
        monkeypatch.setattr(streamed_module, "MAX_CACHED", 64 * 90 - 1)
        assert isinstance(datasets.load(folder).train.images, datasets.Streamed)
        # What counts is what is trained on.
        assert isinstance(datasets.load(folder, limit=63).train.images, np.ndarray)

    def test_limit_takes_the_first_training_examples(self, folder, streamed):
        limited = datasets.load(folder, cache="none", limit=7)
        assert isinstance(limited.train.images, datasets.Streamed)
        np.testing.assert_array_equal(limited.train.images, streamed.train.images[:7])
        np.testing.assert_array_equal(limited.train.labels, streamed.train.labels[:7])
        np.testing.assert_array_equal(limited.test.images, streamed.test.images)

    def test_what_is_held_for_validation_is_bounded_and_spread(self, folder, streamed, monkeypatch):
        monkeypatch.setattr(splits_module, "_MAX_HELD", 4 * 90 - 1)
        bounded = datasets.load(folder, cache="none")
        for ours, theirs in (
            (bounded.validation, streamed.validation),
            (bounded.test, streamed.test),
        ):
            assert isinstance(ours.images, np.ndarray)
            np.testing.assert_array_equal(ours.images, theirs.images[[0, 4, 7]])
            np.testing.assert_array_equal(ours.labels, theirs.labels[[0, 4, 7]])
        assert len(datasets.load(folder, cache="memory").test.images) == 8

    def test_mean_image_is_of_some_images(self, streamed, images, monkeypatch):
        kept = np.asarray(streamed.train.images)
        np.testing.assert_allclose(datasets.mean_example(streamed.train), kept.mean(0) / 255)
        monkeypatch.setattr(splits_module, "_NUM_AVERAGED", 2)
        expected = kept[[0, 63]].mean(0) / 255
        np.testing.assert_allclose(datasets.mean_example(streamed.train), expected)

    def test_binarization_is_dynamic_or_none(self, streamed):
        assert streamed.binarized("none") is streamed
        binary = streamed.binarized("dynamic")
        assert binary.train is streamed.train
        assert set(np.unique(binary.test.images)) == {0, 255}
        for how in ("static", "threshold"):
            with pytest.raises(DatasetError, match=f"Received: binarize='{how}'.* cache='memory'"):
                streamed.binarized(how)

    def test_is_for_folders_and_tfds_only(self, write_npz):
        for name in ("digits", write_npz(images=numbered(10))):
            with pytest.raises(
                DatasetError, match=r"must be auto or memory.* Received: cache='none' for"
            ):
                datasets.load(name, cache="none")
        with pytest.raises(DatasetError, match="must be one of auto, memory, none"):
            datasets.load("digits", cache="disk")

    @pytest.mark.parametrize("channels", [1, 3])
    def test_refuses_other_shapes_at_once(self, channels, folder, images, tmp_path):
        odd = images[0, :, : 4 if channels == 3 else 5, :channels]
        keras.utils.save_img(tmp_path / "photos" / "a" / "zzz.png", odd, scale=False)
        with pytest.raises(DatasetError, match=r"must have one shape.* in .*zzz\.png"):
            datasets.load(folder, cache="none")

    def test_names_the_file_that_ends_training(self, folder, tmp_path):
        dataset = datasets.load(folder, cache="none")
        path = tmp_path / "photos" / "b" / "060.png"
        cut(path)
        for cache in ("none", "memory"):
            with pytest.raises(DatasetError, match=r"060\.png must be a readable image"):
                datasets.check_training_examples(
                    datasets.load(folder, cache=cache).train, 16, seed=1, first_step=5
                )
        path.unlink()
        with pytest.raises(DatasetError, match=r"060\.png must be a readable image.*No such file"):
            datasets.check_training_examples(dataset.train, 16, seed=1, first_step=5)

    def test_other_mistakes_of_a_step_are_not_its_images(self, streamed):
        datasets.check_training_examples(streamed.train, 16, seed=1, first_step=0)


class TestStreamedTfds:
    @pytest.fixture
    def builder(self, tmp_path, rng):
        """A data set of 5 shards of 24 images each."""
        import tensorflow_datasets as tfds

        images = self.images = rng.integers(0, 256, (120, 4, 3, 1)).astype(np.uint8)

        class NoisySquares(tfds.core.GeneratorBasedBuilder, skip_registration=True):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                image = tfds.features.Image(shape=(None, None, 1))
                features = {"id": np.int64, "image": image, "label": np.int64}
                features = tfds.features.FeaturesDict(features)
                return tfds.core.DatasetInfo(builder=self, features=features)

            def _split_generators(self, dl_manager):
                return {"train": self._generate_examples()}

            def _generate_examples(self):
                for index, image in enumerate(images):
                    yield index, {"id": index, "image": image, "label": index % 7}

        builder = NoisySquares(data_dir=tmp_path)
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=5))
        return builder

    def load(self, builder, **kwargs):
        return datasets.load(f"tfds:{builder.name}", data_dir=str(builder._data_dir_root), **kwargs)

    def test_is_the_one_in_memory(self, builder, monkeypatch):
        held, streamed = (self.load(builder, cache=cache) for cache in ("auto", "none"))
        assert len(builder.info.splits["train"].shard_lengths) == 5
        assert isinstance(held.train.images, np.ndarray)
        assert isinstance(streamed.train.images, datasets.Streamed)
        for name in ("train", "validation", "test"):
            ours, theirs = getattr(streamed, name), getattr(held, name)
            np.testing.assert_array_equal(ours.images, theirs.images)
            np.testing.assert_array_equal(ours.labels, theirs.labels)
        ours, theirs = (training_batches(dataset, 14) for dataset in (streamed, held))
        np.testing.assert_array_equal(ours, theirs)
        for first in (1, 7):
            resumed = training_batches(streamed, 14 - first, first_step=first)
            np.testing.assert_array_equal(resumed, theirs[first:])
        monkeypatch.setattr(streamed_module, "MAX_CACHED", 96 * 12 - 1)
        assert isinstance(self.load(builder).train.images, datasets.Streamed)

    def test_keeps_the_order_in_which_tfds_reads_without_shuffling(self, builder):
        """Written down, since examples are held out by their places in that order."""
        dataset = self.load(builder)
        places = {image.tobytes(): place for place, image in enumerate(self.images)}
        train, validation, test = (
            [places[image.tobytes()] for image in split.images]
            for split in (dataset.train, dataset.validation, dataset.test)
        )
        assert train[:8] == [39, 28, 64, 90, 6, 50, 47, 33]
        assert validation == [55, 81, 12, 110, 48, 13, 84, 99, 9, 52, 108, 92]
        assert test == [34, 4, 69, 59, 114, 82, 103, 0, 106, 111, 20, 57]

    def test_names_what_is_damaged(self, builder):
        dataset = self.load(builder, cache="none")
        (shard, *_) = sorted(builder.data_path.glob("*.tfrecord*"))
        content = shard.read_bytes()
        shard.write_bytes(content.replace(b"IDAT", b"TADI"))
        with pytest.raises(DatasetError, match=r"the record at byte \d+ of .*tfrecord.* must be"):
            datasets.check_training_examples(dataset.train, 16, seed=1, first_step=0)
        shard.write_bytes(content[:-10])
        with pytest.raises(DatasetError, match=r"must hold 24 whole records\. Received: 23"):
            self.load(builder, cache="none")


class TestFrey:
    @pytest.fixture
    def tfds_with_faces(self, tmp_path, rng):
        """A TFDS directory with a file of the right form, made of noise."""
        frames = rng.integers(0, 256, (frey_faces.NUM_FRAMES, 28, 20, 1)).astype(np.uint8)
        manual = tmp_path / "downloads" / "manual"
        manual.mkdir(parents=True)
        columns = frames.reshape(frey_faces.NUM_FRAMES, -1).T
        scipy.io.savemat(manual / frey_faces.FILE_NAME, {"ff": columns})
        return tmp_path, frames

    def test_builds_from_the_manual_directory_in_video_order(self, tfds_with_faces):
        directory, frames = tfds_with_faces
        for _ in range(2):  # built, then read
            dataset = datasets.load("frey", data_dir=str(directory))
            splits = (dataset.train, dataset.validation, dataset.test)
            assert [len(s.images) for s in splits] == [1573, 196, 196]
            positions = [
                [np.flatnonzero((frames == image).all(axis=(1, 2, 3)))[0] for image in s.images]
                for s in splits
            ]
            assert sorted(place for part in positions for place in part) == list(
                range(frey_faces.NUM_FRAMES)
            )
            assert all(part == sorted(part) for part in positions)
            # Four blocks of 49 frames each.
            assert positions[1] == [s + i for s in (197, 688, 1179, 1670) for i in range(49)]
            assert positions[2] == [s + i for s in (443, 934, 1425, 1916) for i in range(49)]
        assert (directory / "frey_faces").is_dir()

    def test_leaves_a_read_only_directory_alone(self, tfds_with_faces):
        directory, frames = tfds_with_faces
        directory.chmod(0o555)
        try:
            dataset = datasets.load("frey", data_dir=str(directory), split="random")
        finally:
            directory.chmod(0o755)
        assert [path.name for path in directory.iterdir()] == ["downloads"]
        shuffled = np.random.default_rng(0).permutation(frey_faces.NUM_FRAMES)
        validation, test, train = (np.sort(x) for x in np.split(shuffled, [196, 392]))
        np.testing.assert_array_equal(dataset.train.images, frames[train])
        np.testing.assert_array_equal(dataset.validation.images, frames[validation])
        np.testing.assert_array_equal(dataset.test.images, frames[test])

    def test_missing_file_says_where_to_put_it(self, tmp_path, monkeypatch):
        monkeypatch.setattr(frey_faces, "URL", "http://127.0.0.1:9/frey_rawface.mat")
        with pytest.raises(DatasetError, match=r"or lie in .*downloads/manual .*cannot be reached"):
            datasets.load("frey", data_dir=str(tmp_path))

    @pytest.mark.parametrize("content", [b"", b"not matlab", None])
    def test_damaged_file_is_named(self, content, tmp_path):
        manual = tmp_path / "downloads" / "manual"
        manual.mkdir(parents=True)
        file = manual / frey_faces.FILE_NAME
        if content is None:
            scipy.io.savemat(file, {"ff": np.zeros((560, 3), np.uint8)})
        else:
            file.write_bytes(content)
        with pytest.raises(DatasetError, match=r"frey_rawface\.mat must be the Frey Faces file"):
            datasets.load("frey", data_dir=str(tmp_path))


@pytest.mark.slow
class TestDataOfRecord:
    def test_frey(self, tfds_dir):
        dataset = datasets.load("frey", data_dir=str(tfds_dir))
        assert dataset.image_shape == (28, 20, 1)
        images = np.concatenate(
            [s.images for s in (dataset.train, dataset.validation, dataset.test)]
        ).astype(float)
        assert len(images) == 1965
        assert dataset.digest() == "5ddc22933f79772b"
        # Neighbours in a video are alike; the held-out blocks are themselves in order.
        held_out = dataset.test.images.astype(float)
        neighbours = np.abs(np.diff(held_out, axis=0)).mean()
        strangers = np.abs(held_out[:100] - held_out[96:]).mean()
        assert neighbours < 0.7 * strangers

    def test_mnist(self, tfds_dir):
        dataset = datasets.load("mnist", data_dir=str(tfds_dir))
        sizes = [len(s.images) for s in (dataset.train, dataset.validation, dataset.test)]
        assert sizes == [55_000, 5_000, 10_000]
        assert dataset.train.images.dtype == np.uint8
        # The published mean intensity of the 60,000 training images is 0.1307.
        both = np.concatenate([dataset.train.images, dataset.validation.images])
        assert both.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
        assert sorted(np.unique(dataset.test.labels)) == list(range(10))
        assert dataset.digest() == "3a0e6ae8d9a59318"

    def test_any_image_data_set_of_tfds(self, tfds_dir):
        dataset = datasets.load("tfds:mnist", data_dir=str(tfds_dir))
        assert [len(s.images) for s in (dataset.train, dataset.test)] == [54_000, 10_000]
