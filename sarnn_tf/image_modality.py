"""One kind of image that a SARNN sees: colour, depth, or a GelSight's view of its gel."""

import dataclasses
import math

import gin

from sarnn_tf.image_resize import INTERPOLATIONS

IMAGE = "image"
"""The colour image, the one modality that CLIP can see."""
_SMALLEST = 7
# Three convolutions of 3 x 3 take six pixels from a side.


@dataclasses.dataclass(frozen=True)
class ImageModality:
    """One kind of image.

    Attributes:
      name: as in the episodes: ``image``, ``depth``, ``gelsight_left``, ``gelsight_right``.
      channels: 3 for colour, 1 for depth.
      k_dim: number of attention points.
      size: (height, width) in pixels that recorded images are brought to.
      full_scale: the recorded value that the network sees as 1: 255 for uint8, e.g. 2000 for a depth of two
        metres in millimetres; what lies beyond is 1 too.
      interpolation: of the resizing, see ``image_resize``; ``nearest`` for depth, whose zeros mean "unknown"
        and must not be mixed with distances.

    Raises:
      ValueError: a field is out of range.
    """

    name: str
    channels: int = 3
    k_dim: int = 5
    size: tuple[int, int] = (192, 192)
    full_scale: float = 255.0
    interpolation: str = "area"

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(self.size))  # JSON gives lists.
        if not self.name or "/" in self.name or self.channels < 1 or self.k_dim < 1:
            raise ValueError(f"A modality needs a name, channels and points of at least 1. Received: {self}")
        whole = all(isinstance(n, int) for n in (self.channels, self.k_dim, *self.size))
        if not whole or len(self.size) != 2 or min(self.size) < _SMALLEST:
            raise ValueError(
                f"{self.name}: size must be height and width of at least {_SMALLEST} pixels, and they, "
                f"channels and k_dim whole numbers. Received: {self}"
            )
        if not 0 < self.full_scale < math.inf:
            raise ValueError(f"{self.name}: full_scale must be > 0 and finite. Received: {self.full_scale}")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"{self.name}: interpolation must be one of {tuple(INTERPOLATIONS)}. "
                f"Received: {self.interpolation!r}"
            )


make_image_modality = gin.external_configurable(ImageModality, "ImageModality", module="sarnn_tf")
