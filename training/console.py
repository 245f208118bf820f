"""What a training run says on the console: its own lines, and warnings of the libraries."""

import logging as python_logging
import sysconfig

from absl import logging

_LIBRARIES = (sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"])


class _OwnLinesAndWarnings(python_logging.Filter):
    """TensorFlow Datasets and the checkpoint writer report every call; an epoch's line would drown."""

    def filter(self, record: python_logging.LogRecord) -> bool:
        return record.levelno >= python_logging.WARNING or not record.pathname.startswith(_LIBRARIES)


def quiet_libraries() -> None:
    """Leaves out what installed libraries log below the level of a warning."""
    handler = logging.get_absl_handler()
    if not any(isinstance(f, _OwnLinesAndWarnings) for f in handler.filters):
        handler.addFilter(_OwnLinesAndWarnings())
