"""What a policy is asked with: one batch row of named arrays, checked against its specification."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from core.spec import ArraySpec, PolicySpec
from serving.errors import invalid_field
from serving.manipulation import INSTRUCTION

IMAGE = "image"
_KINDS = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}
# The side of an example image where the policy takes any size.
_EXAMPLE_SIDE = 256


def row(
    spec: PolicySpec,
    image: np.ndarray | None,
    instruction: str | None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, np.ndarray]:
    """The observation of one client: name -> [1, *shape].

    Args:
      spec: of the policy.
      image: [height, width, 3] uint8 RGB, of any size.
      instruction: for ``natural_language_instruction``.
      extra: the other observations, as nested lists.

    Raises:
      ApiError: 422 naming the field: an observation is missing, unknown, or of the wrong type or shape.
    """
    given = dict(extra or {})
    result: dict[str, np.ndarray] = {}
    for expected in spec.observations:
        if expected.name == IMAGE:
            if image is None:
                raise invalid_field("An image is needed. Received: none.", "image")
            result[IMAGE] = image[None]
        elif expected.name == INSTRUCTION:
            result[INSTRUCTION] = np.array([instruction])
        elif expected.name in given:
            result[expected.name] = _array(expected, given.pop(expected.name))[None]
        else:
            field = f"observations.{expected.name}"
            raise invalid_field(f"Shape {list(expected.shape)}, {expected.dtype}, is needed.", field)
    if given:
        named = [o.name for o in spec.observations if o.name not in (IMAGE, INSTRUCTION)]
        raise invalid_field(f"The policy takes {named} here.", f"observations.{sorted(given)[0]}")
    if image is not None and IMAGE not in result:
        raise invalid_field("The policy takes no image.", "image")
    return result


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
    fits = array.ndim == len(expected.shape) and all(
        e is None or e == r for e, r in zip(expected.shape, array.shape, strict=True)
    )
    if not fits or array.size == 0:
        raise invalid_field(f"Shape {list(expected.shape)} is needed. Received: {list(array.shape)}.", field)
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
