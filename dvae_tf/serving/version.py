"""Writing a version: a directory named by a number, with a SavedModel and more files.

=============================  ==============================================================
`saved_model.pb`, `variables`  the SavedModel
`signature.json`               names, shapes, meanings and tolerances (see `description`)
`golden.npz`                   inputs, and the outputs that loaders must reproduce
`model_card.md`                a description of the model, for people
`assets.extra/`                warm-up requests (see `warmup`)
=============================  ==============================================================

A version appears by one rename, complete, and never changes afterwards.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from dvae_tf import files
from dvae_tf.model import DVAE
from dvae_tf.serving import description, names, purity, warmup
from dvae_tf.serving.any_size import signatures_of
from dvae_tf.serving.signatures import Signatures

_GOLDEN_ROWS = 4


def versions(directory: Path) -> list[int]:
    """Return the versions in a directory, in order; none if the directory cannot be read.

    A version that cannot be read is one of them.
    """
    try:
        paths = list(directory.iterdir())
    except OSError:
        return []
    return sorted(
        int(path.name)
        for path in paths
        if path.name.isascii()
        and path.name.isdigit()
        and len(path.name) < 20
        and path.name == str(int(path.name))
        and _holds_a_model(path)
    )


def _holds_a_model(path: Path) -> bool:
    try:
        return (path / "saved_model.pb").exists()
    except OSError:  # permission is missing, or the disk fails
        return True


def write_version(
    target: Path, model: DVAE, make_card: Callable[[], str], report: Callable[[str], None]
) -> None:
    """Write a model as the version `target`, which must not exist.

    Args:
        target: directory of the version.
        model: the model to serve.
        make_card: returns the content of model_card.md.
        report: called with one line if something optional was left out.

    Raises:
        OSError: if it cannot be written.
        ValueError: if the model cannot be served.
    """
    try:
        with files.appearing(target) as unfinished:
            signatures = signatures_of(model)
            _save(model, signatures, unfinished)
            _complete(model, signatures, unfinished, report)
            (unfinished / "model_card.md").write_text(make_card(), encoding="utf-8")
    except tf.errors.OpError as error:  # the disk is full, or the directory read-only
        raise OSError(
            f"{target} must be written completely. Received: {error.message}. Make room, or choose "
            "another place."
        ) from error


def _save(model: DVAE, signatures: Signatures, path: Path) -> None:
    """Write the SavedModel itself, and refuse a model that is not pure."""
    # The module only holds variables, because a Keras model in it would add its own functions.
    module = tf.Module()
    module.model_variables = [variable.value for variable in model.variables]
    tf.saved_model.save(module, str(path), signatures=signatures.concrete_functions())
    found = purity.impurities((path / "saved_model.pb").read_bytes())
    reasons = sorted({reason for of_signature in found.values() for reason in of_signature})
    if reasons:
        raise ValueError(
            "Encoder and decoder must be functions of their input alone to be served. "
            f"Received: {'; '.join(reasons)}. Remove the layer that does this."
        )


def _complete(
    model: DVAE, signatures: Signatures, path: Path, report: Callable[[str], None]
) -> None:
    """Write the files beside the SavedModel, using the SavedModel as a server will load it."""
    loaded = tf.saved_model.load(str(path)).signatures
    np.savez(path / "golden.npz", **_golden(model, signatures, loaded))  # type: ignore[arg-type]
    content = description.describe(model, signatures, loaded)
    (path / "signature.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    warmup.write(path, loaded, lambda rows: _inputs(model, signatures, rows), report)


def _golden(
    model: DVAE, signatures: Signatures, loaded: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Return arrays `SIGNATURE/input/NAME` and `SIGNATURE/output/NAME` for every signature."""
    inputs = _inputs(model, signatures, _GOLDEN_ROWS)
    # The last example holds a NaN, because the treatment of NaN is part of the contract.
    last = inputs[tf.nest.flatten(signatures.example_names)[0]][-1:]
    last[(0,) * last.ndim] = np.nan
    golden: dict[str, np.ndarray] = {}
    for name in sorted(loaded):
        given = {key: inputs[key] for key in loaded[name].structured_input_signature[1]}
        outputs = loaded[name](**{key: tf.constant(value) for key, value in given.items()})
        golden |= {f"{name}/input/{key}": value for key, value in given.items()}
        # NumPy's strings drop trailing zero bytes; files such as PNGs do not end in one.
        golden |= {
            f"{name}/output/{key}": np.asarray(value.numpy().tolist())
            if value.dtype == tf.string
            else value.numpy()
            for key, value in outputs.items()
        }
    return golden


def _inputs(model: DVAE, signatures: Signatures, rows: int) -> dict[str, np.ndarray]:
    """Return a random batch of every input that a signature takes, by name."""
    rng = np.random.default_rng(0)
    example_spec, latent_spec = signatures.trial_specs
    examples = model.kind.random_examples(rng, rows, example_spec)
    z = tf.nest.map_structure(
        lambda s: rng.normal(size=(rows, *s.shape[1:])).astype(np.float32), latent_spec
    )
    seed = rng.integers(0, 2**31, (rows, 2)).astype(np.int32)
    return {
        **names.named(signatures.example_names, examples),
        **names.named(signatures.latent_names, z),
        "seed": seed,
        **model.kind.signature_inputs(examples),
    }
