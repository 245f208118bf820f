"""Chunks and replicas give the gradient of one pass on one device."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from clip_tf.rt.gradients import loss_and_gradients
from clip_tf.rt.objective import Features, clip_rt_loss, unit_length

ROOT = Path(__file__).resolve().parent.parent.parent.parent


class TinyEncoder(tf.Module):
    """An embedding for texts and a matrix for images; one row of the embedding is never used."""

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        self.image = tf.Variable(rng.normal(size=(6, 4)), dtype=tf.float32)
        self.text = tf.Variable(rng.normal(size=(9, 4)), dtype=tf.float32)
        self.log_scale = tf.Variable(2.0)

    @property
    def towers(self) -> list[tf.Variable]:
        return [self.image, self.text]

    def __call__(self, batch):
        texts = [tf.reduce_sum(tf.gather(self.text, batch[n]), 1) for n in ("instruction", "supervision")]
        return Features(unit_length(tf.matmul(batch["image"], self.image)), *map(unit_length, texts))


def make_batch(b: int = 8):
    rng = np.random.default_rng(1)
    batch = {
        "image": tf.constant(rng.normal(size=(b, 6)), tf.float32),
        "instruction": tf.constant(rng.integers(0, 8, (b, 3)), tf.int32),
        "supervision": tf.constant(rng.integers(0, 8, (b, 3)), tf.int32),
    }
    return batch, tf.constant(rng.integers(0, 4, b))


def plain(encoder, batch, labels):
    with tf.GradientTape() as tape:
        loss = clip_rt_loss(encoder(batch), labels, encoder.log_scale)
    gradients = tape.gradient(loss, [*encoder.towers, encoder.log_scale])
    return loss, [tf.convert_to_tensor(g) for g in gradients]


@pytest.mark.parametrize("chunks", [1, 2, 4, 8])
@pytest.mark.parametrize("compiled", [False, True])
def test_chunks_give_the_whole_gradient(chunks, compiled):
    encoder, (batch, labels) = TinyEncoder(), make_batch()
    loss, expected = plain(encoder, batch, labels)

    def compute():
        return loss_and_gradients(encoder, batch, labels, encoder.log_scale, encoder.towers, chunks)

    found = (tf.function(compute) if compiled else compute)()
    assert float(found.loss) == pytest.approx(float(loss), rel=1e-6)
    for ours, wanted in zip([*found.towers, found.log_scale], expected, strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-6)
    assert not np.any(found.towers[1][8])  # A dense gradient of a row that nobody used.


def test_adding_up_the_gradients_of_parts_would_be_another_gradient():
    """Else the other tests would show nothing."""
    encoder, (batch, labels) = TinyEncoder(), make_batch()
    _, expected = plain(encoder, batch, labels)
    halves = [
        plain(encoder, {n: x[s] for n, x in batch.items()}, labels[s])[1] for s in (slice(4), slice(4, 8))
    ]
    assert np.abs((halves[0][0] + halves[1][0]) / 2 - expected[0]).max() > 0.01


def test_a_frozen_tower_has_no_gradient():
    encoder, (batch, labels) = TinyEncoder(), make_batch()
    found = loss_and_gradients(encoder, batch, labels, encoder.log_scale, [encoder.text], 2)
    _, expected = plain(encoder, batch, labels)
    np.testing.assert_allclose(found.towers[0], expected[1], rtol=1e-5, atol=1e-6)
    nothing = loss_and_gradients(encoder, batch, labels, encoder.log_scale, [])
    np.testing.assert_allclose(nothing.log_scale, expected[2], rtol=1e-5)


@pytest.mark.parametrize("chunks", [0, 3])
def test_chunks_that_do_not_fit(chunks):
    encoder, (batch, labels) = TinyEncoder(), make_batch()
    with pytest.raises(ValueError, match=f"Received: chunks={chunks}|Received: {chunks}"):
        loss_and_gradients(encoder, batch, labels, encoder.log_scale, encoder.towers, chunks)


_TWO_DEVICES = """
from core import legacy_keras
import json, sys
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from clip_tf.rt.gradients import loss_and_gradients
from tests.clip_tf.rt.test_gradients import TinyEncoder, make_batch, plain

batch, labels = make_batch()
loss, expected = plain(TinyEncoder(), batch, labels)
strategy = tf.distribute.MirroredStrategy(["cpu:0", "cpu:1"])
with strategy.scope():
    encoder = TinyEncoder()

def on_replica(batch, labels, chunks):
    i = tf.distribute.get_replica_context().replica_id_in_sync_group
    mine = {name: tensor[4 * i : 4 * i + 4] for name, tensor in batch.items()}
    own = labels[4 * i : 4 * i + 4]
    return loss_and_gradients(encoder, mine, own, encoder.log_scale, encoder.towers, chunks)

found = {}
for chunks in (1, 2):
    result = tf.function(lambda: strategy.run(on_replica, args=(batch, labels, chunks)))()
    values = [strategy.experimental_local_results(v) for v in (result.loss, *result.towers, result.log_scale)]
    found[chunks] = [
        max(float(np.abs(v.numpy() - e.numpy()).max()) for v in replicas)
        for replicas, e in zip(values, (loss, *expected))
    ]
sys.stdout.write(json.dumps(found))
"""


@pytest.mark.heavy
def test_two_replicas_give_the_gradient_of_one_device():
    done = subprocess.run(
        [sys.executable, "-c", _TWO_DEVICES], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for chunks, differences in json.loads(done.stdout).items():
        assert len(differences) == 4
        assert max(differences) < 2e-6, (chunks, differences)
