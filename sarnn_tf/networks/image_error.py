"""How far predicted images are from the true ones, with the gradient found on the way.

Between the attention points and the image's error lie six convolutions of every frame, and what they leave
behind for a gradient is most of a training step's memory. But the error is a sum over frames, and the
gradient of a sum can be had while it is added up: so a few frames go all the way, there and back, before
the next ones begin.
"""

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from sarnn_tf.layers.conv_stack import convolve, deconvolve
from sarnn_tf.layers.inverse_spatial_softmax import inverse_spatial_softmax
from sarnn_tf.networks.frame_chunks import chunk_size, for_chunks


@dataclasses.dataclass(frozen=True)
class Painter:
    """What turns seen images and expected points into the next images.

    Attributes:
      encoder, decoder: kernels and biases of ``convolve`` and of ``deconvolve``.
      heatmap_size, transpose_heatmap: see ``AttentionStream``.
    """

    encoder: Sequence[tf.Tensor]
    decoder: Sequence[tf.Tensor]
    heatmap_size: float
    transpose_heatmap: bool = False

    def paint(self, points: tf.Tensor, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Points [n, 2 k] and features [n, h - 6, w - 6, k] to images [n, h, w, c] and the heatmap."""
        heatmap = inverse_spatial_softmax(
            tf.reshape(points, [-1, features.shape[3], 2]),
            features.shape[1],
            features.shape[2],
            self.heatmap_size,
            transposed=self.transpose_heatmap,
        )
        return deconvolve(heatmap * features, self.decoder), heatmap

    def squared_error(self, points: tf.Tensor, images: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Of each frame, the mean: [n]."""
        painted, _ = self.paint(points, convolve(images, self.encoder))
        return tf.reduce_mean(tf.math.squared_difference(painted, targets), axis=[1, 2, 3])


def image_error(
    painter: Painter,
    images: tf.Tensor,
    targets: tf.Tensor,
    frames: tf.Tensor,
    shares: tf.Tensor,
    points: tf.Tensor,
    *,
    with_gradient: bool = True,
) -> tf.Tensor:
    """The weighted sum of the mean squared errors of predicted images.

    Args:
      painter: its weights get a gradient.
      images: [m, h, w, c] float32, what is seen; no gradient.
      targets: [m, h, w, c] float32; no gradient.
      frames: int [n]: frame i of ``images`` is compared, as it is expected to become, with frame i + 1 of
        ``targets``.
      shares: [n], what each frame counts; no gradient.
      points: [n, 2 k], where the attention is expected; they get a gradient.
      with_gradient: False costs a third, and the result has no gradient.

    Returns:
      A scalar.
    """
    cut, size = len(painter.encoder), chunk_size(images)

    def error(
        first: tf.Tensor, chunk: tf.Tensor, points: tf.Tensor, weights: Sequence[tf.Tensor]
    ) -> tf.Tensor:
        local = dataclasses.replace(painter, encoder=weights[:cut], decoder=weights[cut:])
        errors = local.squared_error(points, tf.gather(images, chunk), tf.gather(targets, chunk + 1))
        return tf.reduce_sum(errors * shares[first : first + size])

    def without(points: tf.Tensor, *weights: tf.Tensor) -> tf.Tensor:
        def body(first: tf.Tensor, chunk: tf.Tensor) -> tuple:
            return error(first, chunk, points[first : first + size], weights), ()

        return for_chunks(body, frames, size, tf.zeros([]))[0]

    @tf.custom_gradient
    def with_it(points: tf.Tensor, *weights: tf.Tensor) -> tuple:
        def body(first: tf.Tensor, chunk: tf.Tensor) -> tuple:
            sources = [points[first : first + size], *weights]
            with tf.GradientTape() as tape:
                tape.watch(sources)
                found = error(first, chunk, sources[0], sources[1:])
            of_points, *of_weights = tape.gradient(found, sources)
            return (found, of_weights), (of_points,)

        zeros = [tf.zeros_like(w) for w in weights]
        row = tf.TensorSpec([None, points.shape[1]], points.dtype)
        (total, of_weights), (of_points,) = for_chunks(body, frames, size, (tf.zeros([]), zeros), (row,))

        def gradient(upstream: tf.Tensor) -> list[tf.Tensor]:
            return [upstream * g for g in (of_points, *of_weights)]

        return total, gradient

    weights = [tf.convert_to_tensor(w) for w in (*painter.encoder, *painter.decoder)]
    return (with_it if with_gradient else without)(points, *weights)
