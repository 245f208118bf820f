"""The conversion on Apache Beam: in its own environment, with the result of the conversion on one machine.

Beam is not among what the other tests need, so the heavy tests make its environment with ``scripts/setup
--beam`` and run the command there.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
BAGS = ROOT / "sample_bags"
# What Beam holds at an older release; everything else must be of one version, or the bytes may differ.
OLDER_FOR_BEAM = {"pillow", "protobuf", "pyarrow", "python-dateutil"}
SETTINGS = (
    "--name=reach",
    "--topic=instruction=/instruction",
    "--splits=train=0.5,val=0.5",
    "--gin_param=conversion.max_shard_bytes = 400000",
    "--workers=2",
)


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = [re.fullmatch(r"([A-Za-z0-9][\w.-]*)==(\d[\w.+!]*)(?:  # .+)?", line) for line in lines]
    wrong = [line for line, pin in zip(lines, found, strict=True) if line and line[0] != "#" and not pin]
    assert not wrong
    return {re.sub(r"[-_.]+", "-", pin[1]).lower(): pin[2] for pin in found if pin}


def test_both_environments_have_the_same_versions() -> None:
    beam, runtime = pins("requirements-beam.txt"), pins("requirements.txt")
    assert "apache-beam" in beam
    assert not {"tensorflow", "tf-keras"} & beam.keys()
    differing = {name for name in beam.keys() & runtime.keys() if beam[name] != runtime[name]}
    assert differing == OLDER_FOR_BEAM


@pytest.fixture(scope="module")
def beam_python() -> Path:
    done = subprocess.run([ROOT / "scripts" / "setup", "--beam"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    python = ROOT / ".venv-beam" / "bin" / "python"
    check = subprocess.run([python, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout
    return python


@pytest.fixture
def bags(tmp_path: Path) -> Path:
    """Four good bags, one of them twice, and one that is cut off."""
    folder = tmp_path / "bags"
    folder.mkdir()
    for name in ("reach_00.bag", "reach_01.bag", "reach_02.bag"):
        shutil.copy(BAGS / name, folder / name)
    shutil.copytree(BAGS / "reach_14", folder / "reach_14")
    shutil.copy(BAGS / "reach_01.bag", folder / "the_same.bag")
    (folder / "cut_off.bag").write_bytes((BAGS / "reach_03.bag").read_bytes()[:100_000])
    return folder


def convert(python: str | Path, module: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(part) for part in (python, "-m", module, *arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.heavy
def test_the_data_set_is_that_of_one_machine_byte_by_byte(
    beam_python: Path, bags: Path, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"

    def both(*arguments: str | Path) -> tuple[subprocess.CompletedProcess[str], ...]:
        return (
            convert(sys.executable, "episodes.convert", bags, "--out", here, *SETTINGS, *arguments),
            convert(beam_python, "episodes.convert_beam", bags, "--out", there, *SETTINGS, *arguments),
        )

    local, beam = both()
    assert (local.returncode, beam.returncode) == (1, 1), local.stderr + beam.stderr
    assert beam.stdout == local.stdout.replace(str(here), str(there))
    assert "cut_off.bag" in beam.stdout
    whole = content(there / "reach")
    assert whole == content(here / "reach")
    assert len([name for name in whole if "tfrecord" in name]) >= 3
    # More bags: what is there is taken, what is new is added, and the rest is as it would be.
    for name in ("reach_04.bag", "reach_05.bag"):
        shutil.copy(BAGS / name, bags / name)
    (bags / "cut_off.bag").unlink()
    local, beam = both()
    assert (local.returncode, beam.returncode) == (0, 0), local.stderr + beam.stderr
    assert "2 sources converted by this run" in beam.stdout
    assert beam.stdout == local.stdout.replace(str(here), str(there))
    assert content(there / "reach") == content(here / "reach") != whole


@pytest.mark.heavy
def test_bags_without_a_task_are_all_named_and_nothing_is_published(
    beam_python: Path, bags: Path, tmp_path: Path
) -> None:
    done = convert(beam_python, "episodes.convert_beam", bags, "--out", tmp_path / "out", "--name=reach")
    assert done.returncode == 2
    assert all(f"reach_0{i}.bag" in done.stderr for i in range(3))
    assert not (tmp_path / "out" / "reach").exists()


@pytest.mark.heavy
@pytest.mark.parametrize("flag", ["--no_such_flag=1", "--skip_untask"])
def test_a_flag_that_nobody_knows_is_refused(
    beam_python: Path, bags: Path, tmp_path: Path, flag: str
) -> None:
    done = convert(beam_python, "episodes.convert_beam", bags, "--out", tmp_path / "out", flag)
    assert done.returncode == 2
    assert flag.lstrip("-").partition("=")[0] in done.stderr
    assert not (tmp_path / "out").exists()
