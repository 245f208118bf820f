"""What a data set may be called."""

import re

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def check_name(name: str, *, for_tfds: bool) -> None:
    """Refuses a name under which a data set could not be read back.

    Where TFDS has a data set of its own under the name, ``tfds.builder(name, data_dir=…)`` ignores the folder
    and builds that one: ``bridge`` and ``mnist`` are taken.

    Args:
      name: of the data set.
      for_tfds: whether TFDS shall read it.

    Raises:
      ValueError: TFDS knows no such name, or knows another data set by it.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"A data set's name is of small letters, digits and _. Received: {name!r}")
    if for_tfds and _is_taken(name):
        raise ValueError(
            f"TFDS has a data set of its own of this name and would read that: choose another, such as "
            f"my_{name}. Received: {name!r}"
        )


def _is_taken(name: str) -> bool:
    import tensorflow_datasets as tfds  # Seconds; a run that only writes arrays does without.

    try:
        tfds.builder_cls(name)
    except tfds.core.DatasetNotFoundError:
        return False
    return True
