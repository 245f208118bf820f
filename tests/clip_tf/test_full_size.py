"""The largest released model, of stand-in weights: it converts and answers within 24 GB."""

import resource

import numpy as np
import pytest
import tensorflow as tf

from clip_tf.clip_model import normalize, openclip_variables
from clip_tf.convert import convert
from clip_tf.converted_folder import load_clip
from clip_tf.image_preprocessing import preprocess
from clip_tf.model_config import ClipConfig
from clip_tf.tokenizer import tokenize
from clip_tf.weights.layout import openclip_shapes, to_openclip
from clip_tf.weights.safetensors_file import Entry, write_safetensors
from tests.clip_tf.clip_goldens import standin, synth

NAME = "ViT-H-14-378-quickgelu"
LIMIT_GB = 24


@pytest.mark.heavy
def test_vit_h_14_378_converts_and_answers(tmp_path):
    """Weights in float32 become a folder in bfloat16, which is computed in float32."""
    shapes = openclip_shapes(ClipConfig.from_name(NAME))
    float32 = np.dtype(np.float32)
    entries = [Entry(k, s, float32, lambda k=k, s=s: standin(k, s)) for k, s in shapes.items()]
    write_safetensors(tmp_path / "standin.safetensors", entries, {})
    report = convert(
        tmp_path / "standin.safetensors",
        tmp_path / "clip",
        config=ClipConfig.from_name(NAME),
        dtype="bfloat16",
    )
    assert len(report.loaded) == 686 and report.ok
    (tmp_path / "standin.safetensors").unlink()

    model = load_clip(tmp_path / "clip")
    variables = openclip_variables(model)
    for key in ("visual.transformer.resblocks.31.mlp.c_fc.weight", "token_embedding.weight", "logit_scale"):
        got = to_openclip(key, variables[key].numpy())
        np.testing.assert_allclose(got, standin(key, shapes[key]), rtol=2**-8, atol=0)
    images = np.stack([preprocess(synth(*hws), 378) for hws in ((480, 640, 1), (300, 300, 2))])
    features = normalize(tf.function(model.encode_image)(images)[0])
    texts = normalize(tf.function(model.encode_text)(tf.constant(tokenize(["open the gripper", ""])))[0])
    scores = tf.matmul(features, texts, transpose_b=True).numpy()
    assert scores.shape == (2, 2) and np.isfinite(scores).all() and np.ptp(scores) > 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20 < LIMIT_GB
