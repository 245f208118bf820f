"""FiLM against its formula."""

import numpy as np
import pytest

from film_efficientnet.film_conditioning_layer import FilmConditioning

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(2, 3, 4, 6)).astype(np.float32)
CONTEXT = RNG.normal(size=(2, 5)).astype(np.float32)


def test_a_fresh_layer_is_the_identity() -> None:
    np.testing.assert_array_equal(FilmConditioning(6)(FEATURES, CONTEXT), FEATURES)


def test_formula() -> None:
    layer = FilmConditioning(6)
    layer(FEATURES, CONTEXT)
    assert {v.name.split("/")[-1] for v in layer.variables} == {"kernel:0", "bias:0"}
    for variable in layer.variables:
        variable.assign(RNG.normal(size=variable.shape).astype(np.float32))
    add, mult = layer._projection_add, layer._projection_mult
    offset = CONTEXT @ add.kernel.numpy() + add.bias.numpy()
    factor = CONTEXT @ mult.kernel.numpy() + mult.bias.numpy()
    expected = (1 + factor[:, None, None]) * FEATURES + offset[:, None, None]
    np.testing.assert_allclose(layer(FEATURES, CONTEXT), expected, atol=1e-5)


@pytest.mark.parametrize("row", [0, 1])
def test_every_image_has_its_own_context(row: int) -> None:
    layer = FilmConditioning(6)
    layer(FEATURES, CONTEXT)
    for variable in layer.variables:
        variable.assign(RNG.normal(size=variable.shape).astype(np.float32))
    alone = layer(FEATURES[row : row + 1], CONTEXT[row : row + 1])
    np.testing.assert_allclose(alone[0], layer(FEATURES, CONTEXT)[row], atol=1e-5)
