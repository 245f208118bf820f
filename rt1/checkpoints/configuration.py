"""Reading a network's hyper-parameters off the shapes of its variables."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from core.load_report import Shape
from film_efficientnet import variants
from rt1.checkpoints.dialects import NETWORK
from rt1.checkpoints.reader import CheckpointError
from rt1.transformer_network import CROSS_ENTROPY, REGRESSION

# Tokens of an action whose layout is known: RT-1's released policies, the food task.
KNOWN_TOKENS_PER_ACTION = (11, 4)


@dataclasses.dataclass(frozen=True)
class Configuration:
    """Hyper-parameters of ``TransformerNetwork``, under its argument names, and what follows from them.

    Attributes:
      positions: rows of the position table: time_sequence_length · (image tokens + tokens_per_action).
      tokens_per_action, time_sequence_length: None where the table's length does not settle them.
    """

    head: str
    efficientnet_variant: str
    token_embedding_size: int
    num_image_tokens: int
    num_layers: int
    layer_size: int
    num_heads: int
    feed_forward_size: int
    vocab_size: int
    positions: int
    embedding_size: int
    tokens_per_action: int | None
    time_sequence_length: int | None

    def network_arguments(self) -> dict[str, Any]:
        """The arguments of ``TransformerNetwork`` that the shapes settle.

        Raises:
          CheckpointError: the window's length is not settled.
        """
        if self.time_sequence_length is None:
            raise CheckpointError(
                f"The position table has {self.positions} rows, which no known number of action tokens "
                f"{KNOWN_TOKENS_PER_ACTION} divides; give tokens_per_action."
            )
        skip = ("positions", "embedding_size", "tokens_per_action")
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in skip}


def configuration_of(shapes: Mapping[str, Shape], tokens_per_action: int | None = None) -> Configuration:
    """Hyper-parameters from official names and shapes.

    Args:
      shapes: official name -> shape.
      tokens_per_action: None tries the known layouts.

    Raises:
      CheckpointError: a variable that settles one is missing, or the trunk is no known EfficientNet.
    """

    def shape(name: str) -> Shape:
        try:
            return shapes[f"{NETWORK}/{name}"]
        except KeyError:
            raise CheckpointError(f"The checkpoint has no {NETWORK}/{name}: not a whole RT-1.") from None

    layers = {
        int(match.group(1))
        for name in shapes
        if (match := re.match(rf"{NETWORK}/_transformer/_layers/(\d+)/", name))
    }
    if layers != set(range(len(layers))) or not layers:
        raise CheckpointError(f"Transformer layers are missing. Received: {sorted(layers)}")
    _, num_heads, layer_size = shape("_transformer/_layers/0/mha1/_key_dense/kernel")
    token_embedding_size, feed_forward_size = shape("_transformer/_token_emb/kernel")
    num_image_tokens = shape("_image_tokenizer/_token_learner/mlp/_output_layer/bias")[0]
    positions = shape("_transformer/_position_emb/kernel")[0]
    candidates = KNOWN_TOKENS_PER_ACTION if tokens_per_action is None else (tokens_per_action,)
    fitting = [a for a in candidates if positions % (num_image_tokens + a) == 0]
    actions = fitting[0] if fitting else None
    regression = f"{NETWORK}/_regression_output/kernel" in shapes
    return Configuration(
        head=REGRESSION if regression else CROSS_ENTROPY,
        efficientnet_variant=_variant(shapes),
        token_embedding_size=token_embedding_size,
        num_image_tokens=num_image_tokens,
        num_layers=len(layers),
        layer_size=layer_size,
        num_heads=num_heads,
        feed_forward_size=feed_forward_size,
        vocab_size=shape("_transformer/_output_tokens/kernel")[1],
        positions=positions,
        embedding_size=shape("_image_tokenizer/_tokenizer/film_layer/_projection_add/kernel")[0],
        tokens_per_action=actions,
        time_sequence_length=None if actions is None else positions // (num_image_tokens + actions),
    )


def _variant(shapes: Mapping[str, Shape]) -> str:
    """The EfficientNet whose depth and channels these are."""
    film = re.compile(
        rf"{NETWORK}/_image_tokenizer/_tokenizer/net/layer_with_weights-(\d+)/_projection_add/bias"
    )
    found = sorted((int(m.group(1)), shapes[n][0]) for n in shapes if (m := film.fullmatch(n)))
    channels = [size for _, size in found]
    for name, variant in variants.VARIANTS.items():
        if channels == [block.filters_out for block in variants.blocks(variant)]:
            return name
    raise CheckpointError(
        f"The trunk is none of the known EfficientNets {sorted(variants.VARIANTS)}: "
        f"its {len(channels)} FiLM layers have the channels {channels}."
    )
