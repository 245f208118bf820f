"""A tensor that is still in its file."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from core.load_report import Shape


class WeightFileError(ValueError):
    """A file of weights is damaged, of an unknown kind, or holds what it must not."""


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """Shape and type are known; the values are read when asked for, one tensor at a time.

    Attributes:
      shape: of the values.
      dtype: of the values; bfloat16 is that of ``ml_dtypes``.
      read: gives the values, while the file is open.
    """

    shape: Shape
    dtype: np.dtype
    read: Callable[[], np.ndarray]

    def map(self, change: Callable[[np.ndarray], np.ndarray], shape: Shape) -> "StoredTensor":
        """The tensor with ``change`` applied to its values, which gives them ``shape``."""
        return StoredTensor(shape, self.dtype, lambda: change(self.read()))


Tensors = Mapping[str, StoredTensor]
