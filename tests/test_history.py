import math

import numpy as np
import pytest

from dvae_tf.runs import callbacks, history

LOGS = {"loss": 9.0, "bound": -9.0, "elbo": -9.5, "reconstruction": -7.0, "kl": 2.5}


def table(*bounds):
    """Rows as Keras writes them; None is an epoch without validation."""
    header = ",".join(history.COLUMNS)
    lines = [
        f"{epoch},9.0,-9.0,-9.5,-7.0,2.5,"
        + (",".join(["NA"] * 5) if bound is None else f"{-bound},{bound},-9.5,-7.0,2.5")
        for epoch, bound in enumerate(bounds)
    ]
    return history.rows("\r\n".join([header, *lines]) + "\r\n")


def test_columns_have_nan_where_nothing_was_validated():
    columns = history.columns(table(-3.25, None, -1e-7))
    assert columns["epoch"] == [0, 1, 2]
    np.testing.assert_equal(columns["val_bound"], [-3.25, math.nan, -1e-7])
    assert history.validation_bounds(table(-3.25, None, -1e-7)) == [-3.25, -1e-7]
    assert history.rows("") == []


@pytest.mark.parametrize(
    "text",
    ["epoch,loss\n0,1\n", "", "epoch\n0,1\n", ",".join(history.COLUMNS) + "\n" + "x," * 11],
)
def test_other_tables_are_refused(text):
    with pytest.raises((ValueError, TypeError, LookupError)):
        history.columns(history.rows(text))


@pytest.mark.parametrize(
    ("bounds", "epochs", "patience", "expected"),
    [
        ([], 3, None, False),
        ([-3, -2], 3, None, False),
        ([-3, -2, -4], 3, None, True),
        ([-3, -4], 9, 2, False),
        ([-3, -4, -5], 9, 2, True),  # two validations without a better bound
        ([-3, None, -4, None], 9, 2, False),  # one
        ([-5, -4, -3], 9, 1, False),
        ([-5, -4, -3], 9, None, False),
    ],
)
def test_has_ended_after_all_epochs_or_when_patience_did(bounds, epochs, patience, expected):
    assert history.has_ended(table(*bounds), epochs, patience) is expected


def test_recorder_goes_on_from_the_rows_of_the_file():
    recorder = callbacks.Recorder(table(-3.0, None))
    validation = {f"val_{name}": value for name, value in LOGS.items()}
    recorder.on_epoch_end(2, LOGS)
    recorder.on_epoch_end(3, LOGS | validation)
    expected = history.columns(table(-3.0, None, None, -9.0))
    np.testing.assert_equal(recorder.columns, expected)
