"""Four recorded training steps are repeated: losses, gradients, parameters, scale."""

import json
import zlib

import numpy as np
import pytest
import tensorflow as tf

from clip_tf.clip_model import ClipModel, openclip_variables
from clip_tf.model_config import ClipConfig
from clip_tf.rt import samples
from clip_tf.rt.gradients import loss_and_gradients
from clip_tf.rt.objective import clamp_log_scale
from clip_tf.rt.optimizer import Schedule, decays, make_optimizer
from clip_tf.rt.prompt import apply_prompt
from clip_tf.rt.towers import LOG_SCALE, encode_batch
from clip_tf.tokenizer import tokenize
from clip_tf.weights.layout import from_openclip, openclip_shapes, to_openclip
from tests import golden_files
from tests.golden.golden_weights import fill

TINY = {
    "embed_dim": 64,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2},
}


def tiny_model() -> ClipModel:
    """The tiny model of the recordings, with its stand-in weights."""
    model = ClipModel(ClipConfig.from_json(TINY))
    shapes = openclip_shapes(model.config)
    for name, variable in openclip_variables(model).items():
        if name != LOG_SCALE:
            variable.assign(from_openclip(name, fill(name, shapes[name])))
    return model


def recorded_batch(recorded) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    rng = np.random.Generator(np.random.Philox(zlib.crc32(b"train.image")))
    images = rng.standard_normal((8, 3, 32, 32), dtype=np.float32).transpose(0, 2, 3, 1)
    instructions = [apply_prompt(text) for text in json.loads(str(recorded["instructions"]))]
    supervisions = json.loads(str(recorded["supervisions"]))
    batch = {
        samples.IMAGE: tf.constant(images),
        samples.INSTRUCTION: tf.constant(tokenize(instructions)),
        samples.SUPERVISION: tf.constant(tokenize(supervisions)),
    }
    return batch, tf.constant(recorded["labels"])


def head_of(name: str, value: np.ndarray, recorded) -> np.ndarray:
    value = to_openclip(name, value)
    if name == "token_embedding.weight":
        value = value[recorded["used_token_ids"]]
    return value.ravel()[:64]


@pytest.mark.parametrize("chunks", [1, 4])
@pytest.mark.parametrize("path", golden_files.recordings("train_step_*.npz"))
def test_golden_clip_train_step(path, chunks):
    recorded = np.load(path)
    model = tiny_model()
    parameters = openclip_variables(model)
    decayed = sorted(name for name, variable in parameters.items() if decays(name, variable))
    assert decayed == sorted(json.loads(str(recorded["decayed"])))
    assert set(parameters) - set(decayed) == set(json.loads(str(recorded["not_decayed"])))

    towers = {name: variable for name, variable in parameters.items() if name != LOG_SCALE}
    optimizer = make_optimizer(parameters)
    schedule = Schedule(5e-4, warmup_steps=2, total_steps=10)
    batch, labels = recorded_batch(recorded)
    compute = tf.function(
        lambda: loss_and_gradients(
            lambda part: encode_batch(model, part),
            batch,
            labels,
            model.logit_scale,
            list(towers.values()),
            chunks,
        )
    )
    for step in range(4):
        found = compute()
        gradients = {**dict(zip(towers, found.towers, strict=True)), LOG_SCALE: found.log_scale}
        rate = float(schedule.at(optimizer.iterations))
        assert rate == pytest.approx(recorded["lrs"][step], rel=1e-6)
        assert float(found.loss) == pytest.approx(recorded["losses"][step], rel=2e-6), step
        if step == 0:
            check_gradients({name: g.numpy() for name, g in gradients.items()}, recorded)
        optimizer.learning_rate.assign(rate)
        optimizer.apply_gradients([(gradients[name], v) for name, v in parameters.items()])
        clamp_log_scale(model.logit_scale)
        assert float(model.logit_scale) == pytest.approx(recorded["log_logit_scale"][step], abs=2e-6)
        if step + 1 in (1, 4):
            check_parameters(parameters, recorded, f"param_after{step + 1}")
    row = parameters["token_embedding.weight"].numpy()[int(recorded["unused_row_id"])]
    names = [name for name in recorded.files if "unused" in name and name != "unused_row_id"]
    for name in names:  # Rows that no text uses decay all the same.
        np.testing.assert_allclose(row[: recorded[name].size], recorded[name].ravel(), atol=2e-6)


def check_gradients(gradients, recorded) -> None:
    for name, gradient in gradients.items():
        norm = float(recorded[f"grad0/{name}/norm"])
        assert np.linalg.norm(gradient.astype(np.float64)) == pytest.approx(norm, rel=2e-6), name
        head = recorded[f"grad0/{name}/head"]
        value = to_openclip(name, gradient)
        if name == "token_embedding.weight":
            value = value[recorded["used_token_ids"]]
        np.testing.assert_allclose(value.ravel()[: head.size], head, atol=2e-6 * max(norm, 1.0), err_msg=name)


def check_parameters(parameters, recorded, prefix: str) -> None:
    for name, variable in parameters.items():
        if name.endswith(
            "in_proj_bias"
        ):  # Keys' biases have no true gradient, and Adam scales what there is.
            continue
        ours = head_of(name, variable.numpy(), recorded)
        np.testing.assert_allclose(
            ours, recorded[f"{prefix}/{name}/head"], atol=2e-6, err_msg=f"{prefix} {name}"
        )
