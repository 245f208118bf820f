"""Conversions in processes of their own that are killed; run by ``test_kill``.

    python -m tests.episodes.conversion.killed_runs convert OUT WORKERS SOURCE…
    python -m tests.episodes.conversion.killed_runs at_each_rename FOLDER

The second forks one conversion for each rename that it makes and kills it just before; it says on stdout
how many it killed, and fails where a data set is not whole or does not become whole afterwards. It
imports no TensorFlow, so that forks are cheap and safe.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

from episodes.conversion.conversion import convert
from tests.episodes.conversion import fake_sources as fake

SETTINGS = fake.settings(max_shard_bytes=8_000, split_salt="3")
NAME = "tiny"


def run(paths: list[Path], out: Path, workers: int = 0, absent: str = "refuse") -> None:
    report = convert(paths, SETTINGS, out, NAME, workers=workers, absent=absent, opener=fake.open_fake)
    assert report.exit_code == 0, report.to_text()


def tree(folder: Path) -> dict[str, bytes]:
    """Every file and its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def data_set(out: Path) -> dict[str, bytes] | None:
    folder = out / NAME / "1.0.0"
    return tree(folder) if folder.exists() else None


def kill_at(number: int) -> None:
    """Has this process killed when it comes to one of its renames."""
    left = number

    def patched(name: str) -> None:
        original = getattr(Path, name)

        def rename(self: Path, target: Path) -> Path:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(self, target)

        setattr(Path, name, rename)

    patched("rename")
    patched("replace")


def at_each_rename(folder: Path) -> int:
    paths = [fake.write_source(folder / "bags", f"b{i}.fake", lengths=[3]) for i in range(3)]
    run(paths[:2], folder / "start")
    # From now on these are in the data set and nowhere else.
    for path in paths[:2]:
        path.unlink()
    shutil.copytree(folder / "start", folder / "end")
    run(paths[2:], folder / "end", absent="keep")
    old, new = data_set(folder / "start"), data_set(folder / "end")
    assert old != new
    number = 0
    while True:
        number += 1
        out = folder / str(number)
        shutil.copytree(folder / "start", out)
        child = os.fork()
        if child == 0:
            kill_at(number)
            run(paths[2:], out, absent="keep")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 0
            return number - 1
        # Between two renames there is none.
        assert data_set(out) in (old, new, None), number
        run(paths[2:], out, absent="keep")
        assert data_set(out) == new, number
        left = sorted(p.name for p in (out / f".work-{NAME}").rglob("*"))
        assert left == ["hashes.json", "lock", "staged"], left
        assert [p.name for p in (out / NAME).iterdir()] == ["1.0.0"]
        shutil.rmtree(out)


if __name__ == "__main__":
    if sys.argv[1] == "convert":
        run([Path(p) for p in sys.argv[4:]], Path(sys.argv[2]), int(sys.argv[3]))
    else:
        sys.stdout.write(f"{at_each_rename(Path(sys.argv[2]))}\n")
