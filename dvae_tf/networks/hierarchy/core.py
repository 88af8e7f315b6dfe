"""The weights of a ladder: a way up that reads an image, and a way down that generates one.

Level 1 has half the image's height and width, and every further level half of those before::

    y -> d_1 -> d_2 -> ... -> d_L                 way up, features of the input
    h_L -> ... -> h_2 -> h_1 -> parameters        way down, from a learnt constant

On the way down level l has the latent map eps_l, N(0, I) a priori and (given y)

    eps_l ~ N(shift_l, spread_l^2),      shift_l, spread_l = f(h_l, d_l)
    z_l = location_l + scale_l eps_l,    location_l, scale_l = g(h_l)
    h_{l-1} = up(h_l + project(z_l)).

So z has the hierarchical prior p(z_L) prod_l p(z_l | z_>l) with p(z_l | z_>l) = N(location_l, scale_l^2)
and a posterior that shares the way down with it (Sonderby et al. 2016, arXiv:1602.02282; Kingma et
al. 2016, arXiv:1606.04934). Latents are kept as eps, the non-centred form (Papaspiliopoulos et al.
2007): KL(q(z_l | z_>l, y) || p(z_l | z_>l)) is KL(N(shift, spread^2) || N(0, 1)), and the prior of a
ladder is the standard normal.

A conditional ladder has a second way up for the noisy image y~, whose features c_l join the way down
(Sohn et al. 2015): h_l + c_l takes the place of h_l. Then q(z | x, y~) reads both images, and the prior
p(z | y~), still N(0, I) in eps, is what denoises.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from dvae_tf.latents import Drawn
from dvae_tf.layers import positive
from dvae_tf.networks.hierarchy.blocks import ResidualBlocks
from dvae_tf.networks.hierarchy.way_up import WayUp
from dvae_tf.networks.pyramid import convolution

_HALF_LOG_2_PI = 0.5 * math.log(2.0 * math.pi)


@keras.saving.register_keras_serializable(package="dvae_tf")
class LadderCore(keras.layers.Layer):
    """Both ways of a ladder. Heights and widths are free, and a multiple of 2**L after padding.

    Args:
        channels: channels C of an image.
        num_parameters: parameters of p(x|z) for each value.
        filters: features of each level, from the finest.
        latent_channels: channels of each latent map.
        num_blocks: residual blocks of each level, on each way.
        activation: a Keras activation, or its name.
        conditional: whether the way down reads a noisy image.
    """

    def __init__(
        self,
        channels: int,
        num_parameters: int,
        filters: Sequence[int],
        latent_channels: int,
        num_blocks: int = 1,
        activation: Any = "swish",
        conditional: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.channels = channels
        self.num_parameters = num_parameters
        self.filters = tuple(filters)
        self.latent_channels = latent_channels
        self.num_blocks = num_blocks
        self.activation = keras.activations.get(activation)

        def blocks(width):
            return ResidualBlocks(width, num_blocks, self.activation)

        def way_up(inputs, name):
            return WayUp(inputs, self.filters, num_blocks, self.activation, name=name)

        self.conditional = conditional
        self.recognition = way_up(channels * (1 + conditional), "recognition")
        self.condition = way_up(channels, "condition") if conditional else None
        self.joining = [convolution(width, 1) for width in self.filters if conditional]
        # The way down.
        exact = {"dtype": "float32"}
        self.prior = [convolution(2 * latent_channels, 3, **exact) for _ in self.filters[:-1]]
        self.posterior = [convolution(2 * latent_channels, 3, **exact) for _ in self.filters]
        self.merging = [convolution(width, 1) for width in self.filters]
        self.projections = [convolution(width, 1) for width in self.filters]
        self.down_blocks = [blocks(width) for width in self.filters]
        self.up = [convolution(4 * width, 1) for width in self.filters[:-1]]
        self.readout = convolution(4 * channels * num_parameters, 3, name="readout", **exact)
        # Input and location are standardised, so that images of any scale train alike.
        self.input_mean, self.input_scale, self.location, self.location_scale = (
            self.add_weight(
                shape=(channels,), initializer=start, trainable=False, dtype="float32", name=name
            )
            for start, name in (
                ("zeros", "input_mean"),
                ("ones", "input_scale"),
                ("zeros", "location"),
                ("ones", "location_scale"),
            )
        )

    @property
    def num_levels(self) -> int:
        """L."""
        return len(self.filters)

    @property
    def multiple(self) -> int:
        """Heights and widths are padded to multiples of this."""
        return 2**self.num_levels

    def build(self, input_shape=None):
        widths, latent = self.filters, self.latent_channels
        self.recognition.build()
        if self.condition is not None:
            self.condition.build()
        self.readout.build((None, None, None, widths[0]))
        for level, width in enumerate(widths):
            maps = (None, None, None, width)
            if self.conditional:
                self.joining[level].build(maps)
            self.down_blocks[level].build(maps)
            self.posterior[level].build(maps)
            self.merging[level].build((None, None, None, 2 * width))
            self.projections[level].build((None, None, None, latent))
            if level < self.num_levels - 1:
                self.prior[level].build(maps)
                self.up[level].build((None, None, None, widths[level + 1]))
        self.top = self.add_weight(shape=(widths[-1],), initializer="zeros", name="top")
        self.built = True

    # ---- the way up ----

    def features(self, *images: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, ...]:
        """Return d_1 to d_L of images [B, H, W, C], padded: [B, h_l, w_l, f_l].

        A conditional ladder takes the clean and the noisy images.
        """
        read = tf.concat([self._standardized(image) for image in images], -1)
        return self.recognition(read, training=training)

    def conditions(self, noisy: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, ...] | None:
        """Return c_1 to c_L of a conditional ladder, as `features`; None of another."""
        if self.condition is None:
            return None
        return self.condition(self._standardized(noisy), training=training)

    def _standardized(self, image):
        y = (tf.cast(image, tf.float32) - self.input_mean) / self.input_scale
        # Values that are missing, NaN, are read as the mean.
        return padded(tf.where(tf.math.is_finite(y), y, 0.0), self.multiple)

    # ---- the way down ----

    def descend(
        self,
        features=None,
        conditions=None,
        *,
        noise=None,
        levels=None,
        size=None,
        training: bool = False,
    ) -> Drawn:
        """Go down once: N rows of latents, parameters of p(x|z), and densities without a sample axis.

        Args:
            features: d_1 to d_L; None takes eps from the prior.
            conditions: c_1 to c_L of a conditional ladder.
            noise: standard normal maps: eps_l = shift_l + spread_l noise_l, or without an input
                eps_l = noise_l.
            levels: eps_1 to eps_L, instead of `noise`.
            size: height and width of the images; None leaves the padding.
            training: whether layers are in their training phase.
        """
        given = noise if levels is None else levels
        first = given[-1]
        zeros = tf.zeros([tf.shape(first)[0]])
        h = tf.broadcast_to(
            tf.cast(self.top, self.compute_dtype),
            tf.concat([tf.shape(first)[:-1], [self.filters[-1]]], 0),
        )
        found: list[Any] = [None] * self.num_levels
        spreads = list(found)
        log_density, kls = zeros, [zeros] * self.num_levels
        for level in reversed(range(self.num_levels)):
            # Keras compiles a convolution of unknown channels by XLA, for each size anew.
            eps = tf.ensure_shape(given[level], [None, None, None, self.latent_channels])
            if conditions is not None:
                h = h + self.joining[level](conditions[level])
            if features is not None:
                shift, spread = self._posterior(level, h, features[level])
                if levels is None:
                    eps = shift + spread * eps
                    standard = given[level]
                else:
                    standard = (eps - shift) / spread
                log_spread = tf.math.log(spread)
                kls[level] = _sum(0.5 * (tf.square(shift) + tf.square(spread) - 1.0) - log_spread)
            else:
                standard, log_spread, spread = eps, 0.0, tf.ones_like(eps)
            log_density += _sum(-0.5 * tf.square(standard) - log_spread - _HALF_LOG_2_PI)
            spreads[level] = spread
            found[level] = eps
            h = self._join(level, h, eps, training)
        parameters = self._read_out(h)
        if size is not None:
            parameters = parameters[:, : size[0], : size[1]]
        kl = tf.stack(kls, axis=-1)
        return Drawn(tuple(found), parameters, log_density, kl, tuple(spreads))

    def _posterior(self, level: int, h, d):
        """Return shift and spread of q(eps_l | eps_>l, y)."""
        joint = self.activation(self.merging[level](tf.concat([h, tf.cast(d, h.dtype)], -1)))
        shift, raw = tf.split(self.posterior[level](joint), 2, axis=-1)
        return shift, positive(raw)

    def _join(self, level: int, h, eps, training):
        """Return h_{l-1} = up(blocks(h_l + project(z_l))); h_0 has the size of h_1."""
        z = eps
        if level < self.num_levels - 1:
            location, raw = tf.split(self.prior[level](self.activation(h)), 2, axis=-1)
            z = location + positive(raw) * eps
        h = h + self.projections[level](tf.cast(z, h.dtype))
        h = self.down_blocks[level](h, training=training)
        return tf.nn.depth_to_space(self.up[level - 1](h), 2) if level else h

    def _read_out(self, h):
        """Return the parameters of p(x|z), [N, H, W, C n], in blocks of C; the first is a location."""
        maps = tf.nn.depth_to_space(self.readout(self.activation(h)), 2)
        location, rest = maps[..., : self.channels], maps[..., self.channels :]
        return tf.concat([self.location + self.location_scale * location, rest], -1)

    # ---- sizes ----

    @property
    def receptive_field(self) -> int:
        """The distance in pixels within which input and noise can change an output.

        A 3 x 3 convolution at level l reaches 2**l pixels.
        """
        strides = [2**level for level in range(1, self.num_levels + 1)]
        blocks = 2 * self.num_blocks
        up = sum(strides) * blocks + sum(strides[1:])  # blocks, and convolutions of stride 2
        down = sum(strides) * (1 + blocks)  # z and blocks
        ends = 3 * strides[0]  # reading, readout, and the four pixels that space_to_depth joins
        return up + down + ends + strides[-1]  # and the grid of the coarsest level

    def latent_shapes(self, height: int, width: int) -> tuple[tuple[int, int, int], ...]:
        """Return the shapes of eps_1 to eps_L for an image of this size."""
        rows, columns = (-(-side // self.multiple) * self.multiple for side in (height, width))
        return tuple(
            (rows >> level, columns >> level, self.latent_channels)
            for level in range(1, self.num_levels + 1)
        )

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.channels * self.num_parameters)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "channels": self.channels,
            "num_parameters": self.num_parameters,
            "filters": list(self.filters),
            "latent_channels": self.latent_channels,
            "num_blocks": self.num_blocks,
            "activation": keras.activations.serialize(self.activation),
            "conditional": self.conditional,
        }


def padded(images: tf.Tensor, multiple: int) -> tf.Tensor:
    """Repeat the last row and column until height and width are multiples: [B, H, W, C]."""
    for axis in (1, 2):
        size = tf.shape(images)[axis]
        places = tf.range(-(-size // multiple) * multiple)
        images = tf.gather(images, tf.minimum(places, size - 1), axis=axis)
    return images


def _sum(maps: tf.Tensor) -> tf.Tensor:
    """[N, h, w, c] -> [N]"""
    return tf.reduce_sum(maps, axis=tuple(range(1, len(maps.shape))))
