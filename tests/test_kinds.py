"""The seam of kinds: vectors of real numbers go through every command, from one file."""

import json
import shutil
import sys

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from conftest import ROOT
from vectors import Vectors

import evaluate
import train
from dvae_tf import DVAE, datasets, export, networks
from dvae_tf.kinds import KINDS, Kind, kind_of, kind_of_shape
from dvae_tf.kinds.image import Image
from dvae_tf.runs import resuming

D = 5


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A trained and evaluated run on vectors with two directions of variance."""
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(120, 2)) @ rng.normal(size=(2, D))
    folder = tmp_path_factory.mktemp("of vectors")
    np.save(folder / "two.npy", factors + 0.1 * rng.normal(size=(120, D)))
    run = folder / "run"
    words = [
        "--kind",
        "vectors",
        "--dataset",
        str(folder / "two.npy"),
        "--latent-dim",
        "3",
        "--hidden",
        "8",
    ]
    words += ["--epochs", "3", "--batch-size", "32", "--run-dir", str(run), "--noise", "gaussian"]
    assert train.main(words) == 0
    words = ["--num-importance-samples", "20", "--num-annealed", "2", "--noise-levels", "0", "0.2"]
    words += ["--limit", "11", "--seed", "4"]
    assert evaluate.main([str(run), *words]) == 0
    return run


def test_the_run_says_what_it_is(run_dir):
    content = json.loads((run_dir / "config.json").read_text(encoding="utf-8"))
    assert content["configuration"]["kind"] == "vectors"
    assert content["data"]["num_train"] == 96
    assert content["data"]["example_shape"] == [D]
    model = keras.models.load_model(run_dir / "model.keras")
    assert isinstance(model.kind, Vectors)
    assert model.encoder.input_shape == (None, D)


def test_what_is_measured(run_dir):
    """The numbers that make sense for vectors are those of the model; none of images is there."""
    measured = json.loads((run_dir / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
    model = keras.models.load_model(run_dir / "model.keras")
    path = run_dir.parent / "two.npy"
    test = datasets.load(str(path), kind="vectors").test.take(slice(11)).as_float()
    assert measured["num_test_images"] == len(test) == 11
    assert measured["seed"] == 4
    means = model.encoder(test).mean().numpy()
    assert measured["features"]["active_units"] == int((means.var(0) > 0.01).sum())
    rows = {(row["noise"], row["level"], row["method"]): row for row in measured["denoising"]}
    assert {noise for noise, *_ in rows} == set(Kind.noises)
    clean = rows["gaussian", 0.0, "model_mean"]
    error = np.sqrt(np.mean((model.predict(test, verbose=0) - test) ** 2, axis=1))
    assert clean["rmse"]["mean"] == pytest.approx(error.mean(), rel=1e-5)
    assert "psnr" not in clean
    assert rows["gaussian", 0.2, "noisy"]["rmse"]["mean"] == pytest.approx(0.2, rel=0.2)
    q = model.encoder(test)
    kl = 0.5 * (means**2 + q.variance() - 1) - np.log(q.stddev())
    assert measured["kl"]["mean"] == pytest.approx(np.sum(kl, 1).mean(), rel=1e-4)
    total = measured["elbo"]["mean"]
    assert total == pytest.approx(measured["reconstruction"]["mean"] - measured["kl"]["mean"])
    assert np.isfinite(measured["log_likelihood"]["mean"])
    assert (run_dir / "evaluation" / "report.html").exists()
    assert (run_dir / "figures" / "curves.png").exists()
    assert not (run_dir / "figures" / "denoising.png").exists()


def test_data_may_have_moved(run_dir, tmp_path):
    saved, moved = (evaluate._load(run_dir, data_dir).config for data_dir in (None, str(tmp_path)))
    assert moved.data_dir == str(tmp_path) != saved.data_dir
    copy = tmp_path / "run"
    copy.mkdir()
    content = json.loads((run_dir / "config.json").read_text(encoding="utf-8"))
    content["configuration"]["data_dir"] = "before"
    (copy / "config.json").write_text(json.dumps(content), encoding="utf-8")
    assert resuming.read_configuration(str(copy)).data_dir == "before"
    assert resuming.read_configuration(str(copy), "after").data_dir == "after"


def test_runs_on_other_test_examples_are_not_compared(run_dir, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(run_dir, other)
    text = (other / "config.json").read_text(encoding="utf-8")
    (other / "config.json").write_text(
        text.replace('"split": "random"', '"split": "contiguous"'), encoding="utf-8"
    )
    before = (run_dir / "evaluation" / "metrics.json").stat().st_mtime_ns
    assert evaluate.main([str(run_dir), str(other)]) == 2
    assert "must have the same test vectors" in capsys.readouterr().err
    assert (run_dir / "evaluation" / "metrics.json").stat().st_mtime_ns == before


# Keras' CSVLogger closes its file at the end of training.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
def test_a_run_that_is_stopped_goes_on(run_dir, monkeypatch):
    """Stopped after two epochs and resumed, it ends with the weights of the other run."""
    content = json.loads((run_dir / "config.json").read_text(encoding="utf-8"))
    other = run_dir.with_name("stopped")

    class Stopped(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    words = ["--kind", "vectors", "--dataset", content["configuration"]["dataset"]]
    words += ["--latent-dim", "3", "--hidden", "8", "--epochs", "3", "--batch-size", "32"]
    words += ["--noise", "gaussian", "--checkpoint-seconds", "0", "--run-dir", str(other)]
    with monkeypatch.context() as patch:
        patch.setattr(Kind, "training_callbacks", lambda *args, **kwargs: [Stopped()])
        assert train.main(words) == 130
    assert train.main(["--resume", str(other)]) == 0
    assert (other / "history.csv").read_text(encoding="utf-8") == (
        run_dir / "history.csv"
    ).read_text(encoding="utf-8")
    ours, theirs = (keras.models.load_model(d / "model.keras") for d in (other, run_dir))
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_saved_model_serves_vectors(run_dir):
    loaded = tf.saved_model.load(str(run_dir / "export" / "1"))
    assert set(loaded.signatures) == {
        "serving_default", "denoise", "encode", "decode", "sample", "score",
    }  # fmt: skip
    model = keras.models.load_model(run_dir / "model.keras")
    x = np.random.default_rng(1).normal(size=(4, D)).astype(np.float32)
    x[2, 0] = np.nan
    found = loaded.signatures["denoise"](vector=tf.constant(x))
    np.testing.assert_array_equal(found["valid"], [True, True, False, True])
    expected = model.predict(x[[0, 1, 3]], verbose=0)
    np.testing.assert_allclose(found["denoised"].numpy()[[0, 1, 3]], expected, atol=1e-5)
    np.testing.assert_array_equal(found["denoised"][2], np.zeros(D))
    described = json.loads(
        (run_dir / "export" / "1" / "signature.json").read_text(encoding="utf-8")
    )
    assert described["signatures"]["denoise"]["inputs"]["vector"]["shape"] == [None, D]
    assert export.versions(run_dir / "export") == [1]


def test_likelihood_of_a_model_of_vectors_is_that_of_scipy():
    """A decoder that ignores z: log p(x) is a sum of normal log densities."""
    encoder, decoder = networks.mlp((D,), 2, "gaussian", hidden=(4,))
    decoder.get_layer("parameters").kernel.assign(np.zeros((4, 2 * D)))
    posterior = encoder.get_layer("parameters")  # the prior, up to the scale's floor
    posterior.kernel.assign(np.zeros((4, 4)))
    posterior.bias.assign([0.0, 0.0, *[np.log(np.e - 1)] * 2])
    model = DVAE(encoder, decoder)
    x = np.random.default_rng(2).normal(size=(3, D)).astype(np.float32)
    scale = float(decoder(np.zeros((1, 2), np.float32)).stddev()[0, 0])
    expected = scipy.stats.norm.logpdf(x, scale=scale).sum(1)
    np.testing.assert_allclose(model.log_likelihood(x), expected, atol=1e-3)
    np.testing.assert_allclose(model.elbo(x), expected, atol=1e-3)


def test_help_and_messages_know_the_kind(capsys):
    assert train.main(["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "vectors" in text
    with pytest.raises(datasets.DatasetError, match=r"path of an \.npy file of vectors"):
        datasets.load("nothing")
    with pytest.raises(ValueError, match=r"`kind` must be one of .*image.*vectors"):
        datasets.load("digits", kind="sound")


def test_which_kind_takes_what():
    assert isinstance(kind_of_shape((None, 8, 8, 1)), Image)
    assert isinstance(kind_of_shape((None, D)), Vectors)
    assert kind_of_shape((None, 4, 4)).name == "any"
    assert isinstance(kind_of(networks.mlp((8, 8, 1), 2, hidden=(4,))[0]), Image)


class TestAnyKind:
    """The base: any nest of finite floats."""

    KIND = kind_of_shape(None)

    def test_takes_nests(self):
        nest = {"a": np.zeros((2, 3)), "b": np.ones((2,), np.float64)}
        taken = self.KIND.as_examples(nest, clean=True)
        assert taken["b"].dtype == tf.float32
        np.testing.assert_array_equal(self.KIND.mean(nest)["a"], np.zeros(3))

    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (np.zeros((2, 3), np.int32), "must be floats.*int32"),
            (np.full((2, 3), np.nan), "must be finite"),
            ((np.zeros((2, 3)), np.full((2, 3), np.inf)), "must be finite"),
        ],
    )
    def test_refuses(self, x, message):
        with pytest.raises(ValueError, match=message):
            self.KIND.as_examples(x, clean=True)

    def test_refuses_other_shapes(self):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        with pytest.raises(ValueError, match=r"shape \(None, 3\).*Received: \(2, 4\)"):
            self.KIND.as_examples(np.zeros((2, 4), np.float32), model)

    def test_has_no_binary_values(self):
        with pytest.raises(ValueError, match="`binarize` must be none for data of kind any"):
            self.KIND.binarized(np.zeros((2, 3)), "static", 0)


def test_images_are_written_in_the_image_kind_alone():
    """255 and the axes of images stand in kinds/image, and nowhere else."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted((ROOT / "dvae_tf").rglob("*.py"))
        if "kinds/image" not in path.as_posix()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if "255" in line or "axis=(1, 2, 3)" in line or "axis=[1, 2, 3]" in line
    ]
    allowed = ("pixels.", "0..255")
    assert [line for line in found if not any(word in line for word in allowed)] == []


def test_kinds_are_found():
    assert {"image", "vectors"} <= set(KINDS)
    assert "dvae_tf.kinds.image" in sys.modules
