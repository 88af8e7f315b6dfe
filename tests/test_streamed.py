"""Rows that are read when they are needed; tests/test_datasets.py has those of files."""

import time

import numpy as np
import tensorflow as tf

from dvae_tf.streamed import Streamed


def test_rows_keep_their_order_however_long_each_takes():
    def read(key):
        time.sleep(0.3 if key == 0 else 0.0)
        return np.int64(10 * key)

    rows = Streamed(
        keys=np.arange(8),
        read=lambda key: tf.ensure_shape(tf.numpy_function(read, [key], tf.int64), []),
        describe=str,
        spec=tf.TensorSpec([], tf.int64),
    )
    assert np.asarray(rows).tolist() == [0, 10, 20, 30, 40, 50, 60, 70]
    assert np.asarray(rows[[5, 0, 5]]).tolist() == [50, 0, 50]
