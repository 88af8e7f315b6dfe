"""The options of a training run, as a user gives them; most may be left out."""

import functools
import re
from collections.abc import Collection
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any, get_type_hints

import pydantic
from pydantic import Field
from pydantic_core import PydanticCustomError, core_schema

from dvae_tf import bounds, datasets, observations
from dvae_tf.corruptions import CORRUPTIONS
from dvae_tf.kinds import KINDS
from dvae_tf.likelihoods import LIKELIHOODS
from dvae_tf.networks import NETWORKS
from dvae_tf.runs import workers
from dvae_tf.runs.presets import PRESETS

SCHEDULES = ("constant", "cosine", "staged")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
VALIDATION_INPUTS = ("corrupted", "clean")


class ConfigurationError(ValueError):
    """The options are not valid, or a run cannot be used; the message is one line."""


class OneOf:
    """An annotation that restricts a value to some names.

    Args:
        names: a registry or a tuple. It is read when a value is checked, so that entries registered
            later are valid too.
    """

    def __init__(self, names: Collection[str]):
        self.names = names

    def __get_pydantic_core_schema__(self, source: Any, handler: Any):
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: str) -> str:
        if value in self.names:
            return value
        names = ", ".join(self.names)
        raise PydanticCustomError("one_of", "Input should be one of {names}", {"names": names})


Count = Annotated[int, Field(ge=1, lt=2**31)]
Sizes = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Level = float | tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a training run as a user gives them. None stands for a default.

    `command_line` explains each option, and `defaults.resolve` fills in the defaults.

    Raises:
        ConfigurationError: if a value has the wrong type or is out of range, or options contradict
            each other.
    """

    dataset: str = "digits"
    kind: Annotated[str, OneOf(KINDS)] | None = None
    data_dir: str | None = None
    split: Annotated[str, OneOf(datasets.SPLITS)] | None = None
    binarize: Annotated[str, OneOf(datasets.BINARIZATIONS)] | None = None
    limit: Count | None = None
    cache: Annotated[str, OneOf(datasets.CACHES)] = "auto"
    clean: str | None = None
    patch: Count | None = None
    augment: bool = False
    range: str | None = None

    noise: Annotated[str, OneOf(CORRUPTIONS)] | None = None
    noise_level: Level | None = None
    clip: bool = False
    observation: str | None = None

    objective: Annotated[str, OneOf(bounds.OBJECTIVES)] = "elbo"
    posterior: Annotated[str, OneOf(bounds.POSTERIORS)] = "conditional"
    num_corruptions: Count = 1
    num_samples: Count = 1
    gradient: Annotated[str, OneOf(bounds.GRADIENTS)] = "reparameterized"
    kl_warmup: Annotated[int, Field(ge=0)] = 0

    likelihood: Annotated[str, OneOf(LIKELIHOODS)] | None = None
    network: Annotated[str, OneOf(NETWORKS)] | None = None
    hidden: Sizes | None = None
    activation: str | None = None
    latent_dim: Count | None = None

    epochs: Count | None = None
    batch_size: Count | None = None
    learning_rate: Positive | None = None
    schedule: Annotated[str, OneOf(SCHEDULES)] = "cosine"
    max_gradient_norm: Positive | None = None
    precision: Annotated[str, OneOf(PRECISIONS)] = "float32"
    patience: Count | None = None
    validate_every: Count = 1
    validation_input: Annotated[str, OneOf(VALIDATION_INPUTS)] = "corrupted"
    seed: Annotated[int, Field(ge=0, lt=2**62)] = 0

    strategy: Annotated[str, OneOf(workers.STRATEGIES)] = "auto"
    checkpoint_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 30.0
    preset: Annotated[str, OneOf(PRESETS)] | None = None
    run_dir: str | None = None
    init_from: str | None = None
    resume: str | None = None

    def __post_init__(self):
        _check_each(self)
        if self.observation not in (None, "auto"):
            try:
                observations.from_text(self.observation)
            except ValueError as error:
                raise ConfigurationError(str(error)) from error
        if self.augment and self.patch is None:
            raise ConfigurationError(
                "`augment` must go with `patch`: only square patches can be turned. Received: no "
                "patch. Set `patch`, for example to 64, or leave out `augment`."
            )
        if self.gradient != "doubly_reparameterized":
            return
        if (self.objective, self.posterior) != ("iwae", "conditional"):
            raise ConfigurationError(
                "`gradient='doubly_reparameterized'` must go with `objective='iwae'` and "
                f"`posterior='conditional'`. Received: {self.objective}, {self.posterior}. "
                "Choose `gradient='reparameterized'`."
            )
        if self.kl_warmup:
            raise ConfigurationError(
                "`gradient='doubly_reparameterized'` must go without `kl_warmup`, which would bias "
                f"it. Received: kl_warmup={self.kl_warmup!r}. Choose "
                "`gradient='reparameterized'`."
            )


def is_utf8(text: str) -> bool:
    """Return whether a text can be encoded; names of files may hold bytes that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_each(options: Options) -> None:
    """Check every field on its own, by its annotation."""
    defaults = {field.name: field.default for field in fields(options)}
    values = {name: getattr(options, name) for name in defaults}
    for name, value in values.items():
        if isinstance(value, str) and not is_utf8(value):
            raise ConfigurationError(
                f"`{name}` must be UTF-8, as TensorFlow writes paths. Received: {value!a}. "
                "Rename it."
            )
    try:
        cls: Any = type(options)
        _schema(cls).model_validate(values)
    except pydantic.ValidationError as error:
        errors = error.errors(include_url=False)
        name = str(errors[0]["loc"][0])
        # Keep the first error of each type in a union; "loc" is (field, type) then.
        first: dict[str, str] = {}
        for e in errors:
            if e["loc"][0] == name:
                part = e["loc"][1] if len(e["loc"]) > 1 else ""
                first.setdefault(part if isinstance(part, str) else "", e["msg"])
        texts = [
            re.sub(r"^\w+ should |( after validation.*)", r"", text) for text in first.values()
        ]
        requirement = " or ".join(dict.fromkeys(texts))
        remedy = {MISSING: "Correct it.", None: "Leave it out for the default."}.get(
            defaults[name], f"The default is {defaults[name]}."
        )
        raise ConfigurationError(
            f"`{name}` must {requirement}. Received: {values[name]!r}. {remedy}"
        ) from error


@functools.cache
def _schema(cls: type[Options]) -> type[pydantic.BaseModel]:
    """Return a strict pydantic model with the annotations of a subclass of `Options`."""
    hints = get_type_hints(cls, include_extras=True)
    required: dict[str, Any] = {field.name: (hints[field.name], ...) for field in fields(cls)}
    return pydantic.create_model(
        cls.__name__, __config__=pydantic.ConfigDict(strict=True), **required
    )
