"""What a policy is asked with: one batch row of named arrays, checked against its specification."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from core.spec import ArraySpec, PolicySpec
from serving import images
from serving.errors import ApiError, invalid_field
from serving.manipulation import INSTRUCTION

IMAGE, INPUT_PARAM, JOINT_NAMES = "image", "input_param", "joint_names"
_KINDS = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}
# The side of an example image where the policy takes any size.
_EXAMPLE_SIDE = 256


def is_image(expected: ArraySpec) -> bool:
    """Whether an observation is sent as an encoded image: ``image``, or integers [h, w(, 1 or 3)]."""
    if expected.name == IMAGE:
        return True
    pixels = expected.shape[2:] in ((1,), (3,)) or expected.shape == (None, None)
    return pixels and expected.dtype in ("uint8", "uint16")


def field_of(expected: ArraySpec) -> str:
    """The field of a request in which an observation is sent."""
    if expected.name in (IMAGE, INSTRUCTION):
        return {IMAGE: "image", INSTRUCTION: "text"}[expected.name]
    return f"{'images' if is_image(expected) else 'observations'}.{expected.name}"


def decode(expected: ArraySpec, data: bytes, max_pixels: int, field: str) -> np.ndarray:
    """An encoded image as its observation has it: [h, w, 3] uint8, or one channel, [h, w(, 1)].

    Raises:
      ApiError: naming the field: see ``serving.images``; 422 where the size is not the observation's.
    """
    if expected.shape[2:] == (3,):
        image = images.decode_image(data, max_pixels, field)
    else:
        image = images.decode_gray(data, max_pixels, expected.dtype, field)
        image = image.reshape(image.shape + expected.shape[2:])
    if not _fits(expected, image):
        raise _wrong_shape(expected, image, field)
    return image


def row(
    spec: PolicySpec,
    pictures: Mapping[str, np.ndarray],
    instruction: str | None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, np.ndarray]:
    """The observation of one client: name -> [1, *shape].

    Args:
      spec: of the policy.
      pictures: the images by name, as ``decode`` gives them.
      instruction: for ``natural_language_instruction``.
      extra: the other observations, as nested lists.

    Raises:
      ApiError: 422 naming the field: an observation is missing, unknown, or of the wrong type or shape.
    """
    given = dict(extra or {})
    result: dict[str, np.ndarray] = {}
    for expected in spec.observations:
        if is_image(expected):
            if expected.name not in pictures:
                raise invalid_field("An image is needed. Received: none.", field_of(expected))
            result[expected.name] = pictures[expected.name][None]
        elif expected.name == INSTRUCTION:
            result[INSTRUCTION] = np.array([instruction])
        elif expected.name in given:
            result[expected.name] = _array(expected, given.pop(expected.name))[None]
        else:
            shape = f"Shape {list(expected.shape)}, {expected.dtype}, is needed."
            raise invalid_field(shape, field_of(expected))
    if given:
        named = [o.name for o in spec.observations if not is_image(o) and o.name != INSTRUCTION]
        raise invalid_field(f"The policy takes {named} here.", f"observations.{sorted(given)[0]}")
    return result


def check_joint_names(spec: PolicySpec, names: Sequence[str] | None) -> None:
    """Holds the order of the joints that a client says it sends against the policy's.

    Raises:
      ApiError: 422 on ``joint_names``: they are others, or the policy does not know its joints by name.
    """
    if names is None:
        return
    expected = spec.details.get(JOINT_NAMES)
    if expected is None:
        raise invalid_field("The policy does not know its joints by name.", JOINT_NAMES)
    if list(names) != list(expected):
        raise invalid_field(f"{list(expected)}, in this order, are needed.", JOINT_NAMES)


def input_param(spec: PolicySpec, value: float | None) -> dict[str, np.ndarray]:
    """How much of a recurrent policy's input is measured, as an observation: float32 [1].

    Args:
      spec: its ``details`` say the policy's own ``input_param``; a policy without one has no such input.
      value: the request's; None for the policy's own.

    Raises:
      ApiError: 422 on ``input_param``: the policy has none.
    """
    own = spec.details.get(INPUT_PARAM)
    if own is None:
        if value is not None:
            raise invalid_field("The policy does not mix its predictions in.", INPUT_PARAM)
        return {}
    # Always there, so that requests with and without it share a batch.
    return {INPUT_PARAM: np.array([own if value is None else value], np.float32)}


def _fits(expected: ArraySpec, array: np.ndarray) -> bool:
    return array.ndim == len(expected.shape) and all(
        e is None or e == r for e, r in zip(expected.shape, array.shape, strict=True)
    )


def _wrong_shape(expected: ArraySpec, array: np.ndarray, field: str) -> ApiError:
    message = f"Shape {list(expected.shape)} is needed. Received: {list(array.shape)}."
    return invalid_field(message, field)


def _array(expected: ArraySpec, value: Any) -> np.ndarray:
    field = f"observations.{expected.name}"
    if expected.dtype == "string":
        if not isinstance(value, str):
            raise invalid_field("A text is needed.", field)
        return np.array(value)
    dtype = np.dtype(expected.dtype)
    try:
        array = np.array(value)
    except (ValueError, OverflowError, RecursionError) as error:
        raise invalid_field("Nested lists of equal lengths are needed.", field) from error
    if array.dtype.kind not in _KINDS[dtype.kind]:
        raise invalid_field(f"{dtype} is needed. Received: {array.dtype.name}.", field)
    if not _fits(expected, array) or array.size == 0:
        raise _wrong_shape(expected, array, field)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise invalid_field(f"Values of {dtype} are needed.", field)
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    if not np.all(np.isfinite(cast)):
        raise invalid_field(f"Finite values of {dtype} are needed.", field)
    return cast


def example(spec: PolicySpec, n: int) -> dict[str, np.ndarray]:
    """Observations of n clients to warm a policy up with: gray images, a known instruction, zeros."""
    text = spec.instructions[0] if spec.instructions else "pick up the apple"
    result: dict[str, np.ndarray] = {}
    for o in spec.observations:
        if o.dtype == "string":
            result[o.name] = np.full((n,), text)
            continue
        shape = tuple(_EXAMPLE_SIDE if s is None else s for s in o.shape)
        fill = 127 if o.name == IMAGE else 0
        result[o.name] = np.full((n, *shape), fill, np.dtype(o.dtype))
    return result
