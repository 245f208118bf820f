"""What is in ROS bags, without ROS: ``python -m episodes.inspect BAG_OR_FOLDER…``.

Per topic: type, count, rate, gaps, header stamp against log time, encoding and size of images, names of
joints; and what the configured topic map finds. Every message is read and decoded.

Exit status: 0 when every message can be read; 3 when some cannot, or were lost in a salvaged bag; 2 when a
bag is refused or none is found.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import gin
from tqdm import tqdm

from episodes.bags.find import find_bags
from episodes.inspection import REFUSED, UNREADABLE, BagInspection, Inspector
from episodes.inspection_text import to_text
from episodes.topics import TopicMap, make_topic_map, with_topics

_DONE, _REFUSED, _UNREADABLE = 0, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        topic_map = _topic_map(options)
        paths = find_bags(options.paths)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return _REFUSED
    results = []
    for number, path in enumerate(paths):
        result = _inspect(
            path, topic_map, salvage=options.salvage, title=f"{number + 1}/{len(paths)} {path.name}"
        )
        results.append(result)
        if not options.json:
            sys.stdout.write(to_text(result) + "\n" * (number + 1 < len(paths)))
    if options.json:
        json.dump([result.to_json() for result in results], sys.stdout, indent=1, allow_nan=False)
        sys.stdout.write("\n")
    statuses = {result.status for result in results}
    if REFUSED in statuses:
        return _REFUSED
    return _UNREADABLE if UNREADABLE in statuses else _DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m episodes.inspect",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="bag, or folder to search")
    parser.add_argument("--json", action="store_true", help="a JSON list with an object for each bag")
    parser.add_argument("--salvage", action="store_true", help="read what damaged bags still hold")
    parser.add_argument("--config_file", action="append", default=[], help="gin file with topic_map")
    parser.add_argument("--gin_bindings", action="append", default=[], help="gin binding, after the files")
    parser.add_argument(
        "--topic", action="append", default=[], metavar="PART=NAME", help="renames a part of the topic map"
    )
    return parser


def _topic_map(options: argparse.Namespace) -> TopicMap:
    # A file may configure all of a conversion, or a training; only the topics matter here.
    gin.parse_config_files_and_bindings(
        options.config_file, options.gin_bindings, finalize_config=False, skip_unknown=True
    )
    return with_topics(make_topic_map(), options.topic)


def _inspect(path: Path, topic_map: TopicMap, *, salvage: bool, title: str) -> BagInspection:
    inspector = Inspector(path, salvage=salvage, topic_map=topic_map)
    with tqdm(desc=title, unit=" messages", file=sys.stderr, leave=False, disable=None) as bar:
        for count in inspector.run():
            bar.total = inspector.declared
            bar.update(count - bar.n)
    assert inspector.result is not None
    return inspector.result


if __name__ == "__main__":
    sys.exit(main())
