"""RT-1's part of a checkpoint folder: what, beside the weights, makes a policy out of them.

::

    network.json             arguments of TransformerNetwork, image size, loss, sentence encoder
    spec.json                core.spec.PolicySpec
    dataset_statistics.json  of the training episodes, where the bounds of the actions came from them
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core import checkpoint_folder, files
from core.spec import PolicySpec
from episodes.statistics import DatasetStatistics
from rt1 import specs
from rt1.transformer_network import DropoutRates, TransformerNetwork

NETWORK = "network.json"


@dataclasses.dataclass(frozen=True)
class PolicyDescription:
    """What the weights are to be put into and how they are to be asked.

    Attributes:
      network: arguments of ``TransformerNetwork`` beside the two specs; ``dropout_rates`` as a mapping.
      image_size: (height, width) to which frames are brought before the network.
      image_dtype: ``uint8``, or ``float32`` in [0, 1]: what the network was trained on.
      loss_type: it was trained with.
      encoder_source: for ``language.make_text_encoder``.
      spec: of the policy; its ``encoder`` is the encoder's identity.
    """

    network: Mapping[str, Any]
    image_size: tuple[int, int]
    image_dtype: str
    loss_type: str
    encoder_source: str
    spec: PolicySpec

    def build_network(self) -> TransformerNetwork:
        """The network with fresh variables.

        Raises:
          ValueError: an argument is unknown or does not fit.
        """
        arguments = dict(self.network)
        rates = arguments.pop("dropout_rates", None)
        try:
            network = TransformerNetwork(
                self.observation_spec(),
                specs.action_spec(self.spec.actions),
                dropout_rates=None if rates is None else DropoutRates(**rates),
                **arguments,
            )
        except TypeError as error:
            raise ValueError(f"{NETWORK} has other fields than the network: {error}") from error
        network.create_variables()
        return network

    def observation_spec(self) -> dict[str, Any]:
        """Of single steps, as the network takes them."""
        return specs.observation_spec(*self.image_size, image_dtype=self.image_dtype)


def write_description(
    folder: Path, description: PolicyDescription, statistics: DatasetStatistics | None = None
) -> None:
    """Writes the files named above into an existing folder."""
    value = dataclasses.asdict(description)
    del value["spec"]
    files.write_json(folder / NETWORK, value)
    description.spec.save(folder / checkpoint_folder.SPEC)
    if statistics is not None:
        statistics.save(folder / checkpoint_folder.STATISTICS)


def read_description(folder: str | Path) -> PolicyDescription:
    """The inverse of ``write_description``.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: a file is not what it should be.
    """
    folder = Path(folder)
    value = files.read_json(folder / NETWORK)
    spec = PolicySpec.load(folder / checkpoint_folder.SPEC)
    try:
        height, width = (int(side) for side in value["image_size"])
        value["image_size"] = (height, width)
        if not isinstance(value["network"], dict):
            raise TypeError(f"network must be an object, not {value['network']!r}")
        return PolicyDescription(spec=spec, **value)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / NETWORK} does not describe an RT-1 policy: {error}") from error
