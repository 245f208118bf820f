"""The project's frame: its scripts, its requirement files, and what no file may hold."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
RUNTIME, DEVELOPMENT, BEAM = "requirements.txt", "requirements-dev.txt", "requirements-beam.txt"
# What runs in Beam's own environment only.
BEAM_MODULES = {"apache_beam": "apache-beam"}
# The originals, which benchmarks run beside ours where they are installed.
ORIGINALS = {"torch", "open_clip", "eipl"}
PULLED_IN = "# What those pull in"
# Pinned among what the project imports though no module names them.
NOT_IMPORTED = {
    "importlib-resources": "tensorflow-datasets imports it and declares it only for older Pythons",
    "setuptools": "tensorflow-hub imports pkg_resources, which later releases dropped",
    "tensorflow-probability": "TF-Agents imports it and asks for it only in an extra",
    "tf-keras": "what tf.keras is",
    "ruff": "scripts/test",
    "mypy": "scripts/test",
}
OURS = {p.stem for p in ROOT.iterdir() if p.suffix == ".py" or (p.is_dir() and any(p.glob("*.py")))}


def run(
    command: Iterable[str | Path], env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    command = [str(part) for part in command]
    environment = {**os.environ, **(env or {})}
    return subprocess.run(
        command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )


def project_files() -> list[Path]:
    """Everything that is tracked, or would be by `git add .`."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    done = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return [p for name in done.stdout.split("\0") if name and (p := ROOT / name).is_file()]


def text_of(path: Path) -> str | None:
    """None for a binary file."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


# --- shell scripts -----------------------------------------------------------------------------------


def shell_scripts() -> list[Path]:
    folders = [ROOT / "scripts", ROOT / ".ci", ROOT / "slurm_scripts"]
    found = [p for folder in folders for p in sorted(folder.glob("*")) if p.is_file()]
    return [p for p in found if re.match(r"#!.*\b(ba)?sh\b", (text_of(p) or "").partition("\n")[0])]


@pytest.mark.parametrize("path", shell_scripts(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_shell_scripts_parse_and_stop_at_errors(path: Path) -> None:
    done = run(["bash", "-n", path])
    assert done.returncode == 0, done.stderr
    assert re.search(r"^set -\w*e", path.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("name", ["scripts/setup", "scripts/test", ".ci/run"])
def test_commands_are_there_and_can_be_run(name: str) -> None:
    assert ROOT / name in shell_scripts()
    assert os.access(ROOT / name, os.X_OK)


# --- requirement files -------------------------------------------------------------------------------


def pins(name: str) -> tuple[dict[str, str], dict[str, str]]:
    """Distribution -> version, of what the project names itself and of what that pulls in.

    Every line must be a comment or an exact pin, so that a file also holds no index and no path.
    """
    parts: tuple[dict[str, str], dict[str, str]] = ({}, {})
    part = parts[0]
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if line == PULLED_IN:
            part = parts[1]
        if not line.strip() or line.startswith("#") or (name == DEVELOPMENT and line == f"-r {RUNTIME}"):
            continue
        match = re.fullmatch(r"([A-Za-z0-9][\w.-]*)==(\d[\w.+!]*)(?:  # .+)?", line)
        assert match, f"{name} must hold exact pins (name==version  # why). Received: {line!r}"
        distribution = canonicalize_name(match[1])
        assert distribution not in parts[0] | parts[1], f"{name} names {distribution} twice"
        part[distribution] = match[2]
    return parts


@pytest.mark.parametrize("name", [RUNTIME, DEVELOPMENT, BEAM])
def test_requirements_are_exact_pins(name: str) -> None:
    direct, pulled_in = pins(name)
    assert direct
    assert pulled_in


def test_the_development_list_holds_the_run_time_one() -> None:
    lines = (ROOT / DEVELOPMENT).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")][0] == f"-r {RUNTIME}"
    runtime, development = pins(RUNTIME), pins(DEVELOPMENT)
    assert not (runtime[0] | runtime[1]).keys() & (development[0] | development[1]).keys()


def test_what_is_installed_is_what_is_pinned() -> None:
    every = {k: v for name in (RUNTIME, DEVELOPMENT) for part in pins(name) for k, v in part.items()}
    installed = {name: importlib.metadata.version(name) for name in every}
    assert installed == every


# Beam asks for older ones.
OLDER_FOR_BEAM = {"pillow", "protobuf", "pyarrow", "python-dateutil"}


def test_both_environments_have_the_same_versions() -> None:
    """What both have must write the same bytes."""
    (beam, beam_pulled), (runtime, runtime_pulled) = pins(BEAM), pins(RUNTIME)
    ours, theirs = runtime | runtime_pulled, beam | beam_pulled
    other = {name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]}
    assert other <= OLDER_FOR_BEAM, f"{other - OLDER_FOR_BEAM} must be of the versions of {RUNTIME}"


def closure(roots: Iterable[str]) -> set[str]:
    """Everything that the installed distributions ask for on this system, themselves included."""
    todo: list[tuple[str, frozenset[str]]] = [(root, frozenset()) for root in roots]
    done: set[tuple[str, frozenset[str]]] = set()
    while todo:
        name, extras = todo.pop()
        if (name, extras) in done:
            continue
        done.add((name, extras))
        for line in importlib.metadata.requires(name) or []:
            asked = Requirement(line)
            if asked.marker is None or _applies(asked.marker, extras):
                todo.append((canonicalize_name(asked.name), frozenset(asked.extras)))
    return {name for name, _ in done}


def _applies(marker: Marker, extras: frozenset[str]) -> bool:
    return any(marker.evaluate({"extra": extra}) for extra in extras | {""})


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems pull in other packages")
def test_everything_that_is_pulled_in_is_pinned_and_nothing_else() -> None:
    (runtime, runtime_pulled), (development, development_pulled) = pins(RUNTIME), pins(DEVELOPMENT)
    needed = closure(runtime)
    assert set(runtime_pulled) == needed - set(runtime)
    both = closure([*runtime, *development])
    assert set(development_pulled) == both - needed - set(development)


def third_party_imports(paths: Iterable[Path]) -> dict[str, set[str]]:
    """Top-level module -> the files that import it, without the standard library and our own."""
    found: dict[str, set[str]] = {}
    for path in paths:
        neighbours = {p.stem for p in path.parent.glob("*.py")}
        for module in imported_modules(path.read_text(encoding="utf-8")):
            if module not in sys.stdlib_module_names and module not in OURS | neighbours:
                found.setdefault(module, set()).add(str(path.relative_to(ROOT)))
    return found


def imported_modules(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0]


def distributions(modules: Iterable[str]) -> dict[str, set[str]]:
    """Module -> the installed distributions that bring it."""
    known = importlib.metadata.packages_distributions()
    return {m: {canonicalize_name(d) for d in known.get(m, [])} for m in modules}


def test_every_import_is_pinned_directly() -> None:
    python = [p for p in project_files() if p.suffix == ".py"]
    code = third_party_imports(p for p in python if p.relative_to(ROOT).parts[0] != "tests")
    tests = third_party_imports(p for p in python if p.relative_to(ROOT).parts[0] == "tests")
    runtime, development = pins(RUNTIME), pins(DEVELOPMENT)
    for module, distribution in BEAM_MODULES.items():
        assert distribution in pins(BEAM)[0]
        assert code.pop(module)
    for module in ORIGINALS & code.keys():
        assert all(path.startswith("benchmarks/") for path in code.pop(module))
    bad = {m: code[m] for m, found in distributions(code).items() if not found & runtime[0].keys()}
    assert not bad, f"not among the direct pins of {RUNTIME}: {bad}"
    every = {name for part in (*runtime, *development) for name in part}
    bad = {m: tests[m] for m, found in distributions(tests).items() if not found & every}
    assert not bad, f"not pinned: {bad}"
    imported = set().union(*distributions([*code, *tests]).values())
    needless = (runtime[0] | development[0]).keys() - imported - NOT_IMPORTED.keys()
    assert not needless, f"pinned directly, but nothing imports it: {needless}"


# --- scripts/setup -----------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the scripts, and requirement files that ask for nothing."""
    root = tmp_path / "a checkout"
    (root / "scripts").mkdir(parents=True)
    for name in ("setup", "test"):
        shutil.copy(ROOT / "scripts" / name, root / "scripts" / name)
    (root / RUNTIME).write_text("# nothing\n")
    (root / DEVELOPMENT).write_text(f"-r {RUNTIME}\n")
    return root


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
    return path


def setup(root: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    offline = {"PYTHON": sys.executable, "PIP_NO_INDEX": "1"}
    return run([root / "scripts" / "setup", *arguments], {**offline, **env}, cwd=Path("/"))


@pytest.mark.parametrize(
    ("answer", "received"),
    [("echo 3.9", "3.9"), ("echo 3.12", "3.12"), ("exit 1", "no Python that runs")],
    ids=["older", "newer", "broken"],
)
def test_setup_refuses_a_wrong_python(checkout: Path, answer: str, received: str) -> None:
    fake = program(checkout / "fake-python", answer)
    done = setup(checkout, PYTHON=str(fake))
    assert done.returncode == 1
    assert "PYTHON must be Python 3.11" in done.stderr
    assert f"PYTHON={fake}, which is {received}" in done.stderr
    assert not (checkout / ".venv").exists()


def test_setup_refuses_a_python_that_is_not_there(checkout: Path) -> None:
    done = setup(checkout, PYTHON="/no/such/python")
    assert done.returncode == 1
    assert "PYTHON=/no/such/python, which is no Python that runs" in done.stderr


def test_setup_says_what_it_found_where_there_is_no_right_python(checkout: Path) -> None:
    bin_folder = checkout / "bin"
    program(bin_folder / "python3", "echo 3.12")
    for name in ("bash", "dirname"):
        (bin_folder / name).symlink_to(str(shutil.which(name)))
    done = setup(checkout, PYTHON="", PATH=str(bin_folder))
    assert done.returncode == 1
    assert "Python 3.11 is needed" in done.stderr
    assert "python3 is 3.12" in done.stderr
    (bin_folder / "python3").unlink()
    done = setup(checkout, PYTHON="", PATH=str(bin_folder))
    assert done.returncode == 1
    assert "no Python on PATH" in done.stderr


@pytest.mark.parametrize("arguments", [["--all"], ["--runtime", "x"], ["--runtime", "--runtime"]])
def test_setup_refuses_unknown_options(checkout: Path, arguments: list[str]) -> None:
    done = setup(checkout, *arguments)
    assert done.returncode == 1
    assert "The only option is --runtime" in done.stderr


def test_setup_works_once_and_again_after_a_change(checkout: Path) -> None:
    stamp = checkout / ".venv" / ".setup-stamp"
    first = setup(checkout, "--runtime")
    assert first.returncode == 0, first.stderr
    assert run([checkout / ".venv/bin/python", "-c", "import pip"]).returncode == 0
    runtime_stamp = stamp.read_text()
    # Nothing to do, whatever the development list says: nothing is said and pip is not asked.
    (checkout / DEVELOPMENT).write_text(f"# changed\n-r {RUNTIME}\n")
    again = setup(checkout, "--runtime")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    # The development list is more, and then serves both.
    assert "requirements-dev.txt" in setup(checkout).stdout
    assert stamp.read_text() != runtime_stamp
    for arguments in ([], ["--runtime"]):
        done = setup(checkout, *arguments)
        assert (done.returncode, done.stdout) == (0, "")
    # A requirement that cannot be had: an error, and no stamp that would hide it the next time.
    (checkout / RUNTIME).write_text("no-such-distribution==1\n")
    failed = setup(checkout)
    assert failed.returncode != 0
    assert "pip could not install" in failed.stderr
    assert not stamp.exists()
    (checkout / RUNTIME).write_text("# nothing again\n")
    assert setup(checkout).returncode == 0
    assert stamp.exists()


def test_setup_repairs_what_an_interruption_left(checkout: Path) -> None:
    done = run([sys.executable, "-m", "venv", "--without-pip", checkout / ".venv"])
    assert done.returncode == 0, done.stderr
    done = setup(checkout)
    assert done.returncode == 0, done.stderr
    assert "not whole" in done.stdout
    assert (checkout / ".venv" / ".setup-stamp").exists()


def test_setup_trusts_nothing_that_an_interrupted_pip_left(checkout: Path) -> None:
    assert setup(checkout).returncode == 0
    (packages,) = (checkout / ".venv" / "lib").glob("python*/site-packages")
    (packages / "half.py").write_text("x = ")
    # What pip gave up by itself is whole, and stays.
    (checkout / RUNTIME).write_text("no-such-distribution==1\n")
    assert setup(checkout).returncode != 0
    (checkout / RUNTIME).write_text("# nothing\n")
    assert setup(checkout).returncode == 0
    assert (packages / "half.py").exists()
    # As a kill leaves it.
    (checkout / ".venv" / ".setup-stamp").unlink()
    (checkout / ".venv" / ".setup-unfinished").touch()
    done = setup(checkout)
    assert done.returncode == 0, done.stderr
    assert "not whole" in done.stdout
    assert not (packages / "half.py").exists()
    assert not (checkout / ".venv" / ".setup-unfinished").exists()
    assert setup(checkout).stdout == ""


def test_two_setups_at_once_make_one_environment(checkout: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable, "PIP_NO_INDEX": "1"}
    both = [
        subprocess.Popen([checkout / "scripts" / "setup"], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted("making .venv" in text for text in said) == [False, True]


# --- scripts/test ------------------------------------------------------------------------------------


@pytest.fixture
def fake_tools(checkout: Path) -> Path:
    """A checkout whose setup, ruff, mypy and Python only note how they were called.

    A file named like a tool holds its exit status.
    """
    program(checkout / "scripts" / "setup", "echo setup >> calls")
    for name in ("ruff", "mypy", "python"):
        note = f'echo "{name} $*" >> calls; echo "said by {name}"; exit $(cat {name} 2>/dev/null || echo 0)'
        program(checkout / ".venv" / "bin" / name, note)
    return checkout


def calls(root: Path, *arguments: str, script: str = "scripts/test") -> tuple[int, list[str], str]:
    done = run([root / script, *arguments], cwd=root)
    return done.returncode, (root / "calls").read_text().splitlines(), done.stdout


def test_checks_come_before_the_default_tests(fake_tools: Path) -> None:
    status, called, said = calls(fake_tools)
    assert status == 0
    assert [c.split()[0] for c in called] == ["setup", "ruff", "ruff", "mypy", "python"]
    assert called[1:3] == ["ruff check .", "ruff format --check ."]
    assert "-m pytest" in called[-1]
    assert "-m not heavy" in called[-1]
    assert said.splitlines()[-1] == "said by python"


def test_all_means_the_heavy_tests_too_and_the_rest_goes_to_pytest(fake_tools: Path) -> None:
    _, called, _ = calls(fake_tools, "--all", "tests/rt1", "-k", "golden and rt1")
    assert "not heavy" not in called[-1]
    assert "--all" not in called[-1]
    assert called[-1].endswith("tests/rt1 -k golden and rt1")


@pytest.mark.parametrize(("tool", "number_of_calls"), [("ruff", 2), ("mypy", 4), ("python", 5)])
def test_a_failure_is_the_exit_status(fake_tools: Path, tool: str, number_of_calls: int) -> None:
    (fake_tools / tool).write_text("3")
    status, called, _ = calls(fake_tools)
    assert status == 3
    assert len(called) == number_of_calls


def test_continuous_integration_runs_everything(fake_tools: Path) -> None:
    (fake_tools / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", fake_tools / ".ci" / "run")
    program(fake_tools / "scripts" / "test", 'echo "test $*" >> calls; exit 5')
    status, called, _ = calls(fake_tools, script=".ci/run")
    assert (status, called) == (5, ["test --all"])


# --- what no file may hold ---------------------------------------------------------------------------

_MACHINE_PATH = re.compile(r"(?<![\w.~}-])/(?:root|home|work|opt|Users|scratch|mnt|nfs)/[\w.-]+")


def machine_paths(text: str) -> list[str]:
    return _MACHINE_PATH.findall(text)


def test_no_file_names_a_path_of_a_machine() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): paths
        for path in project_files()
        if (text := text_of(path)) is not None and (paths := machine_paths(text))
    }
    assert not found


@pytest.mark.parametrize("folder", ["root", "home", "work", "opt", "Users"])
def test_a_path_of_a_machine_is_found(folder: str) -> None:
    path = f"/{folder}/someone"
    assert machine_paths(f'data = "{path}/x"') == [path]
    assert machine_paths(f"https://example.org{path}") == []
    assert machine_paths(f"..{path}") == []


def test_the_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert re.search(r"Apache License\s+Version 2\.0, January 2004", text)
    assert "END OF TERMS AND CONDITIONS" in text
