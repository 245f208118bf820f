"""The one place that sets TensorFlow's switches, legacy Keras above all. Import this before TensorFlow.

TF-Agents is written against Keras 2. TensorFlow picks its Keras when ``tensorflow`` is first
imported, by the environment variable ``TF_USE_LEGACY_KERAS``, so the variable has to be set before
that. Every package here that uses TensorFlow begins with ``from core import legacy_keras``.

oneDNN's kernels are switched on too, by ``TF_ENABLE_ONEDNN_OPTS``. TensorFlow leaves them off on processors
without instructions for neural networks, where its own kernels for small convolutions need several times as
long and hundreds of times the memory traffic. They sum in another order, so the last bits differ: a process
and its children must have the same, which is why no other place sets it.
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
    if "tensorflow" not in sys.modules:  # Else children would compute otherwise than this process.
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # The C++ start-up banner hides our own messages; a user who sets it wins.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


require()
