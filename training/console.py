"""What a training run says on the console: its own lines, warnings of the libraries, errors."""

import logging as python_logging
import re
import sysconfig

import tensorflow as tf
from absl import logging

USER_ERRORS = (ValueError, TypeError, OSError, tf.errors.OpError)
"""Of which ``message_of`` knows what to say."""

# gin appends where it was called from, which says nothing to who wrote the command line.
_CALL = re.compile(r"\n  In call to configurable '([^'\n]*)'")
# What a function of Python raised amid a data set of TensorFlow.
_RAISED = re.compile(
    r"\b(?:ValueError|OSError|FileNotFoundError|PermissionError): (.+?)\nTraceback \(most", re.DOTALL
)
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


def message_of(error: Exception) -> str:
    """What to say of an error that a user can put right.

    Raises:
      TypeError: ``error`` itself, where it did not come through gin: then no value of gin's is to blame.
      tf.errors.OpError: ``error`` itself, where it is TensorFlow's own; not where code of ours raised it amid
        a data set, such as at a broken image.
    """
    if isinstance(error, tf.errors.OpError):
        raised = _RAISED.search(str(error.message))
        if raised is None:
            raise error
        return raised[1]
    text, *calls = _CALL.split(str(error), maxsplit=1)
    if not isinstance(error, TypeError):
        return text
    if not calls:
        raise error
    return (
        f"A value in gin may be of the wrong type, such as a text for a number, in {calls[0]}. "
        f"--verbosity=1 shows where. Received: {text}"
    )
