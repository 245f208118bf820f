"""A foreign checkpoint as one of our checkpoint folders, ready for ``serve.py``."""

import dataclasses
from pathlib import Path

import tensorflow as tf

from core import checkpoint_folder, food
from core.load_report import LoadReport
from core.spec import ArraySpec, PolicySpec
from language import make_text_encoder
from rt1 import losses, specs
from rt1.checkpoints.configuration import Configuration
from rt1.checkpoints.load import inspect, load_weights
from rt1.checkpoints.reader import CheckpointError
from rt1.checkpoints.save import save_checkpoint
from rt1.policy_folder import NETWORK, PolicyDescription, write_description
from rt1.sequence_agent import SequenceAgent
from rt1.serving_policy import INSTRUCTION
from rt1.transformer_network import CROSS_ENTROPY, IMAGE, DropoutRates

_FOOD_IMAGE, _ROBOT_IMAGE = (236, 236), (256, 320)
_ROBOT_HZ = 3.0


def convert(path: str | Path, out: str | Path, encoder_source: str) -> LoadReport:
    """Reads a released or food checkpoint and writes a checkpoint folder with its weights.

    Args:
      path: as for ``reader.find_prefix``.
      out: folder to publish into, as ``train.py`` does; without a checkpoint so far.
      encoder_source: of the sentence encoder that the checkpoint was trained with
        (``language.make_text_encoder``): nothing in the file says which, and another one gives nonsense.

    Returns:
      The report of loading; it is ``ok``.

    Raises:
      FileExistsError: ``out`` has a checkpoint already.
      CheckpointError: the file cannot be read, or its actions are not RT-1's or the food task's.
      ValueError, FileNotFoundError: the weights do not fit, or there is no such encoder.
    """
    out = Path(out)
    if any(out.glob("step-*")):
        raise FileExistsError(f"The folder has a checkpoint already. Received: {out}")
    found = inspect(path)
    if (found.prefix.parent / NETWORK).exists():
        raise ValueError(f"This is a checkpoint folder already; serve.py takes it. Received: {path}")
    found.report.raise_unless_ok(f"Checkpoint {found.prefix}")
    description = _describe(found.configuration, encoder_source)
    network = description.build_network()
    report = load_weights(network, path)
    agent = SequenceAgent(
        specs.time_step_spec(description.observation_spec()),
        network.output_tensor_spec,
        network,
        tf.keras.optimizers.Adam(1e-4),
        loss_type=description.loss_type,
    )

    def write(folder: Path) -> None:
        save_checkpoint(agent, folder)
        write_description(folder, description)

    pointers = (checkpoint_folder.LAST, checkpoint_folder.BEST)
    checkpoint_folder.publish(out, 0, write, pointers=pointers)
    return report


def _describe(configuration: Configuration, encoder_source: str) -> PolicyDescription:
    is_food = configuration.tokens_per_action == 4
    if not is_food and configuration.tokens_per_action != 11:
        raise CheckpointError(
            "Only RT-1's eleven action tokens and the food task's four say what they mean. "
            f"Received: {configuration.tokens_per_action} tokens"
        )
    encoder = make_text_encoder(encoder_source)
    loss_type = losses.CROSS_ENTROPY if configuration.head == CROSS_ENTROPY else losses.SMOOTH_L1
    spec = PolicySpec(
        model="rt1",
        task="food" if is_food else "manipulation",
        observations=(
            ArraySpec(IMAGE, (None, None, 3), "uint8", 0, 255, description="RGB"),
            ArraySpec(INSTRUCTION, (), "string", description="what to do, in words"),
        ),
        actions=specs.FOOD_ACTIONS if is_food else specs.OFFICIAL_ACTIONS,
        instructions=getattr(encoder, "combinations", food.combinations()) if is_food else (),
        encoder=encoder.identity,
        free_text=encoder.free_text,
        control_hz=None if is_food else _ROBOT_HZ,
        details={"window": configuration.time_sequence_length, "loss_type": loss_type},
    )
    rates = dataclasses.asdict(DropoutRates())
    if is_food:
        rates = dict.fromkeys(rates, 0.1)  # At every site, as the food model.
    return PolicyDescription(
        network={**configuration.network_arguments(), "dropout_rates": rates},
        image_size=_FOOD_IMAGE if is_food else _ROBOT_IMAGE,
        image_dtype="float32" if is_food else "uint8",
        loss_type=loss_type,
        encoder_source=encoder_source,
        spec=spec,
    )
