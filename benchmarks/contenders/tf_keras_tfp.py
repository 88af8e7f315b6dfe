"""Keras 2 with tfp.layers, as in TensorFlow Probability's own VAE tutorial."""

import time

import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras
import workloads as w

tfd, tfpl = tfp.distributions, tfp.layers


def run(variant, workload, images, num_epochs, seed):
    tf_keras.utils.set_random_seed(seed)
    prior = tfd.Independent(tfd.Normal(tf.zeros(w.LATENT_DIM), 1.0), 1)
    dense = tf_keras.layers.Dense
    encoder = tf_keras.Sequential(
        [
            tf_keras.layers.InputLayer((28, 28, 1)),
            tf_keras.layers.Flatten(),
            *(dense(size, "swish") for size in w.HIDDEN),
            dense(tfpl.IndependentNormal.params_size(w.LATENT_DIM)),
            tfpl.IndependentNormal(
                w.LATENT_DIM,
                # tf_keras collects the losses of a nested layer twice.
                activity_regularizer=tfpl.KLDivergenceRegularizer(
                    prior, use_exact_kl=True, weight=0.5
                ),
            ),
        ]
    )
    decoder = tf_keras.Sequential(
        [
            tf_keras.layers.InputLayer((w.LATENT_DIM,)),
            *(dense(size, "swish") for size in reversed(w.HIDDEN)),
            dense(tfpl.IndependentBernoulli.params_size((28, 28, 1))),
            tfpl.IndependentBernoulli((28, 28, 1)),
        ]
    )
    model = tf_keras.Model(encoder.inputs, decoder(encoder.outputs[0]))
    model.compile(
        tf_keras.optimizers.Adam(w.LEARNING_RATE, epsilon=w.EPSILON),
        loss=lambda x, p: -p.log_prob(x),
    )

    def corrupt(pixels):
        pixels = tf.cast(pixels, tf.float32) / 255
        x = tf.cast(tf.random.uniform(tf.shape(pixels)) < pixels, tf.float32)
        u = tf.random.uniform(tf.shape(x))
        return tf.where(u < w.LEVEL / 2, 0.0, tf.where(u < w.LEVEL, 1.0, x)), x

    stream = tf.data.Dataset.from_tensor_slices(images).shuffle(len(images)).repeat()
    stream = stream.batch(workload.batch_size).map(corrupt, tf.data.AUTOTUNE)
    seconds = []

    class Clock(tf_keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            seconds.append(time.perf_counter() - self.start)

    history = model.fit(
        stream.prefetch(tf.data.AUTOTUNE),
        steps_per_epoch=workload.steps,
        epochs=num_epochs + 1,
        callbacks=[Clock()],
        verbose=0,
    ).history
    return {
        "seconds": seconds[1:],
        "parameters": sum(v.shape.num_elements() for v in model.trainable_variables),
        "loss": history["loss"][-1],
    }
