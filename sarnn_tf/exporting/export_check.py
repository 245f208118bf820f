"""Whether an exported step answers as the model that it was made of."""

from collections.abc import Callable, Mapping

import numpy as np

from sarnn_tf.description import INSTRUCTION, JOINTS, SarnnDescription
from sarnn_tf.exporting.exported_step import PATCHES, TEXT, StepSignature, raw_type, zeros
from sarnn_tf.image_modality import IMAGE
from sarnn_tf.policy_folder import LoadedSarnn
from sarnn_tf.preparation import to_unit
from sarnn_tf.serving_policy import INPUT_PARAM, STEP, SarnnPolicy

SHARES = (0.3, 1.0, 0.5, 0.0, 0.8, 1.0)
"""``input_param`` of the steps that are compared; the first one must not matter."""

Arrays = Mapping[str, np.ndarray]
Run = Callable[[Arrays], Arrays]


def compare(
    run: Run, loaded: LoadedSarnn, signature: StepSignature, *, clients: int, seed: int
) -> dict[str, float]:
    """Steps a file and the model side by side, each with its own state, on noise.

    Args:
      run: the file's step.
      loaded: the model.
      signature: of the file.
      clients: that are asked at once.
      seed: of images and joints.

    Returns:
      Output -> largest absolute difference over all steps; infinite where one is missing, of another shape or
      not finite.
    """
    description = loaded.description
    policy = SarnnPolicy(loaded.model, description, loaded.clip)
    rng = np.random.default_rng(seed)
    instruction = (*description.instructions, "")[0]
    state, expected_state = zeros(signature.state, clients), policy.initial_state(clients)
    largest = dict.fromkeys((a.name for a in (*signature.outputs, *signature.state)), 0.0)
    for share in SHARES:
        arrays = _noise(description, rng, clients, share)
        observations = {
            n: x[..., 0] if x.shape[-1:] == (1,) and x.ndim == 4 else x for n, x in arrays.items()
        }
        if description.uses_text and loaded.clip is not None:
            observations[INSTRUCTION] = np.array([instruction] * clients)
            arrays[TEXT] = np.repeat(loaded.clip.text([instruction]), clients, axis=0)
        if any(a.name == PATCHES for a in signature.inputs):
            arrays[PATCHES] = _patches(loaded, arrays[IMAGE], arrays[INPUT_PARAM], expected_state)
        answers = dict(run({**arrays, **state}))
        result, expected_state = policy.infer(observations, expected_state)
        expected = {
            JOINTS: result.actions[JOINTS],
            **{n.replace("/", "_"): x for n, x in expected_state.items()},
        }
        for name, points in result.info.items():
            if "_points/" in name:
                expected[name.replace("/", "_")] = points.reshape(clients, -1, 2)
        for name in largest:
            largest[name] = max(
                largest[name], _difference(name, answers.get(name), expected[name], description)
            )
        if not np.isfinite(list(largest.values())).all():
            break  # Such a state cannot go into the next step.
        state = {a.name: answers[a.name] for a in signature.state}
    return largest


def _noise(
    description: SarnnDescription, rng: np.random.Generator, clients: int, share: float
) -> dict[str, np.ndarray]:
    """Inputs of one step: noise has clear maxima, which the attention needs to be comparable."""
    arrays: dict[str, np.ndarray] = {}
    for m in description.modalities:
        kind = raw_type(m)
        top = min(int(1.2 * m.full_scale), 255 if kind == "uint8" else 65535) + 1
        arrays[m.name] = rng.integers(0, top, (clients, *m.size, m.channels)).astype(kind)
    low, high = description.bounds
    arrays[JOINTS] = (low + rng.random((clients, description.joint_dim)) * (high - low)).astype(np.float32)
    arrays[INPUT_PARAM] = np.full((clients,), share, np.float32)
    return arrays


def _patches(loaded: LoadedSarnn, images: np.ndarray, share: np.ndarray, state: Arrays) -> np.ndarray:
    assert loaded.clip is not None
    modality = next(m for m in loaded.description.modalities if m.name == IMAGE)
    p = np.where(state[STEP] > 0, share, np.float32(1))[:, None, None, None]
    return loaded.clip.patches(p * to_unit(images, modality) + (1 - p) * state[f"predicted/{IMAGE}"])


def _difference(
    name: str, answer: np.ndarray | None, expected: np.ndarray, description: SarnnDescription
) -> float:
    if answer is None or answer.shape != expected.shape or not np.isfinite(answer).all():
        return float("inf")
    difference = np.abs(answer.astype(np.float64) - expected)
    if name == JOINTS:
        low, high = description.bounds
        difference /= np.where(high > low, high - low, 1)
    return float(difference.max())
