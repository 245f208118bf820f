"""``metadata.yaml``, which lies in the folder of a ROS 2 bag."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from episodes.bags.bag import BagError

METADATA_NAME = "metadata.yaml"


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What the recorder wrote when it closed the bag.

    Attributes:
      files: names of the parts, in order.
      compression_mode: ``none``, ``file`` or ``message``.
      counts: (topic, type) -> messages.
    """

    files: tuple[str, ...]
    compression_mode: str
    counts: Mapping[tuple[str, str], int]


def read_metadata(folder: Path) -> Metadata:
    """Reads the metadata of a folder.

    Raises:
      BagError: the file is absent, empty, or does not say what is needed.
    """
    path = folder / METADATA_NAME
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BagError(f"{path} cannot be read: {error}") from error
    if not text.strip():
        raise BagError(f"{path} is empty")
    try:
        value = YAML(typ="safe").load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        raise BagError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    try:
        return _parse(value["rosbag2_bagfile_information"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BagError(f"{path} does not describe a bag: {type(error).__name__}: {error}") from error


def _parse(value: Mapping[str, Any]) -> Metadata:
    files = tuple(PurePosixPath(name).name for name in value["relative_file_paths"])
    mode = (value.get("compression_mode") or "none").lower()
    packing = value.get("compression_format") or "zstd"
    if mode not in ("none", "file", "message") or (mode != "none" and packing != "zstd"):
        raise ValueError(
            f"compression must be none, or zstd of file or message. Received: {packing} of {mode}"
        )
    counts: dict[tuple[str, str], int] = {}
    for entry in value.get("topics_with_message_count") or ():
        about = entry["topic_metadata"]
        key = (about["name"], about["type"])
        counts[key] = counts.get(key, 0) + int(entry["message_count"])
    return Metadata(files, mode, counts)
