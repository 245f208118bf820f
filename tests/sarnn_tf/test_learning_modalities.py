"""Every modality reaches the joints: where one alone says how to go on, it halves their error at least."""

import gin
import pytest
import tensorflow as tf

from sarnn_tf import experiment
from simulation.sarnn_episodes import write_episodes
from tests.conftest import FIGURE
from tests.sarnn_tf.training_runs import options

EPOCHS = 20


def held_out_joint_error(folder, data, modalities):
    """Of predicted joints, mean squared, normalised, after training with some modalities on."""
    gin.clear_config()
    scopes = []
    for name, channels, full_scale in modalities:
        scopes.append(f"@{name}/sarnn_tf.ImageModality()")
        gin.parse_config(f"""
            {name}/sarnn_tf.ImageModality.name = {name!r}
            {name}/sarnn_tf.ImageModality.channels = {channels}
            {name}/sarnn_tf.ImageModality.full_scale = {full_scale}
            {name}/sarnn_tf.ImageModality.size = (24, 24)
            {name}/sarnn_tf.ImageModality.k_dim = 3
        """)
    gin.parse_config(f"""
        sarnn_tf.make_description.modalities = [{", ".join(scopes)}]
        sarnn_tf.make_description.use_clip = False
        sarnn_tf.make_description.rec_dim = 32
        sarnn_tf.make_description.temperature = 1e-2
        sarnn_tf.make_noise.images = 0.0
        sarnn_tf.make_noise.joints = 0.0
        sarnn_tf.make_adam.learning_rate = 5e-3
        sarnn_tf.LossScheduler.decay_end = 200
    """)
    asked = options(folder, "clip_sarnn", data_dir=data, batch_size=8)
    trainable = experiment.make_trainable(asked, tf.distribute.get_strategy())
    for epoch in range(EPOCHS):
        for batch in trainable.batches(epoch):
            trainable.train_step(batch)
    return trainable.evaluate(1).scalars["joint"]


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("cue", "channels", "full_scale"), [("depth", 1, 2000.0), ("gelsight_left", 3, 255.0)]
)
def test_modality_that_alone_tells_the_next_joints_halves_their_error(
    tmp_path, record_property, cue, channels, full_scale
):
    write_episodes(tmp_path / "data", cue, train=48, test=16, seed=1)
    colour = ("image", 3, 255.0)
    without = held_out_joint_error(tmp_path / "without", tmp_path / "data", [colour])
    with_it = held_out_joint_error(
        tmp_path / "with", tmp_path / "data", [colour, (cue, channels, full_scale)]
    )
    record_property(FIGURE, f"next joints, {cue}: {with_it:.5f} with it, {without:.5f} without it")
    assert with_it < 0.5 * without
