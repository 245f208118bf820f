"""Exports a trained policy as a TF-Agents SavedModel: ``python -m rt1.export --checkpoint DIR --out DIR``.

The folder has ``policy_specs.pbtxt``, so that TF-Agents' ``SavedModelPyTFEagerPolicy`` loads it without
any code of ours.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf
from tf_agents.policies import policy_saver

from core import checkpoint_folder, files
from rt1 import specs
from rt1.checkpoints.load import load_weights
from rt1.policy_folder import read_description
from rt1.sequence_policy import SequencePolicy


def export_policy(policy: SequencePolicy, out: str | Path, *, train_step: int = 0) -> Path:
    """Writes a policy as a SavedModel with ``action`` and ``get_initial_state``.

    Args:
      policy: of single steps.
      out: a folder that does not exist yet.
      train_step: kept in the SavedModel.

    Returns:
      The folder.

    Raises:
      FileExistsError: the folder exists.
    """
    step = tf.Variable(train_step, dtype=tf.int64, trainable=False)
    saver = policy_saver.PolicySaver(policy, batch_size=None, train_step=step)
    with files.atomic_folder(out) as temporary:
        saver.save(str(temporary))
    return Path(out)


def export_checkpoint(checkpoint: str | Path, out: str | Path) -> Path:
    """Exports the policy of a checkpoint folder; images come in the size that the network was trained on.

    Raises:
      FileNotFoundError, FileExistsError, ValueError: as the parts.
    """
    folder = checkpoint_folder.resolve(checkpoint)
    description = read_description(folder)
    network = description.build_network()
    load_weights(network, folder)
    policy = SequencePolicy(
        specs.time_step_spec(description.observation_spec()), network.output_tensor_spec, network
    )
    state = checkpoint_folder.TRAIN_STATE
    step = files.read_json(folder / state)["step"] if (folder / state).exists() else 0
    return export_policy(policy, out, train_step=step)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog="python -m rt1.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True, help="checkpoint folder, or a run's folder (its best)")
    parser.add_argument("--out", required=True, help="folder to write")
    options = parser.parse_args(arguments)
    try:
        folder = export_checkpoint(options.checkpoint, options.out)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
