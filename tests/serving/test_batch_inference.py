import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_policies import FakeArmPolicy, FakeFoodPolicy, evaluation_metrics, write_checkpoint
from serving_testing import png

from core import checkpoint_folder, files
from serving import batch_inference, registry
from serving.batch_inference import Item
from serving.model import make_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def plates(tmp_path: Path) -> Path:
    folder = tmp_path / "plates"
    folder.mkdir()
    for i in range(5):
        (folder / f"{i}.png").write_bytes(png(40 * i, size=(4, 4 + i // 3)))
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_folder_in_batches_equals_one_by_one(plates: Path, tmp_path: Path) -> None:
    policy = FakeFoodPolicy()
    items = batch_inference.items_of_folder(plates, "skewering", "banana", "")
    assert [item.file for item in items] == [f"{i}.png" for i in range(5)]
    assert batch_inference.run(make_model(policy), plates, items, tmp_path / "out.json") == 0
    assert sorted(call["n"] for call in policy.calls) == [2, 3]  # One call for each size of images.
    one_by_one = list(batch_inference.predict_items(make_model(policy), plates, items, batch_size=1))
    content = files.read_json(tmp_path / "out.json")
    assert content["results"] == one_by_one
    assert (content["count"], content["failed"], content["model"]) == (5, 0, "fake:unnamed")
    assert "metrics" not in content
    starts = [r["prediction"]["start_x"] for r in content["results"]]
    np.testing.assert_allclose(starts, np.arange(5) * 40 / 255 * 0.5, atol=1e-6)


def test_errors_are_listed_by_file(plates: Path, tmp_path: Path) -> None:
    (plates / "1.png").write_bytes(b"broken")
    items = [
        *batch_inference.items_of_folder(plates, "skewering", "banana", ""),
        Item("gone.png", "skewering", "banana"),
        Item("2.png", "skewering", "stone"),
        Item("3.png"),
    ]
    policy = FakeFoodPolicy()
    policy.fail = lambda o: (
        ValueError("image is too dark") if o["image"].max(axis=(1, 2, 3)).min() == 0 else None
    )
    assert batch_inference.run(make_model(policy), plates, items, tmp_path / "out.json") == 5
    results = files.read_json(tmp_path / "out.json")["results"]
    assert [r["file"] for r in results] == [item.file for item in items]
    assert [r["success"] for r in results] == [False, False, True, True, True, False, False, False]
    codes = [r["error"]["code"] for r in results if not r["success"]]
    assert codes == [
        *("invalid_field", "unsupported_image", "unreadable_file"),
        *("unknown_instruction", "unknown_instruction"),
    ]
    assert results[6]["error"]["field"] == "food_type"
    assert results[6]["input_food_type"] == "stone"


def test_labels_give_metrics_over_answered_images(plates: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(
        "file,action,food_type,x1,y1,x2,y2\n"
        "0.png,skewering,banana,0.1,0.1,0.1,0.1\n"
        "1.png,,,0.2,0.2,0.2,0.2\n"
        "gone.png,,,1,1,1,1\n"
        "2.png,scoop,rice,,,,\n"
    )
    items = batch_inference.items_of_csv(table, "skewering", "banana", "")
    assert items[1] == Item("1.png", "skewering", "banana", "", (0.2, 0.2, 0.2, 0.2))
    assert items[3].label is None
    out = tmp_path / "out.json"
    model = make_model(FakeFoodPolicy())
    assert batch_inference.run(model, plates, items, out, evaluate=evaluation_metrics) == 1
    content = files.read_json(out)
    boxes = [
        [content["results"][i]["prediction"][k] for k in ("start_x", "start_y", "end_x", "end_y")]
        for i in (0, 1)
    ]
    expected = np.abs(np.array(boxes) - [[0.1], [0.2]]).mean()
    assert content["metrics"] == {"count": 2, "bbox_mae": pytest.approx(expected, abs=1e-6)}
    with pytest.raises(ValueError, match="evaluation_metrics"):
        batch_inference.run(model, plates, items, tmp_path / "none.json")
    assert not (tmp_path / "none.json").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name\n1.png\n", "columns"),
        ("file,colour\n1.png,red\n", "columns"),
        ("file\n", "rows"),
        ("file,action\n1.png,scoop,more\n", "line 2"),
        ("file,action\n,scoop\n", "line 2"),
        ("file,x1,y1,x2,y2\n1.png,0,0,0,0\n2.png,0,0,0,\n", "line 3"),
        ("file,x1,y1,x2,y2\n1.png,0,0,0,1.5\n", r"\[0, 1\]"),
        ("file,x1,y1,x2,y2\n1.png,0,0,0,nan\n", r"\[0, 1\]"),
        ("file,x1,y1\n1.png,0,0\n", "four numbers"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        batch_inference.items_of_csv(tmp_path / "labels.csv", "", "", "")


def test_policies_that_move_a_robot(plates: Path, tmp_path: Path) -> None:
    items = batch_inference.items_of_folder(plates, "", "", "pick up the apple")
    assert batch_inference.run(make_model(FakeArmPolicy()), plates, items, tmp_path / "out.json") == 0
    result = files.read_json(tmp_path / "out.json")["results"][0]
    assert set(result["action"]) == {"terminate_episode", "world_vector"}
    assert result["terminate"] is False


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Received"):
        batch_inference.items_of_folder(tmp_path, "", "", "")


def test_registry() -> None:
    with pytest.raises(ValueError, match="rt1"):
        registry.find_model("gpt")


def test_a_checkpoint_of_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(tmp_path / "run")
    monkeypatch.setitem(registry.MODELS, "fake", "fake_policies")
    folder = checkpoint_folder.resolve(tmp_path / "run")
    said = registry.find_model("fake").load_policy(folder).spec
    dataclasses.replace(said, model="clip_sarnn").save(folder / checkpoint_folder.SPEC)
    with pytest.raises(ValueError, match="is of --model=clip_sarnn. Received: --model=fake"):
        registry.find_model("fake").load_policy(folder)


@pytest.mark.parametrize(("broken", "status"), [(False, 0), (True, 1)])
def test_command(plates: Path, tmp_path: Path, broken: bool, status: int) -> None:
    if broken:
        (plates / "4.png").write_bytes(b"")
    write_checkpoint(tmp_path / "run")
    main = (
        "from absl import app; from serving import registry, batch_inference as b; "
        "registry.MODELS['fake'] = 'fake_policies'; b._define_flags(); app.run(b.main)"
    )
    flags = [
        *("--model=fake", f"--checkpoint={tmp_path / 'run'}", f"--images={plates}"),
        *("--action=twirl", "--food_type=noodles", f"--out={tmp_path / 'out.json'}"),
    ]
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    done = subprocess.run(
        *([sys.executable, "-c", main, *flags],),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr
    content = files.read_json(tmp_path / "out.json")
    assert (content["count"], content["failed"]) == (5, status)
    assert content["results"][0]["input_action"] == "twirl"
    assert "5/5" in done.stderr  # The progress bar.


def test_help_of_the_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "serving.batch_inference", "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert "--csv" in done.stdout + done.stderr
