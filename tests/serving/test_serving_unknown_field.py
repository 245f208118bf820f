"""A field that there is not is answered with those that there are."""

import pytest

from serving import schemas
from serving.errors import ApiError
from serving.service import parse


def test_an_unknown_field_names_the_known_ones() -> None:
    with pytest.raises(ApiError) as caught:
        parse(schemas.ManipulationRequest, {"instruction": "close the gripper"})
    assert (caught.value.code, caught.value.field) == ("invalid_field", "instruction")
    assert " text" in caught.value.message and "client_id" in caught.value.message
