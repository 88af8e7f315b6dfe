"""model_card.md: a description of a version for people, with the results of its run if known."""

import html
import importlib.metadata
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from dvae_tf import corruptions, files, templating
from dvae_tf.kinds import Kind
from dvae_tf.kinds.measure import Measure
from dvae_tf.model import DVAE
from dvae_tf.runs.configuration import ConfigurationError


def render(model: DVAE, run: Mapping[str, Any] | None) -> str:
    """Return the content of model_card.md.

    Args:
        model: the exported model.
        run: the content of config.json, with two more keys: `history`, the columns of history.csv,
            and `metrics`, the content of evaluation/metrics.json or None. If `run` is None, the card
            describes only the model.

    Raises:
        ConfigurationError: if numbers of the run are missing.
    """
    kind, spec = model.kind, model.kind.spec(model.encoder)
    is_free = any(None in part.shape[1:] for part in tf.nest.flatten(spec))
    card = {
        "title": _noise(model),
        "kind": kind,
        "input": kind.describe_input(spec),
        "is_free": is_free,
        "latents": f"{len(model.prior.event_shape)} latent maps"
        if is_free
        else f"{model.latent_dim} latent variables",
        "noise": _noise(model),
        "objective": model.objective,
        "posterior": model.posterior,
        "num_corruptions": model.num_corruptions,
        "num_samples": model.num_samples,
        "gradient": model.gradient,
        "compute_dtype": model.compute_dtype,
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("tensorflow", "keras", "tensorflow-probability")
        },
        "run": run,
    }
    if run is not None:
        card |= {
            "title": f"{run['data'].get('name', kind.name)}, {card['title']}",
            "config": run["configuration"],
            "epochs": len(run["history"]["epoch"]),
            "metrics": _checked_metrics(kind, run),
            "versions": run["versions"],
        }
    environment = templating.environment("dvae_tf.serving", autoescape=False, escape=_as_markdown)
    return environment.get_template("model_card.md").render(card) + "\n"


def _noise(model: DVAE) -> str:
    """Return in one phrase which noise the model was trained to remove."""
    if model.paired:
        return "noise as in its pairs of noisy and clean examples"
    if model.observation is not None:
        return model.observation.describe()
    return model.kind.describe_noise(model.corruption)


def _as_markdown(text: str) -> str:
    """Escape a text for Markdown: no HTML, no links, no emphasis, and no second line."""
    escaped = re.sub(r"[\\`*]|(?<=\])\(", r"\\\g<0>", files.printable(text))
    return html.escape(escaped, quote=False)


def _checked_metrics(kind: Kind, run: Mapping[str, Any]) -> list[str]:
    try:
        return _metrics(kind, run)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            "history.csv and evaluation/metrics.json must be as train.py and evaluate.py wrote them. "
            f"Received: {error!r}. Evaluate the run again."
        ) from error


def _metrics(kind: Kind, run: Mapping[str, Any]) -> list[str]:
    """Return the results of a run, one line for each."""
    history, measured = run["history"], run["metrics"]
    best = int(np.nanargmax(history["val_bound"]))
    lines = [
        f"validation bound {history['val_bound'][best]:.2f} nats per {kind.noun} "
        f"(best epoch, {best + 1})",
        f"validation reconstruction {history['val_reconstruction'][best]:.2f}, KL "
        f"{history['val_kl'][best]:.2f} nats",
    ]
    if measured is None:
        return [*lines, f"test {kind.noun}s: not evaluated when this version was written"]

    def value(number: Mapping[str, Any], unit: str) -> str:
        error = number["standard_error"]
        spread = "" if error is None else f" ± {error:.2f}"
        text = f"{number['mean']:.2f}{spread} {unit}".rstrip()
        return f"{text} ({number['count']} test {kind.noun}s)"

    likelihood = measured["log_likelihood"]
    lines.append(
        f"log p(x) {value(likelihood, 'nats')}, {likelihood['num_samples']} importance samples"
    )
    noise, level = run["configuration"]["noise"], run["configuration"]["noise_level"]
    if not kind.measures():
        return lines
    name, measure = next(iter(kind.measures().items()))  # only the first one
    label = measure.label if isinstance(measure, Measure) else name
    unit = measure.unit if isinstance(measure, Measure) else ""
    lines += [
        f"{label} at {row['noise']} {row['level']:g}, {method}: {value(row[name], unit)}"
        for method, key in (("noisy input", "noisy"), ("denoised", "model_mean"))
        for row in measured["denoising"]
        if (row["noise"], row["level"], row["method"]) == (noise, corruptions.highest(level), key)
    ]
    return lines
