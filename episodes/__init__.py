"""What an episode is, and its road from a bag to training windows.

Contract: ``episode``. Bags: ``bags``, ``topics``, ``tasks``, ``bag_index``, ``recording``,
``synchronisation``, ``bag_episodes``, ``episode_stream``. Formats: ``npz``, ``eipl_arrays``, ``food_npz``,
``rlds`` (reading). Data sets: ``settings``, ``conversion``, ``splits``, ``statistics``. Training:
``windows``. Commands: ``inspect``, ``convert``, ``convert_beam``, ``show``. No model is known here.
"""

from core import legacy_keras as _legacy_keras  # noqa: F401
