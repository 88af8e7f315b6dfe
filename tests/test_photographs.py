"""Images as users have them: sizes, types, ranges, pairs, and what is wrong with them."""

import re
import warnings

import numpy as np
import PIL.Image
import pytest

from dvae_tf import datasets
from dvae_tf.data.patches import Patches
from dvae_tf.datasets import DatasetError
from dvae_tf.kinds import Kind
from dvae_tf.kinds.kind import Recording
from dvae_tf.runs import building, defaults, diagnosis, training
from dvae_tf.runs.options import ConfigurationError, Options

SIZES = ((9, 12), (20, 7), (6, 6), (3, 8), (11, 11), (8, 30))
SPLITS = ("train", "validation", "test")


def grey(rng, sizes=SIZES, high=250) -> list[np.ndarray]:
    """Images [H, W] of 8 bits, none of which is saturated."""
    return [rng.integers(0, high, size).astype(np.uint8) for size in sizes]


def save(folder, images, suffix=".png"):
    folder.mkdir(exist_ok=True)
    for index, image in enumerate(images):
        path = folder / f"{index:02d}{suffix}"
        np.save(path, image) if suffix == ".npy" else PIL.Image.fromarray(image).save(path)
    return str(folder)


def whole(dataset, name="examples") -> list[np.ndarray]:
    """The images of all splits, [H, W, C]."""
    parts = [getattr(getattr(dataset, split), name) for split in SPLITS]
    return [part.image(index) for part in parts for index in range(part.num_images)]


def key(image) -> tuple:
    return (*image.shape[:2], image.tobytes())


class TestFolders:
    def test_sizes_may_differ_with_a_patch(self, tmp_path, rng):
        images = grey(rng)
        dataset = datasets.load(save(tmp_path, images), patch=5)
        assert dataset.image_shape == (5, 5, 1)
        assert isinstance(dataset.train.examples, Patches)
        assert dataset.train.examples.dtype == np.uint8
        assert sorted(map(key, whole(dataset))) == sorted(map(key, images))
        assert [getattr(dataset, s).num_records for s in SPLITS] == [4, 1, 1]

    def test_without_one_the_error_names_it(self, tmp_path, rng):
        folder = save(tmp_path, grey(rng))
        message = r"one shape\. Received: .*set `patch` to 64"
        with pytest.raises(DatasetError, match=message):
            datasets.load(folder)
        with pytest.raises(DatasetError, match=message) as caught:
            datasets.load(folder, is_noisy=True)
        assert f"(20, 7, 1) in {tmp_path}/01.png and 4 more" in str(caught.value)

    def test_images_of_one_size_are_those_of_today(self, tmp_path, rng):
        folder = save(tmp_path, grey(rng, [(6, 5)] * 10))
        today, noisy = datasets.load(folder), datasets.load(folder, is_noisy=True)
        for name in SPLITS:
            np.testing.assert_array_equal(
                getattr(today, name).examples, getattr(noisy, name).examples
            )
        assert today.digest() == noisy.digest()

    def test_colours_and_their_mixture(self, tmp_path, rng):
        colours = [rng.integers(0, 250, (8, 9, 3)).astype(np.uint8) for _ in range(4)]
        dataset = datasets.load(save(tmp_path, colours), patch=4)
        assert dataset.image_shape == (4, 4, 3)
        PIL.Image.fromarray(grey(rng)[0]).save(tmp_path / "02.png")
        with pytest.raises(
            DatasetError, match=r"number of channels\. Received: 1 in .*02\.png, 3 in"
        ):
            datasets.load(str(tmp_path), patch=4)

    def test_files_that_are_passed_over_are_counted(self, tmp_path, rng):
        folder = save(tmp_path, grey(rng))
        (tmp_path / "notes.txt").write_text("dark room", encoding="utf-8")
        with pytest.warns(UserWarning, match=r"6 images are read; passed over: 1 \.txt"):
            datasets.load(folder, patch=5)

    def test_a_damaged_file_is_named(self, tmp_path, rng):
        folder = save(tmp_path, grey(rng))
        (tmp_path / "03.png").write_bytes(b"\x89PNG")
        with pytest.raises(DatasetError, match=r"03\.png must be"):
            datasets.load(folder, patch=5)
        (tmp_path / "empty").mkdir()
        with pytest.raises(DatasetError, match="must hold images"):
            datasets.load(str(tmp_path / "empty"), patch=5)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    def test_types_are_kept(self, dtype, tmp_path, rng):
        unit = [rng.random(size) for size in SIZES]
        factor = 1 if dtype == np.float32 else np.iinfo(dtype).max - 1
        images = [(image * factor).astype(dtype) for image in unit]
        dataset = datasets.load(save(tmp_path, images, ".npy"), patch=5)
        assert dataset.train.examples.dtype == dtype
        assert dataset.range is None
        assert sorted(map(key, whole(dataset))) == sorted(map(key, images))
        scaled = dataset.train.as_float()
        assert scaled.dtype == np.float32
        assert 0.9 < scaled.max() <= 1

    def test_several_types_become_floats(self, tmp_path, rng):
        images = grey(rng)
        save(tmp_path, images, ".npy")
        np.save(tmp_path / "01.npy", images[1].astype(np.uint16) * 257)  # the same on their scales
        dataset = datasets.load(str(tmp_path), patch=5)
        assert dataset.train.examples.dtype == np.float32
        expected = [np.float32(image) / np.float32(255) for image in images]
        found = {image.shape[:2]: image[..., 0] for image in whole(dataset)}
        for image in expected:
            np.testing.assert_allclose(found[image.shape], image, rtol=1e-6)

    def test_patches_need_a_size(self, tmp_path, rng):
        with pytest.raises(DatasetError, match="`patch` must be an integer of at least 1"):
            datasets.load(save(tmp_path, grey(rng)), patch=0)


class TestArrays:
    def test_sources_of_today_may_be_cut(self):
        dataset = datasets.load("digits", patch=4, split="contiguous")
        alone = datasets.load("digits", split="contiguous")
        assert dataset.image_shape == (4, 4, 1)
        for name in SPLITS:
            ours, theirs = (getattr(each, name) for each in (dataset, alone))
            assert ours.num_records == len(theirs)
            np.testing.assert_array_equal(ours.as_float()[0], theirs.as_float()[0, :4, :4])
            assert ours.labels is None

    def test_a_split_for_tests_is_kept(self, tmp_path, rng):
        path = tmp_path / "x.npz"
        x = rng.random((30, 6, 7))
        np.savez(
            path, x_train=x[:20], x_test=x[20:] * 200, y_train=np.arange(20), y_test=np.arange(10)
        )
        dataset = datasets.load(str(path), range="0,200")
        np.testing.assert_allclose(dataset.test.as_float()[..., 0], x[20:], rtol=1e-6)
        assert dataset.test.labels.tolist() == list(range(10))
        assert len(dataset.train) == 18

    def test_noisy_values_stay_as_they_are(self, tmp_path, rng):
        path = tmp_path / "x.npy"
        noisy = rng.normal(0.5, 1, (20, 6, 7, 1)).astype(np.float32)
        np.save(path, noisy)
        dataset = datasets.load(str(path), is_noisy=True)
        found = np.concatenate([getattr(dataset, name).as_float() for name in SPLITS])
        np.testing.assert_array_equal(np.sort(found.ravel()), np.sort(noisy.ravel()))
        for options in ({}, {"patch": 4}):
            with pytest.raises(
                DatasetError, match=r"must be floats in \[0, 1\]\. Received: values"
            ):
                datasets.load(str(path), **options)

    def test_images_only_under_the_name_of_noisy_ones(self, tmp_path, rng):
        np.savez(tmp_path / "x.npz", x_noisy=rng.normal(size=(10, 4, 4)))
        assert len(datasets.load(str(tmp_path / "x.npz"), is_noisy=True).train) == 8


class TestRange:
    @pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float64])
    def test_of_numbers(self, dtype, tmp_path, rng):
        path = tmp_path / "x.npy"
        x = rng.integers(20, 120, (20, 6, 7)).astype(dtype)
        np.save(path, x)
        dataset = datasets.load(str(path), range="20,120", split="contiguous")
        assert dataset.range == "20.0,120.0"
        (index,) = np.flatnonzero(
            np.all(np.isclose(dataset.test.as_float()[0, ..., 0], (x - 20.0) / 100), axis=(1, 2))
        )
        assert index == 9  # the second of two blocks ends the first half

    def test_of_percentiles(self, tmp_path, rng):
        path = tmp_path / "x.npy"
        x = rng.integers(0, 4000, (20, 9, 9)).astype(np.uint16)
        np.save(path, x)
        with pytest.warns(UserWarning, match=r"1?\d(\.\d)? % of the clean values leave the range"):
            dataset = datasets.load(str(path), range="percentile:5,90")
        low, high = np.percentile(x, [5, 90])
        assert dataset.range == f"{float(low)!r},{float(high)!r}"
        assert dataset.train.as_float().min() == 0
        assert dataset.train.as_float().max() == 1
        noisy = datasets.load(str(path), range="percentile:5,90", is_noisy=True)
        assert noisy.train.as_float().max() > 1
        # The numbers are recorded, and give the same data again.
        again = datasets.load(str(path), range=noisy.range, is_noisy=True)
        assert again.digest() == noisy.digest()

    @pytest.mark.parametrize(
        "text", ["1", "5,5", "9,1", "0,nan", "percentile:1", "percentile:-1,50", "a,b"]
    )
    def test_that_is_none(self, text, tmp_path, rng):
        np.save(tmp_path / "x.npy", rng.random((9, 4, 4)))
        with pytest.raises(DatasetError, match="`range` must be"):
            datasets.load(str(tmp_path / "x.npy"), range=text)

    def test_that_is_missing(self, tmp_path, rng):
        np.save(tmp_path / "x.npy", rng.integers(-5, 5, (9, 4, 4)))
        with pytest.raises(DatasetError, match="`range` must be given for values of type int64"):
            datasets.load(str(tmp_path / "x.npy"), is_noisy=True)


class TestPairs:
    def pair(self, rng, sizes=SIZES):
        clean = grey(rng, sizes, high=200)
        return [image + rng.integers(0, 40, image.shape).astype(np.uint8) for image in clean], clean

    @pytest.mark.parametrize("patch", [5, None])
    def test_of_folders(self, patch, tmp_path, rng):
        noisy, clean = self.pair(rng, SIZES if patch else [(6, 5)] * 10)
        names = [save(tmp_path / "noisy", noisy), save(tmp_path / "clean", clean, ".npy")]
        dataset = datasets.load(names[0], clean=names[1], patch=patch)
        assert dataset.is_paired
        partners = {key(a): key(b) for a, b in zip(noisy, clean, strict=True)}
        for name in SPLITS:
            split = getattr(dataset, name)
            if patch:
                pairs = [
                    (split.noisy.image(i), split.examples.image(i))
                    for i in range(split.num_records)
                ]
            else:
                pairs = zip(split.noisy, split.examples, strict=True)
            for a, b in pairs:
                assert partners.pop(key(a)) == key(b)
            np.testing.assert_allclose(
                split.noisy_as_float(), np.asarray(split.noisy) / 255, rtol=1e-6
            )
        assert not partners

    @pytest.mark.parametrize("patch", [5, None])
    def test_of_an_archive(self, patch, tmp_path, rng):
        noisy, clean = (np.stack(images) for images in self.pair(rng, [(6, 7)] * 10))
        np.savez(tmp_path / "x.npz", x_noisy=noisy, x_clean=clean)
        dataset = datasets.load(str(tmp_path / "x.npz"), patch=patch)
        assert dataset.is_paired
        known = {(a.tobytes(), b.tobytes()) for a, b in zip(noisy, clean, strict=True)}
        for name in SPLITS:
            split = getattr(dataset, name)
            parts = (split.noisy, split.examples)
            if patch:
                parts = ([part.image(i) for i in range(split.num_records)] for part in parts)
            for a, b in zip(*parts, strict=True):
                known.remove((a.tobytes(), b.tobytes()))
        assert not known

    def test_of_two_arrays(self, tmp_path, rng):
        clean = rng.random((10, 6, 7))
        noisy = rng.normal(clean, 1)
        noisy[3, 2, 1] = np.nan
        for name, x in (("noisy", noisy), ("clean", clean)):
            np.save(tmp_path / f"{name}.npy", x)
        with pytest.warns(
            UserWarning, match=r"^1 of 420 values are NaN.*image 3 of .*noisy\.npy \(1\)$"
        ):
            dataset = datasets.load(str(tmp_path / "noisy.npy"), clean=str(tmp_path / "clean.npy"))
        error = np.concatenate(
            [getattr(dataset, s).noisy - getattr(dataset, s).examples for s in SPLITS]
        )
        expected = (noisy - clean).astype(np.float32)
        np.testing.assert_allclose(np.sort(error.ravel()), np.sort(expected.ravel()), atol=1e-6)
        np.save(tmp_path / "clean.npy", clean[:9])
        with pytest.raises(DatasetError, match="Received: 10 noisy and 9 clean"):
            datasets.load(str(tmp_path / "noisy.npy"), clean=str(tmp_path / "clean.npy"))

    def test_one_clean_page_serves_a_noisy_stack(self, tmp_path, rng):
        clean = rng.integers(0, 200, (3, 6, 7, 1)).astype(np.uint8)
        noisy = clean[:, None] + rng.integers(0, 40, (3, 4, 6, 7, 1)).astype(np.uint8)
        folders = [save(tmp_path / "n", noisy, ".npy"), save(tmp_path / "c", clean, ".npy")]
        dataset = datasets.load(folders[0], clean=folders[1], split="contiguous")
        assert sum(len(getattr(dataset, name)) for name in SPLITS) == 12
        known = {
            (a.tobytes(), c.tobytes()) for c, stack in zip(clean, noisy, strict=True) for a in stack
        }
        for name in SPLITS:
            split = getattr(dataset, name)
            for a, b in zip(split.noisy, split.examples, strict=True):
                assert (a.tobytes(), b.tobytes()) in known
        np.save(tmp_path / "c" / "01.npy", clean[:2])
        with pytest.raises(
            DatasetError, match=r"01\.npy, page 1 must belong.* Received: 2 pages, and 4"
        ):
            datasets.load(folders[0], clean=folders[1])

    def test_that_do_not_match(self, tmp_path, rng):
        noisy, clean = self.pair(rng)
        names = [save(tmp_path / "noisy", noisy), save(tmp_path / "clean", clean[:-1])]
        with pytest.raises(DatasetError, match=r"05\.png without a partner"):
            datasets.load(names[0], clean=names[1], patch=5)
        save(tmp_path / "clean", [*clean[:-1], clean[0]])
        with pytest.raises(
            DatasetError, match=r"one size\. Received: \(8, 30\) in .*noisy/05\.png, \(9, 12\)"
        ):
            datasets.load(names[0], clean=names[1], patch=5)

    def test_one_range_serves_both(self, tmp_path, rng):
        noisy, clean = self.pair(rng)
        names = [save(tmp_path / "noisy", noisy), save(tmp_path / "clean", clean)]
        dataset = datasets.load(names[0], clean=names[1], patch=5, range="percentile:0,100")
        low, high = (f(np.concatenate([x.ravel() for x in clean])) for f in (np.min, np.max))
        assert dataset.range == f"{float(low)!r},{float(high)!r}"
        assert max(image.max() for image in whole(dataset)) == 1
        assert max(image.max() for image in whole(dataset, "noisy")) == pytest.approx(
            (max(image.max() for image in noisy) - low) / (high - low)
        )


class TestOddValues:
    """What is wrong with a few images is said once, with their names."""

    def warned(self, images, tmp_path, **options) -> list[str]:
        folder = save(tmp_path, images, ".npy")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            datasets.load(folder, **({"patch": 5, "is_noisy": True} | options))
        return [str(each.message) for each in caught]

    def test_nothing_is_said_of_good_ones(self, tmp_path, rng):
        assert self.warned(grey(rng), tmp_path) == []
        assert self.warned([rng.normal(size=s) for s in SIZES], tmp_path) == []

    def test_missing_values(self, tmp_path, rng):
        images = [rng.random(size) for size in SIZES]
        images[1][:2] = np.nan
        images[4][0, 3] = np.nan
        (message,) = self.warned(images, tmp_path)
        total = sum(image.size for image in images)
        assert message == (
            f"15 of {total} values are NaN, and are left out: {tmp_path}/01.npy (14), "
            f"{tmp_path}/04.npy (1)"
        )
        with pytest.raises(DatasetError, match=r"finite\. Received: NaN or infinity in .*01\.npy"):
            datasets.load(str(tmp_path), patch=5)
        images[2][0, 0] = -np.inf
        np.save(tmp_path / "02.npy", images[2])
        with pytest.raises(DatasetError, match=r"Received: infinity in .*02\.npy"):
            datasets.load(str(tmp_path), patch=5, is_noisy=True)

    @pytest.mark.parametrize(
        ("dtype", "end"), [(np.uint8, 255), (np.uint16, 65535), (np.uint16, 4095), (np.float32, 1)]
    )
    def test_saturated_pixels(self, dtype, end, tmp_path, rng):
        images = [(rng.random(size) * 0.99 * end).astype(dtype) for size in SIZES]
        images[3][:, :2] = images[5][0, 0] = end
        messages = self.warned(images, tmp_path)
        share = 100 * 7 / sum(image.size for image in images)
        assert messages[-1] == (
            f"{share:.2g} % of the noisy pixels are saturated at {end}, most of them in "
            f"{tmp_path}/03.npy: no model of noise knows them"
        )
        # Bright skies of clean photographs are no fault.
        assert not any(
            "saturated" in text for text in self.warned(images, tmp_path, is_noisy=False)
        )

    def test_the_greatest_of_few_counts_is_not_saturated(self, tmp_path, rng):
        counts = [rng.poisson(2, size).astype(np.uint8) for size in SIZES]
        counts[0][0, :3] = counts[1][0, :3] = 15
        assert self.warned(counts, tmp_path) == []

    def test_constant_images(self, tmp_path, rng):
        images = grey(rng)
        images[0][:] = 7
        images[3][:] = 0
        (message,) = self.warned(images, tmp_path)
        assert message == f"2 of 6 images are constant: {tmp_path}/00.npy, {tmp_path}/03.npy"
        images = [rng.random(size) for size in SIZES]
        images[2][:] = np.nan
        images[4][:] = np.nan
        images[4][0, 0] = 0.5
        images[5][0, 0] = np.nan
        constant, _ = self.warned(images, tmp_path)
        assert constant.endswith(f"{tmp_path}/02.npy, {tmp_path}/04.npy")

    def test_cameras_of_fewer_bits(self, tmp_path, rng):
        images = [rng.integers(0, 4000, size).astype(np.uint16) for size in SIZES]
        images[0][0, 0] = 3999
        (message,) = self.warned(images, tmp_path)
        assert re.search(r"reach 3999 of 65535.* has 12 bits, set the range to 0,4095$", message)
        assert self.warned(images, tmp_path, range="0,4095") == []


def test_other_kinds_refuse_what_is_for_images():
    with pytest.raises(DatasetError, match=r"`patch`, `clean`, `range` and `observation` must be"):
        Kind.load_recorded(_Numbers(), "x", Recording(any_size=True), data_dir=None)


class _Numbers(Kind):
    name = "numbers"


class TestRuns:
    """The options of a run reach its data, and the other way round."""

    @pytest.fixture
    def pairs(self, tmp_path, rng, monkeypatch):
        monkeypatch.chdir(tmp_path)
        clean = rng.random((30, 8, 8, 1), np.float32)
        noisy = rng.normal(clean, 0.2).astype(np.float32)
        np.savez("x.npz", x_noisy=noisy, x_clean=clean)
        return noisy, clean

    def run(self, **options):
        given = {"dataset": "x.npz", "network": "mlp", "hidden": (4,), "latent_dim": 2, "epochs": 1}
        given |= {"likelihood": "gaussian", "batch_size": 8, "run_dir": "run"}
        return training.prepare(defaults.resolve(Options(**(given | options))))

    @pytest.mark.slow
    @pytest.mark.parametrize("patch", [None, 4])
    def test_pairs_train_and_are_validated(self, patch, pairs):
        run = self.run(patch=patch, augment=patch is not None)
        assert run.config.noise == "none"
        assert run.model.paired
        outcome = training.train(run, verbose=0)
        assert np.isfinite(outcome.best_bound)
        validation = run.dataset.validation
        error = np.clip(validation.noisy_as_float(), 0, 1) - validation.as_float()
        mse = np.square(error).mean(axis=(1, 2, 3))
        assert outcome.noisy_psnr == pytest.approx((-10 * np.log10(mse)).mean(), rel=1e-4)
        run.directory.unlock()

    def test_pairs_bring_their_own_noise(self, pairs):
        with pytest.raises(ConfigurationError, match=r"`noise` must be none for pairs.*'gaussian'"):
            self.run(noise="gaussian")

    def test_percentiles_are_recorded_as_numbers(self, pairs):
        run = self.run(range="percentile:0,100")
        saved, content = run.directory.read_config()
        low, high = pairs[1].min(), pairs[1].max()
        assert saved.range == run.config.range == f"{float(low)!r},{float(high)!r}"
        assert building.load_dataset(saved).digest() == content["data"]["digest"]
        run.directory.unlock()

    @pytest.mark.slow
    def test_a_batch_that_diverged_is_found_again(self, pairs):
        """The replay takes pairs, too."""
        run = self.run()
        run.model.encoder.set_weights([w * np.nan for w in run.model.encoder.get_weights()])
        found = diagnosis.find(run.model, run.batches(0).take(1), 0)
        assert found["step"] == 0
        assert found["layers"]
        run.directory.unlock()
