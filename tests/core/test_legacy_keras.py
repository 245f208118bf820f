"""The switch to legacy Keras, each time in a fresh interpreter."""

import os
import subprocess
import sys

import pytest

from tests.shared_data import ROOT


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    switches = ("TF_USE_LEGACY_KERAS", "TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS")
    clean = {k: v for k, v in os.environ.items() if k not in switches}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**clean, **environment}, capture_output=True, text=True
    )


KERAS = "import tensorflow as tf, sys; sys.stdout.write(tf.keras.layers.Dense.__module__)"
# In TensorFlow's place, for only its presence counts and importing it takes seconds.
STAND_IN = "import sys, types; sys.modules['tensorflow'] = types.ModuleType('tensorflow')"


def test_ours_first_gives_keras_2_whatever_the_environment_says() -> None:
    done = run(f"from core import legacy_keras; {KERAS}", TF_USE_LEGACY_KERAS="0")
    assert done.stdout.startswith("tf_keras."), done.stderr


def test_the_environment_can_choose_keras_2_before_tensorflow() -> None:
    done = run(f"{KERAS}; from core import legacy_keras", TF_USE_LEGACY_KERAS="True")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tf_keras.")


def test_tensorflow_first_is_a_clear_error() -> None:
    done = run("import tensorflow; from core import legacy_keras")
    assert done.returncode != 0
    assert "ImportError: TensorFlow was imported before this project could choose" in done.stderr
    assert "set TF_USE_LEGACY_KERAS=1" in done.stderr


@pytest.mark.parametrize("value", [None, "", "0", "TRUE", "yes"])
def test_what_tensorflow_takes_for_no_is_an_error(value: str | None) -> None:
    environment = {} if value is None else {"TF_USE_LEGACY_KERAS": value}
    done = run(f"{STAND_IN}; import rt1", **environment)
    assert f"Received: TF_USE_LEGACY_KERAS={value!r}, tensorflow already imported" in done.stderr


@pytest.mark.parametrize("value", ["1", "true", "True"])
def test_what_tensorflow_takes_for_yes_is_fine(value: str) -> None:
    assert run(f"{STAND_IN}; from core import legacy_keras", TF_USE_LEGACY_KERAS=value).returncode == 0


@pytest.mark.parametrize(
    ("variable", "ours", "users"), [("TF_CPP_MIN_LOG_LEVEL", "2", "0"), ("TF_ENABLE_ONEDNN_OPTS", "1", "0")]
)
def test_what_the_user_sets_wins(variable: str, ours: str, users: str) -> None:
    code = f"import os, sys; from core import legacy_keras; sys.stdout.write(os.environ['{variable}'])"
    assert run(code).stdout == ours
    assert run(code, **{variable: users}).stdout == users


def test_children_compute_as_a_process_that_imported_tensorflow_first() -> None:
    code = (
        f"{STAND_IN}; import os; from core import legacy_keras\n"
        "sys.exit('TF_ENABLE_ONEDNN_OPTS' in os.environ)"
    )
    assert run(code, TF_USE_LEGACY_KERAS="1").returncode == 0


def test_core_itself_imports_no_tensorflow() -> None:
    code = (
        "import sys\n"
        "from core import checkpoint_folder, files, food, legacy_keras, load_report, policy, spec\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr
