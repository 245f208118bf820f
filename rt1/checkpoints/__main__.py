"""What a checkpoint is, and a foreign one as a checkpoint folder of ours.

``python -m rt1.checkpoints inspect PATH [--json]``,
``python -m rt1.checkpoints convert PATH --out DIR --encoder_source SOURCE``.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from rt1.checkpoints.load import Inspection, inspect


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0 where the checkpoint loads, 1 where it does not."""
    parser = argparse.ArgumentParser(
        prog="python -m rt1.checkpoints",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("inspect", help="say what a checkpoint is and whether it would load")
    command.add_argument("path", help="prefix, .index file, folder, SavedModel or checkpoint folder")
    command.add_argument("--json", action="store_true", help="machine-readable")
    command = commands.add_parser("convert", help="write it as a checkpoint folder that serve.py takes")
    command.add_argument("path", help="as for inspect")
    command.add_argument("--out", required=True, help="folder to write")
    command.add_argument(
        "--encoder_source",
        required=True,
        help="sentence encoder it was trained with: SavedModel or .npy folder",
    )
    options = parser.parse_args(arguments)
    return _inspect(options) if options.command == "inspect" else _convert(options)


def _convert(options: argparse.Namespace) -> int:
    from rt1.checkpoints.convert import convert  # It builds agents, which inspect has no need of.

    try:
        report = convert(options.path, options.out, options.encoder_source)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{options.out}: {report.summary()}\n")
    return 0


def _inspect(options: argparse.Namespace) -> int:
    try:
        found = inspect(options.path)
    except (ValueError, OSError) as error:  # CheckpointError, and what the files beside it raise.
        sys.stderr.write(f"{error}\n")
        if options.json:
            sys.stdout.write(json.dumps({"error": str(error)}) + "\n")
        return 1
    if options.json:
        sys.stdout.write(json.dumps(found.to_json()) + "\n")
    else:
        sys.stdout.write(_describe(found))
    return 0 if found.report.ok else 1


def _describe(found: Inspection) -> str:
    lines = [
        f"checkpoint     {found.prefix}",
        f"dialect        {found.dialect}",
        f"parameters     {found.parameters:,}",
        f"preset         {found.preset or 'none of the released ones'}",
        "configuration",
    ]
    lines += [f"  {k:22} {v}" for k, v in dataclasses.asdict(found.configuration).items()]
    return "\n".join([*lines, f"loading it     {found.report.summary()}", ""])


if __name__ == "__main__":
    sys.exit(main())
