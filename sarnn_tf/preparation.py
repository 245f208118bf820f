"""From recorded images to what the network sees, and back: one transform for training, serving and export."""

import numpy as np

from sarnn_tf.image_modality import ImageModality
from sarnn_tf.image_resize import resize


def prepare_images(raw: np.ndarray, modality: ImageModality) -> np.ndarray:
    """Recorded images in the modality's size, still in the recorded type.

    Args:
      raw: [..., H, W, 3] uint8 RGB, or of one channel [..., H, W] or [..., H, W, 1], uint8 or uint16 (depth
        in millimetres).
      modality: says the size.

    Returns:
      [..., h, w, channels] of the same type.

    Raises:
      ValueError: another type, or another number of channels.
    """
    raw = np.asarray(raw)
    if raw.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{modality.name} must be uint8 or uint16. Received: {raw.dtype}")
    # Four axes have a channel axis already: colour is no grey image of three columns.
    if modality.channels == 1 and raw.ndim < 4 and (raw.ndim < 3 or raw.shape[-1] != 1):
        raw = raw[..., None]
    if raw.ndim < 3 or raw.shape[-1] != modality.channels or not raw.size:
        raise ValueError(
            f"{modality.name} must be [..., H, W, {modality.channels}]. Received: {list(raw.shape)}"
        )
    height, width = modality.size
    if raw.shape[-3:-1] == (height, width):
        return raw
    return resize(raw, height, width, modality.interpolation)


def to_unit(stored: np.ndarray, modality: ImageModality) -> np.ndarray:
    """Values 0 … ``full_scale`` as float32 in [0, 1]; what lies beyond is 1."""
    return np.minimum(stored.astype(np.float32) / np.float32(modality.full_scale), np.float32(1.0))


def from_unit(image: np.ndarray, modality: ImageModality) -> np.ndarray:
    """Predicted images as recorded ones: clipped to [0, 1] and rounded.

    Returns:
      uint8, or uint16 where ``full_scale`` is beyond 255.
    """
    kind = np.uint8 if modality.full_scale <= 255 else np.uint16
    return np.rint(np.clip(image, 0.0, 1.0) * modality.full_scale).astype(kind)
