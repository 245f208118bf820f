"""EfficientNet with a FiLM layer after every MBConv block (RT-1, section 5.1).

A port of the behaviour of RT-1's ``film_efficientnet_encoder``: Keras EfficientNet with the padding,
the order of the operations in a block and the numbering of the layers that its checkpoints have.
"""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from core.stateless_dropout import Seed, dropout
from film_efficientnet import variants
from film_efficientnet.film_conditioning_layer import FilmConditioning

IMAGENET_MEAN = (0.485, 0.456, 0.406)
# Keras keeps the standard deviations under the name of variances, then divides by their root again;
# the product is the usual normalisation, and checkpoints hold these numbers.
IMAGENET_STDDEV = (0.229, 0.224, 0.225)

_CONV_INIT = {
    "class_name": "VarianceScaling",
    "config": {"scale": 2.0, "mode": "fan_out", "distribution": "truncated_normal"},
}
_BATCH_NORM_EPSILON = 1e-3


class InputNormalization(tf.keras.layers.Layer):
    """Pixels in [0, 255] to ImageNet's normalised range.

    Holds the three variables of Keras' ``Normalization``, and computes from them at every call, so
    that restored values take effect without a refresh.
    """

    def build(self, input_shape: tf.TensorShape) -> None:
        constant = tf.constant_initializer
        self.mean = self.add_weight("mean", (3,), initializer=constant(IMAGENET_MEAN), trainable=False)
        self.variance = self.add_weight(
            "variance", (3,), initializer=constant(IMAGENET_STDDEV), trainable=False
        )
        self.count = self.add_weight(
            "count", (), dtype=tf.int64, initializer="zeros", trainable=False
        )  # Unused, as in Keras, but part of the checkpoints.

    def call(self, image: tf.Tensor) -> tf.Tensor:
        """[b, h, w, 3] in [0, 255] -> [b, h, w, 3]."""
        x = (image * (1.0 / 255.0) - self.mean) / tf.sqrt(self.variance)
        return x * (1.0 / tf.sqrt(tf.constant(IMAGENET_STDDEV)))


class FilmEfficientNet(tf.keras.layers.Layer):
    """The convolutional trunk: image and context to a feature map.

    The layers that have weights are attributes ``layer_with_weights-N`` in the order of construction,
    the names that Keras' functional model gives them in RT-1's checkpoints.
    """

    def __init__(
        self,
        variant: str = "b3",
        *,
        include_film: bool = True,
        drop_connect_rate: float = 0.2,
        spatial_dropout_rate: float = 0.0,
        name: str | None = None,
    ) -> None:
        """Makes the layers.

        Args:
          variant: a name of ``variants.VARIANTS``.
          include_film: False gives the plain EfficientNet, whose layers carry Keras' names.
          drop_connect_rate: of the last block; earlier ones have proportionally less.
          spatial_dropout_rate: drops whole channels of the top activation.

        Raises:
          ValueError: an unknown variant.
        """
        super().__init__(name=name)
        self.variant = variants.variant(variant)
        self.blocks = variants.blocks(self.variant)
        self.drop_connect_rate = drop_connect_rate
        self.spatial_dropout_rate = spatial_dropout_rate
        self._index: dict[str, str] = {}
        width = self.variant.width

        self._add("normalization", InputNormalization(name="normalization"))
        self._add(
            "stem_conv", _convolution(variants.round_filters(self.variant.stem_filters, width), 3, stride=2)
        )
        self._add("stem_bn", _batch_norm())
        for block in self.blocks:
            self._add_block(block, include_film)
        self._add("top_conv", _convolution(variants.round_filters(self.variant.top_filters, width), 1))
        self._add("top_bn", _batch_norm())

    def _add(self, name: str, layer: tf.keras.layers.Layer) -> None:
        attribute = f"layer_with_weights-{len(self._index)}"
        layer._name = name
        self._index[name] = attribute
        setattr(self, attribute, layer)

    def _add_block(self, block: variants.Block, include_film: bool) -> None:
        expanded = block.filters_in * block.expand_ratio
        if block.expand_ratio != 1:
            self._add(f"{block.name}_expand_conv", _convolution(expanded, 1))
            self._add(f"{block.name}_expand_bn", _batch_norm())
        self._add(
            f"{block.name}_dwconv",
            tf.keras.layers.DepthwiseConv2D(
                block.kernel_size,
                strides=block.stride,
                padding="same" if block.stride == 1 else "valid",
                use_bias=False,
                depthwise_initializer=_CONV_INIT,
            ),
        )
        self._add(f"{block.name}_bn", _batch_norm())
        squeezed = max(1, int(block.filters_in * variants.SE_RATIO))
        self._add(f"{block.name}_se_reduce", _convolution(squeezed, 1, bias=True))
        self._add(f"{block.name}_se_expand", _convolution(expanded, 1, bias=True))
        self._add(f"{block.name}_project_conv", _convolution(block.filters_out, 1))
        self._add(f"{block.name}_project_bn", _batch_norm())
        if include_film:
            self._add(f"{block.name}_film", FilmConditioning(block.filters_out))

    def layer(self, name: str) -> tf.keras.layers.Layer:
        """The layer with that Keras name (``block1a_dwconv``); KeyError where there is none."""
        return getattr(self, self._index[name])

    def layer_names(self) -> tuple[str, ...]:
        """Keras' names of the layers with weights, in order."""
        return tuple(self._index)

    def call(
        self,
        image: tf.Tensor,
        context: tf.Tensor | None = None,
        training: bool = False,
        dropout_seed: Seed = None,
    ) -> tuple[tf.Tensor, Mapping[str, Any]]:
        """Computes the top activation.

        Args:
          image: [b, h, w, 3] float32 in [0, 255].
          context: [b, context size], for the FiLM layers.
          training: batch statistics or moving averages.
          dropout_seed: int32 [2] for drop-connect and spatial dropout, None for neither.

        Returns:
          [b, h', w', top channels], and the named activations ``stem``, each block's output by its
          name (``block1a``) and ``top``.

        Raises:
          ValueError: the FiLM layers have no context.
        """
        aux: dict[str, Any] = {}
        x = self.layer("normalization")(image)
        x = self.layer("stem_conv")(_pad_for_stride(x, 3))
        x = tf.nn.silu(self.layer("stem_bn")(x, training=training))
        aux["stem"] = x
        for i, block in enumerate(self.blocks):
            rate = self.drop_connect_rate * i / len(self.blocks)
            x = self._mbconv(block, x, context, training, dropout_seed, rate)
            aux[block.name] = x
        x = self.layer("top_conv")(x)
        x = tf.nn.silu(self.layer("top_bn")(x, training=training))
        aux["top"] = x
        x = dropout(x, self.spatial_dropout_rate, dropout_seed, "backbone_spatial", (1, 2))
        return x, aux

    def _mbconv(
        self,
        block: variants.Block,
        inputs: tf.Tensor,
        context: tf.Tensor | None,
        training: bool,
        dropout_seed: Seed,
        drop_connect_rate: float,
    ) -> tf.Tensor:
        """Expand, depthwise, squeeze and excite, project, add the residual, then FiLM."""
        name = block.name
        x = inputs
        if block.expand_ratio != 1:
            x = self.layer(f"{name}_expand_conv")(x)
            x = tf.nn.silu(self.layer(f"{name}_expand_bn")(x, training=training))
        if block.stride > 1:
            x = _pad_for_stride(x, block.kernel_size)
        x = self.layer(f"{name}_dwconv")(x)
        x = tf.nn.silu(self.layer(f"{name}_bn")(x, training=training))

        squeezed = tf.reduce_mean(x, axis=(1, 2), keepdims=True)
        squeezed = tf.nn.silu(self.layer(f"{name}_se_reduce")(squeezed))
        x = x * tf.sigmoid(self.layer(f"{name}_se_expand")(squeezed))

        x = self.layer(f"{name}_project_conv")(x)
        x = self.layer(f"{name}_project_bn")(x, training=training)
        if block.stride == 1 and block.filters_in == block.filters_out:
            x = inputs + dropout(x, drop_connect_rate, dropout_seed, f"drop_connect/{name}", (1, 2, 3))
        if f"{name}_film" in self._index:
            if context is None:
                raise ValueError("FiLM needs a context [b, size]. Received: None")
            x = self.layer(f"{name}_film")(x, context)
        return x


def _convolution(
    filters: int, kernel_size: int, stride: int = 1, bias: bool = False
) -> tf.keras.layers.Conv2D:
    return tf.keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=stride,
        padding="same" if stride == 1 else "valid",
        use_bias=bias,
        kernel_initializer=_CONV_INIT,
    )


def _batch_norm() -> tf.keras.layers.BatchNormalization:
    return tf.keras.layers.BatchNormalization(epsilon=_BATCH_NORM_EPSILON)


def _pad_for_stride(x: tf.Tensor, kernel_size: int) -> tf.Tensor:
    """Zero padding before a strided convolution, as for even sizes whatever the size is (RT-1)."""
    before, after = kernel_size // 2 - 1, kernel_size // 2
    return tf.pad(x, [[0, 0], [before, after], [before, after], [0, 0]])
