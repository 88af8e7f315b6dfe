"""The base of the kinds of data: what the rest of the package asks of an example."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from dvae_tf.registry import Registry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A nest of arrays or tensors, batch first: what models take.
Example = Any

KINDS: Registry[type["Kind"]] = Registry("kind", "dvae_tf.kinds")


class Source(NamedTuple):
    """Examples that a kind has read, before any are held out.

    Attributes:
        name: what the data set is called in figures and reports.
        train: (examples, labels or None) for training, and for what is held out. Examples are a
            nest of arrays [N, ...], or a `Streamed`.
        test: the same for the data set's own test split, or None.
        num_held_out: examples of each split that is held out; None for a tenth.
        order: "random", or "contiguous" where neighbours are alike, as in a video.
    """

    name: str
    train: tuple[Any, Any]
    test: tuple[Any, Any] | None = None
    num_held_out: int | None = None
    order: str = "random"


class Kind:
    """A kind of data. A subclass is registered with `KINDS` and with Keras; it has no state.

    Everything here has a meaning for any nest of float arrays with the batch first; a subclass says
    what is special. Methods import what they need when they are called.

    Attributes:
        name: on the command line and in files.
        sources: names and paths of data sets that it reads, in words, for help and messages.
        noun: of one example, in messages; its plural ends in s.
        part: of an example, in words; its plural ends in s.
        field: name of an example that is one tensor, in the signatures of a SavedModel.
        noises: names of the corruptions that an evaluation tries.
        defaults: options for data sets that the kind knows nothing of (see `runs.options`).
    """

    name: ClassVar[str]
    sources: ClassVar[str] = ""
    noun: ClassVar[str] = "example"
    part: ClassVar[str] = "value"
    field: ClassVar[str] = "example"
    noises: ClassVar[tuple[str, ...]] = ("gaussian", "masking")
    defaults: ClassVar[Mapping[str, Any]] = {
        "noise": "gaussian",
        "likelihood": "gaussian",
        "network": "mlp",
        "latent_dim": 16,
        "epochs": 100,
        "batch_size": 100,
    }

    # ---- what an example is ----

    @classmethod
    def accepts(cls, input_shape) -> bool:
        """Whether a model with this `input_shape`, batch first, takes examples of this kind."""
        return False

    def check(self, examples, model=None, *, clean: bool = False) -> None:
        """Refuse what are no examples.

        Args:
            examples: a nest of arrays or tensors, batch first.
            model: a Keras model that takes them, or None.
            clean: whether values are checked, too. In a graph there are none to look at.

        Raises:
            TypeError, ValueError: in one line.
        """
        for x in tf.nest.flatten(examples):
            dtype = tf.as_dtype(x.dtype)
            if not dtype.is_floating:
                raise ValueError(
                    f"Examples must be floats. Received: dtype {dtype.name}. Convert to float32."
                )
        expected = getattr(model, "input_shape", None)
        shapes = tf.nest.map_structure(lambda x: tf.TensorShape(x.shape), examples)
        if isinstance(expected, tuple) and isinstance(shapes, tf.TensorShape):
            required = tf.TensorShape([None, *expected[1:]])
            if not shapes.is_compatible_with(required):
                raise ValueError(
                    f"Examples must have shape {tuple(required)}, batch first. "
                    f"Received: {tuple(shapes)}. Reshape them, or make a model for them."
                )
        if clean and not any(tf.is_symbolic_tensor(x) for x in tf.nest.flatten(examples)):
            if all(np.isfinite(np.asarray(x)).all() for x in tf.nest.flatten(examples)):
                return
            raise ValueError(
                "Examples must be finite. Received: NaN or infinity in them. Remove or repair them."
            )

    def as_examples(self, x, model=None, *, clean: bool = False):
        """Return examples as a nest of float32 tensors, checked as `check` does."""
        tensors = tf.nest.map_structure(tf.convert_to_tensor, x)
        self.check(tensors, model, clean=clean)
        return tf.nest.map_structure(lambda t: tf.cast(t, tf.float32), tensors)

    # ---- storage ----

    def to_float(self, stored):
        """Return stored examples (arrays) as float32 arrays on the scale that models see."""
        return tf.nest.map_structure(lambda x: np.asarray(x).astype(np.float32, copy=False), stored)

    def to_float_in_graph(self, stored):
        """As `to_float`, of tensors in a graph."""
        return tf.nest.map_structure(lambda x: tf.cast(x, tf.float32), stored)

    def mean(self, stored) -> Example:
        """Return the mean of stored examples on the scale that models see, without the batch."""
        return tf.nest.map_structure(
            lambda x: x.mean(axis=0, dtype=np.float64), self.to_float(stored)
        )

    def binarized(self, stored, how: str, *seeds: int):
        """Return stored examples with binary values: cut at a "threshold", or drawn with the seeds.

        Raises:
            ValueError: if the kind has no binary values.
        """
        raise ValueError(
            f"`binarize` must be none for data of kind {self.name}. Received: {how!r}."
        )

    def describe_noise(self, corruption) -> str:
        """Return a corruption in one phrase, with its level in units that suit this kind."""
        return corruption.describe()

    # ---- reading ----

    @classmethod
    def reads(cls, name: str) -> bool:
        """Whether `load` knows what to do with a data set of this name or path."""
        return False

    def load(self, name: str, *, data_dir: str | None, cache: str) -> Source:
        """Read a data set by name or path; arguments are as for `datasets.load`.

        Raises:
            DatasetError: with one line that says what to do.
        """
        raise NotImplementedError

    @classmethod
    def dataset_defaults(cls, name: str) -> Mapping[str, Any]:
        """Return the options that suit the data set of this name, for those a user leaves out.

        Beside options there may be `noise_levels`: levels by name of the noise.
        """
        return cls.defaults

    def describe(self, stored) -> dict[str, Any]:
        """Return JSON values that say what stored examples are, for config.json."""
        return {"example_shape": tf.nest.map_structure(lambda x: list(x.shape[1:]), stored)}

    # ---- measures, baselines, pictures: NumPy arrays in ----

    def measures(self) -> dict[str, Callable[[Any, Any], np.ndarray]]:
        """Return measures of denoising: name -> function of (clean, other) to a value each, [N].

        A `measure.Measure` also says how its values are written. Without any, evaluations measure
        the squared error.
        """
        return {}

    def baselines(self) -> dict[str, Callable[..., Any]]:
        """Return classical denoisers: name -> function of (noisy, sigma=...) to estimates.

        sigma is the root mean square of what the noise added. An attribute `label` of a function is
        what tables call it.
        """
        return {}

    def run_figures(self, arrays: Mapping[str, Any], *, title: str) -> "dict[str, Figure]":
        """Draw a finished training: file name -> figure.

        Args:
            arrays: `clean`, `noisy`, `denoised`: a few validation examples; `samples`: mean
                examples of latents drawn from the prior; `first_layer`: [values, units], weights of
                the encoder's first dense layer, where there is one; `manifold`: mean examples at
                `manifold_latents`, those of `figures.latent_grid`, where there are two latents.
            title: of the figure that shows denoising.
        """
        return {}

    def evaluation_figures(self, arrays: Mapping[str, Any]) -> "dict[str, Figure]":
        """Draw the examples of an evaluation: file name -> figure.

        Args:
            arrays: `random_input`, `random_output`, `attack_input`, `attack_output`: noise and an
                attack of the same size; `repeated`: [N, steps, ...]; `traversal`: [units, steps,
                ...], `traversal_units`, `traversal_values`; `interpolation`: [pairs, steps, ...];
                `samples`.
        """
        return {}

    def training_callbacks(
        self, clean, noisy, *, log_dir: Any, every: int
    ) -> list[keras.callbacks.Callback]:
        """Return callbacks that show a few examples while training."""
        return []

    # ---- serving ----

    def spec(self, model: keras.Model):
        """Return what a model takes: `tf.TensorSpec` of a batch of examples, or a dict of them.

        A model of several inputs takes a dict, by the names of its inputs.

        Raises:
            ValueError: if the model's inputs are not known.
        """
        inputs = getattr(model, "inputs", None)
        if not inputs:
            raise ValueError(
                "The encoder must have inputs of known shapes: build it from keras.Input. "
                f"Received: {type(model).__name__}."
            )
        specs = {x.name: tf.TensorSpec(x.shape, tf.float32) for x in inputs}
        return specs if len(specs) > 1 else next(iter(specs.values()))

    def random_examples(self, rng: np.random.Generator, rows: int, spec) -> Example:
        """Return float32 arrays [rows, ...] on the scale of examples, to try signatures with."""
        return tf.nest.map_structure(
            lambda s: rng.standard_normal((rows, *s.shape[1:]), np.float32), spec
        )

    def signatures(
        self, denoise: Callable, spec
    ) -> dict[str, tuple[Callable, dict[str, tf.TensorSpec]]]:
        """Return signatures beyond those of every kind: name -> (function, specs of its inputs).

        A function takes its inputs by name, and returns its outputs by name.

        Args:
            denoise: the function of the signature `denoise`: examples to a dict of outputs.
            spec: of a batch of examples (see `spec`).
        """
        return {}

    def signature_inputs(self, examples) -> dict[str, np.ndarray]:
        """Return the inputs of `signatures`, made from examples: arrays [rows, ...] by name."""
        return {}

    def meanings(self) -> dict[str, tuple[str, list[float | None]]]:
        """Return what the tensors of signatures mean, where the kind has more to say than others.

        Returns:
            name -> (in words, [least value, greatest value]); None for no limit.
        """
        return {}

    def tolerances(self, rounding: float) -> dict[str, dict[str, float]]:
        """Return how far outputs that are files may differ between loaders.

        Args:
            rounding: that outputs on the scale of examples may differ by, beyond float32's own.

        Returns:
            name -> {"relative", "absolute"}.
        """
        return {}

    def check_request(self, inputs: Mapping[str, tf.Tensor], spec) -> None:
        """Refuse inputs of a signature before the model sees them.

        Args:
            inputs: by name; their types and shapes are those of the signature.
            spec: of a batch of examples.

        Raises:
            ValueError: in one line.
        """

    def describe_input(self, spec) -> str:
        """Return in a few words what a model takes, for its card."""
        if isinstance(spec, tf.TensorSpec):
            shape = " x ".join(map(str, spec.shape[1:]))
            return f"{self.noun}s of {shape} values, float32"
        return f"{self.noun}s of {', '.join(spec)}, float32"

    # ---- saving ----

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Kind":
        return cls(**config)


@keras.saving.register_keras_serializable(package="dvae_tf")
class AnyKind(Kind):
    """Any nest of finite floats, batch first: what a model takes whose encoder says no more."""

    name = "any"


def kind_of(model: keras.Model) -> Kind:
    """Return the kind of data that a model takes, by its `input_shape`."""
    return kind_of_shape(getattr(model, "input_shape", None))


def kind_of_shape(shape) -> Kind:
    """Return the kind of data whose models have inputs of this shape, batch first."""
    for cls in KINDS.values():
        if cls.accepts(shape):
            return cls()
    return AnyKind()
