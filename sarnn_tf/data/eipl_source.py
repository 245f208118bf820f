"""Episodes in EIPL's arrays, ours (``episodes.eipl_arrays``) or the originals, which have fewer files."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from core import files
from episodes import eipl_arrays
from episodes.conversion.progress_bar import bytes_bar
from episodes.conversion.sources import content_hash
from episodes.episode import ACTION, JOINT_POSITIONS
from sarnn_tf.data import converted
from sarnn_tf.data.frames import ArrayFrames
from sarnn_tf.data.recorded_episode import FIELDS, RecordedEpisode, check_modalities, numbered_joints

_JOINTS = "joints.npy"
_OTHERS = (f"{eipl_arrays.TASKS}.npy", f"{eipl_arrays.LENGTHS}.npy")
_MODALITY_OF = {path: name for name, path in FIELDS.items()}


class EiplSource:
    """EIPL's arrays as an ``EpisodeSource``; images stay memory-mapped."""

    def __init__(
        self,
        folder: Path,
        *,
        instruction: str = "",
        trim_repeats: bool = True,
        channel_order: str = eipl_arrays.BGR,
    ) -> None:
        """Opens the arrays; their files are read whole once, for the fingerprint.

        Args:
          folder: as ``episodes.eipl_arrays`` tells; ``lengths``, ``tasks`` and all modalities may be absent.
          instruction: of every episode, in place of the data set's own.
          trim_repeats: without ``lengths.npy``, takes the steps at the end that repeat the joints and all
            images of the step before for padding. A simulated robot that stands still looks the same.
          channel_order: of all colour images, ``bgr`` or ``rgb``.

        Raises:
          ValueError: a file is damaged, the arrays do not fit each other, or another channel order.
        """
        if channel_order not in (eipl_arrays.BGR, eipl_arrays.RGB):
            raise ValueError(f"channel_order must be 'bgr' or 'rgb'. Received: {channel_order!r}")
        self._turned = channel_order == eipl_arrays.BGR
        self.name, self._instruction, self._trim = str(folder), instruction, trim_repeats
        self._task_dict = _task_dict(folder / eipl_arrays.TASK_DICT)
        self._parts = {
            part: _open_part(folder / part)
            for part in eipl_arrays.SPLITS
            if (folder / part / _JOINTS).exists()
        }
        sizes = {part: arrays[JOINT_POSITIONS].shape[2] for part, arrays in self._parts.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(f"{folder} must have as many joints in every part. Received: {sizes}")
        joints = next(iter(sizes.values()))
        names, self.rate_hz = converted.recorded(folder.parent)
        self.joint_names = names if len(names) == joints else numbered_joints(joints)
        self.joint_bounds = _bounds(folder / eipl_arrays.BOUNDS, joints)
        self.num_episodes = sum(len(arrays[JOINT_POSITIONS]) for arrays in self._parts.values())
        digest = hashlib.sha256(f"{instruction}\0{trim_repeats}\0{channel_order}".encode())
        paths = sorted(_files(folder))
        with bytes_bar(sum(path.stat().st_size for path in paths), f"Reading {folder}") as bar:
            for path in paths:
                content = content_hash(path, bar.update)
                digest.update(f"\0{path.relative_to(folder).as_posix()} {content}".encode())
        self.fingerprint = digest.hexdigest()

    def episodes(self, modalities: Sequence[str]) -> Iterator[RecordedEpisode]:
        """See ``EpisodeSource``."""
        for part, arrays in self._parts.items():
            what = f"{self.name}/{part}"
            images = {_MODALITY_OF[path]: a for path, a in arrays.items() if path in _MODALITY_OF}
            check_modalities(modalities, images, what)
            joints = arrays[JOINT_POSITIONS]
            for i in range(len(joints)):
                steps = self._steps(arrays, images, i)
                yield RecordedEpisode(
                    id=f"{part}/{i}",
                    part=part if len(self._parts) > 1 else None,
                    instruction=self._instruction_of(arrays, i, what),
                    images={
                        name: ArrayFrames(images[name][i, :steps], turned=self._turned) for name in modalities
                    },
                    joints=np.array(joints[i, :steps], np.float32),
                )

    def _steps(self, arrays: Mapping[str, np.ndarray], images: Mapping[str, np.ndarray], i: int) -> int:
        if eipl_arrays.LENGTHS in arrays:
            return int(arrays[eipl_arrays.LENGTHS][i])
        joints = arrays[JOINT_POSITIONS][i]
        steps = len(joints)
        if not self._trim:
            return steps
        episode = [joints, *(array[i] for array in images.values())]
        while steps > 1 and all(np.array_equal(a[steps - 1], a[steps - 2]) for a in episode):
            steps -= 1
        return steps

    def _instruction_of(self, arrays: Mapping[str, np.ndarray], i: int, what: str) -> str:
        if self._instruction or eipl_arrays.TASKS not in arrays:
            return self._instruction
        number = str(int(arrays[eipl_arrays.TASKS][i]))
        if number not in self._task_dict:
            raise ValueError(
                f"{eipl_arrays.TASK_DICT} must name the task of {what}, episode {i}: {number}. "
                f"Received: {self._task_dict}"
            )
        return self._task_dict[number]


def _open_part(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of one part by field path, and ``tasks`` and ``lengths``."""
    arrays: dict[str, np.ndarray] = {}
    for name, path in eipl_arrays.ARRAYS.items():
        if path != ACTION and (folder / f"{name}.npy").exists():
            arrays[path] = _load(folder / f"{name}.npy")
    shape = arrays[JOINT_POSITIONS].shape
    for path, array in arrays.items():
        wanted = 3 if path == JOINT_POSITIONS else 4 if path == FIELDS["depth"] else 5
        if array.ndim != wanted or array.shape[:2] != shape[:2] or 0 in array.shape:
            sizes = {p: list(a.shape) for p, a in arrays.items()}
            raise ValueError(
                f"{folder}: arrays must be joints [N, T, P], depths [N, T, H, W], images [N, T, H, W, 3], "
                f"of the same N and T. Received: {sizes}"
            )
    for name in (eipl_arrays.TASKS, eipl_arrays.LENGTHS):
        if (folder / f"{name}.npy").exists():
            arrays[name] = _load(folder / f"{name}.npy")
            if arrays[name].shape != shape[:1] or arrays[name].dtype.kind not in "iu":
                raise ValueError(
                    f"{folder}/{name}.npy must be {shape[0]} integers. "
                    f"Received: {arrays[name].dtype} {list(arrays[name].shape)}"
                )
    lengths = arrays.get(eipl_arrays.LENGTHS)
    if lengths is not None and not ((lengths >= 1) & (lengths <= shape[1])).all():
        raise ValueError(f"{folder}: lengths must be 1 to {shape[1]}. Received: {lengths.tolist()}")
    return arrays


def _load(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is not a whole plain array: {error}") from error
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{path} must hold numbers. Received: {array.dtype}")
    return array


def _bounds(path: Path, joints: int) -> np.ndarray | None:
    if not path.exists():
        return None
    bounds = np.array(_load(path), np.float32)
    if bounds.shape != (2, joints) or not np.isfinite(bounds).all() or (bounds[0] > bounds[1]).any():
        raise ValueError(
            f"{path} must be finite minima and maxima, [2, {joints}]. Received: {bounds.tolist()}"
        )
    return bounds


def _task_dict(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    value = files.read_json(path)
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise ValueError(f"{path} must map task numbers to instructions. Received: {str(value)[:200]}")
    return {str(number): text for number, text in value.items()}


def _files(folder: Path) -> Iterator[Path]:
    """What episodes depend on; actions and others' files are none of it."""
    names = [f"{name}.npy" for name, path in eipl_arrays.ARRAYS.items() if path != ACTION]
    places = [folder / part / name for part in eipl_arrays.SPLITS for name in (*names, *_OTHERS)]
    for path in (folder / eipl_arrays.BOUNDS, folder / eipl_arrays.TASK_DICT, *places):
        if path.exists():
            yield path
