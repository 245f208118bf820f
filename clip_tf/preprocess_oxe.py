"""RLDS episodes in, WebDataset shards with language supervision out, for pre-training CLIP-RT.

python -m clip_tf.preprocess_oxe --mixture configs/clip_rt_oxe_mixture.json --data_dir oxe --out shards

The mixture is a JSON file::

    {"datasets": [{"name": "bridge_orig", "directory": "bridge_orig/1.0.0", "weight": 1.0},
                  {"name": "ours", "path": "action/xyz", "rotation": "none", "position_scale": 0.01,
                   "gripper_path": "action/gripper", "gripper_index": 0}]}

``directory`` is relative to ``--data_dir``, or else to the mixture file; without it it is ``name``.
``weight`` is how often training takes a data set's samples in one pass. Where images, instructions and
actions are, and in which units and axes, is known for the data sets in ``clip_tf.rt.oxe_layouts``, by
``oxe_name`` or else by ``name``. For any other, ``image_key``, ``instruction_key`` and the fields of
``recorded_supervision.make_action_layout`` say it, and overrule what is known. A further field is ``split``.
A data set whose folder is in ``--out`` already is left as it is, so that a run that was stopped can be
started again.
"""

import argparse
import dataclasses
import hashlib
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import webdataset as wds
from PIL import Image
from tqdm import tqdm

from clip_tf.rt import shard_index
from clip_tf.rt.action_layout import ActionLayout
from clip_tf.rt.dominant_axis import NONE
from clip_tf.rt.oxe_layouts import IMAGE_KEY, INSTRUCTION_KEY, OXE, oxe_data_set
from clip_tf.rt.recorded_supervision import LAYOUT_FIELDS, RecordedSupervision, make_action_layout
from clip_tf.rt.rlds_steps import check_paths, instruction_texts
from clip_tf.rt.vocabulary import make_vocabulary
from clip_tf.rt.webdataset_data import MIXTURE, VOCABULARY, check_same_vocabulary
from core import files
from core.messages import plain
from episodes.rlds import RldsSplit, open_rlds

_QUALITY, _DECODED_AT_ONCE = 95, 32
_KEYS = ("name", "directory", "weight", "split", "oxe_name", "image_key", "instruction_key")
_FIELDS = (*_KEYS, *LAYOUT_FIELDS)
_EXAMPLE = '{"datasets": [{"name": "bridge_orig", "directory": "bridge_orig/1.0.0", "weight": 1.0}, …]}'


@dataclasses.dataclass(frozen=True)
class Member:
    """One data set of a mixture.

    Attributes:
      name: of its folder of shards.
      directory: see ``episodes.rlds.open_rlds``.
      weight: samples of a pass for each of its samples, > 0.
      layout: where the actions are.
      split: of the data set.
      image_key, instruction_key: paths in a step.
    """

    name: str
    directory: Path
    weight: float
    layout: ActionLayout
    split: str = "train"
    image_key: str = IMAGE_KEY
    instruction_key: str = INSTRUCTION_KEY


def read_mixture(path: str | Path, data_dir: str | Path | None = None) -> tuple[Member, ...]:
    """Reads a mixture file.

    Args:
      path: of the file.
      data_dir: what directories are relative to; None for the file's own folder.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a field is missing, unknown or not valid; the message names the data set.
    """
    path = Path(path)
    value = files.read_json(path)
    entries = value.get("datasets") if isinstance(value, Mapping) else None
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path} must hold {_EXAMPLE}. Received: {str(value)[:200]}")
    members = []
    for i, entry in enumerate(entries):
        where, root = f"{path}, data set {i + 1}", path.parent if data_dir is None else Path(data_dir)
        if not isinstance(entry, dict) or "name" not in entry or not set(entry) <= set(_FIELDS):
            raise ValueError(
                f"{where} must be an object with a name, and perhaps {_FIELDS[1:]}. "
                f"Received: {str(entry)[:300]}"
            )
        try:
            members.append(_member(dict(entry), root))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: {plain(error)}. Received: {str(entry)[:300]}") from error
    names = [member.name for member in members]
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: names must be different. Received: {names}")
    return tuple(members)


def _member(entry: dict[str, Any], root: Path) -> Member:
    name = entry.pop("name")
    if not isinstance(name, str) or not name or Path(name).name != name or name.startswith("."):
        raise ValueError("name must be the name of a folder")
    directory = root / entry.pop("directory", name)
    weight = float(entry.pop("weight", 1.0))
    if not 0 < weight <= 1000:
        raise ValueError("weight must be above 0, and 1000 at most")
    fields = {field: entry.pop(field) for field in LAYOUT_FIELDS if field in entry}
    if "oxe_name" not in entry and (name in OXE or not fields):
        entry["oxe_name"] = name  # A data set about which nothing is said must be known.
    data_set = oxe_data_set(entry.get("oxe_name"))
    layout = make_action_layout(entry.pop("oxe_name", None), **fields)
    keys = {"image_key": data_set.image_key, "instruction_key": data_set.instruction_key}
    return Member(name, directory, weight, layout, **{**keys, **entry})


def labelled_steps(
    source: RldsSplit, member: Member, supervision: RecordedSupervision, seed: int
) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Iterates over the steps that say a class.

    Yields:
      The episode's id, the step, and ``image`` uint8 [H, W, 3], ``instruction``, ``supervision`` and
      ``label``.

    Raises:
      ValueError: an episode does not fit; the message names it.
    """
    paths = dict.fromkeys([member.image_key, member.instruction_key, *member.layout.columns])
    for episode_id, columns in source.read(tuple(paths), decode=False):
        try:
            labels = supervision.labels(columns)
            instructions = instruction_texts(columns[member.instruction_key])
        except ValueError as error:
            raise ValueError(f"{source.name}, episode {episode_id!r}: {error}") from error
        told = [step for step in np.flatnonzero(labels != NONE).tolist() if instructions[step]]
        images = _decoded(source, member.image_key, columns[member.image_key], told)
        for step, image in zip(told, images, strict=True):
            yield (
                episode_id,
                step,
                {
                    "image": image,
                    "instruction": instructions[step],
                    "supervision": supervision.wording(int(labels[step]), f"{seed}/{episode_id}@{step}"),
                    "label": int(labels[step]),
                },
            )


def _decoded(source: RldsSplit, path: str, column: np.ndarray, steps: Sequence[int]) -> Iterator[np.ndarray]:
    """The images of some steps, a few at a time: whole episodes need not fit in memory."""
    for start in range(0, len(steps), _DECODED_AT_ONCE):
        some = tf.constant(column[steps[start : start + _DECODED_AT_ONCE]])
        yield from source.decode_images(path, some).numpy()


def write_shards(
    member: Member,
    folder: Path,
    supervision: RecordedSupervision,
    seed: int,
    size: int | None,
    per_shard: int,
) -> int:
    """Writes the shards of one data set into a new folder, whole or not at all.

    Args:
      member: the data set.
      folder: to write; must not exist.
      supervision: its labels and wordings.
      seed: of the wordings.
      size: images become squares of so many pixels, as published; None keeps them.
      per_shard: samples in a tar file.

    Returns:
      The number of samples.

    Raises:
      FileExistsError, FileNotFoundError, ValueError: see ``core.files`` and ``episodes.rlds``; images of
        another kind; no step that says a class.
    """
    source = open_rlds(member.directory, member.split)
    check_paths(source, member.layout, member.image_key, member.instruction_key)
    tallies: dict[str, shard_index.Tally] = {}
    count, last = 0, None
    with files.atomic_folder(folder) as temporary:
        pattern = str(temporary).replace("%", "%%") + "/shard-%06d.tar"
        with (
            wds.ShardWriter(pattern, maxcount=per_shard, verbose=0, encoder=False) as writer,
            tqdm(desc=member.name, total=source.num_episodes, unit="episode") as progress,
        ):
            for episode_id, step, sample in labelled_steps(source, member, supervision, seed):
                if episode_id != last:
                    progress.update(last is not None)
                    last = episode_id
                key = f"{hashlib.sha256(episode_id.encode()).hexdigest()[:16]}-{step:06d}"
                image = jpeg(sample["image"], size)
                texts = sample["instruction"], sample["supervision"]
                writer.write(
                    {
                        "__key__": key,
                        "jpg": image,
                        "txt": texts[0].encode(),
                        "sup": texts[1].encode(),
                        "cls": str(sample["label"]).encode(),
                    }
                )
                tally = tallies.setdefault(Path(writer.fname).name, shard_index.Tally())
                tally.add(key, image, *texts, sample["label"])
                count += 1
            progress.update(last is not None)
        if not count:
            raise ValueError(f"{source.name}: a step must say a class. Received: none in {member.directory}")
        shard_index.write_index(temporary, {name: tally.content for name, tally in tallies.items()})
    return count


def jpeg(image: np.ndarray, size: int | None) -> bytes:
    """An image uint8 [H, W, 3] as JPEG, squeezed into a square of ``size`` pixels unless that is None."""
    picture = Image.fromarray(image)
    if size is not None:
        picture = picture.resize((size, size), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="jpeg", quality=_QUALITY)
    return buffer.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0 where everything was written."""
    parser = argparse.ArgumentParser(
        prog="python -m clip_tf.preprocess_oxe",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--mixture", type=Path, required=True, help="JSON file, as above")
    parser.add_argument("--data_dir", type=Path, help="of the data sets; else the mixture file's folder")
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    parser.add_argument(
        "--vocabulary", default="pretrained", help="preset or file, see clip_tf.rt.vocabulary"
    )
    parser.add_argument("--image_size", type=int, default=224, help="side in pixels; 0 keeps the images")
    parser.add_argument("--samples_per_shard", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="of the wordings")
    given = parser.parse_args(arguments)
    if given.image_size < 0 or given.samples_per_shard < 1:
        parser.error("image_size must be >= 0 and samples_per_shard >= 1")
    try:
        members = read_mixture(given.mixture, given.data_dir)
        vocabulary = make_vocabulary(given.vocabulary)
        if (given.out / VOCABULARY).exists():
            check_same_vocabulary(given.out / VOCABULARY, vocabulary)
        vocabulary.save(given.out / VOCABULARY)
        for member in members:
            folder = given.out / member.name
            if folder.exists():
                sys.stderr.write(f"{member.name}: {folder} exists already and is left as it is\n")
                continue
            supervision = RecordedSupervision(member.layout, vocabulary)
            size = given.image_size or None
            count = write_shards(member, folder, supervision, given.seed, size, given.samples_per_shard)
            sys.stderr.write(f"{member.name}: {count} samples\n")
        weights = {"weights": {member.name: member.weight for member in members}}
        files.write_json(given.out / MIXTURE, weights)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{plain(error)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
