"""Names of data sets: those that TFDS would take for its own are refused."""

import pytest

from episodes.conversion.dataset_name import check_name


@pytest.mark.parametrize("name", ["bridge", "mnist", "fractal20220817_data"])
def test_names_that_tfds_knows_are_refused_where_it_shall_read(name: str) -> None:
    with pytest.raises(ValueError, match=f"my_{name}.*Received: '{name}'"):
        check_name(name, for_tfds=True)
    check_name(name, for_tfds=False)
    check_name(f"my_{name}", for_tfds=True)


@pytest.mark.parametrize("name", ["", "Reach", "1st", "a-b", "a/b", "..", "a b"])
def test_other_words_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="small letters"):
        check_name(name, for_tfds=False)
