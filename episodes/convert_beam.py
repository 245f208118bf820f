"""``episodes.convert`` on Apache Beam, for recordings that are too many for one machine.

    scripts/setup --beam
    .venv-beam/bin/python -m episodes.convert_beam BAG… --out DIR --name NAME [--runner=DirectRunner] [FLAGS]

All flags of episodes.convert, and those of Beam and its runners, written --flag=value. Recordings and DIR
must be on a disk that every worker mounts in the same place, and workers need this code and what
requirements-beam.txt names.
The data set is the same, byte by byte, as that of episodes.convert, and so are the messages and the status:
0 when all is in the data set, 1 when some of it is not, 2 when nothing was converted, 130 after Ctrl-C.
"""

import argparse
import dataclasses
import logging as python_logging
import sys
from collections.abc import Sequence

from absl import logging
from apache_beam.options.pipeline_options import PipelineOptions

from episodes.beam_pipeline import BeamJob, run_pipeline
from episodes.conversion import conversion
from episodes.conversion.conversion_report import NOTHING
from episodes.conversion.convert_settings import absent_from, add_arguments, find_paths, settings_from
from episodes.conversion.source_conversion import default_opener, default_workers

_INTERRUPTED = 130
_DIRECT = "DirectRunner"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its status."""
    parser = argparse.ArgumentParser(
        prog="python -m episodes.convert_beam",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
        allow_abbrev=False,
    )
    add_arguments(parser)
    parser.add_argument("--runner", default=_DIRECT, help="of Beam")
    options, beam_flags = parser.parse_known_args(arguments)
    workers = options.workers or default_workers()
    python_logging.getLogger().setLevel(python_logging.WARNING)
    try:
        beam_options = make_beam_options(options.runner, workers, beam_flags)
        sources = find_paths(options.paths)
        settings = settings_from(options, sources)
        opener, absent = default_opener(), absent_from(options)
        job = BeamJob(
            settings=settings,
            folder=(options.out / f".work-{options.name}").absolute(),
            final=conversion.final_folder(
                options.out.absolute(), options.name, options.dataset_version, options.format
            ),
            name=options.name,
            version=options.dataset_version,
            format=options.format,
            opener=opener,
            skip_untasked=options.skip_untasked,
        )
        converted = run_pipeline(sources, job, beam_options)
        report = conversion.convert(
            sources,
            settings,
            options.out,
            options.name,
            workers=workers,
            format=options.format,
            version=options.dataset_version,
            absent=absent,
            skip_untasked=options.skip_untasked,
            opener=opener,
        )
    except KeyboardInterrupt:
        sys.stderr.write("Stopped. Run the same command again to continue.\n")
        return _INTERRUPTED
    except (ValueError, OSError, RuntimeError) as error:
        logging.debug("The error came from here:", exc_info=True)
        sys.stderr.write(str(error).split("\n  In call to configurable", 1)[0] + "\n")
        return NOTHING
    report = dataclasses.replace(report, converted=report.converted + converted)
    sys.stdout.write(report.to_text())
    return report.exit_code


def make_beam_options(runner: str, workers: int, flags: Sequence[str]) -> PipelineOptions:
    """Beam's options; with the DirectRunner, as many processes as there are to be workers.

    Args:
      runner: its name.
      workers: see above.
      flags: ``--flag=value``; they win.

    Raises:
      ValueError: a flag that neither this command nor Beam has. Other runners than the DirectRunner may have
        flags of their own, so it is theirs to refuse one.
    """
    own = [f"--runner={runner}"]
    if runner == _DIRECT:
        own.append("--default_sdk_harness_log_level=WARNING")
        if workers > 1:
            own += [f"--direct_num_workers={workers}", "--direct_running_mode=multi_processing"]
    options = PipelineOptions([*own, *flags])
    known, given = options.get_all_options(), options.get_all_options(retain_unknown_options=True)
    unknown = sorted(given.keys() - known.keys())
    stray = [flag for flag in flags if not flag.startswith("--")]
    if runner == _DIRECT and (unknown or stray):
        raise ValueError(f"A flag must be of this command or of Beam. Received: {[*unknown, *stray]}")
    return options


if __name__ == "__main__":
    sys.exit(main())
