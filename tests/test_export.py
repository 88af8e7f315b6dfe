import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from tensorflow_probability import distributions as tfd

import train
from dvae_tf import DVAE, corruptions, layers, networks
from dvae_tf.runs import configuration, defaults
from dvae_tf.runs.directory import RunDirectory
from dvae_tf.runs.options import Options
from dvae_tf.serving import description, export, model_card, purity

SHAPE = (6, 5, 1)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    encoder, decoder = networks.conv(SHAPE, 3, filters=(4,), hidden=8)
    return DVAE(encoder, decoder, corruption=corruptions.Gaussian(0.1))


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    return export.export(model, tmp_path_factory.mktemp("an export"), version=1)


@pytest.fixture
def signatures(exported):
    loaded = tf.saved_model.load(str(exported))
    return {name: loaded.signatures[name] for name in loaded.signatures}


@pytest.fixture
def image(rng):
    return rng.random((4, *SHAPE), np.float32)


def test_golden_outputs_are_the_models(model, exported):
    with np.load(exported / "golden.npz", allow_pickle=False) as content:
        golden = dict(content)
    image = np.nan_to_num(golden["denoise/input/image"])
    valid = golden["denoise/output/valid"]
    np.testing.assert_array_equal(valid, [True, True, True, False])
    close = {"rtol": 1e-4, "atol": 1e-5}

    def check(name, expected):
        actual = golden[f"{name}"]
        np.testing.assert_allclose(actual[valid], np.asarray(expected)[valid], **close)
        assert not np.any(actual[~valid])

    check("denoise/output/denoised", model(image))
    check("denoise/output/stddev", model.denoise(image, num_samples=0).stddev)
    q = model.encoder(image)
    check("encode/output/mean", q.mean())
    check("encode/output/stddev", q.stddev())
    mean, variance = q.mean().numpy(), q.variance().numpy()
    check("score/output/kl", 0.5 * np.sum(mean**2 + variance - np.log(variance) - 1, axis=1))
    elbo = golden["score/output/reconstruction"] - golden["score/output/kl"]
    np.testing.assert_allclose(golden["score/output/elbo"], elbo, rtol=1e-6)
    decoded = model.decoder(golden["decode/input/latent"]).mean()
    np.testing.assert_allclose(golden["decode/output/image"], decoded, **close)
    for key in ("denoised", "stddev", "valid"):
        np.testing.assert_array_equal(
            golden[f"serving_default/output/{key}"], golden[f"denoise/output/{key}"]
        )


def test_nothing_impure_is_reachable(exported):
    found = purity.impurities((exported / "saved_model.pb").read_bytes())
    signatures = {"denoise", "encode", "decode", "sample", "score", "denoise_png"}
    assert signatures | {"serving_default"} <= set(found)
    assert not any(found.values())


def test_signature_json_says_what_the_signatures_are(exported, signatures):
    content = json.loads((exported / "signature.json").read_text(encoding="utf-8"))
    assert content["corruption"] == {"name": "gaussian", "level": 0.1}
    assert set(content["signatures"]) == set(signatures)
    for name, function in signatures.items():
        for side, specs in (
            ("inputs", function.structured_input_signature[1]),
            ("outputs", function.structured_outputs),
        ):
            described = content["signatures"][name][side]
            assert set(described) == set(specs)
            for key, spec in specs.items():
                assert described[key]["shape"] == spec.shape.as_list()
                assert described[key]["dtype"] == spec.dtype.name
    with np.load(exported / "golden.npz", allow_pickle=False) as golden:
        for key in golden:
            name, side, tensor = key.split("/")
            values = golden[key]
            low, high = content["signatures"][name][f"{side}s"][tensor]["range"]
            if low is not None:
                assert np.nanmin(values) >= low
            if high is not None:
                assert np.nanmax(values) <= high


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "network"), [("mixed_bfloat16", networks.conv), ("mixed_float16", networks.mlp)]
)
def test_mixed_precision_is_served_in_float32(policy, network, tmp_path):
    with networks.dtype_policy(policy):
        encoder, decoder = network(SHAPE, 3)
    version = export.export(DVAE(encoder, decoder), tmp_path, version=1)
    assert not any(purity.impurities((version / "saved_model.pb").read_bytes()).values())
    content = json.loads((version / "signature.json").read_text(encoding="utf-8"))
    for signature in content["signatures"].values():
        for entry in (signature["inputs"] | signature["outputs"]).values():
            assert entry["dtype"] in ("float32", "int32", "bool", "string")
    assert policy.removeprefix("mixed_") in (version / "model_card.md").read_text(encoding="utf-8")
    # The tolerance covers another order of summation, too.
    result = subprocess.run(
        [sys.executable, str(ROOT / "serving" / "check.py"), str(version)],
        env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": "0"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("policy", "rounding"),
    [("float32", None), ("mixed_bfloat16", 2.0**-8), ("mixed_float16", 2.0**-11)],
)
def test_tolerances_follow_the_precision_of_hidden_layers(policy, rounding):
    with networks.dtype_policy(policy):
        half = DVAE(*networks.mlp(SHAPE, 2, hidden=(4,)))
    found = description._tolerance(half)
    if rounding is None:
        assert found["default"] == {"relative": 1e-4, "absolute": 1e-5}
        assert found["nats"] == {"relative": 1e-4, "absolute": 1e-3}
    else:  # twice two roundings
        assert found["default"] == {"relative": 4 * rounding, "absolute": 4 * rounding}
        assert found["image_bytes"]["absolute"] == 1 + 255 * 4 * rounding


def test_without_serving_api_the_warmup_is_left_out(model, exported, tmp_path, monkeypatch):
    assert (exported / "assets.extra" / "tf_serving_warmup_requests").exists()
    for name in [n for n in sys.modules if n.split(".")[0] == "tensorflow_serving"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorflow_serving", None)
    said = []
    version = export.export(model, tmp_path, version=3, report=said.append)
    assert not (version / "assets.extra").exists()
    assert (version / "golden.npz").exists()
    assert len(said) == 1
    assert "pip install 'dvae-tf[serving]'" in said[0]


@keras.saving.register_keras_serializable(package="tests")
class Jitter(keras.layers.Layer):
    """A layer that keeps a random state, which no signature may."""

    def call(self, x):
        return x + tf.random.normal(tf.shape(x))


def test_an_impure_model_is_refused(model, tmp_path):
    image = keras.Input(SHAPE)
    encoder = keras.Model(image, model.encoder(Jitter()(image)))
    with pytest.raises(ValueError, match="RandomStandardNormal"):
        export.export(DVAE(encoder, model.decoder), tmp_path, version=1)
    assert not list(tmp_path.iterdir())


def test_correlated_posteriors_are_served(model, tmp_path):
    flat = keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.Flatten(),
            keras.layers.Dense(layers.MultivariateNormalTriL.params_size(3)),
            layers.MultivariateNormalTriL(3),
        ]
    )
    version = export.export(DVAE(flat, model.decoder), tmp_path, version=1)
    score = tf.saved_model.load(str(version)).signatures["score"]
    image = np.full((1, *SHAPE), 0.5, np.float32)
    answer = score(image=tf.constant(image), seed=tf.constant([[1, 2]]))
    q = flat(image)
    mean, covariance = q.mean().numpy()[0], q.covariance().numpy()[0]
    logdet = np.linalg.slogdet(covariance)[1]
    kl = 0.5 * (np.trace(covariance) + mean @ mean - 3 - logdet)
    np.testing.assert_allclose(answer["kl"], [kl], rtol=1e-4)


def test_posteriors_that_cannot_be_drawn_from_are_refused(model, tmp_path):
    flat = keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
            layers.DistributionLayer(coins),
        ]
    )
    with pytest.raises(ValueError, match="latent distribution must be reparameterised"):
        export.export(DVAE(flat, model.decoder), tmp_path, version=1)
    assert not list(tmp_path.iterdir())


@keras.saving.register_keras_serializable(package="tests")
def coins(parameters):
    return tfd.Independent(tfd.Bernoulli(logits=parameters, dtype=tf.float32), 1)


@pytest.mark.parametrize("name", ["denoise", "encode", "score", "decode", "sample"])
def test_the_size_of_the_batch_changes_nothing(signatures, rng, name):
    given = {
        "image": rng.random((64, *SHAPE), np.float32),
        "latent": rng.normal(size=(64, 3)).astype(np.float32),
        "seed": rng.integers(0, 2**31, (64, 2)).astype(np.int32),
    }
    inputs = {key: given[key] for key in signatures[name].structured_input_signature[1]}

    def run(rows):
        return signatures[name](**{k: tf.constant(v[:rows]) for k, v in inputs.items()})

    whole = run(64)
    for rows in (1, 7):
        for key, value in run(rows).items():
            np.testing.assert_allclose(value, whole[key][:rows], rtol=1e-4, atol=1e-5)


def test_score_averages_to_the_elbo(model, signatures, image):
    seeds = np.arange(4000, dtype=np.int32).reshape(2000, 2)
    images = np.repeat(image[:1], 2000, axis=0)
    elbo = signatures["score"](image=tf.constant(images), seed=tf.constant(seeds))["elbo"].numpy()
    reference = model.elbo(image[:1], num_samples=20_000).numpy()[0]
    assert abs(elbo.mean() - reference) < 5 * elbo.std() * np.sqrt(1 / 2000 + 1 / 20_000)


@pytest.mark.parametrize("name", ["sample", "score"])
def test_each_row_depends_on_its_own_seed(signatures, image, name):
    seeds = tf.constant([[1, 2], [3, 4], [5, 6], [1, 2]], tf.int32)
    inputs = {"seed": seeds} | ({"image": tf.constant(image)} if name == "score" else {})
    order = [2, 0, 3, 1]
    permuted = {key: tf.gather(value, order) for key, value in inputs.items()}
    key = "image" if name == "sample" else "elbo"
    first = signatures[name](**inputs)[key].numpy()
    second = signatures[name](**permuted)[key].numpy()
    np.testing.assert_allclose(second, first[order], rtol=1e-5, atol=1e-6)
    if name == "sample":
        np.testing.assert_array_equal(first[0], first[3])
        assert np.abs(first[0] - first[1]).max() > 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_zeros_and_touch_no_neighbour(signatures, image, bad):
    broken, zeroed = image.copy(), image.copy()
    broken[1, 2, 2, 0] = bad
    zeroed[1] = 0
    seed = tf.zeros([4, 2], tf.int32)
    for name, extra in (("denoise", {}), ("encode", {}), ("score", {"seed": seed})):
        result = signatures[name](image=tf.constant(broken), **extra)
        reference = signatures[name](image=tf.constant(zeroed), **extra)
        np.testing.assert_array_equal(result.pop("valid"), [True, False, True, True])
        for key, value in result.items():
            assert not np.any(value[1])
            others = [0, 2, 3]
            np.testing.assert_array_equal(value.numpy()[others], reference[key].numpy()[others])


@pytest.mark.parametrize("shape", [(2, 5, 6, 1), (2, 6, 5, 3), (6, 5, 1), (2, 30), ()])
def test_wrong_shapes_are_errors(signatures, shape):
    with pytest.raises((tf.errors.InvalidArgumentError, TypeError, ValueError)):
        signatures["denoise"](image=tf.zeros(shape))


def test_seed_rows_must_match_image_rows(signatures, image):
    with pytest.raises(tf.errors.InvalidArgumentError):
        signatures["score"](image=tf.constant(image), seed=tf.zeros([3, 2], tf.int32))


@pytest.mark.parametrize("name", ["denoise", "encode", "score", "decode", "sample", "denoise_png"])
def test_empty_batch(signatures, name):
    specs = signatures[name].structured_input_signature[1]
    empty = {
        key: tf.zeros([0, *spec.shape[1:]], spec.dtype)
        if spec.dtype != tf.string
        else tf.constant([], tf.string)
        for key, spec in specs.items()
    }
    for value in signatures[name](**empty).values():
        assert value.shape[0] == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_latents_that_are_not_finite_decode_to_zeros(signatures, rng, bad):
    latent = rng.normal(size=(3, 3)).astype(np.float32)
    reference = signatures["decode"](latent=tf.constant(latent))["image"].numpy()
    latent[1, 2] = bad
    image = signatures["decode"](latent=tf.constant(latent))["image"].numpy()
    assert not image[1].any()
    np.testing.assert_array_equal(image[[0, 2]], reference[[0, 2]])


def test_png(model, signatures, rng):
    pixels = rng.integers(0, 256, (3, *SHAPE)).astype(np.uint8)
    files = tf.stack([tf.io.encode_png(image) for image in pixels])
    answer = signatures["denoise_png"](image_bytes=files)["denoised_bytes"]
    denoised = np.stack([tf.io.decode_png(content).numpy() for content in answer])
    expected = np.clip(model(pixels.astype(np.float32) / 255), 0, 1) * 255
    np.testing.assert_allclose(denoised, expected, atol=0.51)


def test_a_version_is_never_overwritten_and_failure_leaves_nothing(model, exported, tmp_path):
    with pytest.raises(FileExistsError, match="must not exist yet"):
        export.export(model, exported.parent, version=1)
    with pytest.raises(ValueError, match="`version` must be from 1"):
        export.export(model, tmp_path, version=0)
    keras_model = keras.Sequential([])
    with pytest.raises(AttributeError):
        export.export(keras_model, tmp_path / "failed", version=1)
    assert not list((tmp_path / "failed").iterdir())


def test_the_next_version_is_newer_than_all_however_many_there_are(tmp_path, monkeypatch):
    for name in ("read_history", "read_metrics", "load_model"):
        monkeypatch.setattr(RunDirectory, name, lambda self: None)
    monkeypatch.setattr(RunDirectory, "read_config", lambda self: (None, {}))
    written = []
    monkeypatch.setattr(export, "write_version", lambda target, *_: written.append(target))
    export.export_run(tmp_path)
    for version in ("3", "10"):
        (tmp_path / "export" / version).mkdir()
        (tmp_path / "export" / version / "saved_model.pb").touch()
    export.export_run(tmp_path)
    assert written == [tmp_path / "export" / "1", tmp_path / "export" / "11"]


def test_what_is_written_reaches_the_disk_before_it_appears(model, tmp_path, monkeypatch):
    """Whatever is interrupted, nothing with a number for a name is there."""
    real, calls = os.fsync, []

    def fail_at(count):
        def fsync(descriptor):
            calls.append(descriptor)
            if len(calls) == count:
                raise OSError("No space left on device")
            real(descriptor)

        return fsync

    monkeypatch.setattr(os, "fsync", fail_at(3))
    with pytest.raises(OSError, match="No space left"):
        export.export(model, tmp_path, version=1)
    assert not list(tmp_path.iterdir())
    calls.clear()
    monkeypatch.setattr(os, "fsync", fail_at(0))
    version = export.export(model, tmp_path, version=1)
    # Every file and directory of the version, and the directory that names it.
    assert len(calls) == len(list(version.rglob("*"))) + 2


def test_the_model_card_tells_of_the_best_epoch(model):
    """That of the highest validation bound, whose weights are in model.keras; NaN: not validated."""
    nan = float("nan")
    run = {
        "data": {"name": "toy", "num_train": 3, "num_validation": 2, "num_test": 1},
        "configuration": configuration.to_dict(defaults.resolve(Options())),
        "versions": {},
        "history": {
            "epoch": [0, 1, 2, 3, 4],
            "val_bound": [nan, -30.25, nan, -10.5, -20.125],
            "val_reconstruction": [nan, -26.0, nan, -8.75, -12.0],
            "val_kl": [nan, 4.25, nan, 1.75, 8.125],
        },
        "metrics": None,
    }
    card = model_card.render(model, run)
    assert "validation bound -10.50 nats per image (best epoch, 4)" in card
    assert "validation reconstruction -8.75, KL 1.75 nats" in card
    assert "5 of at most 300 epochs" in card


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "a run"
    words = ["--epochs", "2", "--hidden", "16", "--limit", "200", "--run-dir", str(path)]
    assert train.main(words) == 0
    return path


def command(*arguments, **kwargs):
    return subprocess.Popen(
        [sys.executable, "-m", "dvae_tf.export", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


@pytest.mark.slow
class TestCommand:
    def test_writes_another_version(self, run_dir):
        process = command(run_dir, "--version", "7")
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert out.strip() == str(run_dir / "export" / "7")
        assert export.versions(run_dir / "export") == [1, 7]
        with (
            np.load(run_dir / "export/1/golden.npz") as a,
            np.load(run_dir / "export/7/golden.npz") as b,
        ):
            for key in a:
                np.testing.assert_array_equal(a[key], b[key])

    def test_the_model_card_says_what_the_run_was(self, run_dir):
        card = (run_dir / "export/1/model_card.md").read_text(encoding="utf-8")
        with (run_dir / "history.csv").open(newline="", encoding="utf-8") as file:
            best = max(float(row["val_bound"]) for row in csv.DictReader(file))
        assert f"validation bound {best:.2f} nats" in card
        assert "salt_pepper, level=0.2" in card
        assert "200 training" in card
        assert f"tensorflow {tf.__version__}" in card
        assert "not evaluated" in card

    def test_the_model_card_takes_up_the_evaluation(self, run_dir, tmp_path):
        copy = tmp_path / "copy"
        shutil.copytree(run_dir, copy, ignore=shutil.ignore_patterns("export"))
        (copy / "evaluation").mkdir()
        number = {"mean": -12.345, "standard_error": 0.5, "count": 300}
        measured = {
            "log_likelihood": number | {"num_samples": 5000},
            "denoising": [
                {"method": "model_mean", "noise": "salt_pepper", "level": 0.2, "psnr": number},
                {"method": "model_mean", "noise": "salt_pepper", "level": 0.4, "psnr": number},
            ],
        }
        (copy / "evaluation/metrics.json").write_text(json.dumps(measured), encoding="utf-8")
        (copy / "export/7").mkdir(parents=True)
        (copy / "export/7/saved_model.pb").touch()
        version = export.export_run(copy)
        assert version.name == "8"  # newer than all, however many there are
        card = (version / "model_card.md").read_text(encoding="utf-8")
        assert "log p(x) -12.35 ± 0.50 nats (300 test images), 5000 importance samples" in card
        assert card.count("PSNR at") == 1

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["{run}", "--version", "1"], "must not exist yet"),
            (["{run}", "--version", "0"], "--version must be at least 1"),
            (["{run}", "--version", "x"], "'x' is not a whole number"),
            (["{run}/nowhere"], "must be a run directory"),
            ([], "RUN_DIR"),
        ],
    )
    def test_errors_take_one_line(self, words, message, run_dir, capsys):
        assert export.main([word.format(run=run_dir) for word in words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line

    @pytest.mark.slow
    def test_a_full_disk_takes_one_line(self, run_dir, tmp_path):
        copy = tmp_path / "copy"
        shutil.copytree(run_dir, copy)
        words = f"ulimit -f 20; '{sys.executable}' -m dvae_tf.export '{copy}' --version 9"
        result = subprocess.run(["bash", "-c", words], cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 2
        lines = [line for line in result.stderr.splitlines() if line.startswith("python -m")]
        assert "Traceback" not in result.stderr
        assert len(lines) == 1
        assert "must be written completely" in lines[0]
        assert {path.name for path in (copy / "export").iterdir()} <= {"1", "7"}

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("model.keras", ""),
            ("history.csv", ""),
            ("history.csv", "epoch,loss\n0,1\n"),
            ("evaluation/metrics.json", "{}"),
            ("evaluation/metrics.json", "[]"),
            ("evaluation/metrics.json", "{"),
        ],
    )
    def test_damaged_runs_are_refused(self, name, content, run_dir, tmp_path, capsys):
        copy = tmp_path / "copy"
        shutil.copytree(run_dir, copy)
        (copy / "evaluation").mkdir()
        (copy / name).write_text(content, encoding="utf-8")
        assert export.main([str(copy), "--version", "9"]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
        assert not (copy / "export/9").exists()

    @pytest.mark.slow
    def test_killed_at_any_time_it_leaves_a_whole_version_or_none(self, run_dir, tmp_path, rng):
        copy = tmp_path / "copy"
        shutil.copytree(run_dir, copy)
        files = {path.name for path in (copy / "export/1").rglob("*")}
        for version, moment in enumerate(rng.uniform(0.0, 1.0, 3), start=2):
            process = command(copy, "--version", version)
            while not list((copy / "export").glob(".unfinished-*")):
                assert process.poll() is None
                time.sleep(0.001)
            time.sleep(moment)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            path = copy / "export" / str(version)
            if path.exists():
                assert {entry.name for entry in path.rglob("*")} == files
        leftovers = {path.name for path in (copy / "export").iterdir() if not path.name.isdigit()}
        assert leftovers
        assert all(name.startswith(".unfinished-") for name in leftovers)
