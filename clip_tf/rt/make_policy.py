"""A converted CLIP becomes a policy folder that ``serve.py --model clip_rt`` and ``load_policy`` take.

python -m clip_tf.convert clip_rt_finetuned.pt --config ViT-H-14-378-quickgelu --out clip_finetuned
python -m clip_tf.rt.make_policy clip_finetuned --vocabulary finetuned --out policies/clip_rt_finetuned

The released models are both ViT-H-14-378-quickgelu: the pre-trained one has the vocabulary ``pretrained`` (50
classes), the fine-tuned one ``finetuned`` (58).
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from clip_tf.converted_folder import read_description
from clip_tf.rt.action_scores import FUSIONS, TRAINING
from clip_tf.rt.policy_folder import CLIP, PRESETS, PolicyDescription, write_description
from clip_tf.rt.prompt import PUBLISHED
from clip_tf.rt.vocabulary import make_vocabulary
from clip_tf.tokenizer import check_vocab_size
from core import checkpoint_folder, files
from core.messages import plain


def make_policy(clip: Path, out: Path, description: PolicyDescription) -> None:
    """Writes a policy folder.

    Args:
      clip: a folder of ``clip_tf.convert``.
      out: to make.
      description: of the policy.

    Raises:
      FileExistsError: ``out`` exists.
      FileNotFoundError, ValueError: ``clip`` is no such folder, but a run or a policy, say, or its text tower
        is too small for the tokenizer.
    """
    if (clip / CLIP).is_dir() or checkpoint_folder.pointer(clip, checkpoint_folder.LAST) is not None:
        raise ValueError(
            f"This is a run, or a policy, already: load_policy and serve.py take it. To make another of its "
            f"towers, name the folder {CLIP} in it or in its checkpoint. Received: {clip}"
        )
    config, _ = read_description(clip)
    check_vocab_size(config.text.vocab_size)
    with files.atomic_folder(out) as temporary:
        shutil.copytree(clip, temporary / CLIP)
        write_description(temporary, description)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0 where the folder was written."""
    parser = argparse.ArgumentParser(
        prog="python -m clip_tf.rt.make_policy", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("clip", type=Path, metavar="CLIP", help="folder of clip_tf.convert")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument(
        "--vocabulary",
        default="finetuned",
        help=f"{' or '.join(PRESETS)}, or a file: JSON of phrase -> 7 or 8 numbers dx, dy, dz (m), droll, "
        "dpitch, dyaw (rad), perhaps gripper_rotation (rad), gripper (1 open, 0 closed), or a CSV with a "
        "column of each",
    )
    parser.add_argument("--fusion", choices=FUSIONS, default=TRAINING, help="readme is the published snippet")
    parser.add_argument("--prompt", default=PUBLISHED, help="with {} where the instruction goes")
    parser.add_argument("--top_k", type=int, default=5, help="how many actions an answer names")
    given = parser.parse_args(arguments)
    try:
        vocabulary = make_vocabulary(given.vocabulary)
        description = PolicyDescription(vocabulary, given.prompt, given.fusion, given.top_k)
        make_policy(given.clip, given.out, description)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{plain(error)}\n")
        return 1
    sys.stdout.write(f"{given.out}: {len(vocabulary)} classes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
