"""The one training loop and what it writes: checkpoints, TensorBoard, CSV, progress, curves.

It knows no model: it drives whatever implements ``core.trainable.Trainable``.
"""

from core import legacy_keras as _legacy_keras  # noqa: F401
