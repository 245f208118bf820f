"""Samples become the batches that the towers take, the same for the same arguments."""

import functools
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from clip_tf.image_preprocessing import Preprocessing, preprocess
from clip_tf.rt import samples
from clip_tf.rt.csv_data import open_csv
from clip_tf.rt.pipeline import Inputs, batches, decode_rgb
from clip_tf.rt.prompt import PUBLISHED, apply_prompt
from clip_tf.rt.rlds_data import open_rlds_samples
from clip_tf.tokenizer import tokenize
from tests.clip_tf.rt.clip_rt_data import VOCABULARY, picture, png, write_csv, write_episodes

INPUTS = Inputs(Preprocessing(8), 40, PUBLISHED, functools.partial(tokenize, context_length=40))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return open_csv(write_csv(tmp_path_factory.mktemp("csv"), 24), 4, validation_fraction=0.3)


def read(source, part=samples.TRAIN, batch_size=8, **arguments):
    arguments = {"seed": 0, **arguments}
    return list(batches(source, part, batch_size, INPUTS, **arguments).as_numpy_iterator())


def test_a_batch_is_what_the_towers_take(source):
    (first, *_) = read(source, samples.VALIDATION, seed=None)
    rows = source.rows(samples.VALIDATION)[:8]
    for i, row in enumerate(rows):
        expected = preprocess(decode_rgb(row.filepath.read_bytes(), "x"), 8)
        np.testing.assert_array_equal(first["image"][i], expected)
    np.testing.assert_array_equal(first["instruction"], tokenize([apply_prompt("do it")] * len(rows), 40))
    np.testing.assert_array_equal(first["supervision"], tokenize([r.supervision for r in rows], 40))
    np.testing.assert_array_equal(first["label"], [r.label for r in rows])


@pytest.mark.parametrize("changes", [{}, {"augment": True}, {"balance": 0.7}])
def test_the_same_arguments_give_the_same_batches(source, changes):
    first, again = read(source, **changes), read(source, **changes)
    for one, other in zip(first, again, strict=True):
        for name, values in one.items():
            np.testing.assert_array_equal(values, other[name])
    other_epoch = read(source, epoch=1, **changes)
    assert [b["id"].tolist() for b in first] != [b["id"].tolist() for b in other_epoch]
    rest = read(source, skip=1, **changes)
    for one, other in zip(first[1:], rest, strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])


def test_augmentation_crops_anew_in_each_epoch(source):
    def images(**changes):
        return {i: im for b in read(source, **changes) for i, im in zip(b["id"], b["image"], strict=True)}

    plain, first, second = images(), images(augment=True), images(augment=True, epoch=1)
    assert plain.keys() == first.keys() == second.keys()
    assert np.mean([np.abs(first[i] - plain[i]).max() > 0 for i in plain]) > 0.8
    assert np.mean([np.abs(first[i] - second[i]).max() > 0 for i in plain]) > 0.9


def test_balancing_evens_the_classes_out(tmp_path):
    path = write_csv(tmp_path, 40)
    lines = path.read_text().splitlines()
    # Class 0 in every folder, the others rare.
    kept = [line for i, line in enumerate(lines[1:]) if line.endswith(",0") or i < 8]
    path.write_text("\n".join([lines[0], *kept]) + "\n")
    source = open_csv(path, 4, validation_fraction=0.2)
    counts = source.counts(samples.TRAIN)
    drawn = [
        np.bincount(np.concatenate([b["label"] for b in read(source, epoch=e, balance=1.0)]), minlength=4)
        for e in range(10)
    ]
    shares = np.mean(drawn, axis=0)[counts > 0]
    assert counts.max() / counts[counts > 0].min() >= 3
    assert shares.max() / shares.min() < 1.6
    assert sum(map(np.sum, drawn)) / 10 == pytest.approx(counts.sum(), rel=0.25)


def test_the_last_batch(source):
    n = source.counts(samples.TRAIN).sum()
    assert sum(len(b["label"]) for b in read(source, batch_size=7)) == n
    assert {len(b["label"]) for b in read(source, batch_size=7, drop_remainder=True)} == {7}


def test_rlds_images_are_the_frames(tmp_path):
    source = open_rlds_samples(write_episodes(tmp_path), VOCABULARY, validation_episodes=2)
    for batch in read(source, samples.VALIDATION, seed=None):
        for name, label, image in zip(batch["id"], batch["label"], batch["image"], strict=True):
            episode, step = name.decode().removeprefix("e").split("@")
            frame = picture(label, seed=10 * int(episode) + int(step))
            np.testing.assert_array_equal(image, preprocess(frame, 8))


@pytest.mark.parametrize("content", [b"", b"no image", png(picture(0))[:60]])
def test_a_broken_image_is_named(tmp_path, content):
    path = write_csv(tmp_path, 8)
    broken = sorted(tmp_path.glob("train_*/*.png"))[0]
    broken.write_bytes(content)
    source = open_csv(path, 4, validation_fraction=0.5)
    with pytest.raises(
        tf.errors.OpError, match=f"{broken.parent.name}/{broken.name}: (the image cannot be|an image must be)"
    ):
        for part in samples.PARTS:
            read(source, part, seed=None)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "LA"])
def test_images_of_other_modes_become_rgb(mode):
    buffer = io.BytesIO()
    Image.fromarray(picture(1)).convert(mode).save(buffer, format="jpeg" if mode == "CMYK" else "png")
    assert decode_rgb(buffer.getvalue(), "x").shape == (16, 16, 3)


@pytest.mark.parametrize(("dtype", "kind"), [(np.uint16, "png"), (np.uint8, "eps")])
def test_images_that_pillow_would_spoil_or_run_are_refused(dtype, kind):
    """Depth becomes white; what is PostScript would be run by another program."""
    buffer = io.BytesIO()
    content = np.full((4, 4), 1000).astype(dtype)
    Image.fromarray(content).save(buffer, format=kind)
    with pytest.raises(ValueError, match="e7@3: .*(8 bits a channel|one of .'PNG')") as error:
        decode_rgb(buffer.getvalue(), "e7@3")
    assert "BytesIO" not in str(error.value)


def test_wrong_arguments(source):
    with pytest.raises(ValueError, match="seed is needed"):
        read(source, seed=None, augment=True)
    with pytest.raises(ValueError, match="batch_size must be"):
        read(source, batch_size=0)
