"""Writes the embeddings of the 66 food combinations: ``python -m language.make_embeddings --out embeddings``.

::

    embeddings/
      encoder.json             {"identity": …, "size": 512, "sentences": {name: sentence}}
      skewering_banana.npy …   float32 [512] of unit norm, 66 files
"""

from pathlib import Path

import numpy as np
from absl import app, flags, logging

from core import files, food
from language import EMBEDDED, TextEncoder, make_text_encoder
from language.embedding_folder import EmbeddingFolder
from language.stored_identity import ENCODER_FILE, read_encoder_file


def write_embeddings(encoder: TextEncoder, out: str | Path, *, overwrite: bool = False) -> list[Path]:
    """Encodes every combination's sentence and writes the folder.

    ``encoder.json`` goes first and comes back last, so that a folder whose writing was interrupted does
    not claim to be of an encoder that only some of its files are of.

    Args:
      encoder: has to encode all 66 sentences.
      out: the folder, made where it is absent.
      overwrite: whether files of another encoder, or of an unknown one, may be replaced.

    Returns:
      The 66 files.

    Raises:
      ValueError: a sentence cannot be encoded, or the folder holds embeddings of another encoder;
        nothing is written.
    """
    out = Path(out)
    names = food.combinations()
    sentences = {name: food.sentence(*food.split_combination(name)) for name in names}
    vectors = encoder.encode(list(sentences.values()))
    paths = [out / f"{name}.npy" for name in names]
    _check_replaceable(out, encoder.identity, paths, overwrite)
    (out / ENCODER_FILE).unlink(missing_ok=True)
    for path, vector in zip(paths, vectors, strict=True):
        with files.atomic_path(path) as temporary:
            np.save(temporary, vector, allow_pickle=False)
    value = {"identity": encoder.identity, "size": encoder.size, "sentences": sentences}
    files.write_json(out / ENCODER_FILE, value)
    return paths


def _check_replaceable(out: Path, identity: str, paths: list[Path], overwrite: bool) -> None:
    # An earlier run that was killed may have left hidden files.
    there = [path for path in sorted(out.glob("*.npy")) if not path.name.startswith(".")]
    if not there:
        return
    # Files under other spellings (scoop_banana.npy) would stay behind and contradict the new ones.
    foreign = sorted(set(there) - set(paths))
    if foreign:
        raise ValueError(
            f"The folder holds .npy files that this command does not write; remove them or choose another "
            f"folder. Received: {out} with {', '.join(p.name for p in foreign[:3])}"
            f"{' and more' if len(foreign) > 3 else ''}"
        )
    if overwrite:
        return
    stated = read_encoder_file(out)
    found = EmbeddingFolder(out).identity if stated is None else str(stated["identity"])
    if found != identity:
        raise ValueError(
            f"The folder holds embeddings of another encoder; --overwrite replaces them. "
            f"Expected: {identity!r}. Received: {out} of {found!r}"
        )


def main(arguments: list[str]) -> None:
    if len(arguments) > 1:
        raise app.UsageError(f"Everything is a flag. Received: {arguments[1:]}")
    encoder = make_text_encoder(flags.FLAGS.source)
    paths = write_embeddings(encoder, flags.FLAGS.out, overwrite=flags.FLAGS.overwrite)
    logging.info("%d embeddings of %s written to %s.", len(paths), encoder.identity, flags.FLAGS.out)


def _define_flags() -> None:
    flags.DEFINE_string("out", None, "Folder to write.", required=True)
    flags.DEFINE_string("source", EMBEDDED, "Of the encoder, as make_text_encoder takes it.")
    flags.DEFINE_bool("overwrite", False, "Replace embeddings of another encoder.")


if __name__ == "__main__":
    _define_flags()
    app.run(main)
