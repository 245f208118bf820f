"""Sources converted on their own, each in a worker; what is wrong with one becomes a reason to read."""

import errno
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
from absl import logging

from episodes.conversion import staging, worker_pool
from episodes.conversion.conversion_report import ConversionReport, SourceLine, make_line
from episodes.conversion.manifest import Failure
from episodes.conversion.progress_bar import bytes_bar
from episodes.conversion.sources import Source, label_of, stamp_of
from episodes.conversion.staging import Opener, StagedSource
from episodes.conversion.worker_pool import WorkerDiedError
from episodes.settings import ConversionSettings
from episodes.tasks import MissingTaskError

# They concern the whole run and not a source: it stops, and can be continued.
_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_LONGEST_REASON = 4000


def convert_source(
    source: Source,
    settings: ConversionSettings,
    folder: Path,
    format: str,
    opener: Opener,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> StagedSource | Failure:
    """Converts one source, unless that is done; what is wrong with it becomes a ``Failure``.

    Args:
      source: what to convert.
      settings: how.
      folder: of all staged sources.
      format: ``rlds`` or ``npz``, how it is staged.
      opener: opens it.
      on_progress: is told the fraction done.

    Raises:
      OSError: nothing can be written any more.
    """
    staged = staging.load_staged(folder, staging.source_key(source, settings, format))
    if staged is not None:
        return staged
    with _failures(source.path) as caught:
        return staging.stage_source(source, settings, folder, format, opener, on_progress)
    return caught[0]


def convert_all(
    sources: Sequence[Source],
    settings: ConversionSettings,
    folder: Path,
    format: str,
    workers: int,
    opener: Opener,
) -> Iterator[StagedSource | Failure]:
    """Converts sources on several processes, with a progress bar; results come as they are done.

    Args:
      sources: what to convert.
      settings: how.
      folder: of all staged sources.
      format: ``rlds`` or ``npz``, how they are staged.
      workers: processes.
      opener: opens a source; workers import its module.
    """
    work = functools.partial(
        _convert_in_worker,
        settings=settings,
        folder=folder,
        format=format,
        opener=opener,
    )
    episodes = failed = 0
    with bytes_bar(sum(s.size for s in sources), "converting") as bar:

        def show(fractions: Sequence[float]) -> None:
            bar.n = sum(f * s.size for f, s in zip(fractions, sources, strict=False))
            bar.refresh()

        for source, result in worker_pool.run(work, sources, workers, show):
            if isinstance(result, WorkerDiedError):
                result = Failure(source.label, str(result))
            if isinstance(result, Failure):
                failed += 1
            else:
                episodes += len(result.episodes)
            bar.set_postfix(episodes=episodes, failed=failed)
            yield result


def dry_run(
    paths: Sequence[Path],
    settings: ConversionSettings,
    *,
    workers: int | None = None,
    opener: Opener | None = None,
) -> ConversionReport:
    """Plans every source's episodes and says what would come of them; nothing is written.

    Args:
      paths: of the sources.
      settings: of everything about them.
      workers: processes; None for one a core.
      opener: see ``convert``.
    """
    look = functools.partial(_look_in_worker, settings=settings, opener=opener or default_opener())
    unique = sorted(dict.fromkeys(p.absolute() for p in paths))
    lines, failures = [], []
    with bytes_bar(sum(stamp_of(p)[0] for p in unique if p.exists()), "planning") as bar:
        for path, result in worker_pool.run(look, unique, default_workers() if workers is None else workers):
            bar.update(stamp_of(path)[0] if path.exists() else 0)
            if isinstance(result, SourceLine):
                lines.append(result)
            elif isinstance(result, Failure):
                failures.append(result)
            else:
                failures.append(Failure(label_of(path), str(result)))
    lines.sort(key=lambda line: line.label)
    return ConversionReport(None, tuple(lines), tuple(failures), (), {})


def default_workers() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_opener() -> Opener:
    """``episodes.bag_episodes.open_source``."""
    from episodes.bag_episodes import open_source

    return open_source


def _convert_in_worker(
    index: int, source: Source, *, settings: ConversionSettings, folder: Path, format: str, opener: Opener
) -> StagedSource | Failure:
    """``convert_source`` for ``worker_pool.run``."""
    cv2.setNumThreads(1)  # The other cores have their own workers.
    tell = functools.partial(worker_pool.report_progress, index)
    result = convert_source(source, settings, folder, format, opener, tell)
    tell(1.0)
    return result


def _look_in_worker(
    index: int, path: Path, *, settings: ConversionSettings, opener: Opener
) -> SourceLine | Failure:
    """What would come of a source, for ``worker_pool.run``; its images are not read."""
    with _failures(path) as caught, opener(path, settings) as stream:
        episodes = [(e.steps, e.report) for e in stream.episodes]
        return make_line(label_of(path), episodes, stream.report)
    return caught[0]


@contextmanager
def _failures(path: Path) -> Iterator[list[Failure]]:
    """Turns what a source raises into a ``Failure``, the first item of what is yielded."""
    caught: list[Failure] = []
    label = label_of(path)
    try:
        yield caught
    except MissingTaskError as error:
        caught.append(Failure(label, reason(error, path), untasked=True))
    except ValueError as error:
        caught.append(Failure(label, reason(error, path)))
    except OSError as error:
        if error.errno in _FATAL:
            raise
        caught.append(Failure(label, reason(error, path)))
    except Exception as error:
        # A reader's fault costs the run one source; the traceback says which fault.
        logging.exception("%s", label)
        caught.append(Failure(label, f"{type(error).__name__}: {reason(error, path)}"))


def reason(error: Exception, path: Path) -> str:
    """An error's words, without the folder that the source lies in: manifests are the same everywhere."""
    text = str(error) or type(error).__name__
    return text.replace(str(path), label_of(path))[:_LONGEST_REASON]
