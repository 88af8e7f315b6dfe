"""The model's Keras side: arguments, the count of steps, and what is saved.

Keras counts updates of the weights rather than steps, saves no generators of random numbers, and
learns the shape of an input from a call that training never makes. This module pins all of it.
"""

from types import SimpleNamespace
from typing import Any

import keras
import tensorflow as tf

from dvae_tf import fit_arguments


class KerasModel(keras.Model):
    """Base class of the model, which defines `train_step` and `test_step`."""

    encoder: keras.Model
    decoder: keras.Model
    _build_shapes_dict: dict[str, Any] | None  # of Keras

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        # Training steps that the optimizer's `iterations` does not count. Keras does not look into
        # a namespace, so that the count is none of the weights.
        self._uncounted = SimpleNamespace(
            steps=keras.Variable(
                0,
                dtype="int64",
                trainable=False,
                aggregation="only_first_replica",
                name="uncounted_steps",
            )
        )
        self._trained: tuple[int, ...] = ()

    # ---- training ----

    def fit(self, x=None, y=None, *args, **kwargs):
        """Train as `keras.Model.fit` does, after checks of what it is given.

        Raises:
            ValueError: if arrays are not valid for the kind of data, the second element of unpaired
                data looks like an example, or there are weights of examples or classes.
        """
        fit_arguments.check_fit(self, x, y, *args, **kwargs)
        # If layers were frozen or thawed since the step was traced, trace again.
        if self._trained != self._trainable_ids():
            self.train_function = None
        try:
            history = super().fit(x, y, *args, **kwargs)
        except BaseException:
            # If tracing stopped halfway, trace again: the optimizer has no variables yet.
            if not getattr(getattr(self, "optimizer", None), "built", True):
                self.train_function = None
            raise
        finally:
            self._trained = self._trainable_ids()
        self._record_shapes()
        return history

    def _trainable_ids(self) -> tuple[int, ...]:
        return tuple(id(variable) for variable in self.trainable_variables)

    def train_on_batch(self, x, *args, **kwargs):
        """Take a step as `keras.Model.train_on_batch` does, after the same checks as `fit`."""
        fit_arguments.check(keras.Model.train_on_batch, self, x, *args, **kwargs)
        return super().train_on_batch(x, *args, **kwargs)

    def test_on_batch(self, x, *args, **kwargs):
        """Validate as `keras.Model.test_on_batch` does, after the same checks as `fit`."""
        fit_arguments.check(keras.Model.test_on_batch, self, x, *args, **kwargs)
        return super().test_on_batch(x, *args, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """Validate as `keras.Model.evaluate` does, after the same checks as `fit`.

        Raises:
            ValueError: as in `fit`.
        """
        fit_arguments.check(keras.Model.evaluate, self, x, y, *args, **kwargs)
        return super().evaluate(x, y, *args, **kwargs)

    def compile(self, optimizer: Any = "adam", **kwargs):
        """Configure training as `keras.Model.compile` does; the loss is always the bound.

        `jit_compile="auto"`, the default, compiles with XLA on a CPU too, which makes a step about
        twice as fast. Keras' own default would not. A ladder is not compiled there: it would be
        slower.

        Raises:
            ValueError: if a loss or metrics are given, or gradients are to be accumulated by several
                replicas.
        """
        for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
            if kwargs.get(name) is not None:
                raise ValueError(
                    f"`{name}` must not be given: the model's loss is its bound, and it logs its own "
                    f"metrics. Received: {name}={kwargs[name]!r}. Call compile(optimizer)."
                )
        has_accelerator = any(d.device_type != "CPU" for d in tf.config.list_physical_devices())
        is_auto = kwargs.get("jit_compile", "auto") == "auto"
        if is_auto and not has_accelerator and not kwargs.get("run_eagerly"):
            # XLA cannot exchange gradients between replicas on CPUs, and its convolutions are slower.
            is_alone = tf.distribute.get_strategy().num_replicas_in_sync == 1
            kwargs["jit_compile"] = is_alone and getattr(self.encoder, "gains_by_xla", True)
        replicas = self.distribute_strategy.num_replicas_in_sync
        if replicas > 1 and getattr(optimizer, "gradient_accumulation_steps", None):
            raise ValueError(
                "`gradient_accumulation_steps` must be None for several replicas: Keras cannot "
                f"accumulate there. Received: {replicas} replicas. Take smaller batches."
            )
        done = self.training_steps if self.compiled and self.optimizer is not None else None
        super().compile(optimizer, **kwargs)
        if done is not None:
            self._count_steps(done)

    def compile_from_config(self, config):
        # Keras itself restores no model that overrides `compile`; this one takes the same arguments.
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def apply_gradient(self, gradient: list[tf.Tensor]) -> None:
        """End the step of `training_gradient`: pass the gradient to the optimizer, count the step."""
        done = self.training_steps + 1
        self.optimizer.apply_gradients(zip(gradient, self.trainable_variables, strict=True))
        self._count_steps(done)

    @property
    def training_steps(self) -> tf.Tensor:
        """The number of training steps so far; the model must be compiled."""
        return self._iterations() + tf.convert_to_tensor(self._uncounted.steps)

    def _iterations(self) -> tf.Tensor:
        return tf.cast(self.optimizer.iterations, tf.int64)

    def _count_steps(self, done: tf.Tensor) -> None:
        self._uncounted.steps.assign(done - self._iterations())

    # ---- use ----

    def predict(self, x, *args, **kwargs):
        """Denoise as `call` does, in batches; see `keras.Model.predict`."""
        fit_arguments.check_predict(self, x)
        return super().predict(x, *args, **kwargs)

    def build(self, input_shape=None):
        # Encoder and decoder build themselves; there is nothing else to build.
        self.built = True

    def _record_shapes(self) -> None:
        """Tell Keras and TFLite the shape of an input, which they otherwise learn from `__call__`."""
        self.built = bool(self.encoder.built and self.decoder.built)
        if self.built and not self._build_shapes_dict:
            built_for = self.encoder.get_build_config() or {}
            shape = getattr(self.encoder, "input_shape", built_for.get("input_shape"))
            if shape is not None:
                self._build_shapes_dict, self._called = {"input_shape": shape}, True

    # ---- saving ----

    def save(self, filepath, *args, **kwargs):
        """Save as `keras.Model.save` does, as a .keras file.

        Raises:
            ValueError: if the name has another ending.
        """
        if not str(filepath).endswith(".keras"):
            raise ValueError(f"`filepath` must end in .keras. Received: {filepath}.")
        super().save(filepath, *args, **kwargs)

    def unsaved_state(self) -> list[keras.Variable]:
        """Return what training changes and Keras does not save.

        These are the count of steps, and the generators in layers such as Dropout.
        """
        weights = {id(weight) for weight in self.weights}
        generators = [variable for variable in self.variables if id(variable) not in weights]
        return [self._uncounted.steps, *generators]

    def save_own_variables(self, store):
        super().save_own_variables(store)
        for number, variable in enumerate(self.unsaved_state()):
            store[f"state_{number}"] = variable

    def load_own_variables(self, store):
        stored = {key: store[key] for key in store.keys()}  # noqa: SIM118
        for number, variable in enumerate(self.unsaved_state()):
            # Version 0.1 wrote none: its steps were the optimizer's iterations.
            variable.assign(stored.pop(f"state_{number}", keras.ops.zeros_like(variable)))
        super().load_own_variables(stored)
