"""What an episode is, and reading and writing it: RLDS TFRecords, NPZ, windows, splits, statistics.

Modules: ``episode`` (the contract), ``rlds`` (reading TFRecords), ``windows`` (training windows),
``splits``, ``statistics``, ``food_npz`` (the food task's data set). No model is known here.
"""

from core import legacy_keras as _legacy_keras  # noqa: F401
