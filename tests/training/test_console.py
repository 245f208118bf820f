"""What is said of an error."""

import gin
import pytest

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
