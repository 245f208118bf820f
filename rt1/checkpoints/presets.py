"""The released checkpoints' and the food fine-tuning's configurations by name.

The gin files of ``configs/`` hold the same for the released ones.
"""

import dataclasses
from pathlib import Path

from rt1.checkpoints.configuration import Configuration


@dataclasses.dataclass(frozen=True)
class Preset:
    """What tells a released checkpoint: its hyper-parameters, and the step in its file name.

    Attributes:
      name: of a released one, also that of the gin file ``configs/NAME.gin``.
      step: of the released file (``ckpt-424760``), None for a family of checkpoints.
    """

    name: str
    head: str
    num_layers: int
    layer_size: int
    feed_forward_size: int
    time_sequence_length: int
    tokens_per_action: int
    step: int | None = None

    def fits(self, configuration: Configuration) -> bool:
        """Whether the hyper-parameters are these."""
        fields = ("head", "num_layers", "layer_size", "feed_forward_size", "time_sequence_length")
        return (
            all(getattr(self, f) == getattr(configuration, f) for f in fields)
            and self.tokens_per_action == configuration.tokens_per_action
            and configuration.efficientnet_variant == "b3"
            and configuration.num_heads == 8
            and configuration.vocab_size == 256
            and configuration.num_image_tokens == 8
            and configuration.token_embedding_size == configuration.embedding_size == 512
        )


PRESETS: tuple[Preset, ...] = (
    Preset("rt1main", "cross_entropy", 8, 128, 512, 6, 11, 424760),
    Preset("rt1multirobot", "cross_entropy", 10, 256, 1024, 6, 11, 589960),
    Preset("rt1simreal", "cross_entropy", 8, 128, 512, 6, 11, 660240),
    Preset("food_cross_entropy", "cross_entropy", 8, 128, 512, 1, 4),
    Preset("food_smooth_l1", "regression", 8, 128, 512, 1, 4),
)


def find_preset(configuration: Configuration, prefix: Path) -> str | None:
    """The preset that fits, None where none does.

    rt1main and rt1simreal are one network; the file's step or a folder's name tells them apart, and where
    neither does, it is called rt1main.
    """
    fitting = [p for p in PRESETS if p.fits(configuration)]
    for preset in fitting:
        if preset.step is not None and prefix.name.endswith(f"-{preset.step}"):
            return preset.name
    for preset in fitting:
        if any(preset.name in part for part in prefix.parts):
            return preset.name
    return fitting[0].name if fitting else None
