"""The base class of kinds of data: the questions that the rest of the package asks about examples."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from dvae_tf.registry import Registry
from dvae_tf.streamed import DatasetError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A batch of examples as models take it: a nest of arrays or tensors, batch first.
Example = Any

KINDS: Registry[type["Kind"]] = Registry("kind", "dvae_tf.kinds")


class Recording(NamedTuple):
    """How recorded examples are to be read, where their name does not say it.

    Attributes:
        clean: path of the clean partners of noisy examples; None if there are none.
        range: the values that become 0 and 1: "LO,HI", or "percentile:A,B" of all values; None for
            the kind's own scale.
        is_noisy: whether the examples are noisy, so that values may leave [0, 1] and be missing.
        any_size: whether sizes may differ. The examples are then a list of arrays.
    """

    clean: str | None = None
    range: str | None = None
    is_noisy: bool = False
    any_size: bool = False


class Source(NamedTuple):
    """Examples that a kind has read, before any are held out.

    Attributes:
        name: name of the data set in figures and reports.
        train: (examples, labels or None), from which splits are held out. Examples are a nest of
            arrays [N, ...], or a `Streamed`, or a list of arrays of different sizes.
        test: the same for the data set's own test split, or None.
        num_held_out: examples to hold out for each split; None takes a tenth.
        order: "random", or "contiguous" if neighbours are alike, as in a video.
        noisy: the noisy partners of the examples in `train`, if these are the clean ones of pairs.
        range: "LO,HI", the values in the files that became 0 and 1; None for the kind's own scale.
    """

    name: str
    train: tuple[Any, Any]
    test: tuple[Any, Any] | None = None
    num_held_out: int | None = None
    order: str = "random"
    noisy: Any = None
    range: str | None = None


class Kind:
    """A kind of data. Subclasses are registered with `KINDS` and with Keras, and have no state.

    The methods here work for any nest of float arrays, batch first. A subclass overrides what is
    special about its examples. Methods import heavy libraries only when they are called.

    Attributes:
        name: name on the command line and in files.
        sources: the names and paths of data sets that it reads, in words, for help and messages.
        noun: word for one example in messages; its plural ends in s.
        part: word for one value of an example; its plural ends in s.
        field: name of an example that is one tensor, in the signatures of a SavedModel.
        max_parts: how many values the examples of one request to a server may have together, if the
            model takes examples of any size.
        noises: names of the corruptions that an evaluation tries.
        defaults: options for unknown data sets (see `runs.options`).
    """

    name: ClassVar[str]
    sources: ClassVar[str] = ""
    noun: ClassVar[str] = "example"
    part: ClassVar[str] = "value"
    field: ClassVar[str] = "example"
    max_parts: ClassVar[int] = 2**22
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
        """Return whether a model with this `input_shape`, batch first, takes this kind of example."""
        return False

    def check(self, examples, model=None, *, clean: bool = False) -> None:
        """Refuse arrays that are not examples of this kind.

        Args:
            examples: a nest of arrays or tensors, batch first.
            model: a Keras model whose input shape the examples must have, or None.
            clean: whether to check the values, too. Symbolic tensors of a graph have no values.

        Raises:
            TypeError, ValueError: if dtype, shape or values are wrong; the message is one line.
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
        """Do the same as `to_float`, for tensors in a graph."""
        return tf.nest.map_structure(lambda x: tf.cast(x, tf.float32), stored)

    def mean(self, stored) -> Example:
        """Return the mean of stored examples on the scale that models see, without the batch."""
        return tf.nest.map_structure(
            lambda x: x.mean(axis=0, dtype=np.float64), self.to_float(stored)
        )

    def binarized(self, stored, how: str, *seeds: int):
        """Return stored examples with binary values.

        Args:
            stored: examples.
            how: "threshold" cuts at 1/2; any other word draws the values.
            seeds: seeds of the draws.

        Raises:
            ValueError: if the kind has no binary values.
        """
        raise ValueError(
            f"`binarize` must be none for data of kind {self.name}. Received: {how!r}."
        )

    def describe_noise(self, corruption) -> str:
        """Describe a corruption in one phrase, with its level in units that suit this kind."""
        return corruption.describe()

    # ---- reading ----

    @classmethod
    def reads(cls, name: str) -> bool:
        """Return whether `load` can read a data set of this name or path."""
        return False

    def load(self, name: str, *, data_dir: str | None, cache: str) -> Source:
        """Read a data set by name or path. The arguments are those of `datasets.load`.

        Raises:
            DatasetError: if it cannot be read; the message says in one line what to do.
        """
        raise NotImplementedError

    def load_recorded(self, name: str, recording: Recording, *, data_dir: str | None) -> Source:
        """Read a data set as `recording` says, all of it into memory.

        Raises:
            DatasetError: if it cannot be read so; the message says in one line what to do.
        """
        raise DatasetError(
            "`patch`, `clean`, `range` and `observation` must be left out for data of kind "
            f"{self.name}. Received: {name!r}. Choose images, or leave them out."
        )

    @classmethod
    def dataset_defaults(cls, name: str) -> Mapping[str, Any]:
        """Return default options for the data set of this name.

        The key `noise_levels` may be among them: a dict from the name of a noise to its level.
        """
        return cls.defaults

    def describe(self, stored) -> dict[str, Any]:
        """Describe stored examples in JSON values, for config.json."""
        return {"example_shape": tf.nest.map_structure(lambda x: list(x.shape[1:]), stored)}

    # ---- measures, baselines, figures: NumPy arrays in ----

    def measures(self) -> dict[str, Callable[[Any, Any], np.ndarray]]:
        """Return measures of denoising: name -> function of (clean, other) that returns values [N].

        A `measure.Measure` also says how to print its values. If there are no measures, evaluations
        use the squared error.
        """
        return {}

    def baselines(self) -> dict[str, Callable[..., Any]]:
        """Return classical denoisers: name -> function of (noisy, sigma=...) that returns estimates.

        `sigma` is the root mean square of the noise. If a function has an attribute `label`, tables
        show it instead of the name.
        """
        return {}

    def run_figures(self, arrays: Mapping[str, Any], *, title: str) -> "dict[str, Figure]":
        """Draw the figures of a finished run: file name -> figure.

        Args:
            arrays: by name.
                `clean`, `noisy`, `denoised`: a few validation examples; no `clean` if all are noisy.
                `samples`: mean examples of latents drawn from the prior; not of a conditional model.
                `first_layer`: [values, units], weights of the encoder's first layer, if it is dense.
                `manifold`: mean examples at `manifold_latents` (from `figures.latent_grid`), if the
                latent has two units.
            title: title of the figure that shows denoising.
        """
        return {}

    def evaluation_figures(self, arrays: Mapping[str, Any]) -> "dict[str, Callable[[], Figure]]":
        """Return the figures of an evaluation that show examples: file name -> function that draws it.

        Args:
            arrays: by name, from `evaluation.adversarial` and `evaluation.manifold`.
                `random_input`, `random_output`: random noise, before and after denoising.
                `attack_input`, `attack_output`: an attack of the same size.
                `repeated`: [N, steps, ...].
                `traversal`: [units, steps, ...], with `traversal_units` and `traversal_values`.
                `interpolation`: [pairs, steps, ...].
                `samples`: mean examples of latents drawn from the prior.
        """
        return {}

    def training_callbacks(
        self, clean, noisy, *, log_dir: Any, every: int
    ) -> list[keras.callbacks.Callback]:
        """Return callbacks that show a few examples during training.

        Args:
            clean, noisy: the examples, before and after corruption; `clean` is None if all are noisy.
            log_dir: directory for TensorBoard.
            every: epochs between two views.
        """
        return []

    # ---- serving ----

    def spec(self, model: keras.Model):
        """Return the `tf.TensorSpec` of a model's input, a batch of examples.

        A model with several inputs has a dict of specs, by the names of its inputs.

        Raises:
            ValueError: if the model's inputs are not known.
        """
        inputs = getattr(model, "inputs", None)
        if not inputs:
            raise ValueError(
                "The encoder must have inputs of known shapes. "
                f"Received: {type(model).__name__} without them. Build it from keras.Input."
            )
        specs = {x.name: tf.TensorSpec(x.shape, tf.float32) for x in inputs}
        return specs if len(specs) > 1 else next(iter(specs.values()))

    def random_examples(self, rng: np.random.Generator, rows: int, spec) -> Example:
        """Return random float32 arrays [rows, ...] on the scale of examples, to try signatures."""
        return tf.nest.map_structure(
            lambda s: rng.standard_normal((rows, *s.shape[1:]), np.float32), spec
        )

    def signatures(
        self, denoise: Callable, spec
    ) -> dict[str, tuple[Callable, dict[str, tf.TensorSpec]]]:
        """Return extra signatures of this kind: name -> (function, specs of its inputs).

        The functions take keyword arguments and return a dict of outputs.

        Args:
            denoise: the function behind the signature `denoise`: examples in, a dict of outputs out.
            spec: spec of a batch of examples (see `spec`).
        """
        return {}

    def signature_inputs(self, examples) -> dict[str, np.ndarray]:
        """Make the inputs of `signatures` from examples: arrays [rows, ...] by name."""
        return {}

    def meanings(self) -> dict[str, tuple[str, list[float | None]]]:
        """Describe the tensors of signatures about which this kind has something to add.

        Returns:
            name -> (meaning in words, [least value, greatest value]); None stands for no limit.
        """
        return {}

    def tolerances(self, rounding: float) -> dict[str, dict[str, float]]:
        """Return how far outputs that are files may differ between loaders.

        Args:
            rounding: how far other outputs may differ because of 16-bit layers, on the scale of
                examples; 0 for float32.

        Returns:
            name -> {"relative", "absolute"}.
        """
        return {}

    def checked_request(self, inputs: Mapping[str, tf.Tensor], spec) -> Mapping[str, tf.Tensor]:
        """Return the inputs of a signature as the model may see them, and refuse bad ones.

        Args:
            inputs: tensors by name, with the types and shapes of the signature.
            spec: spec of a batch of examples.

        Raises:
            ValueError: if an input is refused; the message is one line.
        """
        return inputs

    def describe_input(self, spec) -> str:
        """Describe the input of a model in a few words, for its model card."""
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
    """Any nest of finite floats, batch first: the kind for input shapes that no other kind knows."""

    name = "any"


def kind_of(model: keras.Model) -> Kind:
    """Return the kind of data that a model takes, judged by its `input_shape`."""
    return kind_of_shape(getattr(model, "input_shape", None))


def kind_of_shape(shape) -> Kind:
    """Return the kind of data whose models have inputs of this shape, batch first."""
    for cls in KINDS.values():
        if cls.accepts(shape):
            return cls()
    return AnyKind()
