"""The demonstration behind ``scripts/demo``: bags to a policy; then plates, training, serving, questions over
HTTP, pictures."""

import argparse
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from core import checkpoint_folder, food
from episodes.food_npz import FoodData, read_food_npz
from episodes.splits import load_split
from rt1.drawing import PREDICTED_COLOUR, TRUE_COLOUR, draw_parameters
from scripts.bag_demo import run_bag_demo
from serving.client import PolicyClient

PLATES, IMAGE_SIZE, SEED = 8000, 64, 0
ASKED, SAMPLES = 12, 16
_DRAW_COLOUR = (250, 170, 60)
_ROOT = Path(__file__).resolve().parent.parent


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run(*arguments: str) -> None:
    """Runs a command of the project; its failure ends the demonstration."""
    say("$ python " + " ".join(arguments))
    subprocess.run([sys.executable, *arguments], cwd=_ROOT, check=True)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def ask(data: FoodData, indices: np.ndarray, checkpoint: Path, picture: Path) -> None:
    """Serves the checkpoint, asks it about the plates, and draws its answers and their spread."""
    port = free_port()
    arguments = ["serve.py", "--model=rt1", f"--checkpoint={checkpoint}", f"--port={port}"]
    say("$ python " + " ".join(arguments) + " &")
    server = subprocess.Popen([sys.executable, *arguments], cwd=_ROOT)
    try:
        client = PolicyClient(f"http://127.0.0.1:{port}")
        client.wait_until_ready(timeout_s=120)
        tiles = []
        for i in indices:
            name = (data.instructions or ())[i]
            action, food_type = food.split_combination(name)
            plate = np.asarray(data.images[i])
            answer = client.predict(plate, action=action, food_type=food_type)
            drawn = client.predict_batch(
                plate, action=action, food_type=food_type, batch_size=SAMPLES, enable_dropout=True, seed=SEED
            )
            tiles.append(tile(plate, name, answer["prediction"], drawn, data.actions[i]))
            if len(tiles) == 1:
                point, spread = answer["prediction"], drawn["statistics"]["centroid_variance"]
                milliseconds = answer["latency_ms"]["total"]
                say(
                    f"/predict, {name}: skewer at ({point['skewer_x']:.3f}, {point['skewer_y']:.3f}), "
                    f"direction {point['direction_degrees']:.0f} degrees, {milliseconds:.0f} ms; "
                    f"centroid variance of {SAMPLES} dropout draws {spread:.2e}"
                )
    finally:
        server.terminate()
        status = server.wait(timeout=60)
    if status != 0:
        raise RuntimeError(f"The server must end with status 0. Received: {status}")
    rows = [np.concatenate(tiles[i : i + 4], axis=1) for i in range(0, len(tiles), 4)]
    if not cv2.imwrite(str(picture), cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR)):
        raise OSError(f"The picture cannot be written. Received: {picture}")


def tile(plate: np.ndarray, name: str, prediction: dict, drawn: dict, true: np.ndarray) -> np.ndarray:
    """One plate with the true arrow (green), the answer (red) and the draws (orange), and its name."""

    picture = cv2.resize(plate, (256, 256), interpolation=cv2.INTER_CUBIC)
    for box in drawn["predictions"]:
        picture = draw_parameters(picture, np.array(box), _DRAW_COLOUR, thickness=1)
    picture = draw_parameters(picture, true, TRUE_COLOUR)
    box = [prediction[name] for name in ("start_x", "start_y", "end_x", "end_y")]
    picture = draw_parameters(picture, np.array(box), PREDICTED_COLOUR)
    caption = np.full((22, 256, 3), 28, np.uint8)
    cv2.putText(caption, name, (4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (240, 240, 240), 1, cv2.LINE_AA)
    return np.concatenate([picture, caption])


def main() -> None:
    """Runs the demonstration."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--out", default="demo_output", help="folder of the demonstration; made anew")
    parser.add_argument("--plates", type=int, default=PLATES)
    parser.add_argument("--max_steps", type=int, default=None, help="fewer steps, for a quick look")
    options = parser.parse_args()
    out = Path(options.out).resolve()
    began = time.monotonic()
    if out.exists():
        marker = out / "demo.txt"
        if not marker.exists():
            raise SystemExit(f"--out must be a new folder or that of an earlier demo. Received: {out}")
        shutil.rmtree(out)
    out.mkdir(parents=True)
    (out / "demo.txt").write_text("Written by scripts/demo, which makes this folder anew each time.\n")

    lines = run_bag_demo(out, run, options.max_steps, SEED)
    dataset, checkpoints = out / "food.npz", out / "run"
    run(
        "-m", "simulation.food_data", f"--out={dataset}", f"--plates={options.plates}",
        f"--image_size={IMAGE_SIZE}", f"--seed={SEED}", "--embeddings=embeddings",
    )  # fmt: skip
    limit = [] if options.max_steps is None else [f"--max_steps={options.max_steps}"]
    run(
        "train.py", "--model=rt1", "--config_file=configs/demo.gin", f"--dataset_file={dataset}",
        f"--checkpoint_dir={checkpoints}", f"--image_size={IMAGE_SIZE}", "--batch_size=32",
        "--loss_type=cross_entropy", "--num_epochs=4", f"--seed={SEED}", *limit,
    )  # fmt: skip
    best = checkpoint_folder.pointer(checkpoints, checkpoint_folder.BEST)
    if best is None:
        raise RuntimeError("Training left no best checkpoint.")
    reached = best["metrics"]["centroid_mae"]
    baseline = best["metrics"]["centroid_mae_of_mean_predictor"]

    data = read_food_npz(dataset)
    split = load_split(checkpoints / "split.npz", len(data))
    ask(data, split.val[:ASKED], checkpoints, out / "predictions.png")
    shutil.copyfile(checkpoints / "curves.png", out / "curves.png")
    say(
        "\n" + "\n".join(lines) + "\n"
        f"Food: validation centroid MAE {reached:.4f}; always answering the mean of the training labels: "
        f"{baseline:.4f}; ratio {reached / baseline:.3f} (at most 0.5 is asked for).\n"
        f"Pictures: {out / 'predictions.png'} (green: true, red: answered, orange: dropout draws), "
        f"{out / 'curves.png'}.\n{time.monotonic() - began:.0f} s in all."
    )
    if reached > 0.5 * baseline and options.max_steps is None:
        raise SystemExit("The policy learnt too little: the ratio must be at most 0.5.")


if __name__ == "__main__":
    main()
