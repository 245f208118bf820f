"""EIPL's own training step, timed, in an interpreter that has PyTorch: the other side of sarnn_train.

It imports nothing of this project, so that any interpreter can run it:

    python benchmarks/eipl_step.py CHECKOUT SIZE STEPS BATCH REPEATS

CHECKOUT is a folder that holds the package ``eipl`` and its tutorials. Prints one JSON object.
"""

import importlib
import importlib.util
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

TRAINERS = (
    "eipl/tutorials/open_manipulator/sarnn/libs/fullBPTT.py",
    "eipl/tutorials/airec/sarnn/libs/fullBPTT.py",
    "eipl/tutorials/sarnn/libs/fullBPTT.py",
)
JOINTS = 8


def trainer_class(checkout: Path) -> Any:
    """The trainer of the checkout's SARNN tutorial.

    Raises:
      ValueError: there is none.
    """
    for relative in TRAINERS:
        path = checkout / relative
        if path.is_file():
            spec = importlib.util.spec_from_file_location("eipl_full_bptt", path)
            if spec is None or spec.loader is None:
                break
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module.fullBPTTtrainer
    raise ValueError(f"The checkout must hold one of {TRAINERS}. Received: {checkout}")


def megabytes() -> float:
    """The most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(checkout: Path, size: int, steps: int, batch: int, repeats: int) -> dict[str, Any]:
    """Times ``repeats`` steps after one that is not counted."""
    sys.path.insert(0, str(checkout))
    # By name: neither is a dependency of this project, so neither is pinned.
    torch, eipl_model = importlib.import_module("torch"), importlib.import_module("eipl.model")
    torch.manual_seed(0)
    model = eipl_model.SARNN(rec_dim=50, k_dim=5, joint_dim=JOINTS, im_size=[size, size])
    optimizer = torch.optim.Adam(model.parameters(), eps=1e-7)
    trainer = trainer_class(checkout)(model, optimizer, loss_weights=[0.1, 1.0, 0.1], device="cpu")
    images, joints = torch.rand(batch, steps, 3, size, size), torch.rand(batch, steps, JOINTS)
    data = [((images, joints), (images, joints))]
    before = megabytes()
    wall, cpu = [], []
    for _ in range(repeats + 1):
        wall_began, cpu_began = time.perf_counter(), time.process_time()
        trainer.process_epoch(data)
        wall.append(time.perf_counter() - wall_began)
        cpu.append(time.process_time() - cpu_began)
    return {
        "seconds": wall[1:],
        "cpu_seconds": cpu[1:],
        "peak_mb": megabytes(),
        "step_mb": megabytes() - before,
        "version": f"torch {torch.__version__}",
    }


def main() -> None:
    """Runs the command."""
    checkout, *numbers = sys.argv[1:]
    sys.stdout.write(json.dumps(measure(Path(checkout), *(int(n) for n in numbers))) + "\n")


if __name__ == "__main__":
    main()
