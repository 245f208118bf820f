"""Images of a recorded episode, read when they are asked for, so that an episode need not fit in memory."""

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

_DECODED_AT_ONCE = 16


class Frames(Protocol):
    """The images of one modality of one episode."""

    def every(self, stride: int) -> Iterator[np.ndarray]:
        """Images 0, stride, 2 · stride …: RGB [H, W, 3], or [H, W] or [H, W, 1] of one channel.

        Raises:
          ValueError: what is stored is damaged.
        """
        ...


class ArrayFrames:
    """Frames that are an array, e.g. a memory map."""

    def __init__(self, images: np.ndarray, *, turned: bool = False) -> None:
        """``images`` [T, H, W(, channels)]; ``turned`` says that they are BGR."""
        self._images, self._turned = images, turned

    def every(self, stride: int) -> Iterator[np.ndarray]:
        """See ``Frames``."""
        for image in self._images[::stride]:
            yield _rgb(image, self._turned)


class StreamedFrames:
    """Frames that can only be read one after the other, e.g. out of a compressed file."""

    def __init__(self, begin: Callable[[], Iterator[np.ndarray]], *, turned: bool = False) -> None:
        """``begin`` begins a pass over all images; ``turned`` says that they are BGR."""
        self._begin, self._turned = begin, turned

    def every(self, stride: int) -> Iterator[np.ndarray]:
        """See ``Frames``."""
        for i, image in enumerate(self._begin()):
            if i % stride == 0:
                yield _rgb(image, self._turned)


class EncodedFrames:
    """Frames that are files of images in memory, decoded a few at a time."""

    def __init__(self, encoded: np.ndarray, decode: Callable[[np.ndarray], np.ndarray]) -> None:
        """``encoded`` holds T byte strings; ``decode`` makes images of n of them."""
        self._encoded, self._decode = encoded, decode

    def every(self, stride: int) -> Iterator[np.ndarray]:
        """See ``Frames``."""
        wanted = self._encoded[::stride]
        for start in range(0, len(wanted), _DECODED_AT_ONCE):
            yield from self._decode(wanted[start : start + _DECODED_AT_ONCE])


def _rgb(image: np.ndarray, turned: bool) -> np.ndarray:
    return np.ascontiguousarray(image[..., ::-1]) if turned and image.ndim == 3 else image
