import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from dvae_tf import latents, networks

# The networks that are Functional models of one vector; test_ladder.py has the ladder.
FUNCTIONAL = sorted(set(networks.NETWORKS) - {"ladder"})


@pytest.mark.parametrize("network", networks.NETWORKS)
@pytest.mark.parametrize("likelihood", networks.LIKELIHOODS)
@pytest.mark.parametrize("shape", [(28, 20, 1), (7, 13, 3), (1, 1, 1)])
def test_any_image_shape(network, likelihood, shape, rng):
    encoder, decoder = networks.NETWORKS[network](shape, 4, likelihood)
    q = encoder(rng.random((2, *shape), np.float32))
    assert isinstance(q, tfd.Distribution)
    assert q.batch_shape == (2,)
    latent_shape = latents.shape_of(decoder)
    assert tf.nest.map_structure(tuple, q.event_shape) == latent_shape
    if network != "ladder":
        assert latent_shape == (4,)
    p = decoder(latents.from_vectors(np.zeros((2, latents.size_of(latent_shape))), latent_shape))
    assert p.batch_shape == (2,)
    assert p.event_shape == shape


@pytest.mark.parametrize("network", FUNCTIONAL)
@pytest.mark.parametrize("likelihood", networks.LIKELIHOODS)
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_only_hidden_layers_leave_float32(network, likelihood, policy):
    with networks.dtype_policy(policy):
        both = networks.NETWORKS[network]((5, 6, 3), 4, likelihood)
    for model, x in zip(both, (np.ones((2, 5, 6, 3)), np.ones((2, 4))), strict=True):
        assert {variable.dtype for variable in model.variables} == {"float32"}
        names = [layer.name for layer in model.layers]
        hidden = names.index("parameters")
        for layer in model.layers[1:hidden]:
            assert layer.compute_dtype == policy.removeprefix("mixed_")
        for layer in model.layers[hidden:]:
            assert layer.compute_dtype == "float32"
        p = model(x).distribution
        assert {t.dtype for t in p.parameters.values() if tf.is_tensor(t)} == {tf.float32}


@pytest.mark.parametrize("network", ["conv", "resnet"])
def test_two_parameters_of_a_convolution_reach_their_own_pixel(network):
    """A change of the second parameter's bias of one channel moves that channel's scale only."""
    _, decoder = networks.NETWORKS[network]((5, 6, 3), 2, "gaussian")
    z = np.ones((1, 2), np.float32)
    before = decoder(z)
    bias = decoder.get_layer("parameters").bias
    value = np.array(bias)
    value[3] += 1.0  # channel 1, second parameter: (channel, parameter) in row-major order
    bias.assign(value)
    after = decoder(z)
    np.testing.assert_array_equal(after.mean(), before.mean())
    changed = np.abs(after.stddev().numpy() - before.stddev().numpy())[0]
    assert changed[..., 1].min() > 0.1
    assert changed[..., [0, 2]].max() == 0


@pytest.mark.parametrize("network", FUNCTIONAL)
@pytest.mark.parametrize(
    ("likelihood", "tolerance"),
    [("bernoulli", 0.05), ("gaussian", 0.05), ("discretized_logistic", None)],
)
def test_start_at_mean(network, likelihood, tolerance):
    _, decoder = networks.NETWORKS[network]((6, 4, 2), 3, likelihood)
    for layer in decoder.layers:
        if isinstance(layer, keras.layers.Layer) and layer.name == "parameters":
            layer.kernel.assign(np.zeros(layer.kernel.shape))
    mean_image = np.broadcast_to([0.2, 0.7], (6, 4, 2))
    networks.start_at_mean(decoder, mean_image)
    p = decoder(np.ones((1, 3), np.float32))
    if tolerance is None:  # the mean of a wide logistic is pulled to the middle of the range
        np.testing.assert_allclose(p.distribution.loc[0], mean_image, atol=1e-6)
    else:
        np.testing.assert_allclose(p.mean()[0], mean_image, atol=1e-6)


@pytest.mark.parametrize("name", FUNCTIONAL)
def test_hidden_layers_are_those_asked_for(name):
    """Sizes in the encoder's order, the reverse in the decoder, and one activation everywhere."""
    network = networks.NETWORKS[name]
    encoder, decoder = network((8, 8, 1), 2, activation="tanh", **{network.sizes: (6, 5, 4)})
    for model, expected in ((encoder, [6, 5, 4]), (decoder, [4, 5, 6])):
        hidden = [layer for layer in model.layers if layer.name not in ("parameters", "hidden")]
        if name == "mlp":
            sizes = [layer.units for layer in hidden if isinstance(layer, keras.layers.Dense)]
        else:
            kinds = (keras.layers.Conv2DTranspose,) if model is decoder else (keras.layers.Conv2D,)
            sizes = [h.filters for h in hidden if type(h) in kinds and h.strides == (2, 2)]
        assert sizes == expected
        activations = {
            layer.activation.__name__ for layer in hidden if hasattr(layer, "activation")
        }
        assert activations - {"linear"} == {"tanh"}


def test_residual_blocks_start_as_the_identity():
    for model in networks.resnet((8, 8, 1), 2, filters=(3, 4)):
        convolutions = [layer for layer in model.layers if type(layer) is keras.layers.Conv2D]
        last = [layer for layer in convolutions if not np.any(layer.kernel)]
        assert [layer.filters for layer in last] == ([3, 4] if model.name == "encoder" else [4, 3])


def test_swish_is_x_times_its_sigmoid():
    x = np.linspace(-20, 20, 41, dtype=np.float32)
    expected = x.astype(float) * scipy.special.expit(x.astype(float))
    np.testing.assert_allclose(networks.swish(x), expected, rtol=1e-5, atol=1e-5)


def test_a_policy_ends_with_its_block():
    before = keras.config.dtype_policy()
    with pytest.raises(ValueError), networks.dtype_policy("mixed_bfloat16"):  # noqa: PT011, PT012
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        raise ValueError
    assert keras.config.dtype_policy() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((), 2), "`example_shape` must be"),
        (((28, 28, 0), 2), "`example_shape` must be"),
        (((28, 28, 1), 0), "`latent_dim` must be an integer of at least 1"),
        (((28, 28, 1), 2, "poisson"), "`likelihood` must be one of bernoulli, continuous"),
    ],
)
@pytest.mark.parametrize("network", networks.NETWORKS)
def test_refuses_arguments(network, arguments, message):
    with pytest.raises(ValueError, match=message):
        networks.NETWORKS[network](*arguments)


def test_refuses_empty_sizes():
    with pytest.raises(ValueError, match="`hidden` must hold at least one positive integer"):
        networks.mlp((8, 8, 1), 2, hidden=())


@pytest.mark.parametrize("network", ["conv", "resnet"])
def test_convolutions_need_height_width_and_channels(network):
    with pytest.raises(ValueError, match=r"must be \(height, width, channels\).*\(28, 28\)"):
        networks.NETWORKS[network]((28, 28), 2)
