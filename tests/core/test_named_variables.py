"""Names of variables: those that tf.train.Checkpoint gives them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from core.named_variables import named_variables

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


class Tower(tf.Module):
    """Lists, dictionaries, a shared child, a cycle, names that need escaping."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = tf.Variable(2.0)
        self.blocks = [tf.Variable([1.0, 2.0]), {"inner": tf.Variable(3.0), "a/b": tf.Variable(4.0)}]
        self.heads = {"x.y": tf.Variable(5.0), "plain": (tf.Variable(6.0), tf.Variable(7))}
        self.deep = tf.Module()
        self.deep.deeper = tf.Module()
        self.deep.deeper.weight = tf.Variable(8.0)
        self.deep.deeper.back = self
        # A shorter path to the same variable, whichever way the children are walked.
        self.zz_short = self.deep.deeper
        self.alpha, self.middle, self.omega = tf.Module(), tf.Module(), tf.Module()
        self.alpha.inner, self.omega.inner = tf.Module(), tf.Module()
        self.middle.bias = tf.Variable(9.0)
        self.alpha.inner.bias = self.omega.inner.bias = self.middle.bias


def keras_model() -> tf.keras.Model:
    inputs = tf.keras.Input([4])
    x = tf.keras.layers.Dense(3, name="first")(inputs)
    x = tf.keras.layers.BatchNormalization()(x)
    return tf.keras.Model(inputs, tf.keras.layers.Dense(2)(x))


class Subclassed(tf.keras.layers.Layer):
    """Layers in a list, built when it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = [tf.keras.layers.Dense(2), tf.keras.layers.LayerNormalization()]
        self.attention = tf.keras.layers.MultiHeadAttention(2, 2)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        for part in self.parts:
            x = part(x)
        return self.attention(x, x)


def subclassed() -> tf.keras.layers.Layer:
    layer = Subclassed()
    layer(tf.ones([1, 3, 4]))
    return layer


def written(folder: Path, **roots: tf.Module) -> dict[str, np.ndarray]:
    """Name -> value as tf.train.Checkpoint writes them."""
    reader = tf.train.load_checkpoint(tf.train.Checkpoint(**roots).write(str(folder / "checkpoint")))
    names = [name for name in reader.get_variable_to_shape_map() if name.endswith(SUFFIX)]
    return {name.removesuffix(SUFFIX): reader.get_tensor(name) for name in names}


@pytest.mark.parametrize("make", [Tower, keras_model, subclassed])
def test_names_and_values_are_those_of_a_checkpoint(make: Callable[[], tf.Module], tmp_path: Path) -> None:
    root = make()
    expected = written(tmp_path, network=root)
    named = named_variables(root, "network")
    assert sorted(named) == sorted(expected)
    assert len(named) >= 6
    for name, variable in named.items():
        np.testing.assert_array_equal(variable, expected[name])


def test_every_variable_has_one_name() -> None:
    root = keras_model()
    named = named_variables(root)
    assert sorted(v.name for v in named.values()) == sorted(v.name for v in root.variables)
    assert len({id(v) for v in named.values()}) == len(named)


def test_without_a_prefix_names_begin_with_the_attribute() -> None:
    tower = Tower()
    named = named_variables(tower)
    assert named["scale"] is tower.scale
    assert named["blocks/1/a.Sb"] is tower.blocks[1]["a/b"]
    assert named["heads/x..y"] is tower.heads["x.y"]
    assert named["zz_short/weight"] is tower.deep.deeper.weight
    assert named["middle/bias"] is tower.middle.bias


def test_the_variables_themselves_are_given() -> None:
    tower = Tower()
    named_variables(tower, "agent/_network")["agent/_network/scale"].assign(9.0)
    assert tower.scale.numpy() == 9.0


def test_what_has_no_variables_has_no_names() -> None:
    assert named_variables(tf.Module(), "network") == {}
