"""What ``episodes.convert`` writes beside the episodes of a data set."""

from pathlib import Path

import numpy as np

from core import files
from episodes.conversion.manifest import MANIFEST_FILE, REPORTS

HELD_OUT = ("val", "validation", "test")
"""Names of splits that are not trained on. The first that a data set has is used, the others are not read."""
_INFO = "dataset_info.json"


def version_folder(folder: Path) -> Path:
    """The folder of the one version of a data set, where ``folder`` is its parent; else ``folder``.

    Raises:
      ValueError: there are several versions.
    """
    if (folder / MANIFEST_FILE).exists() or (folder / _INFO).exists():
        return folder
    found = {path.parent for name in (MANIFEST_FILE, _INFO) for path in folder.glob(f"*/{name}")}
    if len(found) > 1:
        raise ValueError(f"Name one version of the data set. Received: {sorted(map(str, found))}")
    return found.pop() if found else folder


def recorded(folder: Path) -> tuple[tuple[str, ...], float | None]:
    """Names of the joints, and steps a second, of a data set that ``episodes.convert`` wrote.

    Args:
      folder: of the data set's version.

    Returns:
      (names, rate); () and None where they were not recorded, or others wrote the data set.

    Raises:
      ValueError: the manifest is none.
    """
    if not (folder / MANIFEST_FILE).exists():
        return (), None
    manifest = files.read_json(folder / MANIFEST_FILE)
    try:
        names = tuple(manifest["signature"]["joint_names"])
        rate = manifest["settings"]["sync"]["rate_hz"]
        if rate is None:
            reports = [files.read_json(folder / REPORTS / s["report"]) for s in manifest["sources"]]
            intervals = [e["step_median_ms"] for r in reports for e in r["episodes"].values()]
            known = [i for i in intervals if i]
            rate = round(1000.0 / float(np.median(known)), 3) if known else None
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / MANIFEST_FILE} is no manifest of a data set: {error!r}") from error
    return names, rate
