"""The progress bars of long work on files."""

import sys

import tqdm


def bytes_bar(total: float, title: str) -> tqdm.tqdm:
    """A bar of bytes on stderr, where that is a terminal; it goes when it is closed."""
    return tqdm.tqdm(
        total=total,
        desc=title,
        unit="B",
        unit_scale=True,
        file=sys.stderr,
        leave=False,
        disable=None if total else True,
    )
