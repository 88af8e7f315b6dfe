"""What a run says of itself when it has ended."""

import numpy as np
from vectors import Vectors

from dvae_tf import DVAE, networks
from dvae_tf.data.splits import Dataset, Split
from dvae_tf.runs import defaults, history, outcome
from dvae_tf.runs.directory import RunDirectory
from dvae_tf.runs.options import Options


def test_the_bound_is_that_of_the_best_epoch(tmp_path, rng):
    split = Split(rng.normal(size=(8, 3)).astype(np.float32), None, Vectors())
    columns = {name: [1.0, 2.0, 3.0, 4.0] for name in history.COLUMNS}
    columns |= {"epoch": [0, 1, 2, 3], "val_bound": [-3.0, np.nan, -1.0, -2.0]}
    reached = outcome.conclude(
        RunDirectory(tmp_path),
        defaults.resolve(Options(kind="vectors", noise="gaussian")),
        DVAE(*networks.mlp((3,), 2, "gaussian", hidden=(4,))),
        Dataset("x", split, split, split),
        columns,
    )
    assert reached == outcome.Outcome(-1.0)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["curves.png"]
