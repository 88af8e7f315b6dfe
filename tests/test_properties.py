"""Whatever is given to flags, files and constructors: it works, or is refused in one line.

`python -m pytest tests/test_properties.py --hypothesis-profile=long` tries 10,000 inputs.
"""

import json
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dvae_tf import DVAE, commands, corruptions, datasets, layers, likelihood, networks, randomness
from dvae_tf.kinds.image.callbacks import ImageGrid
from dvae_tf.runs import building, callbacks, checkpoints, command_line, configuration, defaults
from dvae_tf.runs.directory import RunDirectory
from dvae_tf.runs.options import Options

FLAGS = ["--" + name.replace("_", "-") for name in Options.__annotations__]
NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.integers(),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.5, math.nan, math.inf, 2**31, 2**63, True]),
)
ANYTHING = st.one_of(
    NUMBERS,
    st.none(),
    st.text(max_size=5),
    st.sampled_from(["elbo", "iwae", "mixture", "relu", "bernoulli", b"bytes"]),
    st.lists(NUMBERS, max_size=3),
    st.tuples(NUMBERS, NUMBERS),
    st.builds(dict),
)
WORDS = st.one_of(
    st.sampled_from([*FLAGS, "--no-clip", "-h0", "--", "=", "--noise-level=0.1:0.2", "1:2:3"]),
    st.sampled_from(["gaussian", "mnist", "iwae", "mixture", "0.1", "200", "-1", "nan", "1e400"]),
    NUMBERS.map(str),
    st.text(max_size=6),
)


def refused(function, *arguments, **keywords):
    """Whether a call is refused, with a line that says what is required and what was received."""
    try:
        function(*arguments, **keywords)
    except (ValueError, TypeError) as error:
        message = commands.one_line(error)
    else:
        return False
    assert "must" in message or "takes" in message, message
    assert "Received" in message, message
    assert len(message) < 1000
    return True


@given(st.lists(WORDS, max_size=6))
def test_command_line(words):
    if "--help" in words or "-h" in words:
        return
    try:
        options = command_line.parse(words)
    except configuration.ConfigurationError:
        return
    if options is not None and not options.resume:
        refused(lambda: building.build_corruption(defaults.resolve(options)))


@given(st.dictionaries(st.sampled_from([f[2:].replace("-", "_") for f in FLAGS]), ANYTHING))
def test_configuration_files(values):
    if not refused(configuration.from_dict, values):
        config = configuration.from_dict(values)
        assert configuration.from_dict(configuration.to_dict(config)) == config


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


@given(st.one_of(st.binary(max_size=40), JSON.map(lambda v: json.dumps(v).encode())))
def test_run_directories(tmp_path_factory, content):
    run_dir = tmp_path_factory.mktemp("run")
    (run_dir / "config.json").write_bytes(content)
    assert refused(RunDirectory(run_dir).read_config)


@given(st.binary(max_size=60))
def test_checkpoints(tmp_path_factory, content):
    directory = tmp_path_factory.mktemp("run")
    (directory / "step-000000000001.ckpt").write_bytes(content)
    with pytest.raises(checkpoints.CheckpointError, match="all are damaged"):
        checkpoints.load_newest(directory, report=print)


@given(st.sampled_from([".npz", ".npy", ".png", ".zip"]), st.binary(max_size=60))
def test_data_files(tmp_path_factory, suffix, content):
    path = tmp_path_factory.mktemp("data") / f"images{suffix}"
    path.write_bytes(content)
    assert refused(datasets.load, str(path))


@example("~nobody")
@given(st.text(max_size=12).filter(lambda name: not name.startswith("tfds:")))
def test_data_set_names(name):
    refused(datasets.load, name)


@given(st.sampled_from(sorted(corruptions.CORRUPTIONS)), ANYTHING, st.booleans())
def test_corruptions(name, level, clip):
    if refused(corruptions.from_name, name, level, clip=clip):
        return
    x = np.full((2, 3, 3, 1), 0.5, np.float32)
    noisy = corruptions.from_name(name, level, clip=clip)(x, seed=randomness.as_seed(0))
    assert noisy.shape == x.shape
    assert np.isfinite(noisy).all()


@given(st.sampled_from(sorted(networks.LIKELIHOODS)), ANYTHING)
def test_layers(name, event_shape):
    refused(networks.LIKELIHOODS[name].layer, event_shape)
    refused(layers.MultivariateNormalTriL, event_shape)


SMALL = st.one_of(ANYTHING, st.integers(1, 4))


@given(
    st.sampled_from(sorted(networks.NETWORKS)),
    st.one_of(ANYTHING, st.tuples(SMALL, SMALL, SMALL)),
    SMALL,
    ANYTHING,
    st.one_of(ANYTHING, st.tuples(SMALL)),
)
def test_networks(name, image_shape, latent_dim, kind, sizes):
    def too_large(value):
        return isinstance(value, int) and value > 100

    def parts(value):
        return value if isinstance(value, (list, tuple)) else (value,)

    if any(too_large(v) for v in (latent_dim, *parts(sizes), *parts(image_shape))):
        return
    keyword = "hidden" if name == "mlp" else "filters"
    refused(networks.NETWORKS[name], image_shape, latent_dim, kind, **{keyword: sizes})


ENCODER, DECODER = networks.mlp((2, 2, 1), 2, hidden=(2,))


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "corruption",
                "objective",
                "posterior",
                "num_corruptions",
                "num_samples",
                "gradient",
                "test_corruption",
                "seed",
            ]
        ),
        ANYTHING,
    )
)
def test_models(arguments):
    refused(DVAE, ENCODER, DECODER, **arguments)


MODEL = DVAE(ENCODER, DECODER)
IMAGES = np.zeros((1, 2, 2, 1), np.float32)
FEW = st.one_of(ANYTHING, st.integers(1, 4)).filter(lambda v: not (isinstance(v, int) and v > 9))


@given(FEW, ANYTHING)
def test_methods(count, seed):
    refused(MODEL.denoise, IMAGES, num_samples=count, seed=seed)
    refused(MODEL.sample, count, seed=seed)
    refused(MODEL.elbo, IMAGES, num_samples=count, seed=seed)


@given(FEW, FEW, FEW)
def test_likelihood(num_samples, num_corruptions, rows):
    refused(
        likelihood.importance_sampling,
        ENCODER,
        DECODER,
        IMAGES,
        num_samples=num_samples,
        num_corruptions=num_corruptions,
        rows=rows,
        jit_compile=False,
    )


@given(ANYTHING)
def test_callbacks(value):
    refused(callbacks.KLWarmUp, value)
    refused(ImageGrid, IMAGES, IMAGES, every=value)


@given(ANYTHING)
def test_seeds(value):
    refused(randomness.as_seed, value)


def test_the_helper_sees_a_raw_error():
    """What `refused` is for: an error of Python itself names neither requirement nor remedy."""
    with pytest.raises(AssertionError):
        refused(lambda: "1" + 1)
