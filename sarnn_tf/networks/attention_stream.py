"""One image modality of a SARNN: where it looks, what it sees, where it will look, what it will see."""

import tensorflow as tf

from sarnn_tf.layers.conv_stack import BORDER, ConvStack, DeconvStack
from sarnn_tf.layers.initializers import dense
from sarnn_tf.layers.leaky_relu import leaky_relu
from sarnn_tf.networks.clip_keypoints import ClipKeypoints
from sarnn_tf.networks.convolutional_keypoints import ConvolutionalKeypoints
from sarnn_tf.networks.image_error import Painter, image_error


class AttentionStream(tf.keras.layers.Layer):
    """Attention points and image features before the recurrent net, point and image decoders after it."""

    def __init__(
        self,
        channels: int,
        k_dim: int,
        rec_dim: int,
        *,
        temperature: float,
        heatmap_size: float,
        clip_features: int | None = None,
        transpose_heatmap: bool = False,
        seed: int | None = None,
        name: str = "stream",
    ) -> None:
        """Makes the variables.

        Args:
          channels: of the image.
          k_dim: number of attention points.
          rec_dim: size of the recurrent state.
          temperature: of the spatial softmax.
          heatmap_size: of the bumps around the predicted points.
          clip_features: of a patch, where the points come from CLIP's patch map; None for convolutions.
          transpose_heatmap: the published CLIP-SARNN's orientation, mirrored against the points.
          seed: of the weights; None draws afresh.
          name: part of the seed, so that streams of one model start apart.
        """
        super().__init__(name=name)
        self.k_dim = k_dim
        self._heatmap_size, self._transpose_heatmap = heatmap_size, transpose_heatmap
        self.uses_clip = clip_features is not None
        self.pos_encoder = (
            ConvolutionalKeypoints(channels, k_dim, temperature, seed=seed, name=f"{name}/pos_encoder")
            if clip_features is None
            else ClipKeypoints(clip_features, k_dim, temperature, seed=seed, name=f"{name}/pos_encoder")
        )
        self.im_encoder = ConvStack(channels, k_dim, seed=seed, name=f"{name}/im_encoder")
        self.decoder_point = dense(rec_dim, 2 * k_dim, seed, f"{name}/decoder_point")
        self.decoder_image = DeconvStack(k_dim, channels, seed=seed, name=f"{name}/decoder_image")

    def encode(
        self, images: tf.Tensor, patches: tf.Tensor | None = None, text: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """What the frames show.

        Args:
          images: [n, h, w, channels] float32 in [0, 1]; h and w static and more than 6.
          patches: [n, rows, columns, clip_features], needed where the points come from CLIP.
          text: [n, clip_features], the gate; None for none.

        Returns:
          Points [n, 2 k] as x0, y0, x1, …; features [n, h - 6, w - 6, k]; attention, of the same shape or
          [n, rows, columns, k].

        Raises:
          ValueError: images too small or of unknown size, or CLIP's patches are missing.
        """
        self._check(images, patches)
        points, attention = self.pos_encoder(patches, text) if self.uses_clip else self.pos_encoder(images)
        return tf.reshape(points, [-1, 2 * self.k_dim]), self.im_encoder(images), attention

    def decode(self, hidden: tf.Tensor, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """What the next frames will show.

        Args:
          hidden: [n, rec_dim].
          features: [n, h - 6, w - 6, k] of the frames seen.

        Returns:
          Images [n, h, w, channels], points [n, 2 k], and the heatmap around them, of the features' shape.
        """
        points = self.expect(hidden)
        image, heatmap = self._painter.paint(points, features)
        return image, points, heatmap

    def find(
        self,
        images: tf.Tensor,
        frames: tf.Tensor,
        patches: tf.Tensor | None = None,
        text: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """The points of ``encode`` of some frames, in little memory; the images get no gradient.

        Args:
          images: [m, h, w, channels].
          frames: int [n], which of them.
          patches, text: of those n, as for ``encode``.

        Returns:
          [n, 2 k].

        Raises:
          ValueError: as ``encode``.
        """
        self._check(images, patches)
        points = (
            self.pos_encoder(patches, text)[0] if self.uses_clip else self.pos_encoder.find(images, frames)
        )
        return tf.reshape(points, [-1, 2 * self.k_dim])

    def expect(self, hidden: tf.Tensor) -> tf.Tensor:
        """Where the points are expected next: [..., rec_dim] to [..., 2 k]."""
        return leaky_relu(self.decoder_point(hidden))

    def image_error(
        self,
        images: tf.Tensor,
        targets: tf.Tensor,
        frames: tf.Tensor,
        shares: tf.Tensor,
        points: tf.Tensor,
        *,
        with_gradient: bool = True,
    ) -> tf.Tensor:
        """The weighted sum of the mean squared errors of predicted images; see ``image_error``."""
        return image_error(
            self._painter, images, targets, frames, shares, points, with_gradient=with_gradient
        )

    @property
    def _painter(self) -> Painter:
        return Painter(
            self.im_encoder.kernels_and_biases,
            self.decoder_image.kernels_and_biases,
            self._heatmap_size,
            self._transpose_heatmap,
        )

    def _check(self, images: tf.Tensor, patches: tf.Tensor | None) -> None:
        height, width = images.shape[1:3]
        if height is None or width is None or min(height, width) <= BORDER:
            raise ValueError(f"Images must have static sides of more than {BORDER}. Received: {images.shape}")
        if self.uses_clip and patches is None:
            raise ValueError(f"{self.name} looks at CLIP's patches [n, rows, columns, d]. Received: None")
