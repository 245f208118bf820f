"""The content hashes of all sources of a conversion, found once and remembered; and what is there twice."""

import dataclasses
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import tqdm

from episodes.conversion import progress_bar
from episodes.conversion.manifest import Duplicate, Failure
from episodes.conversion.source_conversion import reason
from episodes.conversion.sources import Source, content_hash, label_of, stamp_of
from episodes.conversion.workspace import Workspace

_SAVE_HASHES_S = 5.0


@dataclasses.dataclass(frozen=True)
class Found:
    """Sources whose content is known.

    Attributes:
      sources: no two of the same content, in the order of their labels.
      failures: those that cannot be read.
      duplicates: those that hold what another one holds, too.
    """

    sources: tuple[Source, ...]
    failures: tuple[Failure, ...]
    duplicates: tuple[Duplicate, ...]


def find_sources(paths: Sequence[Path], workspace: Workspace, workers: int) -> Found:
    """Finds the content hashes of sources: from an earlier run where nothing changed, or by reading them."""
    unique = sorted(dict.fromkeys(p.absolute() for p in paths))
    known, failures, sources = workspace.load_hashes(), [], []
    unknown: dict[Path, tuple[int, str]] = {}
    for path in unique:
        try:
            size, stamp = stamp_of(path)
        except OSError as error:
            failures.append(Failure(label_of(path), reason(error, path)))
            continue
        if known.get(str(path), {}).get("stamp") == stamp:
            sources.append(Source(path, label_of(path), size, known[str(path)]["sha256"], stamp))
        else:
            unknown[path] = (size, stamp)
    with progress_bar.bytes_bar(sum(size for size, _ in unknown.values()), "hashing") as bar:
        saved = time.monotonic()
        for path, result in _hash_all(unknown, workers, bar):
            size, stamp = unknown[path]
            if isinstance(result, Exception):
                failures.append(Failure(label_of(path), reason(result, path)))
                continue
            sources.append(Source(path, label_of(path), size, result, stamp))
            known[str(path)] = {"stamp": stamp, "sha256": result}
            if time.monotonic() - saved > _SAVE_HASHES_S:
                workspace.save_hashes(known)
                saved = time.monotonic()
    workspace.save_hashes(known)
    first: dict[str, Source] = {}
    duplicates = []
    for source in sorted(sources, key=lambda s: (s.label, s.path)):
        same = first.setdefault(source.sha256, source)
        if same is not source:
            duplicates.append(Duplicate(source.label, same.label))
    return Found(tuple(first.values()), tuple(failures), tuple(duplicates))


def _hash_all(
    unknown: Mapping[Path, tuple[int, str]], workers: int, bar: tqdm.tqdm
) -> Iterator[tuple[Path, str | Exception]]:
    stop = threading.Event()

    def advance(size: int) -> None:
        if stop.is_set():
            raise InterruptedError("The run was stopped.")
        bar.update(size)

    # Threads suffice: hashing large pieces holds no lock.
    executor = ThreadPoolExecutor(max(workers, 1))
    try:
        running = {executor.submit(content_hash, path, advance): path for path in unknown}
        for future in as_completed(running):
            error = future.exception()
            if isinstance(error, (OSError, ValueError)):
                yield running[future], error
            else:
                yield running[future], future.result()
    finally:
        stop.set()  # Python waits for threads before it ends, and files are large.
        executor.shutdown(cancel_futures=True)
