"""A gripper that a network predicts as a number, as a switch that does not flutter."""

import numpy as np


def gripper_closed(
    predicted: np.ndarray | float,
    closed: np.ndarray | bool,
    close_above: float = 0.7,
    open_below: float = 0.3,
) -> np.ndarray:
    """Whether the gripper shall be closed; between the two thresholds it stays as it is (EIPL).

    Args:
      predicted: the network's gripper, any shape, 0 for open and 1 for closed.
      closed: whether it is closed now.
      close_above, open_below: the thresholds.

    Returns:
      bool, of the arguments' common shape.

    Raises:
      ValueError: the thresholds are not in order, or a prediction is not finite.
    """
    if not open_below <= close_above:
        raise ValueError(
            f"open_below must not exceed close_above. Received: {open_below} above {close_above}"
        )
    predicted = np.asarray(predicted)
    if not np.isfinite(predicted).all():
        raise ValueError(f"predicted must be finite. Received: {predicted}")
    return (predicted > close_above) | (np.asarray(closed, bool) & (predicted >= open_below))
