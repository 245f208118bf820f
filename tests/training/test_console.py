"""What is said of an error."""

import gin
import numpy as np
import pytest
import tensorflow as tf

from training.console import message_of


@gin.configurable
def fails_with(error: Exception) -> None:
    raise error


def raised(error: Exception) -> Exception:
    with pytest.raises(type(error)) as caught:
        fails_with(error)
    return caught.value


def test_gin_says_nothing_of_where_it_was_called() -> None:
    assert message_of(raised(ValueError("x must be 1"))) == "x must be 1"
    assert message_of(ValueError("x must be 1")) == "x must be 1"


def test_a_value_of_the_wrong_type_in_gin() -> None:
    message = message_of(raised(TypeError("'<' not supported")))
    assert "wrong type" in message and "in fails_with." in message and "'<' not supported" in message


def test_a_defect_keeps_its_traceback() -> None:
    with pytest.raises(TypeError, match="a defect"):
        message_of(TypeError("a defect"))


@pytest.mark.parametrize(
    "error", [ValueError("a.png: an image\nmust be one"), FileNotFoundError(2, "No such file", "a.png")]
)
@pytest.mark.parametrize("how", ["map", "generator"])
def test_what_is_wrong_with_the_data_is_said_without_tensorflow(error: Exception, how: str) -> None:
    def fail(*_: object) -> np.ndarray:
        raise error

    data = tf.data.Dataset.range(2)
    if how == "map":
        data = data.map(lambda x: tf.numpy_function(fail, [x], tf.int64))
    else:
        data = tf.data.Dataset.from_generator(fail, output_signature=tf.TensorSpec([], tf.int64))
    with pytest.raises(tf.errors.OpError) as caught:
        list(data.batch(2).prefetch(1))
    assert message_of(caught.value) == str(error)


def test_a_defect_in_a_graph_keeps_its_traceback() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="division by zero") as caught:
        tf.constant(1) // tf.constant(0)
    with pytest.raises(tf.errors.InvalidArgumentError):
        message_of(caught.value)
