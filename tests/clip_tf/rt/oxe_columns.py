"""Steps as Open X-Embodiment's data sets store them, made from moves in our convention.

Written from the data sets' own descriptions (their feature tables), so that the table of layouts is compared
with something else than itself.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from tests.episodes.tiny_rlds import write_rlds

Columns = dict[str, np.ndarray]
WORLD, DELTA = "action/world_vector", "action/rotation_delta"
CLOSEDNESS = "action/gripper_closedness_action"
NATURAL, PLAIN = "observation/natural_language_instruction", "language_instruction"


def changes(gripper: np.ndarray) -> np.ndarray:
    """1 where the gripper (1 open) closes, −1 where it opens, else 0."""
    return -np.diff(gripper, prepend=gripper[:1])


def quaternions(angles: np.ndarray) -> np.ndarray:
    """x, y, z, w of rotations about x, then y, then z; by products of single ones."""

    def about(axis: int, angle: float) -> np.ndarray:
        q = np.zeros(4)
        q[axis], q[3] = math.sin(angle / 2), math.cos(angle / 2)
        return q

    def times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        vector = a[3] * b[:3] + b[3] * a[:3] + np.cross(a[:3], b[:3])
        return np.append(vector, a[3] * b[3] - a[:3] @ b[:3])

    return np.array([times(about(2, c), times(about(1, b), about(0, a))) for a, b, c in angles])


def _in_two(moves: np.ndarray, **gripper: np.ndarray) -> Columns:
    found = {WORLD: moves[:, :3], DELTA: moves[:, 3:6]}
    return {**found, **{f"action/{name}": value for name, value in gripper.items()}}


def _with_changes(moves: np.ndarray) -> Columns:
    return _in_two(moves, gripper_closedness_action=changes(moves[:, 6])[:, None])


def _closed(moves: np.ndarray) -> Columns:
    return {"action": np.concatenate([moves[:, :6], 1 - moves[:, 6:]], axis=1)}


def _plain(moves: np.ndarray) -> Columns:
    return {"action": moves}


def _terminated(moves: np.ndarray) -> Columns:
    return {"action": np.concatenate([moves, np.zeros((len(moves), 1))], axis=1)}


def _reached(moves: np.ndarray) -> Columns:
    """Bridge: step 0 is empty; the poses say where the arm went, the actions what was asked for."""
    poses = np.concatenate([np.zeros((2, 6)), np.cumsum(moves[1:-1, :6], axis=0)])
    asked = np.concatenate([np.full((len(moves), 6), 7.0), moves[:, 6:]], axis=1)
    return {"observation/state": np.concatenate([poses, moves[:, 6:]], axis=1), "action": asked}


def _poses(moves: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros((1, 6)), np.cumsum(moves[:-1, :6], axis=0)])


RAW: Mapping[str, Callable[[np.ndarray], Columns]] = {
    "fractal20220817_data": _with_changes,
    "kuka": _with_changes,
    "bridge_orig": _reached,
    "taco_play": lambda m: {"action/rel_actions_world": np.concatenate([m[:, :6], 2 * m[:, 6:] - 1], axis=1)},
    "jaco_play": lambda m: {WORLD: m[:, :3], CLOSEDNESS: changes(m[:, 6])[:, None]},
    "berkeley_cable_routing": _in_two,
    "roboturk": lambda m: _in_two(m, gripper_closedness_action=1 - 2 * m[:, 6:]),
    "viola": lambda m: _in_two(m, gripper_closedness_action=1 - 2 * m[:, 6]),
    "berkeley_autolab_ur5": lambda m: _in_two(m, gripper_closedness_action=changes(m[:, 6])),
    "toto": lambda m: _in_two(m, open_gripper=m[:, 6] > 0.5),
    "language_table": lambda m: {"action": m[:, :2]},
    "stanford_hydra_dataset_converted_externally_to_rlds": _closed,
    "austin_buds_dataset_converted_externally_to_rlds": lambda m: {
        "action": np.concatenate([m[:, :6], 1 - 2 * m[:, 6:]], axis=1)
    },
    "nyu_franka_play_dataset_converted_externally_to_rlds": lambda m: {
        "action": np.concatenate([np.full((len(m), 7), 5.0), m[:, :6], 2 * m[:, 6:] - 1, m[:, :1]], axis=1)
    },
    "furniture_bench_dataset_converted_externally_to_rlds": lambda m: {
        "action": np.concatenate([m[:, :3], quaternions(m[:, 3:6]), 1 - 2 * m[:, 6:]], axis=1)
    },
    "ucsd_kitchen_dataset_converted_externally_to_rlds": lambda m: _terminated(
        np.concatenate([_poses(m), m[:, 6:]], axis=1)
    ),
    "austin_sailor_dataset_converted_externally_to_rlds": lambda m: {
        "action": np.concatenate([m[:, :6], 1 - 2 * m[:, 6:]], axis=1)
    },
    "austin_sirius_dataset_converted_externally_to_rlds": lambda m: {
        "action": np.concatenate([m[:, :6], 1 - 2 * m[:, 6:]], axis=1)
    },
    "dlr_edan_shared_control_converted_externally_to_rlds": _closed,
    "iamlab_cmu_pickup_insert_converted_externally_to_rlds": lambda m: {
        "action": np.concatenate([_poses(m)[:, :3], quaternions(_poses(m)[:, 3:]), m[:, 6:]], axis=1)
    },
    "utaustin_mutex": lambda m: {"action": np.concatenate([m[:, :6], 1 - 2 * m[:, 6:]], axis=1)},
    "cmu_stretch": _terminated,
    "bc_z": lambda m: {
        # Ten moves ahead; the first is the next.
        "action/future/xyz_residual": np.concatenate([m[:, :3], np.full((len(m), 27), 9.0)], axis=1),
        "action/future/axis_angle_residual": np.concatenate([m[:, 3:6], np.full((len(m), 27), 9.0)], axis=1),
        "action/future/target_close": np.concatenate([1 - m[:, 6:], np.zeros((len(m), 9))], axis=1).astype(
            np.int64
        ),
    },
    "fmb_dataset": _plain,
}

IMAGES = {
    "bridge_orig": "observation/image_0",
    "taco_play": "observation/rgb_static",
    "roboturk": "observation/front_rgb",
    "viola": "observation/agentview_rgb",
    "language_table": "observation/rgb",
    "fmb_dataset": "observation/image_side_1",
}
INSTRUCTIONS = {
    "language_table": "observation/instruction",
    **dict.fromkeys(["bridge_orig", "utaustin_mutex", "cmu_stretch", "fmb_dataset"], PLAIN),
}


def instruction_key(name: str) -> str:
    return INSTRUCTIONS.get(name, PLAIN if name.endswith("_to_rlds") else NATURAL)


def write_data_set(
    folder: Path, name: str, episodes: list[np.ndarray], instruction: str, **docs: str
) -> Path:
    """RLDS episodes of a data set's layout; step t of an image is t everywhere. ``docs`` describe columns."""
    image_key, text_key = IMAGES.get(name, "observation/image"), instruction_key(name)
    written = []
    for number, moves in enumerate(episodes):
        columns = RAW[name](moves)
        images = np.repeat(np.arange(len(moves), dtype=np.uint8), 8 * 8 * 3).reshape(-1, 8, 8, 3)
        columns[image_key] = images
        if name == "language_table":
            codes = np.zeros((len(moves), 512), np.int32)
            codes[:, : len(instruction)] = [ord(letter) for letter in instruction]
            columns[text_key] = codes
        else:
            columns[text_key] = np.array([instruction] * len(moves), object)
        steps = [{p: _stored(c[t]) for p, c in columns.items()} for t in range(len(moves))]
        metadata = {"file_path": f"e{number}"}
        written.append({"steps": [_nested(step) for step in steps], "episode_metadata": metadata})
    spec = tfds.features.FeaturesDict(
        {
            "steps": tfds.features.Dataset(
                _nested({p: _feature(c, docs.get(p)) for p, c in columns.items()})
            ),
            "episode_metadata": {"file_path": tfds.features.Text()},
        }
    )
    return write_rlds(folder, {"train": written}, spec=spec, name=name)


def _stored(value: object) -> object:
    is_float = isinstance(value, (np.ndarray, np.floating)) and value.dtype == np.float64
    return np.asarray(value, np.float32) if is_float else value


def _feature(column: np.ndarray, doc: str | None = None) -> object:
    if column.dtype == object:
        return tfds.features.Text()
    if column.ndim == 4:
        return tfds.features.Image(shape=column.shape[1:], dtype=np.uint8, encoding_format="png")
    dtype = np.float32 if column.dtype == np.float64 else column.dtype.type
    return tfds.features.Tensor(shape=column.shape[1:], dtype=dtype, doc=doc)


def _nested(flat: Mapping[str, object]) -> dict[str, object]:
    """Paths become dictionaries; what follows ``action/`` is one name, slashes and all, as BC-Z has it."""
    found: dict[str, object] = {}
    for path, value in flat.items():
        first, _, rest = path.partition("/")
        if rest:
            found.setdefault(first, {})[rest] = value  # type: ignore[index]
        else:
            found[path] = value
    return found
