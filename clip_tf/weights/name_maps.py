"""The names that CLIP's weights have in the wild, as rules that rename them to OpenCLIP's keys."""

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from clip_tf.weights.layout import LOGIT_SCALE
from clip_tf.weights.stored_tensor import StoredTensor, Tensors
from core.load_report import Rule, Shape, map_names

OPENCLIP, OPENAI, HUGGING_FACE = "openclip", "openai", "hugging_face"

# What OpenAI stores beside the weights; not parameters.
_OPENAI_ONLY = r"input_resolution|context_length|vocab_size"
# Data-parallel training and torch.compile put these before every name.
_WRAPPERS = r"(?:module\.|_orig_mod\.)*"
_PARTS = {"q": 0, "k": 1, "v": 2}


def _transpose(value: np.ndarray) -> np.ndarray:
    return value.T


_OPENCLIP_RULES = (
    Rule(_WRAPPERS + r"(?:" + _OPENAI_ONLY + r")", None, reason="sizes, not weights"),
    Rule(_WRAPPERS + r"(?:text\.)?attn_mask", None, reason="the causal mask, which is made"),
    # OpenCLIP's newer class keeps the text tower below ``text.``.
    Rule(
        _WRAPPERS
        + r"(?:text\.)?"
        + r"((?:positional_embedding|text_projection|token_embedding|transformer|ln_final)(?:\..*)?)",
        r"\1",
    ),
    Rule(_WRAPPERS + r"(visual\..*|logit_scale)", r"\1"),
)


def _hf_tower(theirs: str, ours: str) -> tuple[Rule, ...]:
    layer = rf"{theirs}\.encoder\.layers\.(\d+)\."
    block = rf"{ours}transformer.resblocks.\1."
    return (
        Rule(layer + r"layer_norm([12])\.(weight|bias)", block + r"ln_\2.\3"),
        # Queries, keys and values are rows of one matrix; ``join`` puts them together.
        Rule(layer + r"self_attn\.([qkv])_proj\.(weight|bias)", block + r"attn.in_proj_\3/\2"),
        Rule(layer + r"self_attn\.out_proj\.(weight|bias)", block + r"attn.out_proj.\2"),
        Rule(layer + r"mlp\.fc1\.(weight|bias)", block + r"mlp.c_fc.\2"),
        Rule(layer + r"mlp\.fc2\.(weight|bias)", block + r"mlp.c_proj.\2"),
        Rule(rf"{theirs}\.embeddings\.position_ids", None, reason="0, 1, 2, …"),
        Rule(rf"{theirs}\.embeddings\.position_embedding\.weight", rf"{ours}positional_embedding"),
    )


_HF_RULES = (
    *_hf_tower("vision_model", "visual."),
    *_hf_tower("text_model", ""),
    Rule(r"vision_model\.embeddings\.class_embedding", "visual.class_embedding"),
    Rule(r"vision_model\.embeddings\.patch_embedding\.weight", "visual.conv1.weight"),
    Rule(r"vision_model\.pre_layrnorm\.(weight|bias)", r"visual.ln_pre.\1"),
    Rule(r"vision_model\.post_layernorm\.(weight|bias)", r"visual.ln_post.\1"),
    Rule(r"visual_projection\.weight", "visual.proj", _transpose),
    Rule(r"text_model\.embeddings\.token_embedding\.weight", "token_embedding.weight"),
    Rule(r"text_model\.final_layer_norm\.(weight|bias)", r"ln_final.\1"),
    Rule(r"text_projection\.weight", "text_projection", _transpose),
    Rule(LOGIT_SCALE, LOGIT_SCALE),
)


def detect(names: Iterable[str]) -> str:
    """Whose names these are."""
    names = list(names)
    if any(name.startswith(("vision_model.", "text_model.")) for name in names):
        return HUGGING_FACE
    return OPENAI if any(re.fullmatch(_OPENAI_ONLY, name) for name in names) else OPENCLIP


def to_openclip(tensors: Tensors) -> tuple[dict[str, StoredTensor], list[str]]:
    """Renames tensors to OpenCLIP's keys, in its layout.

    Returns:
      key -> tensor, and the names that no rule knows.

    Raises:
      ValueError: two tensors have one key.
    """
    rules: Sequence[Rule] = _HF_RULES if detect(tensors) == HUGGING_FACE else _OPENCLIP_RULES
    mapped, unknown = map_names(tensors, rules)
    found: dict[str, StoredTensor] = {}
    for m in mapped:
        tensor = tensors[m.source]
        if m.transform is not None:
            tensor = tensor.map(m.transform, tensor.shape[::-1])
        if m.target == LOGIT_SCALE and tensor.shape == (1,):
            tensor = tensor.map(lambda value: value.reshape(()), ())
        found[m.target] = tensor
    return _join(found), unknown


def _join(tensors: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Puts KEY/q, KEY/k and KEY/v together; an incomplete group stays as it is, so that it is reported."""
    joined = dict(tensors)
    for key in {name.rpartition("/")[0] for name in tensors if "/" in name}:
        names = [f"{key}/{part}" for part in _PARTS]
        parts = [tensors[name] for name in names if name in tensors]
        if len(parts) == len(_PARTS) and len({p.shape[1:] for p in parts}) == 1 and parts[0].shape:
            for name in names:
                del joined[name]
            shape: Shape = (sum(p.shape[0] for p in parts), *parts[0].shape[1:])
            joined[key] = StoredTensor(shape, parts[0].dtype, _concatenate(parts))
    return joined


def _concatenate(parts: Sequence[StoredTensor]) -> Callable[[], np.ndarray]:
    return lambda: np.concatenate([part.read() for part in parts])
