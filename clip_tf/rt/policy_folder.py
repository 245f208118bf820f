"""CLIP-RT's part of a checkpoint folder: what makes a policy out of a CLIP.

::

    clip_rt.json   prompt, fusion, the vocabulary, and what of it an answer names
    spec.json      core.spec.PolicySpec
    clip/          the towers, as ``clip_tf.convert`` writes them
"""

import dataclasses
from pathlib import Path

import gin
import numpy as np

from clip_tf.rt.action_scores import TRAINING, check_fusion
from clip_tf.rt.action_table import action_specs
from clip_tf.rt.prompt import PUBLISHED, apply_prompt
from clip_tf.rt.vocabulary import Vocabulary, make_vocabulary, read_json_once
from core import checkpoint_folder, files
from core.spec import ArraySpec, PolicySpec

DESCRIPTION, CLIP = "clip_rt.json", "clip"
IMAGE, INSTRUCTION = "image", "natural_language_instruction"
# What was released: the same towers with another vocabulary.
PRESETS = ("pretrained", "finetuned")
MODEL_OF_PRESETS = "ViT-H-14-378-quickgelu"


@dataclasses.dataclass(frozen=True)
class PolicyDescription:
    """How a CLIP is asked as a policy.

    Attributes:
      vocabulary: the actions it chooses among.
      prompt: around instructions.
      fusion: ``training`` or ``readme``, see ``action_scores``.
      top_k: how many actions an answer names, with their probabilities.
      classes: labels that an answer may have, ascending; None for all. A model that never saw a class cannot
        tell it from others, and towers trained from scratch may rank it anywhere.

    Raises:
      ValueError: a field is not valid.
    """

    vocabulary: Vocabulary
    prompt: str = PUBLISHED
    fusion: str = TRAINING
    top_k: int = 5
    classes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        apply_prompt("", self.prompt)
        check_fusion(self.fusion)
        if not isinstance(self.top_k, int) or self.top_k < 1:
            raise ValueError(f"top_k must be at least 1. Received: {self.top_k!r}")
        if self.classes is None:
            return
        classes = tuple(self.classes)
        object.__setattr__(self, "classes", classes)
        known = set(range(len(self.vocabulary)))
        if not classes or list(classes) != sorted(set(classes)) or not set(classes) <= known:
            raise ValueError(
                f"classes must be labels of the vocabulary's {len(known)}, ascending. Received: {classes}"
            )

    @property
    def answers(self) -> np.ndarray:
        """The labels that an answer may have, int64, ascending."""
        return np.arange(len(self.vocabulary)) if self.classes is None else np.array(self.classes, np.int64)

    @property
    def spec(self) -> PolicySpec:
        """The policy's specification; bounds are those of the vocabulary's actions."""
        actions, start = [], 0
        for action in action_specs(self.vocabulary.actions.shape[1]):
            values = self.vocabulary.actions[:, start : start + action.size]
            start += action.size
            low, high = action.bounds()
            bounds = (min(float(low.min()), float(values.min())), max(float(high.max()), float(values.max())))
            actions.append(dataclasses.replace(action, minimum=bounds[0], maximum=bounds[1]))
        return PolicySpec(
            model="clip_rt",
            task="manipulation",
            observations=(
                ArraySpec(IMAGE, (None, None, 3), "uint8", 0, 255, description="RGB, of any size."),
                ArraySpec(INSTRUCTION, (), "string", description="What to do, without the prompt."),
            ),
            actions=tuple(actions),
            free_text=True,
            details={
                "phrases": list(self.vocabulary.phrases),
                "prompt": self.prompt,
                "fusion": self.fusion,
                "top_k": min(self.top_k, len(self.answers)),
                "classes": self.answers.tolist(),
            },
        )


@gin.configurable(module="clip_rt")
def make_description(
    vocabulary: Vocabulary | None = None, prompt: str = PUBLISHED, fusion: str = TRAINING, top_k: int = 5
) -> PolicyDescription:
    """A description with the vocabulary that gin configures, unless one is given."""
    return PolicyDescription(make_vocabulary() if vocabulary is None else vocabulary, prompt, fusion, top_k)


def write_description(folder: Path, description: PolicyDescription) -> None:
    """Writes the two JSON files into an existing folder."""
    value = {
        "prompt": description.prompt,
        "fusion": description.fusion,
        "top_k": description.top_k,
        "classes": description.classes,
        "vocabulary": description.vocabulary.to_json(),
    }
    files.write_json(folder / DESCRIPTION, value)
    description.spec.save(folder / checkpoint_folder.SPEC)


def read_description(folder: str | Path) -> PolicyDescription:
    """The inverse of ``write_description``.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: a file is not what it should be.
    """
    path = Path(folder) / DESCRIPTION
    try:
        value = read_json_once(path)
        if not isinstance(value, dict) or "vocabulary" not in value:
            raise ValueError(f"it must be an object with a vocabulary. Received: {str(value)[:200]}")
        vocabulary = Vocabulary.from_json(value.pop("vocabulary"))
        return PolicyDescription(vocabulary, **value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} does not describe a CLIP-RT policy: {error}") from error
