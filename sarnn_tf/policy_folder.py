"""A trained SARNN from its checkpoint folder, with the frozen CLIP that lies beside it.

::

    log/<tag>/
      best.json  last.json   pointers to checkpoints
      clip/                  the run's frozen CLIP, once, as ``clip_tf.convert`` writes one
      step-00001200/         sarnn.json, spec.json, weights.npz and what else ``core.checkpoint_folder`` says
"""

import dataclasses
from pathlib import Path

from core import checkpoint_folder
from sarnn_tf.description import SarnnDescription, read_description
from sarnn_tf.frozen_clip import FrozenClip, open_frozen_clip
from sarnn_tf.networks.clip_sarnn import ClipSarnn
from sarnn_tf.networks.sarnn import Sarnn
from sarnn_tf.weights_file import WEIGHTS, load_weights

CLIP = "clip"


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedSarnn:
    """What a checkpoint makes.

    Attributes:
      model: with its weights.
      description: of the network and its transforms.
      clip: the frozen CLIP of the training; None where the model uses none.
    """

    model: Sarnn | ClipSarnn
    description: SarnnDescription
    clip: FrozenClip | None = None


def load_checkpoint(folder: str | Path, clip_source: str | Path | None = None) -> LoadedSarnn:
    """Loads a checkpoint folder, or the best one of a run.

    Args:
      folder: a checkpoint folder, or one with ``best.json``.
      clip_source: folder of the frozen CLIP; None for ``clip`` beside the checkpoint.

    Raises:
      FileNotFoundError: a file is missing, or the CLIP.
      ValueError: the files do not fit each other, the CLIP is not the one of the training, or one is named
        for a model without.
    """
    folder = checkpoint_folder.resolve(folder)
    description = read_description(folder)
    # The CLIP first: where it is missing or wrong, that is known before anything large is built.
    clip = _load_clip(folder, description, clip_source)
    model = description.make_model()
    load_weights(model, folder / WEIGHTS)
    return LoadedSarnn(model, description, clip)


def _load_clip(
    folder: Path, description: SarnnDescription, clip_source: str | Path | None
) -> FrozenClip | None:
    if not description.uses_text:
        if clip_source is not None:
            raise ValueError(f"{folder}: this model uses no CLIP. Received: {clip_source}")
        return None
    source = folder.resolve().parent / CLIP if clip_source is None else Path(clip_source)
    if not source.is_dir():
        raise FileNotFoundError(
            f"The frozen CLIP of the training is needed: {CLIP}/ beside the checkpoint, or named. "
            f"Received: {source}"
        )
    clip = open_frozen_clip(source)
    if clip.fingerprint != description.clip_fingerprint:
        raise ValueError(
            f"The model was trained with the CLIP {description.clip_fingerprint}. "
            f"Received: {clip.fingerprint} from {source}"
        )
    return clip
