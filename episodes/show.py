"""Look at episodes: a contact sheet and a short video of each.

``python -m episodes.show PATH --out DIR [--episodes N] [--split S]``; PATH is an RLDS data set's folder, an
episode's NPZ file, or a folder of those.
"""

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import tqdm

from episodes.pictures.contact_sheet import write_contact_sheet
from episodes.pictures.mp4 import VideoError
from episodes.pictures.shown_episode import open_episodes
from episodes.pictures.video import write_video


def show(
    path: str | Path,
    out: str | Path,
    *,
    episodes: int = 5,
    split: str | None = None,
    columns: int = 8,
    fps: float | None = None,
    video: bool = True,
) -> list[Path]:
    """Writes ``episode_0000.png`` and ``episode_0000.mp4``, …; one episode is in memory at a time.

    Args:
      path: of the data set or file.
      out: folder to write to.
      episodes: how many, from the first on; 0 for all.
      split: of a data set; None takes ``train``, or all files of a folder of NPZ.
      columns: steps on a sheet.
      fps: of the videos; None for the episode's own rate where it is known, and 10 elsewhere.
      video: False leaves the videos out.

    Returns:
      The files, in order.

    Raises:
      FileNotFoundError: there is nothing of the kind at ``path``.
      ValueError: a data set or an episode is damaged.
      VideoError: a video could not be written.
    """
    count, found = open_episodes(path, split)
    total = min(count, episodes) if episodes else count
    written = []
    bar = tqdm.tqdm(total=total, desc="showing", unit="episode", file=sys.stderr, leave=False)
    with bar:
        for i, episode in enumerate(itertools.islice(found, total)):
            sheet = Path(out) / f"episode_{i:04d}.png"
            write_contact_sheet(sheet, episode, columns)
            written.append(sheet)
            if video:
                film = sheet.with_suffix(".mp4")
                write_video(film, episode, fps)
                written.append(film)
            bar.update()
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, or 1 where something could not be read or written."""
    parser = argparse.ArgumentParser(prog="python -m episodes.show", description=__doc__)
    parser.add_argument("path", help="RLDS data set's folder, NPZ file, or folder of NPZ files")
    parser.add_argument("--out", required=True, help="folder to write to")
    parser.add_argument("--episodes", type=int, default=5, help="how many; 0 for all (default 5)")
    parser.add_argument("--split", help="default: train, or all NPZ files")
    parser.add_argument("--columns", type=int, default=8, help="steps on a contact sheet (default 8)")
    parser.add_argument("--fps", type=float, help="of the videos; default: the episode's rate, or 10")
    parser.add_argument("--no_video", action="store_true", help="contact sheets only")
    options = parser.parse_args(arguments)
    if options.episodes < 0 or options.columns < 1 or (options.fps is not None and not options.fps > 0):
        parser.error("--episodes must be 0 or more, --columns and --fps must be positive")
    try:
        written = show(
            options.path,
            options.out,
            episodes=options.episodes,
            split=options.split,
            columns=options.columns,
            fps=options.fps,
            video=not options.no_video,
        )
    except (ValueError, OSError, VideoError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("".join(f"{path}\n" for path in written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
