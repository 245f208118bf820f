"""The one switch to legacy Keras. Import this before TensorFlow.

TF-Agents is written against Keras 2. TensorFlow picks its Keras when ``tensorflow`` is first
imported, by the environment variable ``TF_USE_LEGACY_KERAS``, so the variable has to be set before
that. Every package here that uses TensorFlow begins with ``from core import legacy_keras``.
"""

import os
import sys

_VARIABLE = "TF_USE_LEGACY_KERAS"


def require() -> None:
    """Makes sure that ``tf.keras`` is Keras 2.

    Raises:
      ImportError: TensorFlow was imported before with Keras 3 chosen.
    """
    chosen = os.environ.get(_VARIABLE) in ("1", "true", "True")  # What TensorFlow takes for yes.
    if "tensorflow" in sys.modules and not chosen:
        raise ImportError(
            "TensorFlow was imported before this project could choose legacy Keras, which TF-Agents "
            f"needs. Import any package of this project first, or set {_VARIABLE}=1 in the "
            f"environment. Received: {_VARIABLE}={os.environ.get(_VARIABLE)!r}, tensorflow already "
            "imported."
        )
    os.environ[_VARIABLE] = "1"
    # The C++ start-up banner hides our own messages; a user who sets it wins.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


require()
