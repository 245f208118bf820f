"""What a command line and gin say about a conversion, as settings. Flags win over gin."""

import argparse
import tokenize
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gin
from absl import logging

from episodes.bags.bag import BagError
from episodes.bags.find import find_bags
from episodes.conversion.assembly import FORMATS, RLDS
from episodes.conversion.conversion import DROP_ABSENT, KEEP_ABSENT, REFUSE_ABSENT
from episodes.conversion.manifest import MANIFEST_FILE
from episodes.settings import ConversionSettings, make_conversion_settings, make_sync_settings
from episodes.synchronisation.settings import ACTIONS, KEEP
from episodes.tasks import Tasks, load_table
from episodes.topics import make_topic_map, with_topics

_ROOT = Path(__file__).resolve().parent.parent.parent  # Where configs/ is.
# What gin and the factories raise at values that are not of the right form.
_MALFORMED = (TypeError, AttributeError, SyntaxError, tokenize.TokenError)
_CALL = "\n  In call to configurable "  # gin appends it to messages.


@gin.configurable("tasks", module="episodes")
def make_tasks(
    sentence: str = "", table: str | Path | None = None, task_dict: str | Path | None = None
) -> Tasks:
    """``Tasks`` as gin configures them.

    Args:
      sentence: of every episode that has none of its own.
      table: CSV or JSON of bags and their sentences or task numbers.
      task_dict: JSON of task numbers and their sentences.
    """
    return Tasks(sentence, {} if table is None else load_table(table, task_dict))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say what is converted, to what, and how."""
    add = parser.add_argument
    add("paths", nargs="+", type=Path, metavar="BAG", help="bag, NPZ episode, or folder to search for them")
    add("--out", type=Path, required=True, help="folder of data sets")
    add("--name", default="episodes", help="of the data set: small letters, digits, _")
    add("--format", choices=FORMATS, default=RLDS, help="rlds: OUT/NAME/VERSION; npz, eipl: OUT/NAME")
    add("--dataset_version", default="1.0.0", metavar="X.Y.Z")
    text = "gin file, such as configs/bags.gin; may be repeated"
    add("--config_file", "--gin_file", action="append", default=[], metavar="FILE", help=text)
    text = "e.g. 'synchronisation.rate_hz = 10'; may be repeated"
    add("--gin_bindings", "--gin_param", action="append", default=[], metavar="BINDING", help=text)
    add("--topic", action="append", default=[], metavar="PART=NAME[,NAME]", help="e.g. image=/cam/image_raw")
    clock = parser.add_mutually_exclusive_group()
    clock.add_argument("--rate", type=float, metavar="HZ", help="steps at a fixed rate")
    clock.add_argument("--clock", metavar="FIELD", help="steps at the messages of image, joints, …")
    add("--tolerance", action="append", default=[], metavar="[FIELD=]S", help="seconds; may be repeated")
    add("--keep_out_of_tolerance", action="store_true", help="keep such episodes, with warnings")
    add("--action", choices=ACTIONS)
    add("--task", metavar="SENTENCE", help="instruction of all episodes that have none of their own")
    add("--task_table", type=Path, metavar="FILE", help="CSV or JSON: bag, instruction or task number")
    add("--task_dict", type=Path, metavar="FILE", help="JSON: task number -> instruction")
    add("--skip_untasked", action="store_true", help="leave out bags without a task")
    add("--splits", metavar="train=0.9,val=0.1", help="shares of the episodes")
    add("--image_encoding", choices=("jpeg", "png"), help="of colour and touch; depth is 16-bit PNG")
    add("--jpeg_quality", type=int, metavar="1..100")
    add("--encoder", metavar="SOURCE", help="store sentence embeddings, e.g. of 'embedded'")
    add("--salvage", action="store_true", help="read damaged bags as far as they go")
    absent = parser.add_mutually_exclusive_group()
    text = "keep bags of an earlier run that are not given now; the settings must be the same"
    absent.add_argument("--keep_absent", action="store_true", help=text)
    text = "drop them; so a bag takes the place of another of its name"
    absent.add_argument("--drop_absent", action="store_true", help=text)
    add("--workers", type=int, metavar="N", help="processes; the default is one a core")


def settings_from(options: argparse.Namespace, sources: Sequence[Path]) -> ConversionSettings:
    """The settings that parsed flags and gin say.

    Args:
      options: of ``add_arguments``.
      sources: the bags, to check the task table against.

    Raises:
      ValueError: a flag, a gin binding or a file makes no sense.
      FileNotFoundError: a file is not there.
    """
    try:
        return _settings(options, sources)
    except _MALFORMED as error:
        text, _, where = str(error).partition(_CALL)
        configurable = f" of {where.split(' ')[0]}" if where else ""
        raise ValueError(
            f"A setting{configurable} is not of the type or form that it must have: {text}. "
            f"Received: {[*options.config_file, *options.gin_bindings]}"
        ) from error


def _settings(options: argparse.Namespace, sources: Sequence[Path]) -> ConversionSettings:
    for file in options.config_file:
        if not any(candidate.is_file() for candidate in (Path(file), _ROOT / file)):
            raise FileNotFoundError(f"There is no such --config_file, here or in {_ROOT}. Received: {file}")
    gin.add_config_file_search_path(str(_ROOT))
    gin.parse_config_files_and_bindings(options.config_file, options.gin_bindings)
    sync = make_sync_settings(**_sync_flags(options))
    tasks = {"sentence": options.task, "table": options.task_table, "task_dict": options.task_dict}
    given_tasks = make_tasks(**_given(tasks))
    faults = given_tasks.faults(sources)
    if faults:
        raise ValueError(f"The task table does not fit the bags. Received: {'; '.join(faults)}")
    unused = given_tasks.unused(sources)
    if unused:
        # One table may be of more bags than are converted now, or a name is misspelt.
        logging.warning("The task table names what is none of the bags: %s", ", ".join(unused))
    flags = {
        "fractions": _fractions(options.splits),
        "colour_encoding": options.image_encoding,
        "jpeg_quality": options.jpeg_quality,
        "encoder_source": options.encoder,
        "salvage": options.salvage or None,
    }
    topics = with_topics(make_topic_map(), options.topic)
    return make_conversion_settings(topics, sync, given_tasks, **_given(flags))


def absent_from(options: argparse.Namespace) -> str:
    """What flags say of sources that a data set holds and that were not given; see ``conversion.convert``."""
    if options.keep_absent:
        return KEEP_ABSENT
    return DROP_ABSENT if options.drop_absent else REFUSE_ABSENT


def find_paths(paths: Sequence[Path]) -> list[Path]:
    """Bags and NPZ files, by themselves or in folders that are searched.

    A data set of this command below such a folder is left out, with a warning: its episodes would be
    converted once more, and by the next run again. Name its own folder to convert it.

    Raises:
      BagError: a path does not exist or is neither, or nothing is found.
    """
    found: list[Path] = []
    for path in paths:
        if path.suffix == ".npz" and path.is_file():
            found.append(path)
            continue
        data_sets = [p.parent for p in path.rglob(MANIFEST_FILE) if p.parent != path]
        visible = [p for p in path.rglob("*.npz") if p.is_file() and not _hidden(p, path)]
        arrays = [p for p in visible if not any(p.is_relative_to(folder) for folder in data_sets)]
        for folder in data_sets:
            if any(p.is_relative_to(folder) for p in visible):
                logging.warning("%s is a data set; it is left out unless it is named itself", folder)
        found += arrays
        try:
            found += find_bags([path])
        except BagError:
            if not arrays:
                raise
    return sorted(dict.fromkeys(found))


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _sync_flags(options: argparse.Namespace) -> dict[str, Any]:
    flags: dict[str, Any] = _given({"rate_hz": options.rate, "action": options.action})
    if options.clock is not None:
        flags |= {"clock": options.clock, "rate_hz": None}
    if options.keep_out_of_tolerance:
        flags["out_of_tolerance"] = KEEP
    tolerances = dict(_number(text) for text in options.tolerance)
    if "" in tolerances:
        flags["default_tolerance_s"] = tolerances.pop("")
    if tolerances:
        flags["tolerance_s"] = tolerances
    return flags


def _number(text: str) -> tuple[str, float]:
    """``name=1.5`` or ``1.5``, whose name is empty."""
    name, _, value = text.rpartition("=")
    try:
        return name.strip(), float(value)
    except ValueError as error:
        raise ValueError(f"Expected NUMBER or NAME=NUMBER. Received: {text!r}") from error


def _fractions(text: str | None) -> dict[str, float] | None:
    return None if text is None else dict(_number(part) for part in text.split(","))


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if value is not None}
