import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

from dvae_tf import DVAE, corruptions, layers, networks
from dvae_tf.kinds.image.callbacks import ImageGrid
from dvae_tf.runs import callbacks

SHAPE = (8, 6, 1)


def make_model(*, likelihood="bernoulli", shape=SHAPE, **kwargs) -> DVAE:
    keras.utils.set_random_seed(3)
    encoder, decoder = networks.mlp(shape, 3, likelihood, hidden=(16,))
    return DVAE(encoder, decoder, **({"corruption": corruptions.SaltPepper(0.2)} | kwargs))


def compiled(**kwargs) -> DVAE:
    """A model ready to train. Without XLA: compiling would take most of these tests' time."""
    model = make_model(**kwargs)
    model.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
    return model


LOGGED = {"loss", "bound", "elbo", "reconstruction", "kl"}


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"corruption": None},
        {"objective": "iwae", "num_samples": 3, "num_corruptions": 2},
        {"objective": "iwae", "num_samples": 3, "gradient": "doubly_reparameterized"},
        {"posterior": "mixture", "num_corruptions": 3},
        pytest.param({"likelihood": "gaussian"}, marks=pytest.mark.slow),
        pytest.param({"likelihood": "discretized_logistic"}, marks=pytest.mark.slow),
        pytest.param({"likelihood": "continuous_bernoulli"}, marks=pytest.mark.slow),
        pytest.param({"corruption": corruptions.Poisson((0.1, 0.3))}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_fit_logs_the_terms_and_learns(kwargs, images):
    model = compiled(**kwargs)
    history = model.fit(images, batch_size=16, epochs=8, validation_data=images, verbose=0).history
    assert set(history) == LOGGED | {f"val_{name}" for name in LOGGED}
    for prefix in ("", "val_"):
        columns = {name: np.array(history[prefix + name]) for name in LOGGED}
        np.testing.assert_allclose(
            columns["elbo"], columns["reconstruction"] - columns["kl"], rtol=1e-5, atol=1e-4
        )
        np.testing.assert_allclose(columns["loss"], -columns["bound"], rtol=1e-5, atol=1e-4)
    assert history["val_bound"][-1] > history["val_bound"][0]


@pytest.mark.slow
def test_denoises_better_than_it_was_given(images):
    model = compiled()
    model.fit(images, batch_size=16, epochs=60, verbose=0)
    noisy = model.corruption(images, seed=9).numpy()
    denoised = model.predict(noisy, verbose=0)
    assert np.mean((denoised - images) ** 2) < 0.25 * np.mean((noisy - images) ** 2)


@pytest.mark.parametrize("jit_compile", ["auto", pytest.param(False, marks=pytest.mark.slow)])
def test_same_seed_same_history(images, jit_compile):
    histories = []
    for seed in (1, 1, 2):
        model = make_model(seed=seed)
        model.compile(keras.optimizers.Adam(1e-2), jit_compile=jit_compile)
        assert model.jit_compile == (jit_compile == "auto")
        fit = model.fit(
            images, batch_size=16, epochs=2, shuffle=False, validation_data=images, verbose=0
        )
        histories.append(fit.history)
    assert histories[0] == histories[1]
    assert histories[0] != histories[2]


def test_compiled_and_eager_steps_agree(images):
    weights = []
    for kwargs in ({"jit_compile": True}, {"jit_compile": False}, {"run_eagerly": True}):
        model = make_model()
        model.compile(keras.optimizers.SGD(1e-3), **kwargs)
        model.fit(images[:32], batch_size=16, epochs=1, shuffle=False, verbose=0)
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    np.testing.assert_allclose(weights[1], weights[0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(weights[2], weights[0], rtol=0, atol=1e-5)


def test_validation_repeats_its_noise_but_not_across_batches(images):
    model = compiled()
    first, second = (model.evaluate(images, batch_size=16, verbose=0) for _ in range(2))
    assert first == second
    # Equal batches: their bounds differ by the noise alone.
    same = np.repeat(images[:1], 16, axis=0)
    model.reset_metrics()
    bounds = [float(model.test_step(tf.constant(same))["bound"]) for _ in range(2)]
    assert bounds[1] != pytest.approx(bounds[0], rel=1e-6)


def test_validation_may_score_clean_inputs(images):
    noisy = compiled(corruption=corruptions.Masking(0.9))
    clean = compiled(corruption=corruptions.Masking(0.9), test_corruption=corruptions.Identity())
    vae = compiled(corruption=None)
    values = [m.evaluate(images, verbose=0, return_dict=True)["kl"] for m in (noisy, clean, vae)]
    assert values[1] == values[2]
    assert values[0] != pytest.approx(values[1], rel=1e-3)


def test_takes_labels_and_numpy_and_datasets(images):
    labels = np.arange(64)
    results = []
    for data in (
        tf.data.Dataset.from_tensor_slices(images).batch(16),
        tf.data.Dataset.from_tensor_slices((images, labels)).batch(16),
    ):
        model = compiled()
        results.append(model.fit(data, epochs=1, shuffle=False, verbose=0).history)
    assert results[0] == results[1]
    history = compiled().fit(images, labels, batch_size=16, shuffle=False, verbose=0).history
    assert history == results[0]


def test_paired_data_train_on_their_own_noise(images, rng):
    noisy = np.clip(images + rng.normal(0, 0.3, images.shape), 0, 1).astype(np.float32)
    model = compiled(corruption=None, paired=True)
    pairs = tf.data.Dataset.from_tensor_slices((noisy, images)).batch(16)
    model.fit(pairs, epochs=60, validation_data=pairs, shuffle=False, verbose=0)
    assert np.mean((model.predict(noisy, verbose=0) - images) ** 2) < 0.5 * np.mean(
        (noisy - images) ** 2
    )
    # The clean image is the second one: with the pair swapped the bound is another.
    forward = model.evaluate(noisy, images, verbose=0)
    assert forward != model.evaluate(images, noisy, verbose=0)


def seen_in_training(images, **kwargs) -> np.ndarray:
    """Return the clean images of five training steps, as the bound got them: [5, B, H, W, C]."""
    model, seen = make_model(binarize=True, **kwargs), []
    bound_terms = model.bound_terms

    def spy(x, **arguments):
        seen.append(x.numpy())
        return bound_terms(x, **arguments)

    model.bound_terms = spy
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=True)
    for _ in range(5):
        model.train_on_batch(images)
    return np.stack(seen)


def test_binarisation_draws_every_step_anew_with_the_pixel_as_probability():
    grey = np.full((64, *SHAPE), 0.4, np.float32)
    x = seen_in_training(grey)
    assert set(np.unique(x)) == {0.0, 1.0}
    assert abs(x.mean() - 0.4) < 5 * np.sqrt(0.24 / x.size)
    # Neither steps nor examples nor pixels share their draws: half of them differ, or nearly.
    for axis in (0, 1, 2):
        differ = np.diff(x, axis=axis) != 0
        assert abs(differ.mean() - 0.48) < 0.02
    np.testing.assert_array_equal(seen_in_training(grey), x)
    assert np.any(seen_in_training(grey, seed=1) != x)


def test_binarisation_leaves_binary_images_alone(images):
    for x in seen_in_training(images):
        np.testing.assert_array_equal(x, images)


def test_call_denoises_without_noise(images):
    model = make_model()
    q = model.encoder(images)
    expected = model.decoder(q.mean()).mean()
    np.testing.assert_array_equal(model(images), expected)
    np.testing.assert_array_equal(model(images, training=True), expected)
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, rtol=1e-5, atol=1e-6)


def test_denoise_averages_over_the_posterior(images):
    model = make_model(likelihood="gaussian")
    denoised = model.denoise(images[:3], num_samples=2000, seed=4)
    q = model.encoder(images[:3])
    z = q.sample(2000, seed=5).numpy()
    p = model.decoder(z.reshape(-1, 3))
    means = p.mean().numpy().reshape(2000, 3, *SHAPE)
    error = means.std(0) * np.sqrt(2 / 2000)
    assert np.all(np.abs(denoised.mean - means.mean(0)) < 6 * error + 1e-6)
    variance = p.variance().numpy().reshape(means.shape).mean(0) + means.var(0)
    np.testing.assert_allclose(denoised.stddev, np.sqrt(variance), rtol=0.05)
    # S = 0 decodes the posterior mean.
    plain = model.denoise(images[:3], num_samples=0)
    np.testing.assert_array_equal(plain.mean, model(images[:3]))
    np.testing.assert_array_equal(plain.stddev, model.decoder(q.mean()).stddev())
    np.testing.assert_array_equal(
        denoised.mean, model.denoise(images[:3], num_samples=2000, seed=4).mean
    )


def test_sample(images):
    model = make_model()
    first = model.sample(5, seed=1)
    assert first.shape == (5, *SHAPE)
    np.testing.assert_array_equal(first, model.sample(5, seed=1))
    assert np.abs(first - model.sample(5, seed=2)).max() > 0


def test_elbo_of_clean_inputs(images):
    model = make_model()
    elbo = model.elbo(images[:4], num_samples=3000).numpy()
    q = model.encoder(images[:4])
    mean, variance = q.mean().numpy(), q.variance().numpy()
    kl = 0.5 * np.sum(mean**2 + variance - np.log(variance) - 1, axis=1)
    z = q.sample(3000, seed=1).numpy()
    probability = model.decoder(z.reshape(-1, 3)).mean().numpy().reshape(3000, 4, -1)
    x = images[:4].reshape(4, -1)
    log_likelihood = np.log(np.where(x == 1, probability, 1 - probability)).sum(-1)
    error = log_likelihood.std(0) / np.sqrt(3000)
    assert np.all(np.abs(elbo - (log_likelihood.mean(0) - kl)) < 5 * np.sqrt(2) * error + 1e-4)


@pytest.mark.parametrize(
    "network",
    [
        "mlp",
        pytest.param("conv", marks=pytest.mark.slow),
        pytest.param("resnet", marks=pytest.mark.slow),
    ],
)
def test_save_and_load(network, images, tmp_path):
    encoder, decoder = networks.NETWORKS[network](SHAPE, 3)
    model = DVAE(
        encoder,
        decoder,
        corruption=corruptions.Chain([corruptions.Gaussian(0.1), corruptions.Masking((0.0, 0.3))]),
        test_corruption=corruptions.Gaussian(0.2),
        objective="iwae",
        num_corruptions=2,
        num_samples=3,
        gradient="doubly_reparameterized",
        seed=2**40,
    )
    model.compile(keras.optimizers.Adam(1e-3), jit_compile=False)
    model.fit(images[:32], batch_size=16, verbose=0)
    path = tmp_path / "a model.keras"
    model.save(path)
    restored = keras.models.load_model(path)
    np.testing.assert_array_equal(
        restored.predict(images, verbose=0), model.predict(images, verbose=0)
    )
    for name in ("corruption", "test_corruption", "objective", "posterior", "num_corruptions"):
        assert getattr(restored, name) == getattr(model, name)
    for name in ("num_samples", "gradient", "paired", "latent_dim", "seed"):
        assert getattr(restored, name) == getattr(model, name)
    assert int(restored.optimizer.iterations) == int(model.optimizer.iterations) == 2
    # Training goes on as if it had never been stored.
    continued = [
        m.fit(images[:32], batch_size=16, shuffle=False, verbose=0) for m in (model, restored)
    ]
    assert continued[0].history == continued[1].history


@pytest.mark.slow
def test_stock_callbacks_work_together(images, tmp_path):
    model = compiled()
    selected = [
        keras.callbacks.ModelCheckpoint(
            tmp_path / "best.keras", monitor="val_bound", mode="max", save_best_only=True
        ),
        keras.callbacks.EarlyStopping("val_bound", mode="max", patience=2, min_delta=1e6),
        keras.callbacks.ReduceLROnPlateau(
            "val_bound", mode="max", factor=0.5, patience=1, min_delta=1e6
        ),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
        keras.callbacks.CSVLogger(tmp_path / "history.csv"),
        keras.callbacks.TensorBoard(tmp_path / "logs", histogram_freq=1),
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False),
        callbacks.KLWarmUp(2),
        ImageGrid(images[:4], images[:4], log_dir=tmp_path / "logs", every=1),
    ]
    history = model.fit(
        images, batch_size=16, epochs=9, validation_data=images, callbacks=selected, verbose=0
    )
    assert len(history.epoch) == 3  # stopped early
    rates = history.history["learning_rate"]
    assert rates[1] < rates[0] * 0.95
    assert len((tmp_path / "history.csv").read_text(encoding="utf-8").splitlines()) == 4
    assert list((tmp_path / "logs").rglob("events*"))
    assert (tmp_path / "backup" / "latest.weights.h5").exists()
    best = keras.models.load_model(tmp_path / "best.keras")
    assert isinstance(best, DVAE)


@pytest.mark.parametrize(
    "policy", ["float32", pytest.param("mixed_float16", marks=pytest.mark.slow)]
)
def test_backup_and_restore_continues_as_if_never_stopped(policy, images, tmp_path):
    """All randomness follows from (seed, step), so that Keras' own callback resumes exactly."""

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def ready() -> DVAE:
        with networks.dtype_policy(policy):
            return compiled()

    def fit(model, *extra):
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        data = tf.data.Dataset.from_tensor_slices(images).batch(16)
        return model.fit(
            data, epochs=4, shuffle=False, callbacks=[backup, *extra], verbose=0
        ).history

    reference = ready().fit(images, batch_size=16, epochs=4, shuffle=False, verbose=0)
    with pytest.raises(KeyboardInterrupt):
        fit(ready(), Stop())
    assert fit(ready())["loss"] == reference.history["loss"][2:]


def test_summary_and_plot(images, tmp_path):
    model = make_model()
    lines: list[str] = []
    model.summary(print_fn=lambda text, **kwargs: lines.append(text))
    text = "\n".join(lines)
    assert "encoder" in text
    assert "decoder" in text
    assert "dvae" in keras.utils.model_to_dot(model).to_string()
    dot = keras.utils.model_to_dot(model.encoder, show_shapes=True).to_string()
    assert "IndependentNormal" in dot
    assert "(None, 3)" in dot


def test_trains_from_unbuilt_subclassed_networks(images):
    class Encoder(keras.Model):
        def __init__(self):
            super().__init__()
            self.flatten = keras.layers.Flatten()
            self.dense = keras.layers.Dense(layers.IndependentNormal.params_size(2))
            self.posterior = layers.IndependentNormal(2)

        def call(self, x):
            return self.posterior(self.dense(self.flatten(x)))

    decoder = keras.Sequential(
        [
            keras.layers.Dense(layers.IndependentBernoulli.params_size(SHAPE)),
            layers.IndependentBernoulli(SHAPE),
        ]
    )
    model = DVAE(Encoder(), decoder, corruption=corruptions.Masking(0.1), latent_dim=2)
    model.compile("adam")
    history = model.fit(images, epochs=3, verbose=0).history
    assert history["bound"][-1] > history["bound"][0]
    assert model.sample(2).shape == (2, *SHAPE)


@pytest.mark.parametrize(
    "kwargs",
    [
        pytest.param(
            {"corruption": corruptions.Poisson((0.1, 0.3)), "likelihood": "gaussian"},
            marks=pytest.mark.slow,
        ),
        {
            "objective": "iwae",
            "num_corruptions": 2,
            "num_samples": 3,
            "gradient": "doubly_reparameterized",
            "likelihood": "discretized_logistic",
        },
    ],
    ids=str,
)
@pytest.mark.slow
def test_compiles_with_xla(kwargs, images):
    model = make_model(**kwargs)
    model.compile("adam", jit_compile=True)
    history = model.fit(images, batch_size=20, verbose=0).history
    assert np.isfinite(history["bound"]).all()


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_odd_batches(images, batch):
    history = compiled().fit(images[: 2 * batch + 1], batch_size=batch, verbose=0).history
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"objective": "vae"}, ValueError, "`objective` must be one of elbo, iwae. Received"),
        ({"posterior": "exact"}, ValueError, "`posterior` must be one of conditional, mixture"),
        ({"num_samples": 0}, ValueError, "`num_samples` must be an integer of at least 1"),
        ({"num_corruptions": 1.5}, ValueError, "`num_corruptions` must be an integer"),
        ({"gradient": "dreg"}, ValueError, "`gradient` must be one of"),
        (
            {"objective": "iwae", "posterior": "mixture", "gradient": "doubly_reparameterized"},
            ValueError,
            "must go with objective='iwae' and posterior='conditional'",
        ),
        ({"gradient": "doubly_reparameterized"}, ValueError, "must go with objective='iwae'"),
        ({"corruption": 0.1}, TypeError, "`corruption` must be None or made from dvae_tf"),
        ({"paired": True}, ValueError, "`paired` data bring their own noise"),
        ({"paired": True, "corruption": None, "num_corruptions": 2}, ValueError, "`paired`"),
        ({"seed": -1}, ValueError, "`seed` must be an integer from 0"),
    ],
)
def test_refuses_arguments(kwargs, error, message):
    with pytest.raises(error, match=message):
        make_model(**kwargs)


def test_refuses_an_unknown_latent_dimension():
    with pytest.raises(ValueError, match="`latent_dim` must be given"):
        DVAE(keras.Sequential([]), keras.Sequential([]))


def test_refuses_losses_weights_and_integers(images):
    with pytest.raises(ValueError, match="`loss` must not be given: the model's loss is its bound"):
        make_model().compile("adam", loss="mse")
    model = compiled()
    with pytest.raises(ValueError, match="must have equal weights"):
        model.fit(images, images, sample_weight=np.ones(64), verbose=0)
    with pytest.raises(ValueError, match="Divide 8-bit images by 255"):
        compiled().fit((images * 255).astype(np.uint8), verbose=0)
    with pytest.raises(ValueError, match=r"takes batches \(noisy, clean\)"):
        compiled(corruption=None, paired=True).fit(images, verbose=0)


def test_methods_refuse_integers_and_counts(images):
    model = make_model()
    for method in (model.elbo, model.denoise):
        with pytest.raises(ValueError, match="Divide 8-bit images by 255"):
            method((images * 255).astype(np.uint8))
    for call in (
        lambda: model.elbo(images, num_samples=0),
        lambda: model.denoise(images, num_samples=-1),
        lambda: model.sample(-1),
    ):
        with pytest.raises(ValueError, match="must be an integer of at least"):
            call()


def test_train_on_batch_eagerly(images):
    model = make_model()
    model.compile("adam", run_eagerly=True)
    assert np.isfinite(model.train_on_batch(images)).all()
    assert np.isfinite(model.test_on_batch(images)).all()


@pytest.mark.slow
def test_importing_the_package_is_enough_to_load(images, tmp_path):
    make_model().save(tmp_path / "model.keras")
    code = "import sys, dvae_tf, keras; keras.models.load_model(sys.argv[1]).summary()"
    command = [sys.executable, "-c", code, str(tmp_path / "model.keras")]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
