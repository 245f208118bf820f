"""CLIP's image tower: a vision transformer (Dosovitskiy et al. 2021; Radford et al. 2021)."""

import tensorflow as tf

from clip_tf.model_config import ClipConfig
from clip_tf.transformer import LayerNorm, Policy, Transformer


class PatchEmbedding(tf.keras.layers.Layer):
    """A linear map of every patch."""

    def __init__(self, patch_size: int, width: int, dtype: Policy) -> None:
        """``weight`` is [patch, patch, 3, width]."""
        super().__init__(dtype=dtype)
        self._patch_size = patch_size
        self.weight = self.add_weight("weight", [patch_size, patch_size, 3, width], initializer="zeros")

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """[b, h, w, 3] -> [b, gh, gw, width]."""
        return tf.nn.conv2d(images, self.weight, self._patch_size, "VALID")


class VisionTower(tf.keras.layers.Layer):
    """Image -> features of the class token and of every patch."""

    def __init__(self, config: ClipConfig, dtype: Policy) -> None:
        """Makes the tower.

        Args:
          config: of the model.
          dtype: Keras policy.
        """
        super().__init__(dtype=dtype)
        vision, epsilon = config.vision, config.layer_norm_epsilon
        self._grid = vision.grid
        self._image_size = vision.image_size
        self.class_embedding = self.add_weight("class_embedding", [vision.width], initializer="zeros")
        self.positional_embedding = self.add_weight(
            "positional_embedding", [1 + vision.grid**2, vision.width], initializer="zeros"
        )
        self.proj = self.add_weight("proj", [vision.width, config.embed_dim], initializer="zeros")
        self.conv1 = PatchEmbedding(vision.patch_size, vision.width, dtype)
        self.ln_pre = LayerNorm(vision.width, epsilon, dtype)
        self.transformer = Transformer(
            vision.width, vision.heads, vision.layers, vision.mlp_width, config.quick_gelu, epsilon, dtype
        )
        self.ln_post = LayerNorm(vision.width, epsilon, dtype)

    def call(self, images: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Encodes images.

        Args:
          images: [b, image_size, image_size, 3], normalised as ``image_preprocessing`` does.

        Returns:
          Features [b, embed_dim], not normalised, and intermediates: ``ln_pre``, ``block0``, … and
          ``ln_post`` [b, 1 + g², width] with the class token first, and ``patch_map`` [b, g, g, embed_dim],
          the projection of every patch's token.

        Raises:
          ValueError: the images are of another size.
        """
        images.shape.assert_has_rank(4)
        if not images.shape[1:].is_compatible_with([self._image_size, self._image_size, 3]):
            raise ValueError(
                f"images must be [b, {self._image_size}, {self._image_size}, 3]. Received: {images.shape}"
            )
        patches = self.conv1(images)
        width = patches.shape[3]
        b, g = tf.shape(images)[0], self._grid
        class_token = tf.broadcast_to(self.class_embedding, [b, 1, width])
        x = tf.concat([class_token, tf.reshape(patches, [b, g * g, width])], 1) + self.positional_embedding
        before = self.ln_pre(x)
        class_position = tf.zeros([b], tf.int32)
        pooled, x, intermediates = self.transformer(before, None, class_position)
        features = tf.matmul(self.ln_post(pooled), self.proj)
        tokens = self.ln_post(x)
        patch_map = tf.matmul(tf.reshape(tokens[:, 1:], [b * g * g, width]), self.proj)
        intermediates = {
            "ln_pre": before,
            **intermediates,
            "ln_post": tokens,
            "patch_map": tf.reshape(patch_map, [b, g, g, patch_map.shape[1]]),
        }
        return features, intermediates
