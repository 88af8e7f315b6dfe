"""Every option of a run changes what it should, and nothing else.

`observe` prepares a run as train.py does, and returns what the run consists of, by name: the
splits, the initial weights, the order of the first epoch, the noise of the first step, the
optimiser, and all that training hands to Keras. For each option `CASES` holds another value and the
observations that this changes. The runs do not train.
"""

import dataclasses
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

import train
from dvae_tf import DVAE, corruptions, kinds, latents
from dvae_tf.data.patches import Patches
from dvae_tf.kinds.image import Image
from dvae_tf.runs import checkpoints, command_line, history, training
from dvae_tf.runs.configuration import Configuration
from dvae_tf.runs.directory import RunDirectory

NUM_IMAGES, SHAPE = 40, (4, 4, 1)
NUM_HELD_OUT = 4  # a tenth
BASE = {
    "dataset": "grey.npy",
    "data_dir": "a",
    "split": "random",
    "binarize": "none",
    "likelihood": "gaussian",
    "network": "mlp",
    "hidden": "6",
    "activation": "relu",
    "latent_dim": "3",
    "epochs": "20",
    "batch_size": "8",
    "learning_rate": "0.01",
    "run_dir": "run",
}
# The batch whose noise is looked at.
PROBE = np.random.default_rng(2).random((32, *SHAPE), np.float32)
SPLITS = ("train", "validation", "test")
CHANGED = object()  # some other value


class Case(NamedTuple):
    """Options that are changed together, because they have nothing to do with each other.

    Attributes:
        changes: flags and their values; True is a flag without a value, and False its denial.
        moves: the observations that change, and the values that they then have.
        base: flags beside those of `BASE`, before the change and after it.
    """

    changes: dict[str, str | bool]
    moves: dict[str, Any]
    base: Mapping[str, str | bool] = MappingProxyType({})


def changed(*names: str) -> dict[str, object]:
    return dict.fromkeys(names, CHANGED)


OF_TRAIN = changed("train", "start")
OF_VALIDATION = changed("validation", "validated images", "shown", "shown noise")
IMAGES = OF_TRAIN | OF_VALIDATION | changed("test")
NOISE = changed("corruption", "noise", "shown noise", "test_corruption", "validation noise")
LATENTS = changed("latents", "validation latents")
NETWORK = changed("layers", "weights")
LADDER = {"network": "ladder", "hidden": "4 3"}
NARROW = {"dataset": "noisy.npy", "range": "0,100"}  # which some values leave

CASES = (
    Case(
        {"dataset": "other.npy", "kl_warmup": "3", "activation": "tanh"},
        IMAGES | {"KLWarmUp": [3]} | changed("layers"),
    ),
    Case({"kind": "twin"}, {"kind": "Twin"}),
    Case(
        {"data_dir": "b", "learning_rate": "0.02", "posterior": "mixture"},
        IMAGES | {"posterior": "mixture"} | changed("rate"),
        {"kind": "twin"},
    ),
    Case(
        {"split": "contiguous", "latent_dim": "4", "max_gradient_norm": "5"},
        IMAGES | NETWORK | LATENTS | {"latent_dim": 4, "clipping": 5.0},
    ),
    Case(
        {"binarize": "dynamic", "validate_every": "6"},
        OF_VALIDATION
        | changed("test", "noise")
        | {"binarize": True, "validated epochs": [6, 12, 18, 20]},
    ),
    Case({"binarize": "static"}, IMAGES),
    Case(
        {"limit": "20", "validation_input": "clean"},
        OF_TRAIN
        | changed("order", "rate", "validation noise")
        | {"steps": (2, 2), "test_corruption": corruptions.Identity()},
    ),
    Case({"cache": "none"}, {"streamed": True}, {"dataset": "folder"}),
    Case(
        {"clean": "other.npy"},
        OF_TRAIN | changed("validation", "validated images", "shown", "test") | {"paired": True},
        {"dataset": "noisy.npy", "noise": "none"},
    ),
    Case(
        {"observation": "gaussian:0.1"},
        IMAGES | NETWORK | LATENTS | {"likelihood": "ObservedSignal"},
        {"noise": "none", "conditional": False, **LADDER, **NARROW},
    ),
    Case(
        {"conditional": False},
        LATENTS | changed("weights") | {"is_conditional": False},
        LADDER,
    ),
    Case({"optimizer": "adamax"}, {"optimizer": "Adamax"}),
    Case({"range": "percentile:0,100"}, IMAGES, {"dataset": "noisy.npy"}),
    Case(
        {"patch": "2"},
        IMAGES
        | NETWORK
        | changed("order", "rate", "noise", "validation noise")
        | {"steps": (16, 16)},
    ),
    Case({"augment": True}, changed("order"), {"patch": "3"}),
    Case({"noise": "masking", "run_dir": "elsewhere"}, NOISE | {"directory": "elsewhere"}),
    Case(
        {"noise_level": "0.3", "hidden": "6 5"},
        NOISE
        | NETWORK
        | {"corruption": corruptions.Gaussian(0.3), "test_corruption": corruptions.Gaussian(0.3)},
    ),
    Case(
        {"clip": True, "precision": "mixed_float16"},
        NOISE | changed("optimizer") | {"precision": {"float32", "mixed_float16"}},
    ),
    Case({"objective": "iwae"}, {"objective": "iwae"}),
    Case(
        {"gradient": "doubly_reparameterized", "checkpoint_seconds": "5"},
        {"gradient": "doubly_reparameterized", "Checkpointing": [5.0]},
        {"objective": "iwae"},
    ),
    Case(
        {"num_corruptions": "2", "schedule": "constant"},
        LATENTS
        | changed("noise", "validation noise")
        | {"num_corruptions": 2, "rate": np.full(4, 0.01)},
    ),
    Case(
        {"num_samples": "2", "strategy": "mirrored"},
        LATENTS | {"num_samples": 2, "strategy": "MirroredStrategy"},
    ),
    Case(
        {"likelihood": "bernoulli", "epochs": "40"},
        NETWORK
        | changed("start", "rate")
        | {"likelihood": "IndependentBernoulli", "epochs": (0, 40), "ImageGrid": [4]}
        | {"validated epochs": list(range(1, 41))},
    ),
    Case(
        {"network": "conv", "batch_size": "4"},
        NETWORK | changed("start", "order", "rate") | {"steps": (8, 8)},
    ),
    Case(
        {"seed": "1"},
        LATENTS
        | OF_TRAIN
        | changed("weights", "order", "noise", "validation noise", "shown noise"),
        {"binarize": "static"},
    ),
    Case({"preset": "mnist-vae"}, NOISE | {"corruption": corruptions.Identity()}),
    Case({"patience": "3"}, {"EarlyStopping": ["val_bound", 3, None, 0]}),
    Case(
        {"resume": "stopped"},
        changed("weights", "start", "order", "noise", "latents", "Recorder", "CSVLogger")
        | {"directory": "stopped", "epochs": (3, 20)}
        | {"EarlyStopping": ["val_bound", 3, -3.0, 2]},
        {"patience": "3"},
    ),
    Case({"init_from": "source"}, changed("weights", "start")),
)
# Of each callback, what tells how it will act.
SETTINGS: dict[str, tuple[str, ...]] = {
    "FiniteGuard": (),
    "Recorder": ("columns",),
    "KLWarmUp": ("epochs",),
    "EarlyStopping": ("monitor", "patience", "best", "wait"),
    "TensorBoard": (),
    "ImageGrid": ("every",),
    "CSVLogger": ("append",),
    "Checkpointing": ("seconds",),
}


@keras.saving.register_keras_serializable(package="test_fields")
class Twin(Image):
    """A second kind for the same images, which looks for its files in `data_dir`."""

    name = "twin"

    def load(self, name, *, data_dir, cache):
        return super().load(os.path.join(data_dir, name), data_dir=None, cache=cache)


@pytest.fixture(scope="module")
def observed(tmp_path_factory):
    """A function from flags to observations, which remembers them, in a directory with the data."""
    directory = tmp_path_factory.mktemp("fields")
    rng = np.random.default_rng(1)
    for name in ("a", "b", "folder"):
        (directory / name).mkdir()
    for name in ("grey.npy", "other.npy", "b/grey.npy"):
        np.save(directory / name, images(rng))
    np.save(directory / "noisy.npy", images(rng) // 2)
    shutil.copy(directory / "grey.npy", directory / "a")
    for index, image in enumerate(images(rng)):
        keras.utils.save_img(directory / "folder" / f"{index:02d}.png", image, scale=False)
    known: dict[tuple[str, ...], dict[str, Any]] = {}

    def once(flags):
        key = tuple(words(flags))
        if key not in known:
            known[key] = observe(flags)
        return known[key]

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(directory)
        kinds.KINDS["image"]  # has looked for modules
        monkeypatch.setitem(kinds.KINDS._entries, "twin", Twin)
        yield once


def images(rng) -> np.ndarray:
    return rng.integers(0, 256, (NUM_IMAGES, *SHAPE)).astype(np.uint8)


def words(flags) -> list[str]:
    """Return the words of a command line; a run that is resumed takes no other flag."""
    if "resume" in flags:
        flags = {"resume": flags["resume"]}
    return [
        word
        for name, value in flags.items()
        for word in (
            f"--{'no-' * (value is False)}{name.replace('_', '-')}",
            *(value.split() if isinstance(value, str) else []),
        )
    ]


def observe(flags) -> dict[str, Any]:
    """Return what the run of these flags consists of, by name."""
    if "resume" in flags:
        stop(flags)
    if "init_from" in flags:
        finish(flags)
    run = train._prepare(command_line.parse(words(flags)))
    saved, _ = run.directory.read_config()
    assert dataclasses.replace(saved, resume=run.config.resume) == run.config
    given = handed_to_keras(run)
    model, optimizer = run.model, run.model.optimizer
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    layers = [layer for network in (model.encoder, model.decoder) for layer in network.layers]
    starts = starting_points(model)
    weights = [
        weight
        for weight in (*model.encoder.weights, *model.decoder.weights)
        if not any(weight is start for start in starts)
    ]
    found = {name: getattr(run.dataset, name).as_float() for name in SPLITS}
    found |= {
        "streamed": run.dataset.train.is_streamed,
        "strategy": type(model.distribute_strategy).__name__,
        "directory": str(run.directory),
        "kind": type(model.kind).__name__,
        "likelihood": type(model.decoder.get_layer("likelihood")).__name__,
        "layers": [described(layer) for layer in layers],
        "precision": {layer.dtype_policy.name for layer in layers},
        "weights": np.concatenate([np.ravel(w.numpy()) for w in weights]),
        "start": np.concatenate([np.ravel(start.numpy()) for start in starts]),
        "optimizer": type(optimizer).__name__,
        "clipping": inner.global_clipnorm,
        "order": order(given["x"], run.dataset.train, given["steps_per_epoch"]),
        "steps": (given["steps_per_epoch"], model.steps_per_execution),
        "epochs": (given["initial_epoch"], given["epochs"]),
        "validated epochs": given["validation_freq"],
        "validated images": np.concatenate([joined(x) for x in given["validation_data"]]),
        **callbacks(given["callbacks"]),
    }
    for name in (
        *("objective", "posterior", "num_corruptions", "num_samples", "gradient", "binarize"),
        *("latent_dim", "corruption", "test_corruption", "paired", "is_conditional"),
    ):
        found[name] = getattr(model, name)
    found["noise"], found["latents"] = drawn(model, model.training_gradient)
    found["validation noise"], found["validation latents"] = drawn(model, model.test_step)
    found["rate"] = np.array([rate_at(inner, step) for step in (0, 7, 30, 79)])
    shutil.rmtree(run.directory.path)
    return found


def starting_points(model) -> list:
    """Return the weights that are set to moments of the data before training."""
    core = getattr(model.encoder, "core", None)
    if core is None:
        return [model.decoder.get_layer("parameters").bias]
    return [
        core.input_mean,
        core.input_scale,
        core.location,
        core.location_scale,
        core.readout.bias,
    ]


class Reached(Exception):
    """Training has come to the call of `fit`."""


def handed_to_keras(run) -> dict[str, Any]:
    """Return the arguments with which `train` calls `fit`."""
    given: dict[str, Any] = {}

    def fit(model, x, **arguments):
        given.update(arguments, x=x)
        raise Reached

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(DVAE, "fit", fit)
        with pytest.raises(Reached):
            training.train(run, verbose=0)
    return given


def described(layer) -> tuple:
    config = layer.get_config()
    names = ("units", "filters", "kernel_size", "strides", "target_shape")
    activation = getattr(getattr(layer, "activation", None), "__name__", None)
    return (type(layer).__name__, activation, *(str(config.get(name)) for name in names))


def joined(batch) -> np.ndarray:
    """Return a batch as one array; the parts of pairs become channels."""
    return np.concatenate(batch, axis=-1) if isinstance(batch, tuple) else batch.numpy()


def order(batches, split, steps: int) -> np.ndarray:
    """Return the places in the training split of the images of an epoch: [step, batch].

    Patches are at places of their own, and are returned themselves.
    """
    epoch = [joined(batch) for batch in batches.take(steps)]
    if isinstance(split.examples, Patches):
        return np.stack(epoch)
    clean = split.as_float()
    is_same = [(batch[:, np.newaxis, ..., -1:] == clean).all(axis=(2, 3, 4)) for batch in epoch]
    return np.argmax(is_same, axis=2)


def callbacks(selected) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for callback in selected:
        name = type(callback).__name__
        if name == "EarlyStopping":
            callback.on_train_begin()
        if name == "ImageGrid":
            found |= {"shown": callback.clean, "shown noise": callback.noisy}
        found[name] = [getattr(callback, setting) for setting in SETTINGS[name]]
    return found


def drawn(model, step) -> tuple[np.ndarray, np.ndarray]:
    """Return the corrupted images of a step, and the standard normal draws behind its latents."""
    encoder, decoder = model.encoder, model.decoder
    model.encoder, model.decoder = Heard(encoder), Heard(decoder)
    height, width = encoder.input_shape[1:3]
    probe = tf.constant(PROBE[:, :height, :width])
    step((probe, probe) if model.paired else probe)
    noisy, z = model.encoder.heard.numpy(), model.decoder.heard
    model.encoder, model.decoder = encoder, decoder
    if isinstance(z, latents.Drawn):
        return noisy, latents.as_vectors(latents.alone(z)).numpy()
    q = encoder(noisy)
    z = z.numpy().reshape(-1, *q.mean().shape)
    return noisy, (z - q.mean().numpy()) / q.stddev().numpy()


class Heard:
    """A network that remembers its last input."""

    def __init__(self, network):
        self.network, self.heard = network, None

    def __call__(self, x, **kwargs):
        self.heard = x
        return self.network(x, **kwargs)

    def recognize(self, clean, noisy, **kwargs):
        self.heard = noisy
        return self.network.recognize(clean, noisy, **kwargs)

    def __getattr__(self, name):
        return getattr(self.network, name)


def rate_at(optimizer, step: int) -> float:
    optimizer.iterations.assign(step)
    return float(optimizer.learning_rate)


def stop(flags) -> None:
    """Make a run of these flags that was stopped after three epochs, with a checkpoint."""
    directory = Path(flags["resume"])
    started = {name: value for name, value in flags.items() if name != "resume"}
    run = train._prepare(command_line.parse(words(started)))
    directory.mkdir()
    shutil.copy(run.directory.path / "config.json", directory)
    shutil.rmtree(run.directory.path)
    run.model.optimizer.iterations.assign(12)
    arrays = {
        f"current-{name}": array + 1 if array.dtype == np.float32 else array
        for name, array in checkpoints.capture(run.model).items()
    }
    header = ",".join(history.COLUMNS)
    rows = [f"{epoch},1,1,1,1,1,1,{bound},1,1,1" for epoch, bound in enumerate((-3, -4, -5))]
    state = {
        "epoch": 3,
        "step_in_epoch": 0,
        "means": [],
        "best_bound": None,
        "history": "\r\n".join([header, *rows, ""]),
    }
    RunDirectory(directory).save_checkpoint(checkpoints.Checkpoint(12, arrays, state))


def finish(flags) -> None:
    """Make a run of these flags that has a model, with other weights than it began with."""
    started = {name: value for name, value in flags.items() if name != "init_from"}
    run = train._prepare(command_line.parse(words(started)))
    for variable in (*run.model.encoder.weights, *run.model.decoder.weights):
        variable.assign_add(np.ones(variable.shape))
    run.model.optimizer.build(run.model.trainable_variables)  # as training does
    run.model.save(run.directory.model_path)
    run.directory.unlock()
    run.directory.path.rename(flags["init_from"])


def is_equal(ours, theirs) -> bool:
    """Whether two observations are the same, up to the rounding of float32."""
    if isinstance(ours, np.ndarray) and isinstance(theirs, np.ndarray):
        return ours.shape == theirs.shape and np.allclose(ours, theirs, rtol=0, atol=1e-4)
    if isinstance(ours, np.ndarray) or isinstance(theirs, np.ndarray):
        return False
    return ours == theirs


def test_every_option_has_a_case():
    options = {option for case in CASES for option in case.changes}
    assert options == {field.name for field in dataclasses.fields(Configuration)}


@pytest.mark.filterwarnings("ignore:.* of the clean values leave the range")
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(case.changes))
def test_an_option_changes_what_it_should_and_nothing_else(case, observed):
    flags = BASE | case.base
    before, after = observed(flags), observed(flags | case.changes)
    moved = {
        name
        for name in before.keys() | after.keys()
        if not is_equal(before.get(name), after.get(name))
    }
    assert moved == case.moves.keys()
    for name, value in case.moves.items():
        assert value is CHANGED or is_equal(after[name], value), (name, after[name])


def test_a_run_by_hand(observed):
    """The run of `BASE`, computed from the file."""
    found = observed(BASE)
    pixels = np.load("grey.npy").astype(np.float32) / 255
    shuffled = np.random.default_rng(0).permutation(NUM_IMAGES)
    held_out = np.split(shuffled, [NUM_HELD_OUT, 2 * NUM_HELD_OUT])
    validation, test, rest = (pixels[np.sort(part)] for part in held_out)
    for name, expected in (
        ("train", rest),
        ("validation", validation),
        ("test", test),
        ("validated images", validation),
        ("shown", validation),
    ):
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, err_msg=name)
    # The location of the normal distribution; its scale starts at a bias of zero.
    np.testing.assert_allclose(found["start"][:16], rest.mean(axis=0).ravel(), rtol=1e-6)
    assert not found["start"][16:].any()
    assert sorted(found["order"].ravel()) == list(range(32))
    assert found["epochs"] == (0, 20)
    assert found["validated epochs"] == list(range(1, 21))
    # Training and validation draw noise and latents of their own. The correlation of n independent
    # pairs has a standard error of 1 / sqrt(n).
    for name, mean in (("noise", PROBE), ("latents", 0)):
        draws = [(found[f"{prefix}{name}"] - mean).ravel() for prefix in ("", "validation ")]
        assert abs(np.corrcoef(draws)[0, 1]) < 4 / np.sqrt(len(draws[0])), name
