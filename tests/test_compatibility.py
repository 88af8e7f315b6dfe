"""Every row of docs/compatibility.md, in the order of the page.

Arguments are tried on tiny models that run eagerly, so that nothing is traced without need.
"""

import copy
import pickle
import re
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

from dvae_tf import DVAE, corruptions, layers, networks
from dvae_tf.serving import export

SHAPE = (8, 8, 1)
X = np.random.default_rng(0).random((12, *SHAPE)).astype(np.float32)
WEIGHTS = np.ones(12)
CASES = {}


def case(row, *, slow=False):
    """Register the test of a row by its first column."""

    def register(function):
        assert row not in CASES
        CASES[row] = (function, slow)
        return function

    return register


def elsewhere(row, test):
    """Name the test of another file that holds a row."""
    file, name = test.split("::")
    assert row not in CASES
    CASES[row] = (
        lambda: name in (ROOT / "tests" / file).read_text(encoding="utf-8") or pytest.fail(test),
        False,
    )


def make_model(network=networks.mlp, **kwargs) -> DVAE:
    keras.utils.set_random_seed(1)
    sizes = {"hidden": (5,)} if network is networks.mlp else {"filters": (2,), "hidden": 4}
    encoder, decoder = network(SHAPE, 2, **sizes)
    return DVAE(encoder, decoder, **kwargs)


def compiled(optimizer="adam", **kwargs) -> DVAE:
    model = make_model(**kwargs)
    model.compile(optimizer, run_eagerly=True)
    return model


def fit(model, *args, **kwargs):
    return model.fit(*args, **({"shuffle": False, "verbose": 0} | kwargs)).history


def refused(message, function, *args, error=ValueError, **kwargs):
    """Check the refusal of a call: one line."""
    with pytest.raises(error, match=message) as caught:
        function(*args, **({"verbose": 0} | kwargs))
    assert "\n" not in str(caught.value)


def batches(*parts):
    return tf.data.Dataset.from_tensor_slices(parts if len(parts) > 1 else parts[0]).batch(4)


class Batches(keras.utils.PyDataset):
    def __init__(self, *parts):
        super().__init__()
        self._parts = parts

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return tuple(part[4 * index : 4 * index + 4] for part in self._parts)


# ---- compile ----


@case("`optimizer`")
def _():
    for optimizer in ("sgd", keras.optimizers.Lion(1e-3)):
        model = compiled(optimizer)
        before = model.get_weights()
        fit(model, X)
        assert any(np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True))


@case("`optimizer=None`")
def _():
    model = compiled(None)
    assert np.isfinite(model.evaluate(X, verbose=0)).all()
    refused("needs an optimizer", model.fit, X)


elsewhere("`gradient_accumulation_steps`", "test_model_steps.py::test_a_seed_for_every_step")


@case("`learning_rate` of 0")
def _():
    schedules = keras.optimizers.schedules
    decayed = compiled(keras.optimizers.Adam(schedules.CosineDecay(1e-3, 2)))
    fit(decayed, X, batch_size=6)
    loss_scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.0))
    for model in (decayed, compiled(keras.optimizers.SGD(0.0)), compiled(loss_scaled)):
        with pytest.warns(UserWarning, match="starts at learning rate 0.* Compile with a new"):
            fit(model, X)
    # Warnings are errors here.
    warm = schedules.CosineDecay(0.0, 5, warmup_target=1e-3, warmup_steps=3)
    fit(compiled(keras.optimizers.Adam(warm)), X)
    fit(decayed, X, epochs=0)
    setter = keras.callbacks.LearningRateScheduler(lambda epoch: 1e-3)
    fit(compiled(keras.optimizers.SGD(0.0)), X, callbacks=[setter])


@case("`loss`, `loss_weights`, `metrics`, `weighted_metrics`")
def _():
    for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
        with pytest.raises(ValueError, match=f"`{name}` must not be given"):
            make_model().compile("adam", **{name: ["mse"]})


@case("`jit_compile`")
def _():
    for given, expected in (("auto", True), (False, False), (True, True)):
        model = make_model()
        model.compile("adam", jit_compile=given)
        assert model.jit_compile == expected


elsewhere("`run_eagerly`", "test_model.py::test_compiled_and_eager_steps_agree")
elsewhere("`steps_per_execution`", "test_model_steps.py::test_a_seed_for_every_step")
elsewhere(
    "a second `compile`",
    "test_model_steps.py::test_the_number_of_the_step_outlives_files_and_compile",
)

# ---- fit ----


@case("`x`: array of floats")
def _():
    bounds = {}
    for dtype in ("float16", "float32", "float64"):
        bounds[dtype] = fit(compiled(), X.astype(dtype))["bound"][0]
    assert bounds["float64"] == bounds["float32"] == pytest.approx(bounds["float16"], rel=1e-2)
    for method in (compiled().fit, compiled().evaluate):
        refused("must be finite", method, X * np.nan)
        refused("values from", method, X + 1)


@case("`x`: array of integers or booleans")
def _():
    refused("Divide 8-bit images by 255", compiled().fit, (X * 255).astype(np.uint8))
    refused("dtype bool", compiled().fit, X > 0.5)


@case("`x`: list of arrays")
def _():
    model = compiled()
    for method in (model.fit, model.evaluate):
        refused(r"must be one array.*a list of 12.*numpy.stack", method, list(X))
        refused("must be one array", method, X.tolist())
    refused("must be one array", compiled(paired=True).fit, list(X), list(X))


@case("`x`: dictionary")
def _():
    for x in ({"image": X}, batches(X).map(lambda image: {"image": image})):
        refused(
            "Received: a dictionary of image", compiled().fit, x, shuffle=False, error=TypeError
        )
    parts = {"a": keras.Input((3,), name="a"), "b": keras.Input((2,), name="b")}
    h = keras.layers.Dense(4)(keras.layers.Concatenate()(list(parts.values())))
    encoder = keras.Model(parts, layers.IndependentNormal(2)(h))
    given = {name: X.reshape(12, -1)[:, : part.shape[1]] for name, part in parts.items()}
    assert encoder(given).mean().shape == (12, 2)


@case("`x`: no examples, or `None`")
def _():
    for method in (compiled().fit, compiled().evaluate):
        refused("at least one image", method, X[:0])
        refused("Received: None", method, None)


@case("`x`: `tf.data.Dataset`")
def _():
    assert fit(compiled(), batches(X)) == fit(compiled(), X, batch_size=4)
    refused("Divide 8-bit", compiled().fit, batches((X * 255).astype(np.uint8)), shuffle=False)


@case("`x`: generator of tuples `(x,)`, `PyDataset`", slow=True)
def _():
    expected = fit(compiled(), X, batch_size=4)
    assert fit(compiled(), Batches(X)) == expected
    given = ((X[i : i + 4],) for i in (0, 4, 8))
    assert fit(compiled(), given, steps_per_epoch=3) == expected


@case("`y`: labels", slow=True)
def _():
    expected = fit(compiled(), X)
    for labels in (np.arange(12), np.eye(12), np.zeros((12, 1)), np.zeros((12, 8, 8, 2))):
        assert fit(compiled(), X, labels) == expected


@case("`y`: shape of an example")
def _():
    for second in (X, X[..., 0], X.astype(np.float64)):
        for method in (compiled().fit, compiled().evaluate):
            refused("paired=True", method, X, second)
        for data in (batches(X, second), Batches(X, second), (pair for pair in [(X, second)])):
            refused("paired=True", compiled().fit, data, shuffle=False)
        refused("paired=True", compiled().fit, X, validation_data=(X, second))
    encoder, decoder = networks.mlp((6,), 2, "gaussian", hidden=(4,))
    table = DVAE(encoder, decoder)  # of any kind
    table.compile("adam", run_eagerly=True)
    rows = X.reshape(12, -1)[:, :6]
    refused("paired=True", table.fit, rows, rows)
    fit(table, rows, rows[:, :5])


@case("`y` of a paired model")
def _():
    clean = np.round(X)
    model = compiled(paired=True)
    fit(model, X, clean)
    expected = model.evaluate(X, clean, verbose=0)
    assert expected == model.evaluate(tf.data.Dataset.from_tensors((X, clean)), verbose=0)
    refused("takes batches", model.fit, X)
    refused("takes batches", model.fit, batches(X), shuffle=False)
    fit(model, Batches(X, clean))


@case("`sample_weight`, `class_weight`")
def _():
    model, labels = compiled(), np.zeros(12, int)
    for kwargs in ({"sample_weight": WEIGHTS}, {"class_weight": {0: 2.0}}):
        refused("must have equal weights", model.fit, X, **kwargs)
        refused("must have equal weights", model.fit, X, labels, **kwargs)
        refused("must have equal weights", model.fit, batches(X, labels), **kwargs)
    for y in (labels, None):
        refused("must have equal weights", model.fit, X, validation_data=(X, y, WEIGHTS))
    for data in (batches(X, labels, WEIGHTS), Batches(X, labels, WEIGHTS)):
        refused("must have equal weights", model.fit, data, shuffle=False)
        refused("must have equal weights", model.fit, X, validation_data=data)
    # By position: validation_split, validation_data, shuffle, class_weight.
    with pytest.raises(ValueError, match="must have equal weights"):
        model.fit(X, None, 4, 1, 0, None, 0.0, None, False, {0: 1.0})


@case("`epochs`, `initial_epoch`")
def _():
    model = compiled()
    assert model.fit(X, initial_epoch=3, epochs=5, shuffle=False, verbose=0).epoch == [3, 4]
    assert int(model.training_steps) == 2


elsewhere("`callbacks`", "test_model.py::test_stock_callbacks_work_together")


@case("`shuffle`", slow=True)
def _():
    results = []
    for seed in (1, 1, 2):
        model = compiled()
        keras.utils.set_random_seed(seed)
        results.append(fit(model, X, batch_size=4, shuffle=True))
    assert results[0] == results[1] != results[2]


@case("`validation_split`", slow=True)
def _():
    split = fit(compiled(), X, validation_split=0.25)
    assert split == fit(compiled(), X[:9], validation_data=X[9:])


@case("`validation_data`")
def _():
    expected = fit(compiled(), X, validation_data=X[:8], validation_batch_size=4)
    for data in ((X[:8],), (X[:8], np.arange(8)), batches(X[:8])):
        assert fit(compiled(), X, validation_data=data, validation_batch_size=4) == expected
    model = compiled()
    refused("must be finite", model.fit, X, validation_data=X * np.nan)
    assert int(model.training_steps) == 0


@case("`validation_freq`, `validation_steps`, `steps_per_epoch`", slow=True)
def _():
    model = compiled()
    kwargs = {"validation_data": X, "validation_batch_size": 4, "validation_steps": 2}
    history = fit(
        model, batches(X).repeat(), epochs=4, steps_per_epoch=2, validation_freq=2, **kwargs
    )
    assert (len(history["bound"]), len(history["val_bound"])) == (4, 2)
    expected = model.evaluate(X[:8], batch_size=4, verbose=0, return_dict=True)["bound"]
    assert history["val_bound"][-1] == pytest.approx(expected, rel=1e-6)


@case("`validation_batch_size`", slow=True)
def _():
    model = compiled(corruption=corruptions.Gaussian(0.3))
    values = [model.evaluate(X, batch_size=size, verbose=0)[0] for size in (4, 4, 6)]
    assert values[0] == values[1] != values[2]


@case("`trainable = False` of a part", slow=True)
def _():
    model = make_model()
    model.compile("sgd", jit_compile=False)
    fit(model, X)
    for frozen, trained in ((model.encoder, model.decoder), (model.decoder, model.encoder)):
        frozen.trainable, trained.trainable = False, True
        before = frozen.get_weights(), trained.get_weights()
        fit(model, X)
        same = [
            all(np.array_equal(a, b) for a, b in zip(old, part.get_weights(), strict=True))
            for old, part in zip(before, (frozen, trained), strict=True)
        ]
        assert same == [True, False]


@case("`trainable = False` of everything")
def _():
    model = compiled()
    model.trainable = False
    refused("needs weights to train", model.fit, X)


# ---- evaluate, predict and single batches ----


@case("`evaluate(x, y)`")
def _():
    model = compiled(corruption=corruptions.Gaussian(0.3))
    values = [model.evaluate(X, y, verbose=0) for y in (None, np.arange(12))]
    assert values[0] == values[1]


@case("`evaluate(sample_weight=...)`")
def _():
    refused("must have equal weights", compiled().evaluate, X, sample_weight=WEIGHTS)
    with pytest.raises(ValueError, match="must have equal weights"):
        compiled().evaluate(X, None, 4, 0, WEIGHTS)


@case("`predict(x)`")
def _():
    model = compiled()
    x = 3 * X - 1
    x[0, 0, 0] = np.nan
    denoised = model.predict(x, verbose=0)
    assert np.isnan(denoised[0]).all()
    np.testing.assert_allclose(denoised[1:], model(x[1:]), rtol=1e-5)


@case("`predict` of a list or integers")
def _():
    refused("must be one array", compiled().predict, list(X))
    refused("Divide 8-bit", compiled().predict, (X * 255).astype(np.uint8))


@case("`predict` of a dataset of `(x, y)`", slow=True)
def _():
    model = compiled()
    denoised = model.predict(batches(X, np.zeros_like(X)), verbose=0)
    np.testing.assert_array_equal(denoised, model.predict(X, batch_size=4, verbose=0))


@case("`predict_on_batch`")
def _():
    model = compiled()
    np.testing.assert_array_equal(model.predict_on_batch(X), model(X))


@case("`train_on_batch`, `test_on_batch`")
def _():
    model = compiled()
    for method in (model.train_on_batch, model.test_on_batch):
        assert np.isfinite(method(X)).all()
        for args, kwargs in (((X, X), {}), ((list(X),), {}), ((X,), {"sample_weight": WEIGHTS})):
            with pytest.raises(ValueError, match=r"paired=True|one array|equal weights"):
                method(*args, **kwargs)
        with pytest.raises(ValueError, match="must be finite"):
            method(X * np.nan)
    with pytest.raises(ValueError, match="equal weights"):
        model.train_on_batch(X, class_weight={0: 1.0})


# ---- layers and settings ----

elsewhere(
    "Dropout, BatchNormalization", "test_model_phases.py::test_nothing_but_a_training_step_does"
)
elsewhere(
    "random generators of layers",
    "test_model_phases.py::test_generators_of_layers_continue_after_a_stop",
)


@case('`set_floatx`, or the policy "float64" or "float16"', slow=True)
def _():
    expected = fit(compiled(), X)["bound"][0]
    for name, tolerance in (("float64", 1e-5), ("float16", 1e-2)):
        keras.config.set_floatx(name)
        try:
            model = compiled()
            bound = fit(model, X)["bound"][0]
            answers = [model.predict(X, verbose=0), model.elbo(X), model.denoise(X).mean]
        finally:
            keras.config.set_floatx("float32")
        # Initial weights are drawn in the other type: only their distribution is the same.
        assert abs(bound - expected) < 0.1 * abs(expected) + tolerance
        assert all(np.asarray(answer).dtype == np.float32 for answer in answers)


elsewhere(
    '`set_dtype_policy("mixed_float16")`',
    "test_model_precision.py::test_an_overflowing_step_leaves_the_weights",
)


@case('`set_image_data_format("channels_first")`')
def _():
    for network in (networks.mlp, networks.conv, networks.resnet):
        expected = make_model(network)(X)
        keras.config.set_image_data_format("channels_first")
        try:
            np.testing.assert_array_equal(make_model(network)(X), expected)
        finally:
            keras.config.set_image_data_format("channels_last")


@case("`tf.config.run_functions_eagerly(True)`", slow=True)
def _():
    model = make_model()
    model.compile("adam", jit_compile=False)
    expected = fit(compiled(), X)
    tf.config.run_functions_eagerly(True)
    try:
        with warnings.catch_warnings():  # TensorFlow says that tf.data stays as it is
            warnings.simplefilter("ignore", UserWarning)
            history = fit(model, X)
    finally:
        tf.config.run_functions_eagerly(False)
    assert history["bound"] == pytest.approx(expected["bound"], rel=1e-5)


elsewhere(
    "`tf.distribute.MirroredStrategy`, `MultiWorkerMirroredStrategy`",
    "test_model_steps.py::test_replicas_count_one_step_together",
)

# ---- saving and copying ----

elsewhere('`save("model.keras")`, `keras.models.load_model`', "test_model.py::test_save_and_load")


@case("`save` under another ending")
def _():
    with pytest.raises(ValueError, match=r"must end in \.keras"):
        make_model().save("model.h5")


elsewhere(
    "`save_weights`, `load_weights`",
    "test_model_steps.py::test_the_number_of_the_step_outlives_files_and_compile",
)


def same_answers(model, other, *, same):
    assert type(other) is DVAE
    assert np.array_equal(model(X), other(X)) == same


@case("`keras.models.clone_model`")
def _():
    model = compiled()
    same_answers(model, keras.models.clone_model(model), same=False)


@case("`copy.deepcopy`, `pickle`", slow=True)
def _():
    model = compiled()
    fit(model, X)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        same_answers(model, other, same=True)
        assert int(other.training_steps) == 1


@case("`to_json`, `keras.models.model_from_json`", slow=True)
def _():
    model = compiled()
    same_answers(model, keras.models.model_from_json(model.to_json()), same=False)


@case("`export(directory)`", slow=True)
def _(tmp_path):
    class Encoder(keras.Model):
        """An encoder whose shapes only training tells."""

        def __init__(self):
            super().__init__()
            self.dense, self.posterior = keras.layers.Dense(4), layers.IndependentNormal(2)

        def call(self, x):
            return self.posterior(self.dense(tf.reshape(x, [-1, 64])))

    trained = compiled()
    fit(trained, X)
    subclassed = DVAE(Encoder(), make_model().decoder)
    subclassed.compile("adam", run_eagerly=True)
    fit(subclassed, X)
    for number, model in enumerate((make_model(), trained, subclassed)):
        model.export(tmp_path / str(number), verbose=False)
        loaded = tf.saved_model.load(str(tmp_path / str(number)))
        np.testing.assert_allclose(loaded.serve(X), model(X), atol=1e-6)


def lite(content, signature=None, **inputs) -> dict[str, np.ndarray]:
    with warnings.catch_warnings():  # it moves to another package
        warnings.filterwarnings("ignore", message=".*tf.lite.Interpreter is deprecated")
        interpreter = tf.lite.Interpreter(model_content=content)
    return interpreter.get_signature_runner(signature)(**inputs)


@case('`export(format="litert")`', slow=True)
def _(tmp_path):
    model = make_model()
    model.export(tmp_path / "model.tflite", format="litert", verbose=False)
    (denoised,) = lite((tmp_path / "model.tflite").read_bytes(), args_0=X[:1]).values()
    np.testing.assert_allclose(denoised, model(X[:1]), atol=1e-6)


@case("`tf.lite.TFLiteConverter.from_keras_model`", slow=True)
def _():
    trained = compiled()
    fit(trained, X)
    for model in (make_model(), trained):
        content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
        interpreter_inputs = {"args_0": X[:1]}
        (denoised,) = lite(content, **interpreter_inputs).values()
        np.testing.assert_allclose(denoised, model(X[:1]), atol=1e-6)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An export whose networks have layers of two phases."""
    image, latent = keras.Input(SHAPE), keras.Input((2,))
    h = keras.layers.BatchNormalization()(keras.layers.Flatten()(image))
    h = keras.layers.Dropout(0.5)(keras.layers.Dense(8, "tanh")(h))
    encoder = keras.Model(image, layers.IndependentNormal(2)(keras.layers.Dense(4)(h)))
    h = keras.layers.Dense(64)(keras.layers.Dropout(0.5)(keras.layers.Dense(8, "tanh")(latent)))
    model = DVAE(encoder, keras.Model(latent, layers.IndependentBernoulli(SHAPE)(h)))
    model.compile("adam", run_eagerly=True)
    fit(model, X)
    return model, export.export(model, tmp_path_factory.mktemp("export"), version=1)


@case("TFLite of the exported `denoise`, `encode`, `decode`", slow=True)
def _(exported):
    model, directory = exported
    loaded = tf.saved_model.load(str(directory))
    np.testing.assert_allclose(
        loaded.signatures["denoise"](image=tf.constant(X))["denoised"], model(X), atol=1e-6
    )
    for name, inputs in (
        ("denoise", {"image": X[:1]}),
        ("encode", {"image": X[:1]}),
        ("decode", {"latent": np.array([[0.3, -1.0]], np.float32)}),
    ):
        converter = tf.lite.TFLiteConverter.from_saved_model(str(directory), signature_keys=[name])
        outputs = lite(converter.convert(), name, **inputs)
        expected = loaded.signatures[name](**{k: tf.constant(v) for k, v in inputs.items()})
        assert set(outputs) == set(expected)
        for key, value in outputs.items():
            np.testing.assert_allclose(
                value.astype(float), expected[key].numpy().astype(float), rtol=0, atol=6e-7
            )


@case("TFLite of the exported `sample`, `score`", slow=True)
def _(exported):
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(exported[1]), signature_keys=["sample"]
    )
    with pytest.raises(Exception, match="Could not translate MLIR"):
        converter.convert()


# ---- threads ----

# In a process of its own, which reports where it crashes. Every model is fresh: all threads trace.
THREADS = """
import faulthandler, sys, threading
faulthandler.enable(all_threads=True)
sys.setswitchinterval(1e-4)
sys.path.insert(0, "tests")
import numpy as np
from test_compatibility import X, corruptions, make_model

for number in range(6):
    model = make_model(corruption=corruptions.Gaussian(0.1))
    calls = [
        lambda: model.predict(X, verbose=0),
        lambda: model.denoise(X, num_samples=4).mean.numpy(),
        lambda: model.log_likelihood(X, num_samples=300),
        lambda: model.elbo(X).numpy(),
    ]
    results, barrier = [None] * 8, threading.Barrier(8)

    def work(index):
        barrier.wait()
        results[index] = calls[index % 4]()

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, result in enumerate(results):
        np.testing.assert_array_equal(result, calls[index % 4]())
"""


@case("`predict`, `denoise`, `elbo`, `sample`, `log_likelihood` from several threads", slow=True)
def _():
    command = [sys.executable, "-c", THREADS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]


# ---- the page ----


def rows() -> list[str]:
    """Return the first column of every row before the section of image files."""
    text = (
        (ROOT / "docs" / "compatibility.md")
        .read_text(encoding="utf-8")
        .split("\n## Image files")[0]
    )
    found = re.findall(r"^\| (.+?) \|", text, flags=re.MULTILINE)
    return [row for row in found if row not in ("argument", "call", "setting")]


def test_the_page_and_the_tests_have_the_same_rows():
    assert rows() == list(CASES)


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, marks=[pytest.mark.slow] if slow else [], id=re.sub(r"\W+", " ", row))
        for row, (_, slow) in CASES.items()
    ],
)
def test_row(row, request):
    function = CASES[row][0]
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    function(**{name: request.getfixturevalue(name) for name in names})
