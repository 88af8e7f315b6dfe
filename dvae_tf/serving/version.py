"""A version: a directory named by a number, which holds a SavedModel and what lies beside it.

=============================  ==============================================================
`saved_model.pb`, `variables`  the SavedModel
`signature.json`               names, shapes, meanings and tolerances (see `description`)
`golden.npz`                   inputs, and the outputs they must give
`model_card.md`                what the model is, for people
`assets.extra/`                the requests of `warmup`
=============================  ==============================================================

It appears by one rename, complete, and never changes afterwards.
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
from dvae_tf.serving.signatures import Signatures

_GOLDEN_ROWS = 4


def versions(directory: Path) -> list[int]:
    """Return the versions that a server finds in a directory, in order; none where it cannot look."""
    try:
        paths = list(directory.iterdir())
    except OSError:
        return []
    return sorted(
        int(path.name)
        for path in paths
        if path.name.isascii()
        and path.name.isdigit()
        and path.name == str(int(path.name))
        and (path / "saved_model.pb").exists()
    )


def write_version(
    target: Path, model: DVAE, make_card: Callable[[], str], report: Callable[[str], None]
) -> None:
    """Write a model as the version `target`, which must not exist.

    Args:
        target: directory of the version.
        model: what is served.
        make_card: returns the content of model_card.md.
        report: takes one line where something optional was left out.

    Raises:
        OSError: if it cannot be written.
        ValueError: if the model cannot be served.
    """
    try:
        with files.appearing(target) as unfinished:
            signatures = Signatures(model)
            _save(model, signatures, unfinished)
            _complete(model, signatures, unfinished, report)
            (unfinished / "model_card.md").write_text(make_card())
    except tf.errors.OpError as error:  # a full disk, a directory that is read-only
        raise OSError(
            f"{target} must be written completely. Received: {error.message}. Make room, or choose "
            "another place."
        ) from error


def _save(model: DVAE, signatures: Signatures, path: Path) -> None:
    """Write the SavedModel itself, and refuse one that is not pure."""
    # The module holds variables alone: a Keras model in it would bring its own functions along.
    module = tf.Module()
    module.model_variables = [variable.value for variable in model.variables]
    tf.saved_model.save(module, str(path), signatures=signatures.concrete_functions())
    found = purity.impurities((path / "saved_model.pb").read_bytes())
    reasons = sorted({reason for of_signature in found.values() for reason in of_signature})
    if reasons:
        raise ValueError(
            "Encoder and decoder must be functions of their input alone to be served. "
            f"Received: {'; '.join(reasons)}. Take the layer that does this out of them."
        )


def _complete(
    model: DVAE, signatures: Signatures, path: Path, report: Callable[[str], None]
) -> None:
    """Write what lies beside a SavedModel, from the file as a server will load it."""
    loaded = tf.saved_model.load(str(path)).signatures
    np.savez(path / "golden.npz", **_golden(model, signatures, loaded))  # type: ignore[arg-type]
    content = description.describe(model, signatures, loaded)
    (path / "signature.json").write_text(json.dumps(content, indent=2) + "\n")
    warmup.write(path, loaded, lambda rows: _inputs(model, signatures, rows), report)


def _golden(
    model: DVAE, signatures: Signatures, loaded: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Return `SIGNATURE/input/NAME` and `SIGNATURE/output/NAME` of every signature."""
    inputs = _inputs(model, signatures, _GOLDEN_ROWS)
    # The guard, too, is part of the contract: the last example holds a NaN.
    last = inputs[tf.nest.flatten(signatures.example_names)[0]][-1:]
    last[(0,) * last.ndim] = np.nan
    golden: dict[str, np.ndarray] = {}
    for name in sorted(loaded):
        given = {key: inputs[key] for key in loaded[name].structured_input_signature[1]}
        outputs = loaded[name](**{key: tf.constant(value) for key, value in given.items()})
        golden |= {f"{name}/input/{key}": value for key, value in given.items()}
        # PNG files do not end in a zero byte, so that NumPy's strings of fixed length hold them.
        golden |= {
            f"{name}/output/{key}": np.asarray(value.numpy().tolist())
            if value.dtype == tf.string
            else value.numpy()
            for key, value in outputs.items()
        }
    return golden


def _inputs(model: DVAE, signatures: Signatures, rows: int) -> dict[str, np.ndarray]:
    """Return a batch of every input that a signature takes, by name."""
    rng = np.random.default_rng(0)
    examples = model.kind.random_examples(rng, rows, signatures.example_spec)
    z = tf.nest.map_structure(
        lambda s: rng.normal(size=(rows, *s.shape[1:])).astype(np.float32), signatures.latent_spec
    )
    seed = rng.integers(0, 2**31, (rows, 2)).astype(np.int32)
    return {
        **names.named(signatures.example_names, examples),
        **names.named(signatures.latent_names, z),
        "seed": seed,
        **model.kind.signature_inputs(examples),
    }
