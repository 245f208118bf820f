"""ROS bags, or NPZ episodes, to a data set.

    python -m episodes.convert BAG… --out DIR --name NAME [--task_table tasks.csv] [--rate 10]

Killed at any moment and run again, it continues. Run again with more bags, it adds them. The status is 0 when
all is in the data set, 1 when some of it is not, 2 when nothing was converted, 130 after Ctrl-C.
"""

import argparse
import sys
from collections.abc import Sequence

from absl import logging

from episodes.conversion import conversion, source_conversion
from episodes.conversion.conversion_report import NOTHING
from episodes.conversion.convert_settings import absent_from, add_arguments, find_paths, settings_from

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its status."""
    parser = argparse.ArgumentParser(
        prog="python -m episodes.convert", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--dry_run", action="store_true", help="say what would come of it, and write nothing")
    options = parser.parse_args(arguments)
    try:
        sources = find_paths(options.paths)
        settings = settings_from(options, sources)
        if options.dry_run:
            report = source_conversion.dry_run(sources, settings, workers=options.workers)
        else:
            report = conversion.convert(
                sources,
                settings,
                options.out,
                options.name,
                workers=options.workers,
                format=options.format,
                version=options.dataset_version,
                absent=absent_from(options),
                skip_untasked=options.skip_untasked,
            )
    except KeyboardInterrupt:
        sys.stderr.write("Stopped. Run the same command again to continue.\n")
        return _INTERRUPTED
    except (ValueError, OSError) as error:
        logging.debug("The error came from here:", exc_info=True)
        # gin adds where it was called from, which says nothing to who wrote the command line.
        sys.stderr.write(str(error).split("\n  In call to configurable", 1)[0] + "\n")
        return NOTHING
    sys.stdout.write(report.to_text())
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
