"""The keys and shapes of OpenCLIP's state dictionary, and the layouts of matrices there and here."""

import numpy as np

from clip_tf.model_config import ClipConfig
from core.load_report import Shape

LOGIT_SCALE = "logit_scale"
IMAGE_POSITIONS, TEXT_POSITIONS = "visual.positional_embedding", "positional_embedding"
_TRANSPOSED = ("in_proj_weight", "out_proj.weight", "c_fc.weight", "c_proj.weight")
_PATCH_KERNEL = "visual.conv1.weight"


def from_openclip(key: str, value: np.ndarray) -> np.ndarray:
    """PyTorch's layout to ours: matrices [out, in] -> [in, out], the patch kernel -> [h, w, in, out]."""
    if key == _PATCH_KERNEL:
        return value.transpose(2, 3, 1, 0)
    return value.T if key.endswith(_TRANSPOSED) else value


def to_openclip(key: str, value: np.ndarray) -> np.ndarray:
    """The inverse of ``from_openclip``."""
    if key == _PATCH_KERNEL:
        return value.transpose(3, 2, 0, 1)
    return value.T if key.endswith(_TRANSPOSED) else value


def openclip_shapes(config: ClipConfig) -> dict[str, Shape]:
    """Key -> shape in PyTorch's layout of every parameter."""
    vision, text = config.vision, config.text
    return {
        TEXT_POSITIONS: (text.context_length, text.width),
        "text_projection": (text.width, config.embed_dim),
        LOGIT_SCALE: (),
        "visual.class_embedding": (vision.width,),
        IMAGE_POSITIONS: (1 + vision.grid**2, vision.width),
        "visual.proj": (vision.width, config.embed_dim),
        _PATCH_KERNEL: (vision.width, 3, vision.patch_size, vision.patch_size),
        **_norm("visual.ln_pre", vision.width),
        **_blocks("visual.transformer", vision.layers, vision.width, vision.mlp_width),
        **_norm("visual.ln_post", vision.width),
        **_blocks("transformer", text.layers, text.width, text.mlp_width),
        "token_embedding.weight": (text.vocab_size, text.width),
        **_norm("ln_final", text.width),
    }


def _norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _blocks(name: str, layers: int, width: int, mlp_width: int) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for i in range(layers):
        block = f"{name}.resblocks.{i}"
        shapes |= {
            **_norm(f"{block}.ln_1", width),
            f"{block}.attn.in_proj_weight": (3 * width, width),
            f"{block}.attn.in_proj_bias": (3 * width,),
            f"{block}.attn.out_proj.weight": (width, width),
            f"{block}.attn.out_proj.bias": (width,),
            **_norm(f"{block}.ln_2", width),
            f"{block}.mlp.c_fc.weight": (mlp_width, width),
            f"{block}.mlp.c_fc.bias": (mlp_width,),
            f"{block}.mlp.c_proj.weight": (width, mlp_width),
            f"{block}.mlp.c_proj.bias": (width,),
        }
    return shapes
