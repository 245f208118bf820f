"""Parameter groups, learning rate, and AdamW's arithmetic."""

import numpy as np
import pytest
import tensorflow as tf

from clip_tf.rt.optimizer import Schedule, decays, make_optimizer, make_schedule


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("visual.conv1.weight", (8, 8, 3, 4), True),
        ("token_embedding.weight", (10, 4), True),
        ("positional_embedding", (7, 4), True),
        ("transformer.resblocks.0.attn.in_proj_weight", (4, 12), True),
        ("transformer.resblocks.0.attn.in_proj_bias", (12,), False),
        ("visual.class_embedding", (4,), False),
        ("visual.ln_pre.weight", (4,), False),
        ("ln_final.weight", (1, 4), False),
        ("logit_scale", (), False),
        ("logit_scale", (1,), False),
    ],
)
def test_what_decays(name, shape, expected):
    assert decays(name, tf.Variable(tf.zeros(shape))) is expected


def test_steps_are_those_of_pytorchs_adamw():
    """Recomputed in float64 by the formula of torch.optim.AdamW, small number included."""
    rng = np.random.default_rng(0)
    start = {"a.weight": rng.normal(size=(3, 4)), "ln.weight": rng.normal(size=(4,))}
    variables = {name: tf.Variable(value, dtype=tf.float32) for name, value in start.items()}
    optimizer = make_optimizer(variables, weight_decay=0.1)
    moments = {name: (np.zeros_like(v), np.zeros_like(v)) for name, v in start.items()}
    for step in range(1, 6):
        rate = 0.01 * step
        gradients = {n: rng.normal(size=v.shape) * 10.0 ** -rng.integers(0, 7) for n, v in start.items()}
        optimizer.learning_rate.assign(rate)
        optimizer.apply_gradients([(tf.constant(gradients[n], tf.float32), variables[n]) for n in start])
        for name, gradient in gradients.items():
            m, v = moments[name]
            moments[name] = m, v = 0.9 * m + 0.1 * gradient, 0.98 * v + 0.02 * gradient**2
            if name == "a.weight":
                start[name] = start[name] * (1 - rate * 0.1)
            root = np.sqrt(v) / np.sqrt(1 - 0.98**step) + 1e-6
            start[name] = start[name] - rate / (1 - 0.9**step) * m / root
    for name, expected in start.items():
        np.testing.assert_allclose(variables[name], expected, rtol=2e-5, atol=2e-6)


def test_learning_rate_of_the_recorded_run():
    schedule = Schedule(5e-4, warmup_steps=2, total_steps=10)
    rates = [float(schedule.at(tf.constant(s))) for s in range(12)]
    np.testing.assert_allclose(rates[:4], [2.5e-4, 5e-4, 5e-4, 4.8097e-4], rtol=1e-5)
    assert rates[10] == rates[11] == 0.0


def test_no_decay_keeps_the_peak():
    schedule = make_schedule(10, peak=1.0, warmup_steps=0, epochs=None)
    assert float(schedule.at(tf.constant(10**6))) == 1.0


def test_wrong_settings():
    with pytest.raises(ValueError, match="more steps than the warm-up.*Received: 100 steps"):
        make_schedule(10, warmup_steps=100, epochs=10)
    with pytest.raises(ValueError, match="peak must be"):
        Schedule(0.0)
    with pytest.raises(ValueError, match="everything is frozen"):
        make_optimizer({})
    with pytest.raises(ValueError, match="epsilon > 0"):
        make_optimizer({"a": tf.Variable(0.0)}, epsilon=0.0)
