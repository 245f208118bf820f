"""EIPL's training step, timed, in an interpreter that has PyTorch: the other side of sarnn_train.

It imports nothing of this project, so that any interpreter can run it:

    python benchmarks/eipl_step.py CHECKOUT SIZE STEPS BATCH REPEATS THREADS

CHECKOUT is a folder that holds the package ``eipl`` and its tutorials; ``-`` times a stand-in instead,
the same network in the same order of computation, written here. THREADS is PyTorch's number, 0 for its own
choice. Prints one JSON object.
"""

import importlib
import importlib.util
import json
import resource
import sys
import time
from collections.abc import Callable
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


def eipl_s(checkout: Path, size: int, images: Any, joints: Any) -> Callable[[], Any]:
    """A step of the checkout's own trainer."""
    sys.path.insert(0, str(checkout))
    # By name: neither is a dependency of this project, so neither is pinned.
    torch, eipl_model = importlib.import_module("torch"), importlib.import_module("eipl.model")
    model = eipl_model.SARNN(rec_dim=50, k_dim=5, joint_dim=JOINTS, im_size=[size, size])
    optimizer = torch.optim.Adam(model.parameters(), eps=1e-7)
    trainer = trainer_class(checkout)(model, optimizer, loss_weights=[0.1, 1.0, 0.1], device="cpu")
    data = [((images, joints), (images, joints))]
    return lambda: trainer.process_epoch(data)


def stand_in_s(size: int, images: Any, joints: Any, points: int = 5, units: int = 50) -> Callable[[], Any]:
    """A step of a SARNN as EIPL computes it: step after step in time, images first in the loop."""
    torch = importlib.import_module("torch")
    nn = torch.nn
    side = size - 6

    def activated(*layers: Any) -> Any:
        return nn.Sequential(*(x for layer in layers for x in (layer, nn.LeakyReLU(0.3, inplace=True))))

    def encoder() -> Any:
        return activated(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 32, 3), nn.Conv2d(32, points, 3))

    look, see = encoder(), encoder()
    recur = nn.LSTMCell(2 * points + JOINTS, units)
    to_joints, to_points = activated(nn.Linear(units, JOINTS)), activated(nn.Linear(units, 2 * points))
    draw = activated(*(nn.ConvTranspose2d(i, o, 3) for i, o in ((points, 32), (32, 16), (16, 3))))
    line = torch.linspace(0, 1, side)
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    parameters = [p for m in (look, see, recur, to_joints, to_points, draw) for p in m.parameters()]
    optimizer = torch.optim.Adam(parameters, eps=1e-7)
    mse = nn.functional.mse_loss

    def step() -> float:
        state, painted, moved, found, expected = None, [], [], [], []
        for t in range(images.shape[1] - 1):
            features = see(images[:, t])
            attention = torch.softmax(look(images[:, t]).flatten(2) / 1e-4, dim=-1)
            x, y = ((axis.flatten() * attention).sum(-1, keepdim=True) for axis in (columns, rows))
            found.append(torch.cat([x, y], -1).flatten(1))
            state = recur(torch.cat([found[-1], joints[:, t]], -1), state)
            moved.append(to_joints(state[0]))
            expected.append(to_points(state[0]))
            to_x, to_y = expected[-1].reshape(-1, points, 2, 1, 1).unbind(2)
            heatmap = torch.exp(-((columns - to_x) ** 2 + (rows - to_y) ** 2) / 0.1)
            painted.append(draw(heatmap * features))
        loss = 0.1 * mse(torch.stack(painted, 1), images[:, 1:]) + mse(torch.stack(moved, 1), joints[:, 1:])
        loss = loss + 0.1 * mse(torch.stack(expected[:-1]), torch.stack(found[1:]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def measure(
    checkout: Path | None, size: int, steps: int, batch: int, repeats: int, threads: int
) -> dict[str, Any]:
    """Times ``repeats`` steps after one that is not counted."""
    torch = importlib.import_module("torch")
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    images, joints = torch.rand(batch, steps, 3, size, size), torch.rand(batch, steps, JOINTS)
    step = stand_in_s(size, images, joints) if checkout is None else eipl_s(checkout, size, images, joints)
    before = megabytes()
    wall, cpu = [], []
    for _ in range(repeats + 1):
        wall_began, cpu_began = time.perf_counter(), time.process_time()
        step()
        wall.append(time.perf_counter() - wall_began)
        cpu.append(time.process_time() - cpu_began)
    return {
        "seconds": wall[1:],
        "cpu_seconds": cpu[1:],
        "peak_mb": megabytes(),
        "step_mb": megabytes() - before,
        "threads": torch.get_num_threads(),
        "version": f"torch {torch.__version__}, {'a stand-in' if checkout is None else 'a checkout'} of EIPL",
    }


def main() -> None:
    """Runs the command."""
    checkout, *numbers = sys.argv[1:]
    folder = None if checkout == "-" else Path(checkout)
    size, steps, batch, repeats, threads = (int(n) for n in numbers)
    sys.stdout.write(json.dumps(measure(folder, size, steps, batch, repeats, threads)) + "\n")


if __name__ == "__main__":
    main()
