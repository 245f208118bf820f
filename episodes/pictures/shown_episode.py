"""Episodes as they are looked at: their cameras, their curves and what was asked, from RLDS or NPZ."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from episodes.episode import ACTION, FIELDS, JOINT_POSITIONS, LANGUAGE_INSTRUCTION, NPZ_KEYS, field
from episodes.images import COLOUR, DEPTH, decode_encoded

_OBSERVATION = "observation"
# What has more elements is an embedding or the like, and no curve that one could follow.
_MAXIMUM_CURVES = 32
_RLDS_MARKS = ("features.json", "*/features.json", "*/*/features.json")
_DEPTH_SAMPLES = 8
_NEAR_PERCENT, _FAR_PERCENT = 1, 99


@dataclasses.dataclass(frozen=True, eq=False)
class Camera:
    """One camera's frames, each decoded when it is asked for.

    Attributes:
      name: path of the field.
      depth: whether frames are depth.
      read: step -> uint8 [H, W, 3] RGB or uint16 [H, W] in millimetres; None where the frame is absent.
      limits_mm: nearest and farthest distance of the colour map; (0, 1) for colour.
    """

    name: str
    depth: bool
    read: Callable[[int], np.ndarray | None]
    limits_mm: tuple[int, int] = (0, 1)

    def picture(self, step: int) -> np.ndarray | None:
        """uint8 [H, W, 3] RGB; depth is coloured, black where unknown. None where the frame is absent."""
        frame = self.read(step)
        return coloured_depth(frame, self.limits_mm) if frame is not None and self.depth else frame


@dataclasses.dataclass(frozen=True, eq=False)
class Curves:
    """Numbers over the steps.

    Attributes:
      name: path of the field.
      values: [T, n].
      labels: n names.
    """

    name: str
    values: np.ndarray
    labels: tuple[str, ...]

    @property
    def unit(self) -> str:
        """As the contract says it; empty where it says none."""
        return next((f.unit for f in FIELDS if f.path == self.name), "")


@dataclasses.dataclass(frozen=True, eq=False)
class ShownEpisode:
    """An episode to look at.

    Attributes:
      name: its id or file.
      instructions: T sentences.
      cameras: at least one, or none where nothing was filmed.
      curves: joint positions or other numbers of the observation first, then actions.
      step_s: median time between steps, where the source knows it.
    """

    name: str
    instructions: tuple[str, ...]
    cameras: tuple[Camera, ...]
    curves: tuple[Curves, ...]
    step_s: float | None = None

    @property
    def steps(self) -> int:
        """T."""
        return len(self.instructions)

    def time(self, step: int) -> str:
        """A step in words, with its time where that is known."""
        return f"step {step}" if self.step_s is None else f"step {step}, {step * self.step_s:.1f} s"


def coloured_depth(depth: np.ndarray, limits_mm: tuple[int, int]) -> np.ndarray:
    """Depth uint16 [H, W] as colours uint8 [H, W, 3] RGB: near is blue, far is red, unknown (0) is black."""
    near, far = limits_mm
    scaled = np.clip((depth.astype(np.float32) - near) / max(1, far - near), 0, 1) * 255
    colours = cv2.cvtColor(cv2.applyColorMap(scaled.astype(np.uint8), cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    colours[depth == 0] = 0
    return colours


def open_episodes(path: str | Path, split: str | None = None) -> tuple[int, Iterator[ShownEpisode]]:
    """Opens what ``episodes.convert`` writes: an RLDS data set's folder, an NPZ file, or a folder of those.

    Args:
      path: of it.
      split: of a data set; None takes ``train`` of an RLDS data set and all files of a folder of NPZ.

    Returns:
      How many episodes there are, and an iterator that holds one of them at a time.

    Raises:
      FileNotFoundError: there is no such path, or nothing of the kind in it.
      ValueError: as ``open_rlds`` and ``open_npz``; here, or on the way for a damaged episode.
    """
    path = Path(path)
    if path.is_dir():
        marks = _visible(path, _RLDS_MARKS)
        if marks:
            # A conversion writes OUT/NAME/VERSION. Which of several is meant, open_rlds asks.
            folder = marks[0].parent if len(marks) == 1 else path
            return _open_rlds(folder, "train" if split is None else split)
        found = _visible(path if split is None else path / split, ("**/*.npz",))
        if not found:
            raise FileNotFoundError(
                f"Neither TFRecords with their dataset_info.json nor NPZ files are there. Received: {path}"
                + (f", split={split!r}" if split else "")
            )
    elif path.suffix == ".npz":
        found = [path]
    else:
        raise FileNotFoundError(f"A folder or an .npz file is needed. Received: {path}")
    return len(found), (read_npz_episode(file) for file in found)


def _visible(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """Sorted files below a folder; hidden folders are work that is not finished."""
    paths = {path for pattern in patterns for path in folder.glob(pattern)}
    return sorted(p for p in paths if not any(n.startswith(".") for n in p.relative_to(folder).parts))


def read_npz_episode(path: Path) -> ShownEpisode:
    """Opens an episode's NPZ file; see ``episodes.npz``. A file without an instruction is shown without."""
    from episodes.npz import open_npz, read_npz
    from episodes.tasks import MissingTaskError

    try:
        instruction = None
        (planned,) = open_npz(path).episodes
    except MissingTaskError:
        instruction = "(no instruction)"
        (planned,) = open_npz(path, instruction).episodes
    columns = read_npz(path, instruction)
    cameras = [
        _camera(name, field(name).dtype == "uint16", columns[name].__getitem__, planned.steps)
        for name in NPZ_KEYS.values()
        if name in planned.frames
    ]
    curves = [
        Curves(name, columns[name], labels)
        for name, labels in ((JOINT_POSITIONS, planned.joint_names), (ACTION, planned.action_names))
        if name in columns
    ]
    milliseconds = planned.report.get("step_median_ms")
    return ShownEpisode(
        name=path.name,
        instructions=tuple(str(text) for text in columns[LANGUAGE_INSTRUCTION]),
        cameras=tuple(cameras),
        curves=tuple(curves),
        step_s=milliseconds / 1000 if isinstance(milliseconds, (int, float)) else None,
    )


def _open_rlds(path: Path, split: str) -> tuple[int, Iterator[ShownEpisode]]:
    from episodes.rlds import open_rlds  # It brings TensorFlow, which an NPZ file has no need of.

    opened = open_rlds(path, split)
    ours = list(NPZ_KEYS.values())
    found = (p for p, f in opened.features.items() if _is_camera(f))
    order = sorted(found, key=lambda p: (ours.index(p) if p in ours else len(ours), p))
    cameras = {p: np.dtype(opened.features[p].np_dtype) for p in order}
    curves = [
        p
        for p, f in opened.features.items()
        if p.partition("/")[0] in (_OBSERVATION, ACTION) and p not in cameras and _is_curve(f)
    ]
    curves.sort(key=lambda p: (not p.startswith(_OBSERVATION), p))
    wanted = [*cameras, *curves, *([LANGUAGE_INSTRUCTION] if LANGUAGE_INSTRUCTION in opened.features else [])]
    if not cameras and not curves:
        raise ValueError(f"{path} has neither images nor actions. Received: {sorted(opened.features)}")

    def episodes() -> Iterator[ShownEpisode]:
        for name, columns in opened.read(wanted, decode=False):
            steps = len(columns[wanted[0]])
            said = columns.get(LANGUAGE_INSTRUCTION, np.full(steps, "(no instruction)", object))
            yield ShownEpisode(
                name=name,
                instructions=tuple(v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in said),
                cameras=tuple(
                    _camera(p, dtype == np.uint16, _reader(columns[p], dtype), steps)
                    for p, dtype in cameras.items()
                ),
                curves=tuple(_curves(p, columns[p], opened.features[p]) for p in curves),
            )

    return opened.num_episodes, episodes()


def _camera(name: str, depth: bool, read: Callable[[int], np.ndarray | None], steps: int) -> Camera:
    if not depth:
        return Camera(name, depth, read)
    frames = (read(int(step)) for step in np.unique(np.linspace(0, steps - 1, _DEPTH_SAMPLES).astype(int)))
    known = [frame[frame > 0] for frame in frames if frame is not None]
    distances = np.concatenate(known) if known else np.zeros(0)
    if not len(distances):
        return Camera(name, depth, read)
    near, far = np.percentile(distances, [_NEAR_PERCENT, _FAR_PERCENT])
    return Camera(name, depth, read, (int(near), max(int(near) + 1, int(far))))


def _reader(column: np.ndarray, dtype: np.dtype) -> Callable[[int], np.ndarray | None]:
    def read(step: int) -> np.ndarray | None:
        value = column[step]
        if not isinstance(value, bytes):
            return np.asarray(value)
        # Some writers mark an absent image by an empty string.
        return decode_encoded(value, DEPTH if dtype == np.uint16 else COLOUR) if value else None

    return read


def _is_camera(feature: Any) -> bool:
    import tensorflow_datasets as tfds

    shape = feature.shape
    if isinstance(feature, tfds.features.Image):
        return feature.np_dtype in (np.uint8, np.uint16)
    return len(shape) == 3 and shape[-1] == 3 and feature.np_dtype == np.uint8


def _is_curve(feature: Any) -> bool:
    shape, dtype = feature.shape, feature.np_dtype
    numeric = isinstance(dtype, (type, np.dtype)) and np.issubdtype(dtype, np.number)
    return numeric and len(shape) == 1 and shape[0] is not None and 0 < shape[0] <= _MAXIMUM_CURVES


def _curves(path: str, values: np.ndarray, feature: Any) -> Curves:
    """Labels are in the feature's description where our converter wrote it: one name for each element."""
    said: Sequence[str] = str(feature.doc.desc or "").split(", ")
    n = values.shape[1]
    short: Mapping[bool, Sequence[str]] = {True: said, False: [str(i) for i in range(n)]}
    return Curves(path, values, tuple(short[len(said) == n and all(0 < len(s) <= 40 for s in said)]))
