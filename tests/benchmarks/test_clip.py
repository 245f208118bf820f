"""The benchmark of CLIP: its cases run, and the cached step scores as the uncached one."""

import numpy as np

from benchmarks import clip
from clip_tf.clip_model import ClipModel
from tests.clip_tf.clip_goldens import tiny_config


def test_keeping_the_phrases_changes_no_score():
    config = tiny_config(quick_gelu=True)
    cases = clip.our_cases(ClipModel(config), clip.make_inputs(config))
    scores = cases["step"]()
    assert scores.shape == (1, 58)
    np.testing.assert_allclose(cases["step_58_phrases"](), scores, atol=1e-5)


def test_every_case_is_timed():
    found = clip.measure(tiny_config(quick_gelu=True), repeats=1)
    assert set(found) == {"image_1", "image_32", "text_1", "text_32", "step", "step_58_phrases"}
    assert all(values["ours"] > 0 for values in found.values())
