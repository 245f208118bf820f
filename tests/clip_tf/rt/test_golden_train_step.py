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
from tests.clip_tf.clip_goldens import assert_each_is_compared, load
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


# They go in, and what comes out is compared; the unused row is chosen by its number.
INPUTS = ("instructions", "supervisions", "labels", "used_token_ids", "unused_row_id")


@pytest.mark.parametrize("chunks", [1, 4])
@pytest.mark.parametrize("path", golden_files.recordings("train_step_*.npz"))
def test_golden_clip_train_step(path, chunks):
    recorded = load(path)
    found = repeat_steps(recorded, chunks)
    check_steps(found, recorded)
    if chunks == 1:
        assert_each_is_compared(recorded, lambda damaged: check_steps(found, damaged, recorded), INPUTS)


def repeat_steps(recorded, chunks) -> dict:
    """Repeats the recorded steps; what they are and lead to, by the recording's names."""
    model = tiny_model()
    parameters = openclip_variables(model)
    decayed = sorted(name for name, variable in parameters.items() if decays(name, variable))
    found = {"decayed": decayed, "not_decayed": sorted(set(parameters) - set(decayed))}
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
        ),
        autograph=False,
    )
    lists: dict[str, list[float]] = {"lrs": [], "losses": [], "log_logit_scale": []}
    for step in range(len(recorded["losses"])):
        result = compute()
        gradients = {**dict(zip(towers, result.towers, strict=True)), LOG_SCALE: result.log_scale}
        rate = float(schedule.at(optimizer.iterations))
        lists["lrs"].append(rate)
        lists["losses"].append(float(result.loss))
        if step == 0:
            for name, gradient in gradients.items():
                value = gradient.numpy()
                found[f"grad0/{name}/norm"] = np.linalg.norm(value.astype(np.float64))
                found[f"grad0/{name}/head"] = head_of(name, value, recorded)
        optimizer.learning_rate.assign(rate)
        optimizer.apply_gradients([(gradients[name], v) for name, v in parameters.items()])
        clamp_log_scale(model.logit_scale)
        lists["log_logit_scale"].append(float(model.logit_scale))
        for name, variable in parameters.items():
            found[f"param_after{step + 1}/{name}/head"] = head_of(name, variable.numpy(), recorded)
    row = parameters["token_embedding.weight"].numpy()[int(recorded["unused_row_id"])]
    return {**found, **lists, "unused_row": row}


def check_steps(found, recorded, compared_before=None) -> None:
    """Compares all, or what is another than in what was compared before."""
    for name, want in recorded.items():
        if name in INPUTS or (compared_before is not None and want is compared_before[name]):
            continue
        if name in ("decayed", "not_decayed"):
            assert found[name] == sorted(json.loads(str(want)))
        elif name in ("lrs", "losses"):
            np.testing.assert_allclose(found[name], want, rtol=2e-6, err_msg=name)
        elif "unused" in name:  # Rows that no text uses decay all the same.
            np.testing.assert_allclose(found["unused_row"][: want.size], want.ravel(), atol=2e-6)
        elif name.endswith("/norm"):
            assert found[name] == pytest.approx(float(want), rel=2e-6), name
        elif name.startswith("grad0/"):
            norm = float(recorded[name.replace("/head", "/norm")])
            np.testing.assert_allclose(found[name], want, atol=2e-6 * max(norm, 1.0), err_msg=name)
        else:
            np.testing.assert_allclose(found[name], want, atol=2e-6, err_msg=name)
