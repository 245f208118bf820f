"""One way to ask either model: EIPL's SARNN is a CLIP-SARNN with one camera and no words."""

import tensorflow as tf

from sarnn_tf.image_modality import IMAGE
from sarnn_tf.layers.lstm_cell import LstmState
from sarnn_tf.networks.clip_sarnn import ClipSarnn, ClipSarnnOutput, Observations
from sarnn_tf.networks.sarnn import Sarnn, SarnnOutput

Aux = dict[str, tf.Tensor]


def predict(
    model: Sarnn | ClipSarnn, observations: Observations, state: LstmState | None = None
) -> tuple[ClipSarnnOutput, LstmState, Aux]:
    """All steps of sequences; see ``ClipSarnn.call``.

    Args:
      model: either.
      observations: with the axis t; a ``Sarnn`` takes the images of ``image`` and the joints.
      state: before the first step; None for zeros.
    """
    if isinstance(model, ClipSarnn):
        return model(observations, state)
    output, state, aux = model(_only_image(observations), observations.joints, state)
    return _by_modality(output, state, aux)


def predict_step(
    model: Sarnn | ClipSarnn, observations: Observations, state: LstmState | None = None
) -> tuple[ClipSarnnOutput, LstmState, Aux]:
    """One step, everything without the axis t; see ``ClipSarnn.step``."""
    if isinstance(model, ClipSarnn):
        return model.step(observations, state)
    output, state, aux = model.step(_only_image(observations), observations.joints, state)
    return _by_modality(output, state, aux)


def _only_image(observations: Observations) -> tf.Tensor:
    if set(observations.images) != {IMAGE}:
        raise ValueError(f"SARNN sees only {IMAGE!r}. Received: {sorted(observations.images)}")
    return observations.images[IMAGE]


def _by_modality(output: SarnnOutput, state: LstmState, aux: Aux) -> tuple[ClipSarnnOutput, LstmState, Aux]:
    maps = ("attention", "features", "heatmap")
    return (
        ClipSarnnOutput(
            {IMAGE: output.image},
            output.joints,
            {IMAGE: output.encoder_points},
            {IMAGE: output.decoder_points},
        ),
        state,
        {f"{k}/{IMAGE}" if k in maps else k: v for k, v in aux.items()},
    )
