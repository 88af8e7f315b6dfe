"""What a likelihood says of its support, by draws from decoders that end in its layer."""

import numpy as np
import pytest

from dvae_tf import networks
from dvae_tf.likelihoods import LIKELIHOODS


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_values_are_as_far_apart_as_the_step_says(name):
    likelihood = LIKELIHOODS[name]
    _, decoder = networks.mlp((4, 3, 1), 2, name, hidden=(4,))
    values = np.ravel(decoder(np.zeros((50, 2), np.float32)).sample(seed=(0, 1)))
    different = np.unique(values)
    assert likelihood.is_binary == (set(different) == {0, 1})
    if likelihood.is_discrete():
        steps = different / likelihood.step
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-4)
        assert np.diff(steps).min() == pytest.approx(1, rel=1e-3)
    else:  # a density: no value comes twice
        assert len(different) == len(values) == 600
