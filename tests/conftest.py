"""For every test: legacy Keras first, the project's root importable; how processes share the tests."""

import sys
from pathlib import Path
from typing import Any

import gin
import pytest
from hypothesis import settings

_ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(_ROOT))

from core import legacy_keras  # noqa: E402, F401

# The same examples every time: a commit is judged by what it changes. `scripts/test
# --hypothesis-profile=default` looks for new ones.
settings.load_profile("ci")

FIGURE = "figure"
"""``record_property(FIGURE, text)`` shows a text in the summary, from whichever process."""


@pytest.fixture(autouse=True, scope="module")
def _no_leftover_configuration() -> None:
    """Each file begins with an empty gin configuration that is not locked, whichever ran before it."""
    gin.clear_config()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with heavy tests come first, so that no process is left alone with one at the end."""
    heavy = {item.path for item in items if item.get_closest_marker("heavy")}
    items.sort(key=lambda item: item.path not in heavy)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests share a process, and what is compiled there; a folder's golden tests do too.

    One of the latter asks whether the others have read everything.
    """
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            folder, _, name = file.rpartition("/")
            return f"{folder}/test_golden" if name.startswith("test_golden") else file

    return Scheduling(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.getreports(kind)]
    figures = [text for report in reports for name, text in report.user_properties if name == FIGURE]
    if figures:
        terminalreporter.section("figures")
        for text in figures:
            terminalreporter.write_line(str(text))
