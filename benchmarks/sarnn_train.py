"""SARNN's training step: seconds and memory, beside EIPL's where PyTorch and a checkout of EIPL are at hand.

Each side runs in a process of its own, in turns, so that neither holds memory or threads while the other is
timed; a step is forward, backward through all of time and Adam, on made images of EIPL's sizes. The first
step, which compiles, is not counted. Process seconds are those of all cores together: on a machine that does
other work they tell more than the clock.

    python -m benchmarks.sarnn_train [--json] [--repeats 5] [--rounds 2] [--case 64x50x5]
        [--eipl CHECKOUT] [--torch_python PYTHON]
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
JOINTS = 8


class Case(NamedTuple):
    """Side of the image in pixels, steps of a sequence, sequences of a batch."""

    size: int
    steps: int
    batch: int

    def __str__(self) -> str:
        return f"{self.size}x{self.size}, T {self.steps}, batch {self.batch}"


PUBLISHED = (Case(64, 50, 5), Case(128, 10, 5))


def parse_case(text: str) -> Case:
    """``SIZExSTEPSxBATCH``."""
    try:
        case = Case(*(int(n) for n in text.split("x")))
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"SIZExSTEPSxBATCH expected, not {text!r}") from error
    if case.size < 8 or case.steps < 3 or case.batch < 1:
        raise argparse.ArgumentTypeError(f"size >= 8, steps >= 3, batch >= 1 expected, not {text!r}")
    return case


def make_step(seed: int = 0) -> Callable[[Any, Any], Any]:
    """Our training step, compiled: images [b, t, h, w, 3] and joints [b, t, 8] to the loss."""
    from sarnn_tf import sarnn  # isort: skip  (TensorFlow after the room)
    import tensorflow as tf

    from sarnn_tf.losses import LossWeights, sequence_losses, total_loss
    from sarnn_tf.optimizer import make_adam

    model = sarnn.Sarnn(JOINTS, seed=seed)
    variables = model.trainable_variables
    optimizer = make_adam(variables)

    @tf.function
    def step(images: tf.Tensor, joints: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            output, _, _ = model(images[:, :-1], joints[:, :-1])
            losses = sequence_losses(
                {"image": output.image},
                output.joints,
                {"image": output.encoder_points},
                {"image": output.decoder_points},
                {"image": images},
                joints,
            )
            loss = total_loss(losses, LossWeights())
        optimizer.apply(tape.gradient(loss, variables))
        return loss

    return step


def megabytes() -> float:
    """The most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_ours(case: Case, repeats: int) -> dict[str, Any]:
    """Times ``repeats`` steps in this process, after one that compiles."""
    step = make_step()
    import tensorflow as tf

    images = tf.random.stateless_uniform([case.batch, case.steps, case.size, case.size, 3], [0, 1])
    joints = tf.random.stateless_uniform([case.batch, case.steps, JOINTS], [0, 2])
    before = megabytes()
    wall, cpu, losses = [], [], []
    for _ in range(repeats + 1):
        wall_began, cpu_began = time.perf_counter(), time.process_time()
        losses.append(float(step(images, joints)))
        wall.append(time.perf_counter() - wall_began)
        cpu.append(time.process_time() - cpu_began)
    return {
        "seconds": wall[1:],
        "cpu_seconds": cpu[1:],
        "peak_mb": megabytes(),
        "step_mb": megabytes() - before,
        "losses": losses,
        "version": f"tensorflow {tf.__version__}",
    }


def run(command: Sequence[str]) -> dict[str, Any]:
    """Runs a side and reads the JSON object on the last line that it prints.

    Raises:
      RuntimeError: it failed; the message holds the end of what it said.
    """
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"A side of the benchmark failed. Received: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def merge(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over all steps of all rounds; the larger memory."""
    return {
        "seconds": round(statistics.median(s for r in runs for s in r["seconds"]), 4),
        "cpu_seconds": round(statistics.median(s for r in runs for s in r["cpu_seconds"]), 4),
        "peak_mb": round(max(r["peak_mb"] for r in runs)),
        "step_mb": round(max(r["step_mb"] for r in runs)),
        "version": runs[0]["version"],
    }


def compare(
    case: Case, repeats: int, rounds: int, eipl: Path | None = None, torch_python: str = sys.executable
) -> dict[str, Any]:
    """Both sides of a case, in turns; ratios above 1 are in our favour."""
    numbers = [str(n) for n in (*case, repeats)]
    size, steps, batch, _ = numbers
    ours_command = [sys.executable, "-m", "benchmarks.sarnn_train", "--worker"]
    ours_command += ["--case", f"{size}x{steps}x{batch}", "--repeats", str(repeats)]
    commands = {"ours": ours_command}
    if eipl is not None:
        script = str(ROOT / "benchmarks" / "eipl_step.py")
        commands["eipl"] = [torch_python, script, str(eipl.resolve()), *numbers]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            runs[name].append(run(command))
    found: dict[str, Any] = {"case": case._asdict()} | {name: merge(r) for name, r in runs.items()}
    if eipl is not None:
        for key in ("seconds", "cpu_seconds", "step_mb", "peak_mb"):
            found[f"{key}_ratio"] = round(found["eipl"][key] / max(found["ours"][key], 1e-9), 3)
    return found


def describe(found: dict[str, Any]) -> str:
    """One case in a few lines."""
    lines = [str(Case(**found["case"]))]
    for side in ("ours", "eipl"):
        if side in found:
            s = found[side]
            lines.append(
                f"  {side:5} {s['seconds']:.3f} s a step ({s['cpu_seconds']:.2f} process seconds), "
                f"{s['step_mb']} MiB for the step, {s['peak_mb']} MiB in all ({s['version']})"
            )
    if "eipl" in found:
        lines.append(
            f"  EIPL / ours: {found['seconds_ratio']} by the clock, {found['cpu_seconds_ratio']} in process "
            f"seconds, {found['step_mb_ratio']} in memory of the step"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object a case instead of sentences")
    parser.add_argument("--repeats", type=int, default=5, help="steps a round")
    parser.add_argument("--rounds", type=int, default=2, help="processes a side")
    parser.add_argument("--case", type=parse_case, action="append", help="SIZExSTEPSxBATCH; may be repeated")
    parser.add_argument("--eipl", type=Path, help="a checkout of EIPL")
    parser.add_argument("--torch_python", default=sys.executable, help="an interpreter that has PyTorch")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if min(options.repeats, options.rounds) < 1:
        parser.error("--repeats and --rounds must be at least 1")
    cases = options.case or PUBLISHED
    if options.worker:
        sys.stdout.write(json.dumps(measure_ours(cases[0], options.repeats)) + "\n")
        return
    for case in cases:
        found = compare(case, options.repeats, options.rounds, options.eipl, options.torch_python)
        sys.stdout.write(json.dumps(found) + "\n" if options.json else describe(found))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
