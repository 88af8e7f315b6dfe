"""The command, as a user runs it: in a process of its own, or through its `main`."""

import csv
import json
import os
import shutil
import subprocess
import sys
from typing import NamedTuple

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from conftest import ROOT

import train
from dvae_tf import DVAE, corruptions, datasets, evidence, networks, observations, randomness
from dvae_tf.runs import building, defaults, outcome, training
from dvae_tf.runs.directory import RunDirectory
from dvae_tf.runs.options import Options

SMALL = ["--epochs", "2", "--hidden", "16", "--limit", "200"]


def run(*arguments, cwd, environment=None):
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=cwd,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
    )


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def messages(result):
    """What the command itself printed to stderr, without TensorFlow's start-up lines."""
    return [line for line in result.stderr.splitlines() if line.startswith("train.py")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run in a directory with a space in its name, and what the command printed."""
    cwd = tmp_path_factory.mktemp("work")
    result = run(*SMALL, "--latent-dim", "2", "--run-dir", "a run", cwd=cwd)
    assert result.returncode == 0, result.stderr
    return cwd / "a run", result.stdout


class TestRunDirectory:
    def test_holds_what_is_promised(self, finished):
        run_dir, output = finished
        names = {path.name for path in run_dir.iterdir()}
        assert names == {"config.json", "model.keras", "history.csv", "logs", "figures", "export"}
        figures = {path.name for path in (run_dir / "figures").iterdir()}
        expected = {"curves", "denoising", "samples", "filters", "manifold"}
        assert figures == {f"{name}.png" for name in expected}
        for path in (run_dir / "figures").iterdir():
            assert tf.io.decode_png(path.read_bytes()).shape[0] > 100
        assert "python evaluate.py 'a run'" in output
        assert str(run_dir.name) in output

    def test_config_is_whole(self, finished):
        run_dir, _ = finished
        content = json.loads((run_dir / "config.json").read_text(encoding="utf-8"))
        assert content["seed"] == 0
        assert content["versions"]["tensorflow"] == tf.__version__
        assert content["data"]["num_train"] == 200
        config, _ = RunDirectory(run_dir).read_config()
        assert config.epochs == 2
        assert config.likelihood is not None

    def test_history(self, finished):
        run_dir, _ = finished
        rows = read(run_dir / "history.csv")
        assert [row["epoch"] for row in rows] == ["0", "1"]
        for row in rows:
            names = {"loss", "bound", "elbo", "reconstruction", "kl"}
            assert names | {f"val_{n}" for n in names} | {"epoch"} == set(row)
            elbo = float(row["val_reconstruction"]) - float(row["val_kl"])
            assert float(row["val_elbo"]) == pytest.approx(elbo, rel=1e-5)

    def test_model_and_export_load(self, finished, rng):
        run_dir, _ = finished
        model = keras.models.load_model(run_dir / "model.keras")
        assert isinstance(model, DVAE)
        x = rng.random((3, 8, 8, 1), np.float32)
        served = tf.saved_model.load(str(run_dir / "export" / "1")).signatures["serving_default"]
        np.testing.assert_allclose(served(image=x)["denoised"], model(x), rtol=1e-4, atol=1e-5)

    @pytest.mark.slow
    def test_existing_directory_is_refused_and_kept(self, finished):
        run_dir, _ = finished
        before = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")}
        result = run(*SMALL, "--run-dir", str(run_dir), cwd=run_dir.parent)
        assert result.returncode == 2
        (line,) = messages(result)
        assert "must not exist yet" in line
        assert "--resume" in line
        assert before == {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")}

    @pytest.mark.slow
    def test_finished_run_cannot_be_resumed(self, finished):
        result = run("--resume", finished[0].name, cwd=finished[0].parent)
        assert result.returncode == 2
        (line,) = messages(result)
        assert "which has ended after 2 of 2 epochs" in line
        assert line.endswith("from its weights with --init-from 'a run'.")


@pytest.mark.slow
def test_same_seed_same_history_bit_for_bit(tmp_path):
    for name in "ab":
        result = run(*SMALL, "--seed", "1", "--run-dir", name, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    a, b = ((tmp_path / name / "history.csv").read_bytes() for name in "ab")
    assert a == b


@pytest.mark.slow
def test_another_seed_is_another_history(finished, tmp_path):
    run_dir = tmp_path / "run"
    arguments = [*SMALL, "--latent-dim", "2", "--seed", "1", "--run-dir", str(run_dir)]
    assert train.main(arguments) == 0
    ours, theirs = (read(path / "history.csv")[0] for path in (run_dir, finished[0]))
    assert ours["loss"] != theirs["loss"]
    assert ours["val_kl"] != theirs["val_kl"]


@pytest.mark.slow
def test_numbers_its_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert train.main([*SMALL[2:], "--epochs", "1"]) == 0
    names = {path.name for path in (tmp_path / "runs").iterdir()}
    assert names == {"digits-salt_pepper-1", "digits-salt_pepper-2"}


# The interrupted run never closes its history; a process would end here.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("flags", "num_kept"),
    [
        ("--checkpoint-seconds 0", 3),  # after every epoch
        ("--checkpoint-seconds 1000", 1),  # at the start only
        ("--checkpoint-seconds 0 --validate-every 2 --patience 1", 3),
    ],
)
def test_resume_continues_a_stopped_run(flags, num_kept, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["--epochs", "4", *SMALL[2:], *flags.split()]
    assert train.main([*arguments, "--run-dir", "whole"]) == 0
    assert not (tmp_path / "whole" / "checkpoints").exists()

    def stop(self, epoch, logs=None):
        if epoch == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dvae_tf.kinds.image.callbacks.ImageGrid.on_epoch_begin", stop)
        assert train.main([*arguments, "--run-dir", "stopped"]) == 130
    assert len(read(tmp_path / "stopped" / "history.csv")) == 3
    assert len(list((tmp_path / "stopped" / "checkpoints").iterdir())) == num_kept
    histories, conclude = [], outcome.conclude
    monkeypatch.setattr(
        outcome, "conclude", lambda *values: histories.append(values[-1]) or conclude(*values)
    )
    assert train.main(["--resume", "stopped"]) == 0
    # What figures show is what the file holds, of the epochs before the stop, too.
    np.testing.assert_equal(histories, [RunDirectory("stopped").read_history()])
    assert read(tmp_path / "stopped" / "history.csv") == read(tmp_path / "whole" / "history.csv")
    whole, resumed = (
        keras.models.load_model(tmp_path / n / "model.keras") for n in ("whole", "stopped")
    )
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_what_training_holds_is_not_read_again(tmp_path, monkeypatch, capsys):
    options = Options(
        epochs=2, hidden=(16,), limit=200, noise="gaussian", run_dir=str(tmp_path / "run")
    )
    run = training.prepare(defaults.resolve(options))
    with monkeypatch.context() as patch:
        for name in ("read_config", "read_history", "load_model"):
            patch.setattr(RunDirectory, name, lambda self: pytest.fail("read again"))
        reached = training.train(run, verbose=0)
    # The files say the same: the noise is that of the figures, the PSNR is computed anew.
    assert reached.best_bound == max(run.directory.read_history()["val_bound"])
    clean = run.dataset.validation.as_float()
    seed = randomness.fold_in(randomness.as_seed(0), 100)
    noisy = run.model.corruption(clean, seed=seed).numpy()
    denoised = run.directory.load_model().predict(noisy, verbose=0)
    for psnr, other in ((reached.noisy_psnr, noisy), (reached.denoised_psnr, denoised)):
        error = np.mean((np.clip(other, 0, 1) - clean) ** 2, axis=(1, 2, 3))
        assert psnr == pytest.approx(np.mean(-10 * np.log10(error)), abs=1e-3)
    train._report(run, reached)
    noisy_psnr, denoised_psnr = f"{reached.noisy_psnr:.2f} dB", f"{reached.denoised_psnr:.2f} dB"
    assert f"corrupted {noisy_psnr}, denoised {denoised_psnr}" in capsys.readouterr().out


class TestValidateEvery:
    WORDS = ("--limit", "150", "--hidden", "8")

    @pytest.mark.slow
    def test_leaves_out_the_epochs_between(self, tmp_path):
        histories = []
        for every in ("3", "1"):
            run_dir = tmp_path / every
            words = [*self.WORDS, "--validate-every", every, "--epochs", "7"]
            assert train.main([*words, "--run-dir", str(run_dir)]) == 0
            histories.append(read(run_dir / "history.csv"))
        validated = [2, 5, 6]  # and after the last epoch
        for epoch, (row, whole) in enumerate(zip(*histories, strict=True)):
            for key, value in whole.items():
                is_left_out = key.startswith("val_") and epoch not in validated
                assert row[key] == ("NA" if is_left_out else value)
        history = RunDirectory(tmp_path / "3").read_history()
        assert np.flatnonzero(np.isfinite(history["val_bound"])).tolist() == validated
        assert np.isfinite(history["bound"]).all()

    @pytest.mark.slow
    def test_patience_counts_validations(self, tmp_path):
        run_dir = tmp_path / "run"
        # So few images that they are soon known by heart.
        flags = (
            "--limit 20 --batch-size 5 --hidden 64 --noise none --learning-rate 0.01 --epochs 99"
        )
        words = [*flags.split(), "--validate-every", "3", "--patience", "1"]
        assert train.main([*words, "--run-dir", str(run_dir)]) == 0
        bounds = np.asarray(RunDirectory(run_dir).read_history()["val_bound"])
        assert len(bounds) < 99
        assert np.argmax(bounds[2::3]) == len(bounds) // 3 - 2
        assert train.main(["--resume", str(run_dir)]) == 2  # it has ended


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_it_had_not_been():
    """More kills, and in more places, with `python tests/kill_and_resume.py`."""
    words = ["tests/kill_and_resume.py", "--kills", "0", "--places", "checkpoint"]
    words += ["--exports", "1", "--evaluations", "0"]
    result = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr[-2000:]
    assert result.stdout.splitlines()[-1] == "2 of 2 equal"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            "--noise gaussian --noise-level 0.05:0.2 --objective iwae --num-samples 3 "
            "--num-corruptions 2 --gradient doubly_reparameterized",
            {
                "corruption": corruptions.Gaussian((0.05, 0.2)),
                "objective": "iwae",
                "num_samples": 3,
                "num_corruptions": 2,
                "gradient": "doubly_reparameterized",
            },
        ),
        (
            "--noise none --posterior mixture --num-corruptions 2 --kl-warmup 2",
            {"corruption": corruptions.Identity(), "posterior": "mixture", "num_corruptions": 2},
        ),
        (
            "--noise block --network conv --likelihood bernoulli --schedule constant --patience 1",
            {
                "corruption": corruptions.BlockOcclusion(0.1),
                "binarize": True,
                "likelihood": "IndependentBernoulli",
            },
        ),
        (
            "--noise poisson --network resnet --likelihood continuous_bernoulli --clip",
            {
                "corruption": corruptions.Poisson(0.1, clip=True),
                "likelihood": "IndependentContinuousBernoulli",
            },
        ),
        (
            "--noise authors_salt_pepper --validation-input clean --binarize threshold",
            {
                "corruption": corruptions.AuthorsSaltPepper(0.1),
                "test_corruption": corruptions.Identity(),
                "binarize": False,
            },
        ),
        (
            "--network conv --precision mixed_float16 --max-gradient-norm 5",
            {"corruption": corruptions.SaltPepper(0.2)},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_flags_combine(arguments, expected, tmp_path):
    words = ["--epochs", "2", "--limit", "150", "--hidden", "8", *arguments.split()]
    assert train.main([*words, "--run-dir", str(tmp_path / "run")]) == 0
    model = RunDirectory(tmp_path / "run").load_model()
    last = {layer.name: type(layer).__name__ for layer in model.decoder.layers}["likelihood"]
    found = {name: getattr(model, name) for name in expected if name != "likelihood"}
    assert (
        found | {"likelihood": last} == {"likelihood": "IndependentDiscretizedLogistic"} | expected
    )
    history = RunDirectory(tmp_path / "run").read_history()
    for name in ("loss", "bound", "elbo", "reconstruction", "kl"):
        for column in (history[name], history[f"val_{name}"]):
            assert len(column) == 2
            assert np.isfinite(column).all()
    # `model.keras` is the better epoch's, by the bound of the same validation.
    config, _ = RunDirectory(tmp_path / "run").read_config()
    validation = building.load_dataset(config).validation.as_float()
    bound = model.evaluate(validation, batch_size=500, return_dict=True, verbose=0)["bound"]
    assert bound == pytest.approx(max(history["val_bound"]), rel=1e-4)


@pytest.mark.slow
def test_trains_on_colour_images_of_odd_size(tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = rng.integers(0, 256, (31, 9, 7, 3)).astype(np.uint8)
    np.savez(tmp_path / "my photos.npz", images=images, labels=np.arange(31) % 2)
    assert train.main(["--dataset", "my photos.npz", "--epochs", "1", "--batch-size", "7"]) == 0
    assert (tmp_path / "runs" / "my_photos-gaussian-1" / "model.keras").exists()


@pytest.fixture
def folder(tmp_path, rng):
    """A folder of 60 images."""
    directory = tmp_path / "photos"
    directory.mkdir()
    for index, image in enumerate(rng.integers(0, 256, (60, 8, 8, 1))):
        keras.utils.save_img(directory / f"{index:02d}.png", image, scale=False)
    return directory


STREAMED = ["--epochs", "2", "--batch-size", "8", "--network", "mlp", "--hidden", "8"]


@pytest.mark.slow
def test_a_streamed_run_is_that_in_memory(folder, tmp_path, capsys):
    for cache in ("none", "memory"):
        words = ["--dataset", str(folder), "--cache", cache, "--run-dir", str(tmp_path / cache)]
        assert train.main([*words, *STREAMED]) == 0
        shown = "48 training images of 8 x 8 x 1, read as needed," in capsys.readouterr().out
        assert shown == (cache == "none")
    ours, theirs = ((tmp_path / name / "history.csv").read_bytes() for name in ("none", "memory"))
    assert ours == theirs


# The failed run never closes its history; a process would end here.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_streamed_image_ends_training_in_one_line(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("dvae_tf.data.splits._NUM_AVERAGED", 1)  # leaves the others to training
    run_dir = tmp_path / "run"
    damaged = folder / "33.png"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:60])  # its header is whole
    words = ["--dataset", str(folder), "--cache", "none", "--run-dir", str(run_dir), *STREAMED]
    assert train.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "33.png must be a readable image" in line
    assert f"--resume {run_dir}" in line
    damaged.write_bytes(whole)
    assert train.main(["--resume", str(run_dir)]) == 0


# The history that a KeyboardInterrupt leaves open, as the end of a process would not.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_data_that_changed_are_noticed(tmp_path, rng, monkeypatch, capsys):
    """Others, more and larger ones: when resuming, and when evaluating."""
    import evaluate

    monkeypatch.chdir(tmp_path)
    first, second = rng.random((2, 30, 6, 5, 1))
    np.save("x.npy", first)

    def stop(self, epoch, logs=None):
        raise KeyboardInterrupt

    words = ["--dataset", "x.npy", *SMALL[2:], "--epochs", "1", "--run-dir"]
    assert train.main([*words, "a run"]) == 0
    with monkeypatch.context() as patch:
        patch.setattr("dvae_tf.kinds.image.callbacks.ImageGrid.on_epoch_begin", stop)
        assert train.main([*words, "stopped"]) == 130
    assert capsys.readouterr().err.splitlines()[-1].endswith("train.py --resume stopped")
    fast = ["--num-importance-samples", "3", "--noise-levels", "0.1", "--num-annealed", "0"]
    for images, message in (
        (np.concatenate([first, second]), "num_train 24. Received: num_train 48."),
        (np.repeat(first, 2, axis=1), "image_shape [6, 5, 1]. Received: image_shape [12, 5, 1]."),
    ):
        np.save("x.npy", images)
        for command, words in ((train, ["--resume", "stopped"]), (evaluate, ["a run", *fast])):
            assert command.main(words) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert message in line
    np.save("x.npy", second)
    assert evaluate.main(["a run", *fast]) == 0
    assert "warning: the images are not those that a run was trained on" in capsys.readouterr().err
    np.save("x.npy", first)
    config = tmp_path / "a run" / "config.json"
    for data in ({}, None, 5):  # of a run before there was one, or damaged
        config.write_text(
            json.dumps(json.loads(config.read_text(encoding="utf-8")) | {"data": data}),
            encoding="utf-8",
        )
        assert evaluate.main(["a run", *fast]) == 0
    assert train.main(["--resume", "stopped"]) == 0
    assert "warning" not in capsys.readouterr().err


@pytest.fixture
def bad_data(tmp_path, rng):
    good = rng.random((20, 4, 4, 1))
    np.save(tmp_path / "wide.npy", good * 255)
    good[3, 0, 0, 0] = np.nan
    np.save(tmp_path / "nan.npy", good)
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "sizes").mkdir()
    for size in (4, 5):
        keras.utils.save_img(tmp_path / "sizes" / f"{size}.png", rng.random((size, 4, 1)))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--dataset celeba", "digits, mnist, frey, tfds:NAME"),
        ("--noise snow", "salt_pepper"),
        ("--noise gaussian --noise-level 25", "give 0.098"),
        ("--noise-level -1", "must be a number in [0, 1]"),
        ("--num-samples 0", "--num-samples must be greater than or equal to 1. Received: 0"),
        (
            "--num-corruptions 0",
            "--num-corruptions must be greater than or equal to 1. Received: 0",
        ),
        (
            "--objective iwae --posterior mixture --gradient doubly_reparameterized",
            "--posterior conditional",
        ),
        ("--dataset wide.npy", "Divide by 255"),
        ("--dataset nan.npy", "NaN or infinity in 1 of 20 images, first in image 3"),
        ("--dataset empty.npz", "empty.npz must be a readable .npz file"),
        ("--dataset sizes", "5.png"),
        ("--activation sweesh", "must be the name of a Keras activation"),
        (f"--run-dir {'x' * 300}", "(File name too long). Choose another place"),
        ("--activation glu --hidden 8", "glu"),
        pytest.param("--hidden 10000000000", "fits into memory", marks=pytest.mark.slow),
        ("--resume nowhere", "nowhere must be a run directory"),
        ("--run-dir wide.npy/run", "Choose another place"),
        (
            "--dataset caf\udce9.npy",
            r"--dataset must be UTF-8, as TensorFlow writes paths. Received: 'caf\udce9.npy'",
        ),
        ("--init-from nowhere", "nowhere must be a run directory"),
        ("--dataset frey --data-dir nowhere", "downloads/manual"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(arguments, message, bad_data, monkeypatch, capsys):
    from dvae_tf.kinds.image import frey_faces

    monkeypatch.chdir(bad_data)
    monkeypatch.setattr(frey_faces, "URL", "http://127.0.0.1:9/frey_rawface.mat")
    before = sorted(bad_data.rglob("*"))
    assert train.main(arguments.split()) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("train.py: error: ")
    assert message in lines[0]
    assert sorted(bad_data.rglob("*")) == before


@pytest.mark.slow
def test_no_traceback_reaches_the_user(tmp_path):
    result = run("--noise-level", "25", cwd=tmp_path)
    assert result.returncode == 2
    assert len(messages(result)) == 1
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_diverging_run_says_so_and_exports_nothing(tmp_path, capsys):
    words = [*SMALL, "--learning-rate", "1e30", "--run-dir", str(tmp_path / "run")]
    assert train.main(words) == 2
    assert "Try a smaller --learning-rate than 1e+30" in capsys.readouterr().err
    assert not (tmp_path / "run" / "export").exists()
    found = json.loads((tmp_path / "run" / "diagnosis.json").read_text(encoding="utf-8"))
    assert found["step"] == 1  # the first update made weights of 1e30
    assert found["largest_weight"][0] > 1e29
    assert found["input_finite"]
    assert "loss" in found["terms"]
    assert found["layers"][0] == "encoder/parameters"
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 1


@pytest.mark.slow
def test_resume_makes_missing_figures_and_export(finished, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(finished[0], run_dir)
    for name in ("figures", "export"):
        shutil.rmtree(run_dir / name)
    assert train.main(["--resume", str(run_dir)]) == 0
    assert (run_dir / "export" / "1" / "saved_model.pb").exists()
    assert (run_dir / "history.csv").read_bytes() == (finished[0] / "history.csv").read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "{", "must be a run directory with a config.json"),
        ("config.json", '{"format": 1, "configuration": {}}', "must be complete"),
        ("config.json", '{"format": 99}', "must have format 1"),
        ("history.csv", "epoch,loss\n0,1\n", "must be the history of a run"),
        ("checkpoints/step-000000000008.ckpt", "cut", "all are damaged"),
    ],
)
def test_resume_refuses_damaged_runs(name, content, message, finished, tmp_path, capsys):
    run_dir = tmp_path / "run"
    shutil.copytree(finished[0], run_dir)
    (run_dir / name).parent.mkdir(exist_ok=True)
    (run_dir / name).write_text(content, encoding="utf-8")
    assert train.main(["--resume", str(run_dir)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.slow
def test_help(tmp_path):
    result = run("--help", cwd=tmp_path)
    assert result.returncode == 0
    assert "--noise-level" in result.stdout


@pytest.mark.slow
class TestDataOfRecord:
    @pytest.mark.parametrize(
        ("arguments", "epochs"),
        [("--dataset frey --noise gaussian", 25), ("--dataset mnist --noise salt_pepper", 6)],
    )
    def test_denoises(self, arguments, epochs, tfds_dir, tmp_path, monkeypatch):
        monkeypatch.setenv("TFDS_DATA_DIR", str(tfds_dir))
        words = [*arguments.split(), "--epochs", str(epochs), "--run-dir", str(tmp_path / "run")]
        assert train.main(words) == 0
        run_dir = tmp_path / "run"
        monkeypatch.delenv("TFDS_DATA_DIR")
        config, _ = RunDirectory(run_dir).read_config()
        dataset = building.load_dataset(config)
        model = keras.models.load_model(run_dir / "model.keras")
        images = dataset.validation.images[:500].astype(np.float32) / 255
        noisy = model.corruption(images, seed=123).numpy()
        error = np.mean((model.predict(noisy, verbose=0) - images) ** 2)
        # In dB of the mean squared error.
        assert 10 * np.log10(np.mean((noisy - images) ** 2) / error) > 0.5
        if config.dataset == "mnist":
            self.check_log_likelihood(model, images[:100])

    def check_log_likelihood(self, model, images):
        """Recompute log p(x) from the weights alone, with NumPy and SciPy."""

        def dense(network, x):
            weights = network.get_weights()
            for kernel, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
                h = x @ kernel.astype(float) + bias
                x = h * scipy.special.expit(h)  # swish
            return x @ weights[-2].astype(float) + weights[-1]

        n, rng = 500, np.random.default_rng(1)
        x = images.reshape(100, -1)
        mean, raw = np.split(dense(model.encoder, x), 2, axis=1)
        scale = 1e-3 + np.logaddexp(0, raw)
        z = mean + scale * rng.normal(size=(n, *mean.shape))
        probability = scipy.special.expit(dense(model.decoder, z))
        log_w = scipy.stats.bernoulli.logpmf(x, probability).sum(-1)
        log_w += scipy.stats.norm.logpdf(z).sum(-1) - scipy.stats.norm.logpdf(z, mean, scale).sum(
            -1
        )
        theirs = scipy.special.logsumexp(log_w, axis=0) - np.log(n)
        weights = np.exp(log_w - log_w.max(0))
        their_error = weights.std(0, ddof=1) / np.sqrt(n) / weights.mean(0)
        ours = evidence.importance_sampling(
            model.encoder, model.decoder, images, num_samples=n, seed=7
        )
        # Means over images: the delta method's errors are close where few weights dominate.
        error = np.sqrt(np.mean(their_error**2) + np.mean(ours.monte_carlo_error**2)) / 10
        assert abs(ours.mean - theirs.mean()) < 5 * error
        assert error < 0.1


def test_what_the_command_says_of_the_outcome(tmp_path, capsys):
    class Run(NamedTuple):
        directory: RunDirectory
        dataset: datasets.Dataset
        model: DVAE

    reached = outcome.Outcome(best_bound=-21.505, noisy_psnr=11.25, denoised_psnr=18.5)
    directory, digits = RunDirectory(tmp_path / "a run"), datasets.load("digits")
    run = Run(directory, digits, DVAE(*networks.mlp((8, 8, 1), 2, hidden=(3,))))
    train._report(run, reached)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        f"best validation bound: {-21.505:.2f} nats per image",
        "validation PSNR: corrupted 11.25 dB, denoised 18.50 dB",
    ]
    assert lines[-1] == f"evaluate:   python evaluate.py '{directory}'"
    observed = networks.ladder((8, 8, 1), 2, filters=(3,), observation=observations.Gaussian(0.1))
    train._report(run._replace(model=DVAE(*observed)), outcome.Outcome(best_bound=3.0))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "best validation bound: 3.00 nats per image"
    assert "PSNR" not in lines[1]
    assert lines[-1] == f"denoise:    python denoise.py '{directory}' FILES --out cleaned"


def test_staged_schedule_is_that_of_burda_et_al():
    """Stage i = 0 ... 7 has 3^i epochs at 0.001 * 10^(-i/7): arXiv:1509.00519, section 5."""
    flags = {"schedule": "staged", "epochs": 3280, "learning_rate": 1e-3, "hidden": (4,)}
    config = defaults.resolve(Options(**flags))
    model = building.build_model(config, (8, 8, 1))
    building.compile_model(model, config, steps_per_epoch=2)
    step = 0
    for stage in range(8):
        for at in (step, step + 2 * 3**stage - 1):
            model.optimizer.iterations.assign(at)
            rate = float(model.optimizer.learning_rate)
            assert rate == pytest.approx(1e-3 * 10 ** (-stage / 7), rel=1e-5), (stage, at)
        step += 2 * 3**stage
    assert step == 2 * 3280
