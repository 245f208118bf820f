"""No room reaches over another's threshold: walks the imports of every room and holds the table."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Room -> the rooms that it may import beside itself. A new room needs a line here.
MAY_IMPORT: dict[str, frozenset[str]] = {
    "core": frozenset(),
    "language": frozenset({"core"}),
    "episodes": frozenset({"core", "language"}),
    "film_efficientnet": frozenset({"core"}),
    "tokenizers": frozenset({"core", "film_efficientnet"}),
    "rt1": frozenset({"core", "language", "tokenizers", "film_efficientnet", "episodes"}),
    "clip_tf": frozenset({"core", "episodes"}),
    "sarnn_tf": frozenset({"core", "clip_tf", "episodes"}),
    "training": frozenset({"core"}),
    "serving": frozenset({"core"}),
    "simulation": frozenset({"core", "episodes"}),
}
# They stand outside the rooms and may import any of them; no room imports them.
OUTSIDE = frozenset({"benchmarks", "scripts", "tests", "train", "serve"})
OURS = MAY_IMPORT.keys() | OUTSIDE

SWITCH = "core.legacy_keras"
VARIABLE = "TF_USE_" + "LEGACY_KERAS"
TENSORFLOW = frozenset({"tensorflow", "tensorflow_hub", "tensorflow_probability", "tf_agents", "tf_keras"})
# core costs nothing to import, so its modules that use TensorFlow throw the switch themselves; language
# needs TensorFlow only for some encoders, and imports it when one is made.
WITHOUT_SWITCH_IN_INIT = frozenset({"core"})
LAZY = frozenset({"language"})
MAX_ENTRY_POINT_LINES = 119


def imports(source: str, package: tuple[str, ...], *, everywhere: bool) -> Iterator[str]:
    """Dotted names of what a module imports, in order; ``from a import b`` gives ``a.b``.

    Args:
      source: of the module.
      package: the package that the module is in, for relative imports.
      everywhere: also inside functions and behind TYPE_CHECKING, not only when the module is imported.
    """
    todo: list[ast.AST] = list(reversed(ast.parse(source).body))
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)
        elif not everywhere and (
            isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        ):
            continue
        todo.extend(reversed(list(ast.iter_child_nodes(node))))


def room_of(name: str) -> str:
    return name.partition(".")[0]


def modules(root: Path, folder: str) -> Iterator[tuple[Path, tuple[str, ...], str]]:
    """Every module below a folder: path from the root, package, source."""
    for path in sorted((root / folder).rglob("*.py")):
        relative = path.relative_to(root)
        yield relative, relative.parts[:-1], path.read_text(encoding="utf-8")


def has_code(folder: Path) -> bool:
    return folder.is_dir() and any(folder.rglob("*.py"))


def rooms(root: Path) -> list[str]:
    """The rooms of the table that are there."""
    return [room for room in MAY_IMPORT if has_code(root / room)]


def unknown_rooms(root: Path) -> list[str]:
    """Top-level folders with Python code that the table does not know."""
    folders = (p for p in root.iterdir() if not p.name.startswith("."))
    return sorted(p.name for p in folders if p.name not in OURS and has_code(p))


def crossings(root: Path) -> list[str]:
    """Imports that the table does not allow."""
    found = []
    for room in rooms(root):
        for path, package, source in modules(root, room):
            for name in imports(source, package, everywhere=True):
                other = room_of(name)
                if other in OURS and other != room and other not in MAY_IMPORT[room]:
                    found.append(f"{path} imports {name}")
    return found


def forgotten_switches(root: Path) -> list[str]:
    """Modules through which TensorFlow may be imported before legacy Keras was chosen."""
    found = []
    for room in rooms(root):
        for path, package, source in modules(root, room):
            at_import = list(imports(source, package, everywhere=False))
            tensorflow = [i for i, name in enumerate(at_import) if room_of(name) in TENSORFLOW]
            if not tensorflow:
                continue
            if room in LAZY:
                found.append(f"{path} imports TensorFlow when it is imported")
            elif room in WITHOUT_SWITCH_IN_INIT:
                if SWITCH not in at_import[: tensorflow[0]]:
                    found.append(f"{path} imports TensorFlow before {SWITCH}")
            elif SWITCH not in _init_imports(root / room / "__init__.py"):
                found.append(f"{path} imports TensorFlow, {room}/__init__.py does not begin with {SWITCH}")
    return found


def _init_imports(path: Path) -> list[str]:
    """What a room's __init__ imports before it comes to TensorFlow or to its own modules."""
    if not path.exists():
        return []
    room = path.parent.name
    names = list(imports(path.read_text(encoding="utf-8"), (room,), everywhere=False))
    late = [i for i, name in enumerate(names) if room_of(name) in TENSORFLOW | {room}]
    return names[: late[0]] if late else names


def uses_of_variable(root: Path) -> list[str]:
    """Modules that name the environment variable of legacy Keras."""
    folders = [*rooms(root), "benchmarks", "tests", "scripts"]
    sources = {str(path): source for folder in folders for path, _, source in modules(root, folder)}
    sources |= {path.name: path.read_text(encoding="utf-8") for path in sorted(root.glob("*.py"))}
    return [name for name, source in sources.items() if VARIABLE in source]


def test_every_folder_of_code_is_in_the_table() -> None:
    assert unknown_rooms(ROOT) == []


def test_the_rooms_are_there() -> None:
    """Else the other tests would walk nothing."""
    assert {"core", "language", "episodes", "rt1", "training", "serving"} <= set(rooms(ROOT))


def test_no_room_imports_what_it_must_not() -> None:
    assert crossings(ROOT) == []


def test_the_table_has_no_cycle() -> None:
    left = dict(MAY_IMPORT)
    while left:
        free = [room for room, others in left.items() if not others & left.keys()]
        assert free, f"These rooms import each other in a circle: {sorted(left)}"
        for room in free:
            del left[room]


def test_legacy_keras_is_chosen_before_tensorflow_is_imported() -> None:
    assert forgotten_switches(ROOT) == []


@pytest.mark.parametrize("name", ["train.py", "serve.py"])
def test_tensorflow_comes_after_the_rooms_in_entry_points(name: str) -> None:
    names = [room_of(n) for n in imports((ROOT / name).read_text(encoding="utf-8"), (), everywhere=False)]
    tensorflow = [i for i, n in enumerate(names) if n in TENSORFLOW]
    assert not tensorflow or set(names[: tensorflow[0]]) & MAY_IMPORT.keys()


def test_one_module_touches_the_variable_of_legacy_keras() -> None:
    assert [name for name in uses_of_variable(ROOT) if not name.startswith("tests/core/")] == [
        "core/legacy_keras.py"
    ]


@pytest.mark.parametrize("name", ["train.py", "serve.py"])
def test_entry_points_stay_thin(name: str) -> None:
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= MAX_ENTRY_POINT_LINES


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    "source",
    [
        "import rt1",
        "import rt1.losses as losses",
        "from rt1.losses import loss",
        "from tests import shared_data",
        "import train",
        "def f() -> None:\n    from rt1 import losses",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import rt1",
        "try:\n    import rt1\nexcept ImportError:\n    pass",
    ],
)
def test_a_crossing_is_found(tmp_path: Path, source: str) -> None:
    write(tmp_path, {"serving/__init__.py": "", "serving/parts/bad.py": source})
    (found,) = crossings(tmp_path)
    assert found.startswith("serving/parts/bad.py imports ")


def test_what_is_allowed_is_no_crossing(tmp_path: Path) -> None:
    source = "from core import files\nfrom . import other\nfrom ..serving import third\nimport rt1_like\n"
    write(tmp_path, {"serving/__init__.py": "", "serving/parts/good.py": source})
    assert crossings(tmp_path) == []


def test_a_folder_that_the_table_does_not_know_is_found(tmp_path: Path) -> None:
    write(
        tmp_path, {"helpers/misc.py": "", "docs/picture.txt": "", "core/food.py": "", "tests/test_x.py": ""}
    )
    assert unknown_rooms(tmp_path) == ["helpers"]


@pytest.mark.parametrize(
    ("init", "ok"),
    [
        ("from core import legacy_keras as _legacy_keras\n", True),
        ("from core import legacy_keras\nfrom rt1.network import f\n", True),
        ("import core.legacy_keras\n", True),
        ("", False),
        ("from core import files\n", False),
        ("from rt1.network import f\nfrom core import legacy_keras\n", False),
        ("import tensorflow as tf\nfrom core import legacy_keras\n", False),
    ],
)
def test_a_forgotten_switch_in_a_room_is_found(tmp_path: Path, init: str, ok: bool) -> None:
    write(tmp_path, {"rt1/__init__.py": init, "rt1/network.py": "from tf_agents import agents\n"})
    assert (forgotten_switches(tmp_path) == []) is ok


@pytest.mark.parametrize(
    ("name", "source", "ok"),
    [
        ("core/dropout.py", "from core import legacy_keras\nimport tensorflow as tf\n", True),
        ("core/dropout.py", "import tensorflow as tf\nfrom core import legacy_keras\n", False),
        ("core/dropout.py", "import tensorflow as tf\n", False),
        ("language/use.py", "def f() -> None:\n    import tensorflow as tf\n", True),
        ("language/use.py", "import tensorflow as tf\n", False),
        ("language/use.py", "class A:\n    import tensorflow as tf\n", False),
    ],
)
def test_a_forgotten_switch_in_a_module_is_found(tmp_path: Path, name: str, source: str, ok: bool) -> None:
    write(tmp_path, {name: source})
    assert (forgotten_switches(tmp_path) == []) is ok


def test_another_use_of_the_variable_is_found(tmp_path: Path) -> None:
    write(
        tmp_path, {"rt1/a.py": f"import os\nos.environ['{VARIABLE}'] = '1'\n", "train.py": f"# {VARIABLE}\n"}
    )
    assert uses_of_variable(tmp_path) == ["rt1/a.py", "train.py"]
