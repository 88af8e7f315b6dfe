"""An export in other processes, loaded in the three ways that exist, one of them TensorFlow Serving's.

There neither this package nor Keras nor TensorFlow Probability can be imported.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import check
import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from tensorflow_probability import distributions as tfd

from dvae_tf import DVAE, corruptions, layers, networks
from dvae_tf.serving import export

pytestmark = pytest.mark.slow

SHAPE = (6, 5, 1)

PREAMBLE = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
for name in ("keras", "tf_keras", "tensorflow_probability", "dvae_tf"):
    sys.modules[name] = None  # importing it raises ImportError
sys.path.insert(0, {serving!r})
from pathlib import Path
import numpy as np
import tensorflow as tf
import check
version_dir = Path({version!r})
"""

# Each defines run(signature, inputs) -> outputs.
LOADERS = {
    "saved_model.load": """
loaded = tf.saved_model.load(str(version_dir))
def run(signature, inputs):
    result = loaded.signatures[signature](**{k: tf.constant(v) for k, v in inputs.items()})
    return {k: v.numpy() for k, v in result.items()}
""",
    "session": """
v1 = tf.compat.v1
session = v1.Session(graph=tf.Graph())
with session.graph.as_default():
    graph = v1.saved_model.loader.load(session, ["serve"], str(version_dir))
def run(signature, inputs):
    definition = graph.signature_def[signature]
    feeds = {definition.inputs[k].name: v for k, v in inputs.items()}
    return session.run({k: v.name for k, v in definition.outputs.items()}, feeds)
""",
    "c_api": """
import c_api
session = c_api.Session(version_dir)
def run(signature, inputs):
    return session.run(signature, dict(reversed(inputs.items())))  # in whatever order they come
""",
}

REPLAY = """
found = check.differences(version_dir, run)
assert not found, found
requests = list(check.warmup_requests(version_dir))
for name in {name for name, _ in requests}:
    sizes = [len(next(iter(inputs.values()))) for other, inputs in requests if other == name]
    assert sorted(sizes) == [1, 8, 32], (name, sizes)
for signature, inputs in requests:
    rows = {len(v) for v in run(signature, inputs).values()}
    assert rows == {len(v) for v in inputs.values()}
print(len(requests))
"""


def execute(version: Path, *parts: str) -> str:
    preamble = PREAMBLE.format(serving=str(ROOT / "serving"), version=str(version))
    result = subprocess.run(
        [sys.executable, "-c", "\n".join([preamble, *parts])],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    keras.utils.set_random_seed(1)
    encoder, decoder = networks.conv(SHAPE, 3, filters=(4,), hidden=8)
    model = DVAE(encoder, decoder, corruption=corruptions.SaltPepper(0.1))
    return export.export(model, tmp_path_factory.mktemp("an export"), version=1)


@pytest.mark.parametrize("loader", LOADERS)
def test_gives_the_golden_outputs_and_replays_the_warmup(loader, exported):
    # Seven signatures at three batch sizes.
    assert execute(exported, LOADERS[loader], REPLAY).strip() == "21"


@pytest.mark.parametrize("likelihood", networks.LIKELIHOODS)
@pytest.mark.parametrize(("network", "shape"), [("mlp", (3, 4, 2)), ("resnet", (7, 4, 3))])
def test_every_network_and_likelihood(likelihood, network, shape, tmp_path):
    model = DVAE(*networks.NETWORKS[network](shape, 2, likelihood))
    version = export.export(model, tmp_path, version=1)
    number = 18 if shape[-1] == 2 else 21  # a PNG has no two channels
    assert execute(version, LOADERS["c_api"], REPLAY).strip() == str(number)


def test_images_of_any_size(tmp_path):
    encoder, decoder = networks.ladder((9, 7, 1), 2, filters=(4, 3))
    version = export.export(DVAE(encoder, decoder), tmp_path, version=1)
    for loader in LOADERS:
        assert execute(version, LOADERS[loader], REPLAY).strip() == "24"


def test_vectors_with_a_posterior_that_is_not_normal(tmp_path):
    """Draws of Student's t take a sampler that rejects, in a loop; they are the same everywhere."""
    vector = keras.Input((5,))
    parameters = keras.layers.Dense(6)(vector)
    encoder = keras.Model(vector, layers.DistributionLayer(student_t)(parameters))
    _, decoder = networks.mlp((5,), 3, "gaussian", hidden=(8,))
    version = export.export(DVAE(encoder, decoder), tmp_path, version=1)
    for loader in ("session", "c_api"):
        assert execute(version, LOADERS[loader], REPLAY).strip() == "18"


def student_t(parameters):
    loc, raw_scale = tf.split(parameters, 2, axis=-1)
    return tfd.Independent(tfd.StudentT(4.0, loc, tf.nn.softplus(raw_scale)), 1)


REQUESTS = """
import json
image = np.random.default_rng(0).random((4, 6, 5, 1), np.float32)
seed = np.arange(8, dtype=np.int32).reshape(4, 2)
png = tf.io.encode_png(tf.zeros([6, 5, 1], tf.uint8)).numpy()
wide = tf.io.encode_png(tf.zeros([6, 9, 1], tf.uint8)).numpy()
requests = {
    "height": ("denoise", {"image": image[:, :5]}),
    "width": ("denoise", {"image": image[:, :, :4]}),
    "channels": ("denoise", {"image": np.repeat(image, 3, axis=3)}),
    "rank 3": ("denoise", {"image": image[0]}),
    "rank 2": ("encode", {"image": image.reshape(4, 30)}),
    "rank 5": ("denoise", {"image": image[None]}),
    "scalar": ("denoise", {"image": np.float32(0)}),
    "dtype": ("denoise", {"image": (image * 255).astype(np.uint8)}),
    "latent length": ("decode", {"latent": np.zeros([2, 4], np.float32)}),
    "latent scalar": ("decode", {"latent": np.float32(0)}),
    "seed width": ("sample", {"seed": np.zeros([2, 3], np.int32)}),
    "seed rank": ("sample", {"seed": np.zeros([2], np.int32)}),
    "seed scalar": ("sample", {"seed": np.int32(0)}),
    "seed dtype": ("sample", {"seed": np.zeros([2, 2], np.float32)}),
    "seed rows": ("score", {"image": image, "seed": seed[:3]}),
    "seed one row": ("score", {"image": image, "seed": seed[:1]}),
    "png is none": ("denoise_png", {"image_bytes": np.array([b"nonsense"], object)}),
    "png cut": ("denoise_png", {"image_bytes": np.array([png[:20]], object)}),
    "png size": ("denoise_png", {"image_bytes": np.array([wide], object)}),
    "png scalar": ("denoise_png", {"image_bytes": np.array(png, object)}),
    "unknown signature": ("clean", {"image": image}),
    "missing input": ("score", {"image": image}),
    "extra input": ("denoise", {"image": image, "seed": seed}),
    "other input": ("denoise", {"picture": image}),
}
messages = {}
for name, (signature, inputs) in requests.items():
    try:
        run(signature, inputs)
        messages[name] = ""
    except (RuntimeError, ValueError) as error:
        messages[name] = str(error)
# The process lives, and answers as before.
assert not check.differences(version_dir, run)
for signature, empty in (
    ("denoise", {"image": image[:0]}),
    ("score", {"image": image[:0], "seed": seed[:0]}),
    ("sample", {"seed": seed[:0]}),
    ("denoise_png", {"image_bytes": np.array([], object)}),
):
    assert all(len(value) == 0 for value in run(signature, empty).values())
for bad in (np.nan, np.inf, -np.inf):
    broken, zeroed = image.copy(), image.copy()
    broken[2, 3, 3, 0], zeroed[2] = bad, 0
    for signature in ("denoise", "encode", "score"):
        extra = {"seed": seed} if signature == "score" else {}
        ours = run(signature, {"image": broken, **extra})
        theirs = run(signature, {"image": zeroed, **extra})
        assert ours.pop("valid").tolist() == [True, True, False, True]
        for key, value in ours.items():
            assert not value[2].any()
            assert (value[[0, 1, 3]] == theirs[key][[0, 1, 3]]).all()
print(json.dumps(messages))
"""


def test_servings_own_loader_refuses_bad_requests_and_lives(exported):
    messages = json.loads(execute(exported, LOADERS["c_api"], REQUESTS))
    assert all(messages.values()), {name for name, message in messages.items() if not message}
    for name in ("height", "width", "channels", "rank 2", "rank 5", "scalar", "png scalar"):
        assert "is not compatible with expected shape" in messages[name], messages[name]
    assert "`seed` must have one row for each image" in messages["seed rows"]


class TestCheck:
    """The command that one runs before a server gets a version."""

    def command(self, path) -> subprocess.CompletedProcess:
        words = [sys.executable, str(ROOT / "serving" / "check.py"), str(path)]
        return subprocess.run(words, capture_output=True, text=True)

    def test_passes_a_good_version(self, exported):
        result = self.command(exported)
        assert result.returncode == 0, result.stderr
        assert result.stdout == "7 signatures give the golden outputs; 21 warm-up requests run\n"

    @pytest.mark.parametrize(
        "damage", ["golden", "golden cut", "golden empty", "signature", "variables", "warmup"]
    )
    def test_finds_damage(self, damage, exported, tmp_path):
        version = tmp_path / "1"
        shutil.copytree(exported, version)
        if damage == "golden":
            with np.load(exported / "golden.npz") as content:
                arrays = dict(content)
            arrays["encode/output/mean"][0, 0] += 0.01
            np.savez(version / "golden.npz", **arrays)
        elif damage == "golden empty":
            np.savez(version / "golden.npz")
        elif damage == "signature":
            (version / "signature.json").write_text("[]", encoding="utf-8")
        elif damage == "golden cut":
            (version / "golden.npz").write_bytes((exported / "golden.npz").read_bytes()[:-300])
        elif damage == "variables":
            (file,) = (version / "variables").glob("*.data*")
            file.write_bytes(file.read_bytes()[:100])
        else:
            file = version / "assets.extra" / "tf_serving_warmup_requests"
            file.write_bytes(file.read_bytes()[:-5])
        result = self.command(version)
        assert result.returncode == 1
        assert "Traceback" not in result.stderr
        if damage == "golden":
            assert "encode, mean: differs by up to 0.01" in result.stderr

    def test_says_where_there_is_no_warmup(self, exported, tmp_path):
        version = tmp_path / "1"
        shutil.copytree(exported, version, ignore=shutil.ignore_patterns("assets.extra"))
        assert "there are no warm-up requests" in self.command(version).stdout

    def test_what_is_no_version_is_refused_in_one_line(self, tmp_path):
        result = self.command(tmp_path)
        assert result.returncode == 2
        assert "VERSION_DIR must hold saved_model.pb" in result.stderr


def test_a_difference_beyond_the_tolerance_is_seen(exported):
    """The comparison of `check` itself can fail."""
    outputs = {name: (inputs, expected) for name, inputs, expected in check.golden(exported)}

    def run(signature, inputs):
        return outputs[signature][1]

    assert check.differences(exported, run) == []
    for name, key, change in (
        ("denoise", "stddev", 1e-3),
        ("score", "elbo", 0.1),
        ("denoise", "valid", 1),
    ):

        def changed(signature, inputs, name=name, key=key, change=change):
            result = dict(outputs[signature][1])
            if signature == name:
                result[key] = result[key] + np.asarray(change, result[key].dtype)
            return result

        (message,) = check.differences(exported, changed)
        assert message.startswith(f"{name}, {key}")
