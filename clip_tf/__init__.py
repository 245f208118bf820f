"""CLIP towers in TensorFlow with OpenCLIP's weights, and CLIP-RT."""

from core import legacy_keras as _legacy_keras  # noqa: F401  (before TensorFlow)
