"""How often each class was taken for which: counts, figures, and a picture for TensorBoard."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

_SHOWN_ALWAYS = 12
# Above, the counts would be too many to read and slow to draw.
_CLASSES_WITH_COUNTS = 30


def confusion_matrix(true: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts int64 [classes, classes], the true class in rows.

    Args:
      true, predicted: classes [n].
      num_classes: of the vocabulary.
    """
    flat = np.asarray(true, np.int64) * num_classes + np.asarray(predicted, np.int64)
    return np.bincount(flat, minlength=num_classes**2).reshape(num_classes, num_classes)


def top_k_accuracy(logits: np.ndarray, true: np.ndarray, k: int) -> float:
    """The share of rows of logits [n, classes] whose true class is among the k largest; −inf is never."""
    k = min(k, logits.shape[1])
    best = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    finite = np.isfinite(np.take_along_axis(logits, best, axis=1))
    return float(((best == np.asarray(true)[:, None]) & finite).any(axis=1).mean())


def draw_confusion_matrix(counts: np.ndarray, phrases: Sequence[str]) -> np.ndarray:
    """The matrix as uint8 [1, height, width, 3]; rows are shares of their true class.

    Classes that neither occur nor are predicted are left out, unless there are few.

    Args:
      counts: of ``confusion_matrix``.
      phrases: of the classes.
    """
    used = (counts.sum(axis=0) + counts.sum(axis=1)) > 0
    if len(counts) <= _SHOWN_ALWAYS:
        used[:] = True
    shown = counts[np.ix_(used, used)]
    names = [f"{i} {phrase}" for i, phrase in enumerate(phrases) if used[i]]
    shares = shown / np.maximum(shown.sum(axis=1, keepdims=True), 1)
    side = 4.5 + 0.3 * len(names)
    figure = Figure(figsize=(side, side), dpi=80, layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    axes.set_xticks(range(len(names)), [name.split()[0] for name in names], fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    cells = np.nonzero(shown) if len(names) <= _CLASSES_WITH_COUNTS else ((), ())
    for row, column in zip(*cells, strict=True):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(shown[row, column]), ha="center", va="center", fontsize=7, color=colour)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    with Image.open(buffer) as picture:
        return np.asarray(picture.convert("RGB"))[None]
