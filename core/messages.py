"""What command lines say of an error."""

import re

# gin appends where it was called from, which says nothing to who wrote the command line.
_CALL = re.compile(r"\n  In call to configurable '[^'\n]*' \(<[^\n]*>\)(?: in scope '[^'\n]*')?")


def plain(error: Exception) -> str:
    """The message of an error without gin's additions."""
    return _CALL.sub("", str(error))
