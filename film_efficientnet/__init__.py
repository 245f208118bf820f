"""EfficientNet with FiLM: the image trunk that the instruction conditions."""

from core import legacy_keras as _legacy_keras  # noqa: F401  (before TensorFlow)
