"""Samples in, the CSV of CLIP-RT's fine-tuning out: ``filepath, caption, supervision, label``.

From recorded RLDS episodes, the supervision derived and the frames written beside the CSV::

    python -m clip_tf.rt.write_csv --data_dir episodes/1.0.0 --out finetune/train.csv

Or from one's own samples, a JSON object a line with ``image_path``, ``instruction``, ``supervision`` and,
where the supervision is not a phrase of the vocabulary, ``label``::

    python -m clip_tf.rt.write_csv --samples samples.jsonl --out finetune/train.csv

Where episodes keep images, instructions and actions is known for Open X-Embodiment (``--oxe_name``); else
``--image_key``, ``--instruction_key`` and gin bindings say it, such as ``--gin_bindings
"clip_rt.make_action_layout.gripper_scale = -1.0"``, see ``clip_tf.rt.action_layout``.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import gin
from tqdm import tqdm

from clip_tf.preprocess_oxe import Member, jpeg, labelled_steps
from clip_tf.rt import samples
from clip_tf.rt.csv_data import Row, write_rows
from clip_tf.rt.oxe_layouts import oxe_data_set
from clip_tf.rt.prompt import apply_prompt
from clip_tf.rt.recorded_supervision import RecordedSupervision, make_action_layout
from clip_tf.rt.rlds_steps import check_paths
from clip_tf.rt.vocabulary import Vocabulary, make_vocabulary
from core import files
from core.messages import plain
from episodes.rlds import open_rlds


def rows_of_samples(path: Path, vocabulary: Vocabulary, out: Path) -> Iterator[Row]:
    """The samples of a JSON-lines file; image paths are relative to it.

    Raises:
      FileNotFoundError: the file or an image is missing.
      ValueError: a line is not a sample; the message names it.
    """
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                sample = json.loads(line)
                texts = [sample[name] for name in ("image_path", "instruction", "supervision")]
            except (json.JSONDecodeError, KeyError, TypeError, RecursionError) as error:
                raise ValueError(
                    f"{where} must be an object of image_path, instruction, supervision. "
                    f"Received: {line[:200]!r}"
                ) from error
            if not all(isinstance(text, str) and text.strip() for text in texts):
                raise ValueError(f"{where}: all must be texts. Received: {line[:200]!r}")
            image = path.parent / texts[0]
            if not image.is_file():
                raise FileNotFoundError(f"{where}: there is no such image. Received: {image}")
            label = sample.get("label")
            label = vocabulary.label_of(texts[2]) if label is None else label
            label = samples.check_label(label, len(vocabulary), where)
            vocabulary.check_label(texts[2], label, where)
            relative = Path(os.path.relpath(image.resolve(), out.parent.resolve()))
            yield Row(relative, apply_prompt(texts[1]), texts[2], label)


def rows_of_episodes(
    member: Member, vocabulary: Vocabulary, out: Path, seed: int, paraphrases: bool
) -> Iterator[Row]:
    """Derives the supervision of RLDS episodes and writes their frames, a folder for each episode.

    Raises:
      FileNotFoundError, ValueError: see ``clip_tf.preprocess_oxe``.
    """
    source = open_rlds(member.directory, member.split)
    check_paths(source, member.layout, member.image_key, member.instruction_key)
    supervision = RecordedSupervision(member.layout, vocabulary)
    steps = labelled_steps(source, member, supervision, seed)
    for episode_id, step, sample in tqdm(steps, desc="frames", unit="frame"):
        digest = hashlib.sha256(episode_id.encode()).hexdigest()[:16]
        path = out.parent / f"{out.stem}_frames" / digest / f"{step:06d}.jpg"
        with files.atomic_path(path) as temporary:
            temporary.write_bytes(jpeg(sample["image"], None))
        text = sample["supervision"] if paraphrases else vocabulary.phrases[sample["label"]]
        yield Row(path, apply_prompt(sample["instruction"]), text, sample["label"])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0 where the CSV was written."""
    parser = argparse.ArgumentParser(
        prog="python -m clip_tf.rt.write_csv",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--samples", type=Path, help="JSON lines")
    source.add_argument("--data_dir", type=Path, help="RLDS TFRecords")
    parser.add_argument("--out", type=Path, required=True, help="the CSV")
    parser.add_argument("--vocabulary", default="finetuned", help="preset or file")
    parser.add_argument("--split", default="train", help="of the RLDS data set")
    parser.add_argument("--image_key", help="path in a step; else the data set's, or observation/image")
    parser.add_argument("--instruction_key", help="as well; else language_instruction")
    parser.add_argument("--oxe_name", help="of the Open X-Embodiment data set, see clip_tf.rt.oxe_layouts")
    parser.add_argument("--paraphrases", action="store_true", help="draws wordings instead of the phrases")
    parser.add_argument("--seed", type=int, default=0, help="of the wordings")
    parser.add_argument("--gin_bindings", action="append", default=[], help="may be given several times")
    given = parser.parse_args(arguments)
    if given.out.is_dir():
        parser.error(f"--out must be a file, not a folder. Received: {given.out}")
    try:
        vocabulary = make_vocabulary(given.vocabulary)
        gin.parse_config(given.gin_bindings)
        if given.samples is not None:
            rows = list(rows_of_samples(given.samples, vocabulary, given.out))
        else:
            layout = make_action_layout(*[given.oxe_name] if given.oxe_name else [])
            known = oxe_data_set(given.oxe_name)
            image_key = given.image_key or known.image_key
            instruction_key = given.instruction_key or known.instruction_key
            member = Member(
                given.out.stem, given.data_dir, 1.0, layout, given.split, image_key, instruction_key
            )
            rows = list(rows_of_episodes(member, vocabulary, given.out, given.seed, given.paraphrases))
        if not rows:
            raise ValueError(f"There must be a sample. Received: none in {given.samples or given.data_dir}")
        write_rows(given.out, rows)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{plain(error)}\n")
        return 1
    sys.stdout.write(f"{given.out}: {len(rows)} rows\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
