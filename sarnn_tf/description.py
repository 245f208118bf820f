"""What a trained SARNN is: its network, and how recorded observations become what the network sees.

It lies in every checkpoint folder as ``sarnn.json``; training, serving, export and the offline test build
the model and its transforms from it, and from nothing else.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gin
import numpy as np

from core import checkpoint_folder, files
from core.spec import ArraySpec, PolicySpec
from sarnn_tf.image_modality import IMAGE, ImageModality
from sarnn_tf.networks.clip_sarnn import CLIP_FEATURES, ClipSarnn
from sarnn_tf.networks.sarnn import Sarnn

DESCRIPTION = "sarnn.json"
SARNN, CLIP_SARNN = "sarnn", "clip_sarnn"
JOINTS, INSTRUCTION = "joint_positions", "natural_language_instruction"
_NUMBER = (int, float)
_JSON_TYPES: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("rec_dim", "clip_features", "text_units"), (int,)),
    **dict.fromkeys(("vmin", "vmax", "temperature", "heatmap_size"), _NUMBER),
    **dict.fromkeys(("use_clip", "transpose_heatmap"), (bool,)),
    **dict.fromkeys(("modalities", "joint_names", "joint_bounds", "instructions"), (list, tuple)),
    "clip_fingerprint": (str,),
    "rate_hz": (*_NUMBER, type(None)),
}


@dataclasses.dataclass(frozen=True)
class SarnnDescription:
    """A network and its transforms.

    Attributes:
      model: ``sarnn`` (EIPL's: the colour image alone, no words) or ``clip_sarnn``.
      modalities: the image modalities that are on, in the order of the recurrent net's input.
      joint_names: P names, in the order of the network's joints.
      joint_bounds: smallest and largest positions of the training's data set, [2][P] in rad (or as recorded).
      vmin, vmax: what the bounds are mapped to.
      rec_dim, temperature, heatmap_size, text_units, transpose_heatmap: see ``ClipSarnn``.
      use_clip: the colour image's points come from CLIP.
      clip_features: size of CLIP's patch and text embeddings.
      clip_fingerprint: of the frozen CLIP, "" without; its weights are not in the checkpoint.
      instructions: of the training's data set, in order of appearance.
      rate_hz: steps a second that the training's sequences have, None where that was not recorded.

    Raises:
      ValueError: a field is out of range, or fields do not fit each other.
    """

    model: str
    modalities: tuple[ImageModality, ...]
    joint_names: tuple[str, ...]
    joint_bounds: tuple[tuple[float, ...], tuple[float, ...]]
    vmin: float = 0.0
    vmax: float = 1.0
    rec_dim: int = 128
    temperature: float = 5e-5
    heatmap_size: float = 0.1
    use_clip: bool = True
    clip_features: int = CLIP_FEATURES
    text_units: int = 0
    transpose_heatmap: bool = False
    clip_fingerprint: str = ""
    instructions: tuple[str, ...] = ()
    rate_hz: float | None = None

    def __post_init__(self) -> None:
        for name in ("modalities", "joint_names", "instructions"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        bounds = np.asarray(self.joint_bounds, np.float64)
        if bounds.shape != (2, self.joint_dim) or not self.joint_dim or not np.isfinite(bounds).all():
            raise ValueError(
                f"joint_bounds must be finite, [2][{self.joint_dim}] as there are joint names. "
                f"Received: {bounds.tolist()}"
            )
        if (bounds[0] > bounds[1]).any() or len(set(self.joint_names)) != self.joint_dim:
            raise ValueError(
                "Joint names must differ, and no minimum may be above its maximum. "
                f"Received: {self.joint_names}, {bounds.tolist()}"
            )
        object.__setattr__(self, "joint_bounds", tuple(tuple(row) for row in bounds.tolist()))
        if not -math.inf < self.vmin < self.vmax < math.inf:
            raise ValueError(f"vmin must be below vmax, both finite. Received: {self.vmin}, {self.vmax}")
        if self.model not in (SARNN, CLIP_SARNN):
            raise ValueError(f"model must be {SARNN!r} or {CLIP_SARNN!r}. Received: {self.model!r}")
        if not all(isinstance(m, ImageModality) for m in self.modalities):
            raise ValueError(
                "modalities must be of ImageModality, in gin with parentheses: "
                f"(@colour/sarnn_tf.ImageModality(),). Received: {self.modalities}"
            )
        names = [m.name for m in self.modalities]
        if self.model == SARNN and (
            names != [IMAGE] or self.use_clip or self.text_units or self.transpose_heatmap
        ):
            raise ValueError(
                f"{SARNN} sees {IMAGE!r} alone, without CLIP, words or a transposed heatmap; use "
                f"{CLIP_SARNN}. Received: {names}, use_clip={self.use_clip}"
            )
        for name in ("rec_dim", "temperature", "heatmap_size", "clip_features"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be > 0 and finite. Received: {getattr(self, name)}")
        if self.model == SARNN and self.modalities[0].channels != 3:
            raise ValueError(f"{SARNN} sees colour: 3 channels. Received: {self.modalities[0].channels}")
        if self.rate_hz is not None and not 0 < self.rate_hz < math.inf:
            raise ValueError(f"rate_hz must be > 0 and finite, or None. Received: {self.rate_hz}")
        if self.text_units < 0:
            raise ValueError(f"text_units must be >= 0. Received: {self.text_units}")

    @property
    def joint_dim(self) -> int:
        return len(self.joint_names)

    @property
    def uses_text(self) -> bool:
        """Whether the network is told the instruction."""
        return self.use_clip or self.text_units > 0

    @property
    def bounds(self) -> np.ndarray:
        """``joint_bounds`` as float32 [2, P]."""
        return np.asarray(self.joint_bounds, np.float32)

    @property
    def spec(self) -> PolicySpec:
        """The policy's specification. The bounds of joints are those of the data; answers may pass them."""
        observations = [
            ArraySpec(
                m.name,
                (None, None, 3) if m.channels == 3 else (None, None),
                "uint8" if m.full_scale <= 255 else "uint16",
                0,
                255 if m.full_scale <= 255 else 65535,
                unit="mm" if m.full_scale > 255 else "",
                description=f"{'RGB' if m.channels == 3 else 'One channel'}, of any size.",
            )
            for m in self.modalities
        ]
        joints = ArraySpec(
            JOINTS,
            (self.joint_dim,),
            "float32",
            unit="rad",
            description="Now, in the order " + ", ".join(self.joint_names) + ".",
        )
        if self.uses_text:
            text = ArraySpec(INSTRUCTION, (), "string", description="What to do.")
            observations.append(text)
        low, high = self.joint_bounds
        return PolicySpec(
            model=self.model,
            task="manipulation",
            observations=(*observations, joints),
            actions=(
                dataclasses.replace(
                    joints, minimum=low, maximum=high, description="For the next step, in the same order."
                ),
            ),
            instructions=self.instructions if self.uses_text else (),
            encoder=f"clip:{self.clip_fingerprint}" if self.uses_text else "",
            free_text=self.uses_text,
            control_hz=self.rate_hz,
            details={"joint_names": list(self.joint_names)},
        )

    def make_model(self, seed: int | None = None) -> Sarnn | ClipSarnn:
        """The network with fresh weights."""
        if self.model == SARNN:
            return Sarnn(
                self.joint_dim,
                rec_dim=self.rec_dim,
                k_dim=self.modalities[0].k_dim,
                temperature=self.temperature,
                heatmap_size=self.heatmap_size,
                seed=seed,
            )
        return ClipSarnn(
            self.joint_dim,
            self.modalities,
            rec_dim=self.rec_dim,
            temperature=self.temperature,
            heatmap_size=self.heatmap_size,
            use_clip=self.use_clip,
            clip_features=self.clip_features,
            text_units=self.text_units,
            transpose_heatmap=self.transpose_heatmap,
            seed=seed,
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "SarnnDescription":
        """The inverse of ``dataclasses.asdict``.

        Raises:
          ValueError: a field is missing, unknown or out of range.
        """
        wrong = [
            name for name, kinds in _JSON_TYPES.items() if name in value and type(value[name]) not in kinds
        ]
        wrong = wrong or [
            name
            for name in ("joint_names", "instructions")
            if not all(isinstance(text, str) for text in value.get(name, ()))
        ]
        if wrong:
            raise ValueError(f"Not the description of a SARNN: the type of {wrong}. Received: {value!r}")
        try:
            modalities = tuple(ImageModality(**m) for m in value["modalities"])
            return cls(**{**value, "modalities": modalities})
        except (KeyError, TypeError) as error:
            raise ValueError(f"Not the description of a SARNN: {error}. Received: {value!r}") from error


@gin.configurable(
    module="sarnn_tf",
    denylist=["joint_names", "joint_bounds", "instructions", "rate_hz", "clip_features", "clip_fingerprint"],
)
def make_description(
    joint_names: Sequence[str],
    joint_bounds: np.ndarray,
    instructions: Sequence[str] = (),
    rate_hz: float | None = None,
    clip_features: int = CLIP_FEATURES,
    clip_fingerprint: str = "",
    *,
    model: str = CLIP_SARNN,
    modalities: Sequence[ImageModality] = (ImageModality(IMAGE),),
    vmin: float = 0.0,
    vmax: float = 1.0,
    rec_dim: int = 128,
    temperature: float = 5e-5,
    heatmap_size: float = 0.1,
    use_clip: bool = True,
    text_units: int = 0,
    transpose_heatmap: bool = False,
) -> SarnnDescription:
    """A description: what the data say, and the network that gin configures.

    Args:
      joint_names, joint_bounds, instructions, rate_hz: of the data, see ``SarnnDescription``.
      clip_features, clip_fingerprint: of the frozen CLIP.
      model, modalities, vmin, vmax, rec_dim, temperature, heatmap_size, use_clip, text_units,
        transpose_heatmap: see ``SarnnDescription``.

    Raises:
      ValueError: see ``SarnnDescription``.
    """
    low, high = np.asarray(joint_bounds, np.float64)
    return SarnnDescription(
        model=model,
        modalities=tuple(modalities),
        joint_names=tuple(joint_names),
        joint_bounds=(tuple(low.tolist()), tuple(high.tolist())),
        vmin=vmin,
        vmax=vmax,
        rec_dim=rec_dim,
        temperature=temperature,
        heatmap_size=heatmap_size,
        use_clip=use_clip,
        clip_features=clip_features,
        text_units=text_units,
        transpose_heatmap=transpose_heatmap,
        clip_fingerprint=clip_fingerprint if use_clip or text_units else "",
        instructions=tuple(instructions),
        rate_hz=rate_hz,
    )


def write_description(folder: str | Path, description: SarnnDescription) -> None:
    """Writes ``sarnn.json`` and ``spec.json`` into an existing folder."""
    files.write_json(Path(folder) / DESCRIPTION, dataclasses.asdict(description))
    description.spec.save(Path(folder) / checkpoint_folder.SPEC)


def read_description(folder: str | Path) -> SarnnDescription:
    """The inverse of ``write_description``.

    Raises:
      FileNotFoundError: the file is missing.
      ValueError: it does not describe a SARNN.
    """
    path = Path(folder) / DESCRIPTION
    value = files.read_json(path)
    if not isinstance(value, Mapping):
        raise ValueError(f"{path} must hold an object. Received: {type(value).__name__}")
    try:
        return SarnnDescription.from_json(value)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
