"""Settings for every test: legacy Keras before TensorFlow, the project's root importable."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from core import legacy_keras  # noqa: E402, F401
