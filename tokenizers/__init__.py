"""Image tokens and action tokens of RT-1."""

from core import legacy_keras as _legacy_keras  # noqa: F401  (before TensorFlow)
