"""SARNN: attention points that look, a recurrent net that predicts (EIPL), and its CLIP-guided sibling."""

import os

from core import legacy_keras as _legacy_keras  # noqa: F401  (before TensorFlow)

# TensorFlow picks its oneDNN kernels by itself on some processors only; without them small convolutions take
# twice as long. It reads this once, when it is imported; a user who sets it wins.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
