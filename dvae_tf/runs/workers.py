"""Devices and processes that train one model together, on tf.distribute.

The global batch, the learning rate and the number of steps stay what the user said, whatever the number
of replicas: each takes its share of every batch, with a seed of its own.
"""

import json
import os

import tensorflow as tf

STRATEGIES = ("auto", "none", "mirrored", "multiworker")


class WorkersError(ValueError):
    """The devices or processes asked for are not there; the message says what to do."""


def strategy(name: str) -> tf.distribute.Strategy:
    """Return what distributes training; it must be made before TensorFlow runs anything.

    Args:
        name: one of `STRATEGIES`: "none" for one device; "mirrored" for all accelerators of this
            machine, or all its logical processors where there is none; "multiworker" for the
            processes that TF_CONFIG names; "auto" for the last where TF_CONFIG names several, else
            mirrored where there are several accelerators, else none.

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
                "`strategy='multiworker'` must find the workers in TF_CONFIG. Received: none. Set it "
                'to {"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": I}}.'
            )
        return tf.distribute.MultiWorkerMirroredStrategy()
    return tf.distribute.get_strategy()


def is_chief(distributed: tf.distribute.Strategy) -> bool:
    """Whether this process writes: the first worker, or the only one."""
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
            f"index of this one under task. Received: {text[:200]!r} ({error!r}). Correct or unset it."
        ) from error
    return workers
