"""The official names of a network's variables, from its hyper-parameters alone."""

from film_efficientnet import variants
from rt1.checkpoints.dialects import NETWORK
from rt1.transformer_network import CROSS_ENTROPY, REGRESSION

_BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
_DENSE = ("kernel", "bias")
_FILM = tuple(f"{projection}/{w}" for projection in ("_projection_add", "_projection_mult") for w in _DENSE)


def variable_names(variant: str, num_layers: int, head: str) -> list[str]:
    """Official names of all variables of a network with TokenLearner."""
    names = []
    trunk = "_image_tokenizer/_tokenizer"
    for i, weights in enumerate(_trunk_layers(variants.variant(variant))):
        names += [f"{trunk}/net/layer_with_weights-{i}/{w}" for w in weights]
    names += [f"{trunk}/conv1x1/kernel", *(f"{trunk}/film_layer/{w}" for w in _FILM)]
    learner = "_image_tokenizer/_token_learner"
    names += [f"{learner}/mlp/{layer}/{w}" for layer in ("_hidden_layer", "_output_layer") for w in _DENSE]
    names += [f"{learner}/layernorm/{w}" for w in ("gamma", "beta")]
    for i in range(num_layers):
        layer = f"_transformer/_layers/{i}"
        names += [f"{layer}/{norm}/{w}" for norm in ("layernorm1", "layernorm2") for w in ("gamma", "beta")]
        parts = ("_query_dense", "_key_dense", "_value_dense", "_output_dense")
        names += [f"{layer}/mha1/{part}/{w}" for part in parts for w in _DENSE]
        names += [f"{layer}/ff/{w}" for w in _DENSE]
    for part in ("_token_emb", "_position_emb", "_output_tokens"):
        names += [f"_transformer/{part}/{w}" for w in _DENSE]
    names += [f"{_HEAD[head]}/{w}" for w in _DENSE]
    return [f"{NETWORK}/{name}" for name in names]


_HEAD = {CROSS_ENTROPY: "_action_token_emb", REGRESSION: "_regression_output"}


def _trunk_layers(variant: variants.Variant) -> list[tuple[str, ...]]:
    """The weights of every layer of the trunk, in the order of construction."""
    layers: list[tuple[str, ...]] = [("mean", "variance", "count"), ("kernel",), _BATCH_NORM]
    for block in variants.blocks(variant):
        if block.expand_ratio != 1:
            layers += [("kernel",), _BATCH_NORM]
        layers += [("depthwise_kernel",), _BATCH_NORM, _DENSE, _DENSE, ("kernel",), _BATCH_NORM, _FILM]
    return [*layers, ("kernel",), _BATCH_NORM]
