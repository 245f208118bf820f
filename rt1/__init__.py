"""RT-1: the Robotics Transformer (Brohan et al. 2022) as a TF-Agents sequence agent."""

from core import legacy_keras as _legacy_keras  # noqa: F401  (before TensorFlow)
