"""Patches of images of different sizes, compared with slices of the images by NumPy.

Every pixel of the images says which one it is: pixel (row, column) of image i has the channels
i, row and column. So a patch says where it was cut.
"""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from dvae_tf import datasets, randomness
from dvae_tf.data.batches import training_batches
from dvae_tf.data.holding_out import divide
from dvae_tf.data.patches import NUM_SYMMETRIES, Patches, gatherer
from dvae_tf.data.splits import Split, mean_example
from dvae_tf.datasets import DatasetError

SIZES = ((9, 13), (5, 5), (7, 22), (3, 11), (1, 1), (30, 4))
SIZE = 5


def located(sizes=SIZES, dtype=np.uint8) -> list[np.ndarray]:
    images = []
    for index, (height, width) in enumerate(sizes):
        rows, columns = np.mgrid[:height, :width]
        images.append(np.stack([np.full_like(rows, index), rows, columns], axis=-1).astype(dtype))
    return images


def padded(image, size=SIZE) -> np.ndarray:
    """The image, continued by its reflection to at least the size of a patch."""
    missing = [(0, max(size - length, 0)) for length in image.shape[:2]]
    return np.pad(image, [*missing, (0, 0)], "reflect")


def symmetries(patch) -> list[np.ndarray]:
    turned = [np.rot90(patch, turns) for turns in range(4)]
    return [*turned, *(np.flip(each, axis=1) for each in turned)]


def random_patches(images, indices, *, seed=0, augment=False, size=SIZE) -> np.ndarray:
    gather = tf.function(gatherer(Patches.of(images, size)))
    return gather(tf.constant(indices), seed=randomness.as_seed(seed), augment=augment)[0].numpy()


class TestGrid:
    def test_it_covers_every_image(self):
        images = located()
        patches = Patches.of(images, SIZE)
        counts = [-(-height // SIZE) * -(-width // SIZE) for height, width in SIZES]
        assert patches.shape == (sum(counts), SIZE, SIZE, 3)
        assert len(patches) == sum(counts)
        seen = {tuple(pixel) for pixel in np.asarray(patches).reshape(-1, 3)}
        assert seen == {tuple(pixel) for image in images for pixel in image.reshape(-1, 3)}

    def test_patches_are_slices(self):
        images = located()
        patches = Patches.of(images, SIZE)
        for patch, (index, top, left) in zip(np.asarray(patches), patches.places, strict=True):
            expected = padded(images[index])[top : top + SIZE, left : left + SIZE]
            np.testing.assert_array_equal(patch, expected)

    def test_the_last_of_a_row_ends_where_the_image_does(self):
        places = Patches.of(located([(9, 13)]), SIZE).places
        assert places[:, 1].tolist() == [0, 0, 0, 4, 4, 4]
        assert places[:, 2].tolist() == [0, 5, 8] * 2

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    def test_in_a_graph_they_are_the_same(self, dtype):
        patches = Patches.of(located(dtype=dtype), SIZE)
        assert patches.dtype == dtype
        assert patches.nbytes == sum(image.nbytes for image in located(dtype=dtype))
        (found,) = tf.function(gatherer(patches))(tf.range(len(patches)))
        assert found.dtype == tf.as_dtype(dtype)
        np.testing.assert_array_equal(found, np.asarray(patches))

    def test_selecting_patches(self):
        patches = Patches.of(located(), SIZE)
        everything = np.asarray(patches)
        for indices in (slice(3, 9), np.array([7, 0, 7])):
            np.testing.assert_array_equal(np.asarray(patches[indices]), everything[indices])
        (found,) = gatherer(patches[4:])(tf.constant([1, 0]))
        np.testing.assert_array_equal(found, everything[[5, 4]])

    def test_selecting_images(self):
        images = located()
        patches = Patches.of(images, SIZE).of_images(np.array([2, 0]))
        assert patches.num_images == 2
        for index, image in enumerate((images[2], images[0])):
            np.testing.assert_array_equal(patches.image(index), image)
        assert patches.nbytes == images[2].nbytes + images[0].nbytes
        assert set(np.asarray(patches)[..., 0].ravel()) == {0, 2}


class TestRandomPlaces:
    @pytest.mark.parametrize("augment", [False, True])
    def test_every_patch_occurs_in_its_image_at_its_place(self, augment):
        images = located()
        patches = Patches.of(images, SIZE)
        indices = np.tile(np.arange(len(patches)), 5)
        found = random_patches(images, indices, augment=augment)
        for patch, index in zip(found, patches.places[indices, 0], strict=True):
            image = padded(images[index])
            top, left = (patch[..., axis].min() for axis in (1, 2))
            if min(images[index].shape[:2]) < SIZE:  # of a reflected one the least is not the first
                tops, lefts = range(len(image) - SIZE + 1), range(image.shape[1] - SIZE + 1)
            else:
                tops, lefts = [top], [left]
            expected = [image[t : t + SIZE, le : le + SIZE] for t in tops for le in lefts]
            if augment:
                expected = [each for one in expected for each in symmetries(one)]
            assert any(np.array_equal(patch, each) for each in expected)

    def test_places_are_uniform(self):
        images = located([(9, 13)])
        found = random_patches(images, np.zeros(9000, int), augment=True)
        tops, lefts = (found[..., axis].min(axis=(1, 2)) for axis in (1, 2))
        counts = np.zeros((5, 9))
        np.add.at(counts, (tops, lefts), 1)
        assert scipy.stats.chisquare(counts.ravel()).pvalue > 1e-4

    def test_symmetries_are_uniform_and_independent_of_places(self):
        images = located([(6, 7)])
        found = random_patches(images, np.zeros(6000, int), augment=True)
        counts = np.zeros((6, NUM_SYMMETRIES))
        for patch in found:
            top, left = (patch[..., axis].min() for axis in (1, 2))
            cut = images[0][top : top + SIZE, left : left + SIZE]
            (which,) = [i for i, each in enumerate(symmetries(cut)) if np.array_equal(each, patch)]
            counts[3 * top + left, which] += 1
        assert scipy.stats.chisquare(counts.ravel()).pvalue > 1e-4

    def test_a_patch_does_not_depend_on_the_others_of_its_batch(self):
        images = located()
        indices = np.arange(20)
        few, many = (random_patches(images, indices[:n], seed=4, augment=True) for n in (7, 20))
        np.testing.assert_array_equal(few, many[:7])
        assert np.any(random_patches(images, indices, seed=5, augment=True) != many)

    def test_compiled_by_xla_they_are_the_same(self):
        gather = gatherer(Patches.of(located(), SIZE))

        def some():
            indices = tf.range(20)
            return gather(indices, seed=randomness.as_seed(3), augment=True)[0]

        np.testing.assert_array_equal(tf.function(some, jit_compile=True)(), tf.function(some)())


def split_of(sizes=SIZES, dtype=np.uint8, *, is_paired=False) -> Split:
    """Patches of located images; the noisy ones of pairs have one channel more, which is 7."""
    images = located(sizes, dtype)
    noisy = None
    if is_paired:
        noisy = [np.concatenate([x, np.full_like(x[..., :1], 7)], axis=-1) for x in images]
        noisy = Patches.of(noisy, SIZE)
    return Split(Patches.of(images, SIZE), noisy=noisy)


class TestBatches:
    def test_a_batch_is_a_function_of_seed_and_step(self):
        split = split_of()

        def batches(count, **kwargs):
            stream = training_batches(split, 6, augment=True, **kwargs)
            return list(stream.take(count).as_numpy_iterator())

        reference = batches(10, seed=1)
        # An epoch has three steps: 4 and 8 lie within one.
        for first in (4, 6, 8):
            resumed = batches(10 - first, seed=1, first_step=first)
            for ours, theirs in zip(resumed, reference[first:], strict=True):
                np.testing.assert_array_equal(ours, theirs)
        assert np.any(batches(1, seed=2)[0] != reference[0])
        assert np.any(reference[0] != reference[3])

    def test_places_differ_from_step_to_step(self):
        split = split_of([(40, 40)]).take(slice(2))
        batches = training_batches(split, 2, seed=1).take(30).as_numpy_iterator()
        places = {tuple(np.round(batch[0, 0, 0, 1:] * 255)) for batch in batches}
        assert len(places) > 25  # of 1,296

    def test_an_epoch_takes_from_every_image_as_many_as_its_grid_has(self):
        split = split_of([(10, 10), (5, 15), (20, 25)])  # 4 + 3 + 20 patches
        batches = training_batches(split, 9, seed=1).take(6).as_numpy_iterator()
        images = [np.round(x[:, 0, 0, 0] * 255).astype(int) for x in batches]
        for epoch in (images[:3], images[3:]):
            assert np.bincount(np.concatenate(epoch)).tolist() == [4, 3, 20]
        assert list(np.concatenate(images[:3])) != list(np.concatenate(images[3:]))

    @pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535), (float, 1)])
    def test_they_are_floats_on_the_scale_of_models(self, dtype, white):
        split = split_of([(SIZE, SIZE)], np.float32 if dtype is float else dtype)
        (batch,) = training_batches(split, 4, seed=0).take(1).as_numpy_iterator()
        assert batch.dtype == np.float32
        assert batch.shape == (1, SIZE, SIZE, 3)
        np.testing.assert_allclose(batch[0], located([(SIZE, SIZE)])[0] / white, rtol=1e-6)
        np.testing.assert_allclose(split.as_float(), batch, rtol=1e-6)

    def test_pairs_are_of_one_place_and_turned_alike(self):
        split = split_of(is_paired=True)
        for batches in (
            training_batches(split, 6, seed=1, augment=True).take(6),
            datasets.evaluation_batches(split, 6),
        ):
            for noisy, clean in batches.as_numpy_iterator():
                assert noisy.shape == (*clean.shape[:-1], 4)
                np.testing.assert_array_equal(noisy[..., :3], clean)
                np.testing.assert_allclose(noisy[..., 3], 7 / 255)

    def test_evaluation_batches_are_the_grid(self):
        split = split_of()
        batches = list(datasets.evaluation_batches(split, 8).as_numpy_iterator())
        np.testing.assert_allclose(np.concatenate(batches), split.as_float())

    def test_pairs_of_arrays(self, rng):
        clean = rng.random((40, 3, 4, 1), np.float32)
        split = Split(clean, noisy=clean + 5)
        seen = []
        for noisy, x in training_batches(split, 10, seed=1).take(4).as_numpy_iterator():
            np.testing.assert_array_equal(noisy, x + 5)
            seen.append(x)
        assert sorted(np.concatenate(seen)[:, 0, 0, 0]) == sorted(clean[:, 0, 0, 0])
        (plain,) = training_batches(Split(clean), 10, seed=1).take(1).as_numpy_iterator()
        np.testing.assert_array_equal(plain, seen[0])


class TestSplits:
    @pytest.mark.parametrize("how", datasets.SPLITS)
    @pytest.mark.parametrize("is_paired", [False, True])
    def test_they_share_no_image(self, how, is_paired):
        sizes = [(5 + i % 3, 6 + i % 5) for i in range(40)]
        dataset = divide("x", split_of(sizes, is_paired=is_paired), None, how)
        parts = [dataset.train, dataset.validation, dataset.test]
        found = [set(np.asarray(part.examples)[..., 0].ravel()) for part in parts]
        assert [len(images) for images in found] == [32, 4, 4]
        assert set.union(*found) == set(range(40))
        for part, images in zip(parts, found, strict=True):
            assert part.num_records == len(images)
            assert part.is_paired == is_paired
            if is_paired:
                np.testing.assert_array_equal(np.asarray(part.noisy)[..., :3], part.examples)

    def test_the_images_of_patches_are_held_out_as_single_images_are(self):
        patches = divide("x", split_of([(SIZE, SIZE)] * 40), None, "random")
        alone = divide("x", Split(np.stack(located([(SIZE, SIZE)] * 40))), None, "random")
        for name in ("train", "validation", "test"):
            np.testing.assert_array_equal(
                getattr(patches, name).examples, getattr(alone, name).examples
            )

    def test_too_few_images(self):
        with pytest.raises(DatasetError, match=r"at least 3 images.* Received: 2 in x"):
            divide("x", split_of([(40, 40)] * 2), None, "random")

    def test_limit_keeps_the_first_images(self):
        dataset = divide("x", split_of([(7, 8)] * 40, is_paired=True), None, "random")
        limited = dataset.limited(5)
        assert limited.train.num_records == 5
        for index in range(5):
            for name in ("examples", "noisy"):
                ours, theirs = (getattr(d.train, name).image(index) for d in (limited, dataset))
                np.testing.assert_array_equal(ours, theirs)
        assert limited.validation is dataset.validation

    def test_taking_keeps_pairs_together(self):
        for split in (split_of(is_paired=True), Split(np.arange(9.0), noisy=np.arange(9.0) + 0.5)):
            few = split.take(np.array([4, 2]))
            np.testing.assert_array_equal(few.examples, np.asarray(split.examples)[[4, 2]])
            np.testing.assert_array_equal(few.noisy, np.asarray(split.noisy)[[4, 2]])
            held = datasets.in_memory(split, 3)
            assert (len(held.examples), len(held.noisy)) == (3, 3)

    @pytest.mark.parametrize("name", ["examples", "noisy"])
    def test_digest_covers_noisy_and_clean_images(self, name):
        dataset = divide("x", split_of(is_paired=True), None, "random")
        known = dataset.digest()
        getattr(dataset.test, name).values[0] += 1
        assert dataset.digest() != known

    def test_digest_covers_the_sizes_of_images(self):
        digests = {
            divide(
                "x", Split(Patches.of([np.zeros((h, 12 // h, 1))] * 3, 2)), None, "random"
            ).digest()
            for h in (1, 2, 3, 4)
        }
        assert len(digests) == 4

    def test_mean_leaves_out_missing_pixels(self):
        images = located([(SIZE, SIZE)] * 3, np.float32)
        images[1][2, 3] = np.nan
        images[0][0, 0] = images[1][0, 0] = images[2][0, 0] = np.nan
        mean = mean_example(Split(Patches.of(images, SIZE)))
        assert np.isfinite(mean).all()
        assert mean[0, 0].tolist() == [0, 0, 0]
        assert mean[2, 3].tolist() == [1, 2, 3]  # of images 0 and 2
        assert mean[4, 1].tolist() == [1, 4, 1]

    def test_binary_values_are_drawn_anew_for_patches(self):
        dataset = divide("x", split_of([(7, 8)] * 10), None, "random")
        binary = dataset.binarized("dynamic")
        assert binary.train is dataset.train
        assert set(np.unique(binary.test.examples)) <= {0, 255}
        with pytest.raises(DatasetError, match="`binarize` must be dynamic or none for patches"):
            dataset.binarized("static")
