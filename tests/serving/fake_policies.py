"""Two small numpy policies that follow the protocol and let tests look inside."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from core import checkpoint_folder, files, food
from core.policy import Observations, PolicyResult, State
from core.spec import ArraySpec, PolicySpec

IMAGE = ArraySpec("image", (None, None, 3), "uint8", 0, 255)
TEXT = ArraySpec("natural_language_instruction", (), "string")


def _text_number(texts: np.ndarray) -> np.ndarray:
    return np.array([sum(map(ord, text)) % 97 / 97 for text in texts.tolist()])


class _Recorder:
    """What was asked; ``gate`` holds the policy back until a test opens it."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.fail: Callable[[Observations], Exception | None] = lambda _: None

    def record(self, observations: Observations, num_samples: int, seed: int | None) -> int:
        n = len(observations["image"])
        if not {len(v) for v in observations.values()} == {n}:
            raise ValueError("observations must have one batch size.")
        self.calls.append({"n": n, "num_samples": num_samples, "seed": seed, "text": observations[TEXT.name]})
        self.entered.set()
        assert self.gate.wait(20), "the test never opened the gate"
        error = self.fail(observations)
        if error is not None:
            raise error
        return n


class FakeFoodPolicy(_Recorder):
    """x1, y1, x2, y2 from the image's mean colour and the text; each row is exact on its own."""

    def __init__(self, shift: float = 0.0, instructions: tuple[str, ...] = food.combinations(), **spec: Any):
        super().__init__()
        self.shift = shift
        box = ArraySpec("bbox", (4,), "float32", 0, 1, unit="fraction of the image")
        details = spec.pop("details", {"loss_type": "smooth_l1"})
        self.spec = PolicySpec(
            "fake", "food", (IMAGE, TEXT), (box,), instructions, "fake-encoder", details=details, **spec
        )

    def initial_state(self, n: int) -> State:
        return {}

    def infer(
        self, observations: Observations, state: State, *, num_samples: int = 0, seed: int | None = None
    ) -> tuple[PolicyResult, State]:
        n = self.record(observations, num_samples, seed)
        colour = observations["image"].reshape(n, -1, 3).mean(axis=1) / 255
        number = _text_number(observations[TEXT.name])
        box = np.concatenate([colour, number[:, None]], axis=1) * 0.5 + self.shift
        samples = None
        if num_samples:
            # Draws that change with the batch's size: mixed requests would be seen.
            noise = np.random.default_rng(seed).normal(0, 0.01, (num_samples, n, 4))
            samples = {"bbox": (box[:, None] + noise.transpose(1, 0, 2)).astype(np.float32)}
        return PolicyResult({"bbox": box.astype(np.float32)}, samples), {}


class FakeArmPolicy(_Recorder):
    """A policy with a window of three frames: its action is made of the means of what it saw."""

    def __init__(self, shift: float = 0.0, joints: bool = False, **spec: Any) -> None:
        super().__init__()
        self.shift = shift
        extra = (ArraySpec("joint_positions", (2,), "float32", unit="rad"),) if joints else ()
        self.spec = PolicySpec(
            "fake_arm",
            "manipulation",
            (IMAGE, TEXT, *extra),
            (
                ArraySpec("terminate_episode", (3,), "int32", 0, 1),
                ArraySpec("world_vector", (3,), "float32", -1, 1, unit="m", frame="end effector"),
            ),
            encoder="fake-encoder",
            **{"free_text": True, "control_hz": 3.0, **spec},
        )

    def initial_state(self, n: int) -> State:
        return {"window": np.zeros((n, 3)), "count": np.zeros((n,), np.int64)}

    def infer(
        self, observations: Observations, state: State, *, num_samples: int = 0, seed: int | None = None
    ) -> tuple[PolicyResult, State]:
        n = self.record(observations, num_samples, seed)
        mean = observations["image"].reshape(n, -1).mean(axis=1) / 255
        window = np.concatenate([state["window"][:, 1:], mean[:, None]], axis=1)
        vector = window * 0.5 + _text_number(observations[TEXT.name])[:, None] * 0.1 + self.shift
        if "joint_positions" in observations:
            vector[:, 0] += observations["joint_positions"].sum(axis=1)
        over = state["count"] >= 3
        flag = np.where(over[:, None], [[1, 0, 0]], [[0, 1, 0]]).astype(np.int32)
        actions = {"terminate_episode": flag, "world_vector": vector.astype(np.float32)}
        return PolicyResult(actions), {"window": window, "count": state["count"] + 1}


def write_checkpoint(folder: Path, **content: Any) -> Path:
    """A checkpoint folder that ``load_policy`` reads."""
    folder.mkdir(parents=True)
    files.write_json(folder / "fake.json", {"kind": "food", "shift": 0.0, **content})
    files.write_text(folder / checkpoint_folder.CONFIG, "")
    FakeFoodPolicy().spec.save(folder / checkpoint_folder.SPEC)
    return folder


def load_policy(folder: Path) -> FakeFoodPolicy | FakeArmPolicy:
    """The loader that the registry would find."""
    content = files.read_json(folder / "fake.json")
    if content["kind"] == "broken":
        raise ValueError("fake.json: the weights of layer 3 are missing.")
    if content["kind"] == "crash":
        raise OSError("the disk is gone")
    if content["kind"] == "nan":
        return FakeFoodPolicy(float("nan"))
    return {"food": FakeFoodPolicy, "arm": FakeArmPolicy}[content["kind"]](content["shift"])


def evaluation_metrics(predicted: np.ndarray, true: np.ndarray) -> dict[str, float]:
    return {"bbox_mae": float(np.abs(predicted - true).mean())}
