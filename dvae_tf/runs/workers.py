"""Training one model on several devices or processes, with tf.distribute.

The number of replicas does not change the batch size, the learning rate or the number of steps.
Each replica takes its share of every batch, and has its own seed.
"""

import json
import os

import tensorflow as tf

STRATEGIES = ("auto", "none", "mirrored", "multiworker")


class WorkersError(ValueError):
    """The requested devices or processes do not exist; the message says what to do."""


def strategy(name: str) -> tf.distribute.Strategy:
    """Return a distribution strategy. Call this before TensorFlow runs anything.

    Args:
        name: one of `STRATEGIES`.
            "none": one device.
            "mirrored": all GPUs of this machine, or all logical CPUs if there are no GPUs.
            "multiworker": the processes that TF_CONFIG names.
            "auto": multiworker if TF_CONFIG names several processes, mirrored if there are several
            GPUs, else none.

    Raises:
        WorkersError: if TF_CONFIG is missing or cannot be read.
    """
    workers = _workers()
    if name == "auto":
        several = len(tf.config.list_physical_devices("GPU")) > 1
        name = "multiworker" if len(workers) > 1 else "mirrored" if several else "none"
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    if name == "multiworker":
        if not workers:
            raise WorkersError(
                "`strategy='multiworker'` must find the workers in TF_CONFIG, which is not set. Set it "
                'to {"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": I}}.'
            )
        return tf.distribute.MultiWorkerMirroredStrategy()
    return tf.distribute.get_strategy()


def is_chief(distributed: tf.distribute.Strategy) -> bool:
    """Return whether this process writes files: it is the only worker, the chief, or the first one."""
    resolver = distributed.cluster_resolver
    return resolver is None or not resolver.task_id or resolver.task_type == "chief"


def _workers() -> list[str]:
    """Return the addresses of TF_CONFIG's workers."""
    text = os.environ.get("TF_CONFIG")
    if not text:
        return []
    try:
        content = json.loads(text)
        cluster, task = content["cluster"], content["task"]
        workers = [*cluster.get("chief", ()), *cluster["worker"]]
        _ = cluster[task["type"]][task["index"]]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise WorkersError(
            "TF_CONFIG must be JSON with the addresses of all workers under cluster, and the type and "
            f"index of this worker under task. Received: {text[:200]!r} ({error!r}). Correct it."
        ) from error
    return workers
