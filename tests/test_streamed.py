"""Rows that are read when they are needed; tests/test_datasets.py has those of files."""

import time

import numpy as np
import tensorflow as tf

from dvae_tf.streamed import Streamed


def test_rows_keep_their_order_however_long_each_takes(monkeypatch):
    # On one core a row would be read after the other.
    monkeypatch.setattr(tf.data, "AUTOTUNE", 4)
    threads = tf.data.Options()
    threads.threading.private_threadpool_size = 4

    def read(key):
        time.sleep(0.3 if key == 0 else 0.0)
        return np.int64(10 * key)

    rows = Streamed(
        keys=np.arange(8),
        read=lambda key: tf.ensure_shape(tf.numpy_function(read, [key], tf.int64), []),
        describe=str,
        spec=tf.TensorSpec([], tf.int64),
    )
    stream = rows.stream(tf.data.Dataset.range(8).with_options(threads))
    assert list(stream.as_numpy_iterator()) == [0, 10, 20, 30, 40, 50, 60, 70]
    assert np.asarray(rows).tolist() == [0, 10, 20, 30, 40, 50, 60, 70]
    assert np.asarray(rows[[5, 0, 5]]).tolist() == [50, 0, 50]
