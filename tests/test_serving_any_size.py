"""Exports of models of images of any size, against the models themselves."""

import base64
import io
import json
import re

import check
import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from PIL import Image

from dvae_tf import DVAE, corruptions, latents, networks, observations, randomness
from dvae_tf.kinds.image import headers, png
from dvae_tf.randomness import Purpose
from dvae_tf.serving import export, purity
from dvae_tf.serving.models import ModelDirectory
from dvae_tf.serving.page import Page
from dvae_tf.serving.predict import predict
from dvae_tf.serving.tensors import RequestError

REFERENCE = (9, 7, 1)
SIZES = [(1, 1), (3, 17), (37, 53)]
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
SEEDS = np.array([[1, 2], [3, 4], [1, 2], [5, 6]], np.int32)


def ladder(channels=1, **options) -> DVAE:
    """A ladder of two small levels, with weights that are nowhere zero."""
    keras.utils.set_random_seed(1)
    observation = options.pop("observation", None)
    encoder, decoder = networks.ladder(
        (*REFERENCE[:2], channels), 2, filters=(4, 3), observation=observation, **options
    )
    rng = np.random.default_rng(1)
    for variable in encoder.trainable_variables:
        variable.assign(variable + 0.1 * rng.standard_normal(variable.shape))
    return DVAE(encoder, decoder, paired=options.get("conditional", False))


class Served:
    """A model, its export, and a function that runs a signature of the export."""

    def __init__(self, model, directory):
        self.model = model
        self.version = export.export(model, directory, version=1)
        self._loaded = tf.saved_model.load(str(self.version))
        self.functions = {name: self._loaded.signatures[name] for name in self._loaded.signatures}

    def __call__(self, signature, **inputs):
        answer = self.functions[signature](**{k: tf.constant(v) for k, v in inputs.items()})
        return {key: value.numpy() for key, value in answer.items()}


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """A model of noisy images."""
    model = ladder(observation=observations.Gaussian(0.2))
    return Served(model, tmp_path_factory.mktemp("noisy"))


@pytest.fixture(scope="module")
def paired(tmp_path_factory):
    """A conditional model of images with two channels."""
    return Served(ladder(2, conditional=True), tmp_path_factory.mktemp("paired"))


@pytest.fixture(params=["noisy", "paired"])
def served(request):
    return request.getfixturevalue(request.param)


def rows(served, size, count=4) -> np.ndarray:
    """Random images, of which the first and the third are alike."""
    channels = served.model.encoder.input_shape[-1]
    x = np.random.default_rng(2).normal(0.5, 0.3, (count, *size, channels)).astype(np.float32)
    x[2:3] = x[:1]
    return x


def test_denoise_and_draw_are_all_of_a_conditional_model(noisy, paired):
    assert set(paired.functions) == {"denoise", "draw", "serving_default"}
    more = {"encode", "decode", "sample", "score", "denoise_png"}
    assert set(noisy.functions) == set(paired.functions) | more


def test_golden_outputs_are_the_exports(served):
    assert check.differences(served.version, lambda name, inputs: served(name, **inputs)) == []
    assert check.missing(served.version, set(served.functions)) == []
    found = purity.impurities((served.version / "saved_model.pb").read_bytes())
    assert not any(found.values())
    warm_ups = list(check.warmup_requests(served.version))
    assert len(warm_ups) == 3 * len(served.functions)


def test_signature_json_leaves_sizes_free(noisy):
    content = json.loads((noisy.version / "signature.json").read_text(encoding="utf-8"))
    described = content["signatures"]
    assert described["denoise"]["inputs"]["image"]["shape"] == [None, None, None, 1]
    assert described["decode"]["inputs"]["latent_2"]["shape"] == [None, None, None, 2]
    assert described["sample"]["outputs"]["image"]["shape"][0] is None
    assert "8 posterior draws" in described["denoise"]["outputs"]["denoised"]["meaning"]
    assert content["corruption"] == {"name": "gaussian", "level": 0.2}
    card = (noisy.version / "model_card.md").read_text(encoding="utf-8")
    assert "images of any height and width, with 1 channel," in card
    assert "2 latent maps" in card
    assert "gaussian, sigma=0.2" in card
    assert "None" not in card


@pytest.mark.parametrize("size", SIZES)
def test_each_row_is_denoised_as_if_it_were_alone(size, served):
    x = rows(served, size)
    answer = served("denoise", image=x)
    for i in range(4):
        alone = served.model.denoise(x[i : i + 1], num_samples=8)
        np.testing.assert_allclose(answer["denoised"][i], alone.mean[0], **CLOSE)
        np.testing.assert_allclose(answer["stddev"][i], alone.stddev[0], **CLOSE)
    assert answer["valid"].all()
    assert answer["stddev"].min() > 0
    np.testing.assert_allclose(answer["denoised"][2], answer["denoised"][0], **CLOSE)


@pytest.mark.parametrize("size", SIZES)
def test_each_row_is_drawn_from_its_own_seed(size, served):
    x = rows(served, size)
    drawn = served("draw", image=x, seed=SEEDS)["draw"]
    for i in range(4):
        alone = served.model.draws(x[i : i + 1], 1, seed=tuple(SEEDS[i]))[0, 0]
        np.testing.assert_allclose(drawn[i], alone, **CLOSE)
    np.testing.assert_array_equal(drawn[2], drawn[0])
    other = served("draw", image=x[:1], seed=SEEDS[1:2])["draw"]
    assert np.abs(other[0] - drawn[0]).max() > 1e-3


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_zeros_and_touches_no_neighbour(bad, served):
    x = rows(served, (5, 6))
    broken = x.copy()
    broken[1, 2, 3, 0] = bad
    for name in set(served.functions) & {"denoise", "draw", "encode", "score"}:
        seed = {} if name in ("denoise", "encode") else {"seed": SEEDS}
        answer, whole = (served(name, image=images, **seed) for images in (broken, x))
        np.testing.assert_array_equal(answer.pop("valid"), [True, False, True, True])
        for key, value in answer.items():
            assert not value[1].any()
            np.testing.assert_allclose(value[[0, 2, 3]], whole[key][[0, 2, 3]], **CLOSE)


@pytest.mark.parametrize("size", SIZES)
def test_latents_decode_to_the_padded_image(size, noisy):
    x = rows(noisy, size)
    encoded = noisy("encode", image=x)
    q = noisy.model.encoder(x).mean_along()
    for level in (1, 2):
        np.testing.assert_allclose(encoded[f"mean_{level}"], q.levels[level - 1], **CLOSE)
        np.testing.assert_allclose(encoded[f"stddev_{level}"], q.spreads[level - 1], **CLOSE)
    maps = {f"latent_{level}": encoded[f"mean_{level}"] for level in (1, 2)}
    image = noisy("decode", **maps)["image"]
    padded = [-(-side // 4) * 4 for side in size]
    assert image.shape == (4, *padded, 1)
    expected = noisy.model.denoise(x, num_samples=0).mean
    np.testing.assert_allclose(image[:, : size[0], : size[1]], expected, **CLOSE)


def test_latent_maps_must_fit_each_other(noisy):
    maps = {"latent_1": np.zeros((1, 4, 6, 2), np.float32)}
    for wrong in ((1, 2, 2, 2), (2, 2, 3, 2)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"`latent_2` must have as many"):
            noisy("decode", **maps, latent_2=np.zeros(wrong, np.float32))


def test_scores_are_the_densities_at_one_draw(noisy):
    """Against SciPy's densities, at the draws of one row at a time."""
    x = rows(noisy, (3, 17))
    score = noisy("score", image=x, seed=SEEDS)
    for i in range(4):
        seed = randomness.fold_in(tf.constant(SEEDS[i]), Purpose.SCORING)
        q = noisy.model.encoder(x[i : i + 1])
        z = latents.draw_along(q, seed=seed, num_samples=1)
        log_p = scipy.stats.norm.logpdf(x[i], z.parameters[0, 0], 0.2).sum()
        kl = 0.0
        for level, (eps, spread) in enumerate(zip(z.levels, z.spreads, strict=True)):
            noise = randomness.normal_maps(
                0, 1, 1, tf.shape(eps)[2:], randomness.fold_in(seed, level)
            )
            mean, spread = (eps - spread * noise).numpy(), spread.numpy()
            kl += 0.5 * (mean**2 + spread**2 - 1 - 2 * np.log(spread)).sum()
        np.testing.assert_allclose(score["reconstruction"][i], log_p, rtol=1e-4)
        np.testing.assert_allclose(score["kl"][i], kl, rtol=1e-3)
        np.testing.assert_allclose(score["elbo"][i], log_p - kl, rtol=1e-3)


def test_samples_have_the_reference_size(noisy):
    image = noisy("sample", seed=SEEDS)["image"]
    assert image.shape == (4, *REFERENCE)
    np.testing.assert_array_equal(image[2], image[0])
    assert np.abs(image[1] - image[0]).max() > 1e-3
    z = noisy.model.prior.sample(1, seed=tf.constant(SEEDS[1]))
    np.testing.assert_allclose(image[1], noisy.model.decoder(z).mean()[0], **CLOSE)


def test_no_rows_give_no_rows(served):
    for name, function in served.functions.items():
        specs = function.structured_input_signature[1]
        empty = {
            key: np.zeros([0, *(4 if n is None else n for n in spec.shape[1:])], "float32")
            for key, spec in specs.items()
            if spec.dtype == tf.float32
        }
        if name == "decode":
            empty["latent_2"] = empty["latent_2"][:, :2, :2]
        if "seed" in specs:
            empty["seed"] = SEEDS[:0]
        if png.INPUT in specs:
            empty[png.INPUT] = np.array([], object)
        for value in served(name, **empty).values():
            assert len(value) == 0


def test_too_many_pixels_and_none_are_refused(served):
    channels = served.model.encoder.input_shape[-1]
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 4194304 pixels: send fewer"):
        served("denoise", image=np.zeros((2, 2**11 + 1, 2**10, channels), np.float32))
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least one pixel"):
        served("denoise", image=np.zeros((1, 0, 5, channels), np.float32))
    with pytest.raises(tf.errors.InvalidArgumentError, match="one row for each image"):
        served("draw", image=np.zeros((2, 4, 5, channels), np.float32), seed=SEEDS[:1])


def files_of(*images: np.ndarray) -> list[bytes]:
    return [tf.io.encode_png(image).numpy() for image in images]


def test_files_of_one_request_may_differ_in_size(noisy):
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 256, (*size, 1)).astype(np.uint8) for size in SIZES]
    answer = noisy("denoise_png", image_bytes=np.array(files_of(*images)))["denoised_bytes"]
    for image, content in zip(images, answer, strict=True):
        denoised = np.asarray(Image.open(io.BytesIO(content)))
        x = image[np.newaxis].astype(np.float32) / 255
        expected = np.clip(noisy.model.denoise(x, num_samples=8).mean[0, ..., 0], 0, 1) * 255
        np.testing.assert_allclose(denoised, expected, atol=0.51)


def test_files_may_have_so_many_pixels_together(noisy):
    """The limit holds before anything is decoded, in the graph and in the server."""
    files = files_of(*[np.zeros((1500, 1500, 1), np.uint8)] * 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="4194304 pixels, in all rows"):
        noisy("denoise_png", image_bytes=np.array(files))
    spec = tf.TensorSpec([None, None, None, 1])
    with pytest.raises(ValueError, match="4194304 pixels, in all rows together in row 1"):
        png.plain(tf.constant(files), spec)
    assert len(png.plain(tf.constant(files[:1]), spec)) == 1
    (large,) = files_of(np.zeros((2**11 + 1, 2**11, 1), np.uint8))
    with pytest.raises(ValueError, match=re.escape(headers.PIXELS)):
        png.plain(tf.constant([large]), spec)


@pytest.fixture(scope="module")
def newest(noisy):
    return ModelDirectory(noisy.version.parent).newest


class TestServer:
    def test_rows_have_one_size_and_it_is_free(self, newest, noisy):
        for size in SIZES[:2]:
            x = rows(noisy, size, 2)
            answer = predict(newest, json.dumps({"instances": x.tolist()}).encode())
            found = np.array([row["denoised"] for row in answer["predictions"]])
            np.testing.assert_allclose(found, noisy("denoise", image=x)["denoised"], **CLOSE)

    @pytest.mark.parametrize(
        ("instances", "message"),
        [
            ([[[[0]], [[0]]], [[[0]]]], "all rows of a request must have one size"),
            ([[[[0], [0]], [[0]]]], "one size: received rows of different lengths"),
            ([[[[0, 1]]]], r"in shape \['B', 'any', 'any', 1\]: received \[1, 1, 1, 2\]"),
            ([[0]], r"received \[1, 1\]"),
            ([[]], r"received \[1, 0\]"),
        ],
    )
    def test_other_rows_are_refused(self, instances, message, newest):
        with pytest.raises(RequestError, match=message) as error:
            predict(newest, json.dumps({"instances": instances}).encode())
        assert error.value.status == 400

    def test_too_many_pixels_are_refused_with_the_reason(self, newest):
        (file,) = files_of(np.zeros((1500, 1500, 1), np.uint8))
        instances = [{"b64": base64.b64encode(file).decode()}] * 2
        body = json.dumps({"signature_name": "denoise_png", "instances": instances})
        with pytest.raises(RequestError, match="up to 4194304 pixels") as error:
            predict(newest, body.encode())
        assert error.value.status == 400

    def test_no_rows(self, newest):
        assert predict(newest, b'{"instances": []}') == {"predictions": []}

    def test_the_page_has_noise_for_any_size_and_plain_words(self, newest):
        page = Page("dvae", max_bytes=10**6)
        content = page.render(newest)
        assert '<option value="salt_pepper">Salt and pepper</option>' in content
        assert '<option value="gaussian" selected>Gaussian</option>' in content
        assert "[null, null, 1]" in content
        assert "MAX_PIXELS = 100000;" in content
        assert content.count('class="draw"') == 6
        image = np.linspace(0, 1, 15).reshape(3, 5, 1)
        body = {"image": image.tolist(), "noise": "gaussian", "level": 0.1, "seed": 4}
        noisy = page.noise(newest, json.dumps(body).encode())["image"]
        expected = corruptions.Gaussian(0.1, clip=True)(image[None], seed=4)[0]
        np.testing.assert_allclose(noisy, expected, atol=1e-6)
