"""EfficientNet's tables against Keras' own networks and RT-1's facts."""

import numpy as np
import pytest
import tensorflow as tf

from film_efficientnet import variants
from film_efficientnet.variants import Block


def test_b0_is_the_table_of_the_paper() -> None:
    blocks = variants.blocks(variants.variant("b0"))
    assert len(blocks) == 16
    assert blocks[0] == Block("block1a", 3, 32, 16, 1, 1)
    assert blocks[1] == Block("block2a", 3, 16, 24, 6, 2)
    assert blocks[3] == Block("block3a", 5, 24, 40, 6, 2)
    assert blocks[-1] == Block("block7a", 3, 192, 320, 6, 1)


def test_b3_has_26_blocks() -> None:
    blocks = variants.blocks(variants.variant("b3"))
    assert len(blocks) == 26
    assert [b.filters_out for b in blocks] == (
        [24] * 2 + [32] * 3 + [48] * 3 + [96] * 5 + [136] * 5 + [232] * 6 + [384] * 2
    )
    assert np.prod([b.stride for b in blocks]) == 16
    assert [b.name for b in blocks[:3]] == ["block1a", "block1b", "block2a"]


def test_the_layers_of_b3_are_those_of_keras() -> None:
    """Names and channels of every convolution; for B0 the weights of Keras' network show it."""
    model = tf.keras.applications.EfficientNetB3(weights=None, include_top=False, input_shape=(64, 64, 3))
    variant = variants.variant("b3")
    for block in variants.blocks(variant):
        depthwise = model.get_layer(f"{block.name}_dwconv")
        assert depthwise.kernel_size == (block.kernel_size,) * 2
        assert depthwise.strides == (block.stride,) * 2
        assert model.get_layer(f"{block.name}_project_conv").filters == block.filters_out
        assert depthwise.depthwise_kernel.shape[2] == block.filters_in * block.expand_ratio
        squeezed = max(1, int(block.filters_in * variants.SE_RATIO))
        assert model.get_layer(f"{block.name}_se_reduce").filters == squeezed
    keras_blocks = {layer.name.split("_")[0] for layer in model.layers if layer.name.startswith("block")}
    assert keras_blocks == {b.name for b in variants.blocks(variant)}
    width = variant.width
    assert model.get_layer("stem_conv").filters == variants.round_filters(variant.stem_filters, width)
    assert model.get_layer("top_conv").filters == variants.round_filters(variant.top_filters, width)


def test_tiny_keeps_an_eighth_of_the_resolution() -> None:
    blocks = variants.blocks(variants.variant("tiny"))
    assert np.prod([b.stride for b in blocks]) == 4  # And the stem's 2.
    for one, following in zip(blocks, blocks[1:], strict=False):
        assert following.filters_in == one.filters_out


@pytest.mark.parametrize(
    ("filters", "width", "expected"),
    [(32, 1.2, 40), (16, 1.2, 24), (12, 1.0, 16), (11, 1.0, 16), (1, 1.0, 8)],
)
def test_channels_are_multiples_of_8_never_10_percent_down(filters: int, width: float, expected: int) -> None:
    assert variants.round_filters(filters, width) == expected


def test_an_unknown_variant_is_named() -> None:
    with pytest.raises(ValueError, match="'b0', 'b3', 'tiny'.*Received: 'b9'"):
        variants.variant("b9")
