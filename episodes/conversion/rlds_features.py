"""How an episode becomes an RLDS example: what its columns are called, and the features that TFDS needs to
read them.

Everything in ``episode_metadata`` is one value, lists as JSON: loaders repeat metadata for every step.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from episodes.episode import DEPTH, FIELDS, JOINT_POSITIONS, LANGUAGE_INSTRUCTION, check_columns
from episodes.episode_stream import PlannedEpisode

LANGUAGE_EMBEDDING = "language_embedding"
STEPS, METADATA = "steps", "episode_metadata"
DESCRIPTION = (
    "Robot demonstrations, recorded as ROS bags. Images are RGB, depth is in millimetres (0 where unknown), "
    "joint positions are in radians."
)


@dataclasses.dataclass(frozen=True)
class Signature:
    """What all episodes of one data set have in common.

    Attributes:
      frames: image field -> (shape, dtype name) of a frame.
      columns: other field -> (shape, dtype name) of a step.
      encodings: image field -> ``jpeg`` or ``png``.
      joint_names, action_names: in the order of the elements.
      encoder: identity of the encoder of ``language_embedding``; empty where there is none.
      embedding_size: 0 where there is none.
    """

    frames: Mapping[str, tuple[tuple[int, ...], str]]
    columns: Mapping[str, tuple[tuple[int, ...], str]]
    encodings: Mapping[str, str]
    joint_names: tuple[str, ...]
    action_names: tuple[str, ...]
    encoder: str = ""
    embedding_size: int = 0

    def to_json(self) -> dict[str, Any]:
        def shapes(fields: Mapping[str, tuple[tuple[int, ...], str]]) -> dict[str, Any]:
            return {f: {"shape": list(shape), "dtype": dtype} for f, (shape, dtype) in sorted(fields.items())}

        return {
            "frames": shapes(self.frames),
            "columns": shapes(self.columns),
            "encodings": dict(sorted(self.encodings.items())),
            "joint_names": list(self.joint_names),
            "action_names": list(self.action_names),
            "encoder": self.encoder,
            "embedding_size": self.embedding_size,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Signature":
        """The inverse of ``to_json``.

        Raises:
          KeyError, TypeError: anything else.
        """

        def shapes(fields: Mapping[str, Any]) -> dict[str, tuple[tuple[int, ...], str]]:
            return {f: (tuple(v["shape"]), v["dtype"]) for f, v in fields.items()}

        names = {n: tuple(value[n]) for n in ("joint_names", "action_names")}
        return cls(
            **{**value, **names, "frames": shapes(value["frames"]), "columns": shapes(value["columns"])}
        )

    def differences(self, other: "Signature") -> list[str]:
        """One sentence part for each thing in which ``other``, that of most, is different."""
        found = []
        for kind in ("frames", "columns"):
            mine, theirs = getattr(self, kind), getattr(other, kind)
            for field in sorted({*mine, *theirs}):
                if field not in mine:
                    found.append(f"{field} is missing")
                elif field not in theirs:
                    found.append(f"{field} is not in the others")
                elif mine[field] != theirs[field]:
                    found.append(f"{field} is {_words(mine[field])} instead of {_words(theirs[field])}")
        for name in ("encodings", "joint_names", "action_names", "encoder", "embedding_size"):
            ours, others = getattr(self, name), getattr(other, name)
            if ours != others:
                found.append(f"{name} is {_listed(ours)} instead of {_listed(others)}")
        ours, others = self.joint_names, other.joint_names
        if ours != others and sorted(ours) == sorted(others):
            found.append("the joints are the same in another order: set synchronisation.joint_names to one")
        return found


def signature_of(
    planned: PlannedEpisode, encodings: Mapping[str, str], encoder: str = "", embedding_size: int = 0
) -> Signature:
    """The signature of one episode, which is checked against the contract.

    Raises:
      ValueError: the columns are not those of the contract, or names and elements do not agree.
    """
    check_columns(planned.columns, f"episode {planned.name}")
    images = {f.path: f.dtype for f in FIELDS if "H" in f.shape}
    for field, (shape, dtype) in planned.frames.items():
        if images.get(field) != dtype or len(shape) != (2 if field == DEPTH else 3):
            raise ValueError(
                f"episode {planned.name}: frames are of {sorted(images)}, uint8 [H, W, 3], depth uint16 "
                f"[H, W]. "
                f"Received: {field!r}, {dtype} {list(shape)}"
            )
    for field, names in ((JOINT_POSITIONS, planned.joint_names), ("action", planned.action_names)):
        elements = planned.columns[field].shape[1] if field in planned.columns else 0
        if len(names) != elements:
            raise ValueError(
                f"episode {planned.name}: {field} must have one name for each of its {elements} elements. "
                f"Received: {list(names)}"
            )
    columns = {
        path: (tuple(column.shape[1:]), "string" if column.dtype.kind in "SUO" else column.dtype.name)
        for path, column in planned.columns.items()
    }
    return Signature(
        frames={f: (tuple(shape), dtype) for f, (shape, dtype) in planned.frames.items()},
        columns=columns,
        encodings={f: encodings[f] for f in planned.frames},
        joint_names=tuple(planned.joint_names),
        action_names=tuple(planned.action_names),
        encoder=encoder,
        embedding_size=embedding_size,
    )


def step_key(field: str) -> str:
    """TFDS' name of a step's field in a serialised example."""
    return f"{STEPS}/{field}"


def example_columns(
    planned: PlannedEpisode, *, file_path: str, episode_id: str, source_sha256: str
) -> dict[str, np.ndarray]:
    """Everything of an example but frames and embedding, by TFDS' names."""
    metadata = {
        "file_path": file_path,
        "episode_id": episode_id,
        "source_sha256": source_sha256,
        "joint_names": json.dumps(list(planned.joint_names), ensure_ascii=False),
        "action_names": json.dumps(list(planned.action_names), ensure_ascii=False),
        "sync_report": json.dumps(planned.report, ensure_ascii=False, allow_nan=False, sort_keys=True),
    }
    columns = {step_key(field): np.asarray(column) for field, column in planned.columns.items()}
    return columns | {f"{METADATA}/{k}": np.array([text], dtype=object) for k, text in metadata.items()}


def make_features(signature: Signature) -> Any:
    """The ``tfds.features.FeaturesDict`` of the examples. TFDS needs no TensorFlow for it."""
    import tensorflow_datasets as tfds

    step: dict[str, Any] = {}
    descriptions = {f.path: f"{f.description} {f.unit}".strip() for f in FIELDS}
    for field, (shape, dtype) in signature.frames.items():
        # TFDS knows no images of two axes.
        step[field] = tfds.features.Image(
            shape=shape if len(shape) == 3 else (*shape, 1),
            dtype=np.dtype(dtype),
            encoding_format=signature.encodings[field],
            doc=descriptions[field],
        )
    for field, (shape, dtype) in signature.columns.items():
        if field == LANGUAGE_INSTRUCTION:
            step[field] = tfds.features.Text(doc=descriptions[field])
        elif shape:
            step[field] = tfds.features.Tensor(shape=shape, dtype=np.dtype(dtype), doc=_doc(signature, field))
        else:
            step[field] = tfds.features.Scalar(dtype=np.dtype(dtype), doc=descriptions[field])
    if signature.embedding_size:
        step[LANGUAGE_EMBEDDING] = tfds.features.Tensor(
            shape=(signature.embedding_size,), dtype=np.float32, doc=f"Encoder: {signature.encoder}"
        )
    text = tfds.features.Text
    metadata = {
        "file_path": text(doc="The recording: its name and the folder it was in."),
        "episode_id": text(doc="Digest of the recording's content, and the episode's place in it."),
        "source_sha256": text(doc="Of the recording's content."),
        "joint_names": text(doc="JSON list."),
        "action_names": text(doc="JSON list, with units."),
        "sync_report": text(doc="JSON: how well the topics were in step."),
    }
    return tfds.features.FeaturesDict({STEPS: tfds.features.Dataset(_nested(step)), METADATA: metadata})


def write_metadata(
    folder: Path,
    name: str,
    version: str,
    signature: Signature,
    splits: Mapping[str, tuple[Sequence[int], int]],
) -> None:
    """Writes ``features.json`` and ``dataset_info.json``, by which TFDS reads the shards without our code.

    Args:
      folder: of the shards.
      name: of the data set.
      version: such as ``1.0.0``.
      signature: of its episodes.
      splits: split -> (episodes of each shard, bytes of all).
    """
    import tensorflow_datasets as tfds

    identity = tfds.core.DatasetIdentity(
        name=name, version=tfds.core.Version(version), data_dir=str(folder), module_name=""
    )
    info = tfds.core.DatasetInfo(builder=identity, features=make_features(signature), description=DESCRIPTION)
    info.set_file_format("tfrecord")
    infos = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=list(lengths),
            num_bytes=size,
            filename_template=tfds.core.ShardedFileTemplate(
                data_dir=str(folder), dataset_name=name, split=split, filetype_suffix="tfrecord"
            ),
        )
        for split, (lengths, size) in splits.items()
    ]
    info.set_splits(tfds.core.splits.SplitDict(infos))
    info.write_to_directory(folder)


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, last = path.split("/")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return nested


def _doc(signature: Signature, field: str) -> str:
    names = signature.joint_names if field == JOINT_POSITIONS else signature.action_names
    return ", ".join(names)


def _words(shape_and_type: tuple[tuple[int, ...], str]) -> str:
    shape, dtype = shape_and_type
    return f"{dtype} {list(shape)}"


def _listed(value: Any) -> str:
    return str(list(value) if isinstance(value, tuple) else value or "none")
