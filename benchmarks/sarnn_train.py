"""SARNN's training step: seconds and memory, beside EIPL's where an interpreter with PyTorch is at hand.

Each side runs in a process of its own, in turns, so that neither holds memory or threads while the other is
timed; a step is forward, backward through all of time and Adam, on made images of EIPL's sizes. The first
step, which compiles, is not counted. Process seconds are those of all cores together: on a machine that does
other work they tell more than the clock, though PyTorch's threads wait actively for each other and burn more
of them then. How many cores other work took meanwhile is printed too; only a quiet machine gives a ratio to
quote.

    python -m benchmarks.sarnn_train [--json] [--repeats 5] [--rounds 2] [--case 64x50x5] [--threads N]
        [--torch_python PYTHON] [--eipl CHECKOUT]

Without a checkout of EIPL its place is taken by the same network written in PyTorch.
"""

import argparse
import json
import os
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
QUIET = 0.1
"""Cores that other work may take of a machine that is called quiet."""


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
    from sarnn_tf.networks import sarnn  # isort: skip  (TensorFlow after the room)
    import tensorflow as tf

    from sarnn_tf.data.batch import Batch
    from sarnn_tf.image_modality import IMAGE
    from sarnn_tf.learning.losses import LossWeights
    from sarnn_tf.learning.optimizer import make_adam
    from sarnn_tf.learning.training_step import LOSS, losses_and_gradients
    from sarnn_tf.networks.clip_sarnn import Observations

    model = sarnn.Sarnn(JOINTS, seed=seed)
    optimizer = make_adam(model.trainable_variables)

    @tf.function
    def step(images: tf.Tensor, joints: tf.Tensor) -> tf.Tensor:
        real = tf.ones(tf.shape(joints)[:2], tf.bool)
        names = tf.fill(tf.shape(joints)[:1], "")
        batch = Batch(Observations({IMAGE: images}, joints), {IMAGE: images}, joints, real, names)
        losses, gradients = losses_and_gradients(model, batch, LossWeights())
        optimizer.apply(gradients)
        return losses[LOSS]

    return step


def megabytes() -> float:
    """The most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_ours(case: Case, repeats: int, threads: int = 0) -> dict[str, Any]:
    """Times ``repeats`` steps in this process, after one that compiles.

    Args:
      case: what to time.
      repeats: steps.
      threads: of an operation, and operations at once; 0 for TensorFlow's choice.
    """
    import sarnn_tf  # isort: skip  # noqa: F401  (before TensorFlow)
    import tensorflow as tf

    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    step = make_step()

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
        "threads": threads or os.cpu_count(),
        "version": f"tensorflow {tf.__version__}, oneDNN {'on' if onednn() else 'off'}",
    }


def onednn() -> bool:
    """Whether TensorFlow computes with oneDNN here."""
    from tensorflow.python.util import _pywrap_util_port

    return bool(_pywrap_util_port.IsMklEnabled())


def run(command: Sequence[str]) -> dict[str, Any]:
    """Runs a side and reads the JSON object on the last line that it prints.

    Returns:
      That object, and ``others``: how many cores other processes kept busy meanwhile; None where the system
      does not tell.

    Raises:
      RuntimeError: it failed; the message holds the end of what it said.
    """
    began, busy_before, ours_before = time.perf_counter(), busy_seconds(), children_seconds()
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError as error:
        raise RuntimeError(f"The interpreter must be there. Received: {command[0]}") from error
    if done.returncode:
        raise RuntimeError(f"A side of the benchmark failed. Received: {done.stderr.strip()[-2000:]}")
    others = None
    if busy_before is not None:
        theirs = (busy_seconds() or 0.0) - busy_before - (children_seconds() - ours_before)
        others = max(0.0, theirs / (time.perf_counter() - began))
    return json.loads(done.stdout.strip().splitlines()[-1]) | {"others": others}


def children_seconds() -> float:
    """Processor seconds of finished child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def busy_seconds() -> float | None:
    """Processor seconds since the start of the system that were not idle; None where it is not Linux."""
    try:
        fields = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except OSError:
        return None
    user, nice, system, _idle, _waiting, *interrupts_and_steal = fields
    return (user + nice + system + sum(interrupts_and_steal)) / os.sysconf("SC_CLK_TCK")


def merge(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over all steps of all rounds; the larger memory and other work."""
    others = [r["others"] for r in runs]
    return {
        "seconds": round(statistics.median(s for r in runs for s in r["seconds"]), 4),
        "cpu_seconds": round(statistics.median(s for r in runs for s in r["cpu_seconds"]), 4),
        "peak_mb": round(max(r["peak_mb"] for r in runs)),
        "step_mb": round(max(r["step_mb"] for r in runs)),
        "threads": runs[0]["threads"],
        "others": None if None in others else round(max(others), 2),
        "version": runs[0]["version"],
    }


def compare(
    case: Case,
    repeats: int,
    rounds: int,
    eipl: Path | None = None,
    torch_python: str | None = None,
    threads: int = 0,
) -> dict[str, Any]:
    """Both sides of a case, in turns; ratios above 1 are in our favour.

    Args:
      case: what to time.
      repeats, rounds: steps of a process, processes of a side.
      eipl: a checkout; None for the stand-in.
      torch_python: an interpreter with PyTorch; None for this one where there is a checkout, and else for
        our side alone.
      threads: of both sides; 0 for each one's own choice.
    """
    numbers = [str(n) for n in (*case, repeats, threads)]
    size, steps, batch, *_ = numbers
    ours_command = [sys.executable, "-m", "benchmarks.sarnn_train", "--worker"]
    ours_command += [
        "--case",
        f"{size}x{steps}x{batch}",
        "--repeats",
        str(repeats),
        "--threads",
        str(threads),
    ]
    commands = {"ours": ours_command}
    if eipl is not None or torch_python is not None:
        script = str(ROOT / "benchmarks" / "eipl_step.py")
        checkout = "-" if eipl is None else str(eipl.resolve())
        commands["eipl"] = [torch_python or sys.executable, script, checkout, *numbers]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            runs[name].append(run(command))
    found: dict[str, Any] = {"case": case._asdict()} | {name: merge(r) for name, r in runs.items()}
    if "eipl" in found:
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
                f"{s['step_mb']} MiB for the step, {s['peak_mb']} MiB in all ({s['version']}; "
                f"{s['threads']} threads; {quietness(s['others'])})"
            )
    if "eipl" in found:
        lines.append(
            f"  EIPL / ours: {found['seconds_ratio']} by the clock, {found['cpu_seconds_ratio']} in process "
            f"seconds, {found['step_mb_ratio']} in memory of the step"
        )
    return "\n".join(lines) + "\n"


def quietness(others: float | None) -> str:
    """In words, how far other work disturbed the measurement; ``others`` as of ``run``."""
    if others is None:
        return "whether the machine was quiet is not known"
    return (
        f"{'quiet' if others <= QUIET else 'NOT QUIET'}: other work took {others} of {os.cpu_count()} cores"
    )


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object a case instead of sentences")
    parser.add_argument("--repeats", type=int, default=5, help="steps a round")
    parser.add_argument("--rounds", type=int, default=2, help="processes a side")
    parser.add_argument("--case", type=parse_case, action="append", help="SIZExSTEPSxBATCH; may be repeated")
    parser.add_argument("--eipl", type=Path, help="a checkout of EIPL")
    parser.add_argument("--torch_python", help="an interpreter that has PyTorch")
    parser.add_argument("--threads", type=int, default=0, help="of both sides; 0 for their own choice")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if min(options.repeats, options.rounds) < 1 or options.threads < 0:
        parser.error("--repeats and --rounds must be at least 1, --threads at least 0")
    cases = options.case or PUBLISHED
    if options.worker:
        sys.stdout.write(json.dumps(measure_ours(cases[0], options.repeats, options.threads)) + "\n")
        return
    for case in cases:
        try:
            found = compare(
                case, options.repeats, options.rounds, options.eipl, options.torch_python, options.threads
            )
        except RuntimeError as error:
            sys.exit(str(error))
        sys.stdout.write(json.dumps(found) + "\n" if options.json else describe(found))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
