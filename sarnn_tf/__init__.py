"""SARNN: attention points that look, a recurrent net that predicts (EIPL), and its CLIP-guided sibling."""

from core import legacy_keras as _legacy_keras  # noqa: F401  (before TensorFlow)
