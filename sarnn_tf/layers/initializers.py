"""Seeded weights: each drawn from the model's seed and its own name, whatever order layers are made in."""

import zlib

import tensorflow as tf


def seed_of(seed: int | None, site: str) -> int | None:
    """The seed of one weight; None, for a fresh draw, where ``seed`` is None."""
    return None if seed is None else zlib.crc32(f"{seed}/{site}".encode()) & 0x7FFFFFFF


def glorot_uniform(seed: int | None, site: str) -> tf.keras.initializers.Initializer:
    """Glorot and Bengio (2010), which PyTorch calls xavier_uniform; EIPL's start of all but the LSTM."""
    return tf.keras.initializers.GlorotUniform(seed_of(seed, site))


def orthogonal(seed: int | None, site: str) -> tf.keras.initializers.Initializer:
    """Saxe et al. (2013)."""
    return tf.keras.initializers.Orthogonal(seed=seed_of(seed, site))


def dense(
    inputs: int, units: int, seed: int | None, site: str, *, use_bias: bool = True
) -> tf.keras.layers.Dense:
    """A linear layer with its variables made: kernel [inputs, units], bias [units] of zeros."""
    layer = tf.keras.layers.Dense(
        units, use_bias=use_bias, kernel_initializer=glorot_uniform(seed, site), name=site
    )
    layer.build((None, inputs))
    return layer
