"""Attention points that three convolutions find: EIPL's, and CLIP-SARNN's without CLIP.

At the temperatures of SARNN (1e-4) a softmax is nearly all in a few pixels, and only those hand a gradient
on to the convolutions. So the gradient is had from the patches around them instead of from whole images,
and nothing but the attention is kept for it: a fifth of the time and a third of the memory of a training
step.
"""

from collections.abc import Sequence

import tensorflow as tf

from sarnn_tf.layers.conv_stack import BORDER, ConvStack, convolve
from sarnn_tf.layers.spatial_softmax import spatial_softmax
from sarnn_tf.networks.frame_chunks import chunk_size, for_chunks

NEGLIGIBLE = 1e-12
"""Attention below this is lost in the rounding of a float32 sum, over all pixels of an image together."""
MAX_SHARE = 1 / 24
"""A patch costs as much as 12 pixels of a whole image; above this share of pixels whole images are used."""


class ConvolutionalKeypoints(tf.keras.layers.Layer):
    """A convolution stack and a spatial softmax over its maps."""

    def __init__(
        self,
        channels: int,
        k_dim: int,
        temperature: float,
        *,
        seed: int | None = None,
        name: str = "pos_encoder",
    ) -> None:
        """``channels`` of the image, ``k_dim`` points; ``temperature`` of the softmax."""
        super().__init__(name=name)
        self._temperature = temperature
        self.stack = ConvStack(channels, k_dim, seed=seed, name=name)

    def call(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Images [n, h, w, channels] to points [n, k, 2] in [0, 1] and attention [n, h - 6, w - 6, k]."""
        weights = [tf.convert_to_tensor(v) for v in self.stack.kernels_and_biases]
        return keypoints(images, weights, self._temperature)

    def find(self, images: tf.Tensor, frames: tf.Tensor) -> tf.Tensor:
        """The points [n, k, 2] of some frames, int [n], of images [m, h, w, channels], a few at a time.

        The images get no gradient.
        """
        weights = [tf.convert_to_tensor(v) for v in self.stack.kernels_and_biases]
        return keypoints_of_frames(images, frames, weights, self._temperature)


def keypoints(
    images: tf.Tensor, weights: Sequence[tf.Tensor], temperature: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """``spatial_softmax(convolve(images, weights), temperature)``, with the gradient from patches."""

    @tf.custom_gradient
    def forward(images: tf.Tensor, *weights: tf.Tensor) -> tuple:
        points, attention = spatial_softmax(convolve(images, weights), temperature)

        def backward(d_points: tf.Tensor, d_attention: tf.Tensor) -> tuple:
            d_features = _softmax_gradient(points, attention, d_points, d_attention, temperature)
            # A graph leaves this out where nobody asks for the images' gradient.
            d_images = _gradient(images, weights, d_features, of_images=True)[0]
            return d_images, *_gradient_of_weights(images, weights, attention, d_features)

        return (points, attention), backward

    return forward(images, *weights)


def keypoints_of_frames(
    images: tf.Tensor, frames: tf.Tensor, weights: Sequence[tf.Tensor], temperature: float
) -> tf.Tensor:
    """The points of ``keypoints(images[frames], weights, temperature)``, a few frames at a time.

    Args:
      images: [m, h, w, channels], without a gradient.
      frames: int [n].
      weights: as for ``convolve``.
      temperature: of the softmax.

    Returns:
      [n, k, 2].
    """
    size, k = chunk_size(images), weights[-1].shape[0]
    maps = [None, images.shape[1] - BORDER, images.shape[2] - BORDER, k]

    @tf.custom_gradient
    def forward(*weights: tf.Tensor) -> tuple:
        def look(_: tf.Tensor, chunk: tf.Tensor) -> tuple:
            return (), spatial_softmax(convolve(tf.gather(images, chunk), weights), temperature)

        rows = (tf.TensorSpec([None, k, 2]), tf.TensorSpec(maps))
        _, (points, attention) = for_chunks(look, frames, size, (), rows)

        def backward(d_points: tf.Tensor) -> list[tf.Tensor]:
            def part(first: tf.Tensor, chunk: tf.Tensor) -> tuple:
                place = slice(first, first + size)
                d_features = _softmax_gradient(
                    points[place], attention[place], d_points[place], None, temperature
                )
                seen = tf.gather(images, chunk)
                return _gradient_of_weights(seen, weights, attention[place], d_features), ()

            return for_chunks(part, frames, size, [tf.zeros_like(w) for w in weights])[0]

        return points, backward

    return forward(*weights)


def _gradient_of_weights(
    images: tf.Tensor, weights: Sequence[tf.Tensor], attention: tf.Tensor, d_features: tf.Tensor
) -> list[tf.Tensor]:
    """From patches where the attention is in few pixels."""
    chosen = tf.where(tf.reduce_max(attention, axis=-1) > NEGLIGIBLE)
    pixels = tf.size(attention[..., 0], out_type=tf.int64)
    return tf.cond(
        tf.shape(chosen, tf.int64)[0] <= tf.cast(MAX_SHARE * tf.cast(pixels, tf.float64), tf.int64),
        lambda: _gradient(_patches(images, chosen), weights, _at(d_features, chosen)),
        lambda: _gradient(images, weights, d_features),
    )


def _softmax_gradient(
    points: tf.Tensor,
    attention: tf.Tensor,
    d_points: tf.Tensor,
    d_attention: tf.Tensor | None,
    temperature: float,
) -> tf.Tensor:
    """The gradient of the features [n, h, w, k], given those of points and, unless None, attention."""
    height, width = attention.shape[1:3]
    # Distances from the point instead of coordinates: the difference of two near coordinates is rounding.
    x = tf.linspace(0.0, 1.0, width)[None, None, :, None] - points[:, None, None, :, 0]
    y = tf.linspace(0.0, 1.0, height)[None, :, None, None] - points[:, None, None, :, 1]
    upstream = x * d_points[:, None, None, :, 0] + y * d_points[:, None, None, :, 1]
    if d_attention is not None:
        upstream += d_attention - tf.reduce_sum(attention * d_attention, axis=[1, 2], keepdims=True)
    return attention * upstream / temperature


def _gradient(
    images: tf.Tensor, weights: Sequence[tf.Tensor], d_features: tf.Tensor, *, of_images: bool = False
) -> list[tf.Tensor]:
    """The gradient of the weights, or [that of the images], through ``convolve``."""
    sources = [images] if of_images else list(weights)
    with tf.GradientTape() as tape:
        tape.watch(sources)
        features = convolve(images, weights)
    return tape.gradient(features, sources, output_gradients=d_features)


def _patches(images: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """What the features at ``chosen`` int64 [p, 3] (image, row, column) see: [p, 7, 7, channels]."""
    height, width, channels = images.shape[1:]
    reach = tf.range(BORDER + 1, dtype=tf.int64)
    rows = chosen[:, 1, None, None] + reach[:, None]
    columns = chosen[:, 2, None, None] + reach
    flat = (chosen[:, 0, None, None] * height + rows) * width + columns
    return tf.gather(tf.reshape(images, [-1, channels]), flat)


def _at(features: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """[n, h, w, k] at ``chosen`` [p, 3]: [p, 1, 1, k]."""
    return tf.gather_nd(features, chosen)[:, None, None]
