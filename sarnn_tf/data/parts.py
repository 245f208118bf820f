"""Which episodes a SARNN is trained on, and which are held out."""

import dataclasses

import gin
import numpy as np

from episodes.splits import hold_out_by_hash
from sarnn_tf.data.prepared import PreparedData
from sarnn_tf.data.recorded_episode import TEST, TRAIN
from sarnn_tf.stratified_split import stratified_split


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """Numbers of episodes.

    Attributes:
      train, test: int64, ascending; disjoint, unless the user chose to validate on training episodes.
      rule: a sentence that says how they were chosen, for the log.
    """

    train: np.ndarray
    test: np.ndarray
    rule: str


@gin.configurable(module="sarnn_tf.data", denylist=["prepared"])
def make_parts(
    prepared: PreparedData,
    *,
    test_fraction: float = 0.2,
    seed: int = 42,
    validate_on_training: bool = False,
) -> Parts:
    """Chooses the episodes to hold out.

    A data set's own parts stand. Else episodes are drawn so that each instruction is held out in proportion,
    as the published CLIP-SARNN does; where there are too few for that, those of the smallest hashes of their
    ids are.

    Args:
      prepared: the episodes.
      test_fraction: in (0, 1), share to hold out.
      seed: of the draw.
      validate_on_training: nothing is held out: all episodes are trained on and validated on. What a model
        cannot generalise does not show then.

    Raises:
      ValueError: a fraction out of range, or a single episode and not ``validate_on_training``.
    """
    n = len(prepared)
    if validate_on_training:
        return Parts(np.arange(n), np.arange(n), f"All {n} episodes are trained on, and validated on.")
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must be in (0, 1). Received: {test_fraction}")
    parts = np.array([part or "" for part in prepared.source_parts])
    if (parts == TRAIN).any() and (parts == TEST).any():
        train, test = np.flatnonzero(parts == TRAIN), np.flatnonzero(parts == TEST)
        return Parts(train, test, f"The data set's own parts: {len(train)} episodes, {len(test)} held out.")
    if n < 2:
        raise ValueError(
            f"{prepared.name} has a single episode, none to hold out: record more, or set "
            "make_parts.validate_on_training = True to validate on the training episode. "
            f"Received: {list(prepared.ids)}"
        )
    try:
        train, test = stratified_split(np.array(prepared.instructions), test_fraction, seed)
        how = "drawn from every instruction in proportion"
    except ValueError:  # Too few episodes of an instruction.
        count = min(max(1, round(n * test_fraction)), n - 1)
        held_out = hold_out_by_hash(prepared.ids, count, str(seed))
        (test,) = np.nonzero([i in held_out for i in prepared.ids])
        train = np.setdiff1d(np.arange(n), test)
        how = "those of the smallest hashes, as an instruction has too few episodes to draw from each"
    return Parts(train, test, f"{len(train)} episodes, {len(test)} held out: {how}.")
