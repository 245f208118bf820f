"""Writing checkpoints under the official names, with the object graph that the original code reads."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from core.named_variables import named_variables
from rt1.checkpoints.dialects import NETWORK
from rt1.sequence_agent import SequenceAgent


def tensorflow_checkpoint(agent: SequenceAgent) -> tf.train.Checkpoint:
    """The object graph of RT-1's checkpoints: ``agent/…``, ``global_step`` and ``save_counter``."""
    checkpoint = tf.train.Checkpoint(agent=agent, global_step=agent.train_step_counter)
    _ = checkpoint.save_counter  # Made by the first access; RT-1's checkpoints have it.
    return checkpoint


def save_checkpoint(agent: SequenceAgent, folder: str | Path) -> Path:
    """Writes ``ckpt-STEP`` and the ``checkpoint`` file that names it.

    Network, optimiser slots and counters have exactly the keys of the released checkpoints.

    Args:
      agent: whose variables they are.
      folder: existing; whoever calls publishes it as a whole (``core.checkpoint_folder``).

    Returns:
      The prefix.

    Raises:
      ValueError: a weight is NaN or infinite: a finite loss does not show that the update after it was.
    """
    for name, variable in named_variables(agent.actor_network, NETWORK).items():
        if variable.dtype.is_floating and not np.isfinite(variable.numpy()).all():
            raise ValueError(f"A checkpoint needs finite weights. Received: NaN or infinity in {name}")
    folder = Path(folder)
    name = f"ckpt-{int(agent.train_step_counter.numpy())}"
    tensorflow_checkpoint(agent).write(str(folder / name))
    state = f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "{name}"\n'
    (folder / "checkpoint").write_text(state, encoding="utf-8")
    return folder / name


def restore_checkpoint(agent: SequenceAgent, prefix: str | Path) -> None:
    """Reads what ``save_checkpoint`` wrote: network, optimiser and counters, all of it.

    Raises:
      ValueError: the checkpoint has other variables than the agent.
    """
    try:
        tensorflow_checkpoint(agent).read(str(prefix)).assert_consumed()
    except (AssertionError, tf.errors.OpError, ValueError) as error:
        first = str(error).split("\n", 1)[0][:300]
        raise ValueError(f"{prefix} does not fit the agent to resume: {first}") from error
