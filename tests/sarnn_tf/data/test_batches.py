"""Batches: prepared episodes, normalised and padded; noise on inputs alone; the same for the same seed."""

import dataclasses

import numpy as np
import pytest

from sarnn_tf.data.batches import batches, num_batches
from sarnn_tf.data.prepare import prepare
from sarnn_tf.description import make_description
from sarnn_tf.normalization import normalize
from sarnn_tf.preparation import to_unit
from tests.sarnn_tf.data.recordings import DEPTH, IMAGE, TOUCH, CountingClip, MemorySource, episode

LENGTHS = (5, 9, 3, 9, 2, 7)
ALL = (IMAGE, DEPTH, TOUCH)
PART = tuple(range(6))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    episodes = [episode(n, f"e{i}", seed=i, instruction="push" * (1 + i % 2)) for i, n in enumerate(LENGTHS)]
    return prepare(MemorySource(episodes), ALL, CountingClip(), tmp_path_factory.mktemp("prepared"))


def describe(prepared, **fields):
    chosen = {"modalities": ALL, "vmin": 0.1, "vmax": 0.9, "clip_features": 3, **fields}
    clip = {"clip_fingerprint": prepared.clip_fingerprint}
    return make_description(prepared.joint_names, prepared.joint_bounds, **clip, **chosen)


def run(prepared, part=PART, batch_size=4, *, seed=None, fields=None, **options):
    made = batches(prepared, describe(prepared, **(fields or {})), part, batch_size, seed=seed, **options)
    return list(made)


def names(found):
    return [[e.decode() for e in batch.episodes.numpy()] for batch in found]


def test_validation_batches_are_the_episodes_in_order(prepared):
    found = run(prepared, stdev=0.5, joint_stdev=0.5, augment=True)
    assert names(found) == [["e0", "e1", "e2", "e3"], ["e4", "e5"]]
    assert [b.joints.shape[1] for b in found] == [9, 9]
    for batch in found:
        assert batch.inputs.images["image"] is not None and set(batch.images) == {m.name for m in ALL}
        for row, name in enumerate(batch.episodes.numpy()):
            e = prepared.episode(int(name[1:]))
            n = len(e.joints)
            assert batch.real[row].numpy().tolist() == [True] * n + [False] * (9 - n)
            last = np.minimum(np.arange(9), n - 1)
            for modality in ALL:
                wanted = to_unit(e.images[modality.name], modality)[last]
                np.testing.assert_array_equal(batch.images[modality.name][row], wanted)
                np.testing.assert_array_equal(batch.inputs.images[modality.name][row], wanted)
            wanted = normalize(e.joints, prepared.joint_bounds, 0.1, 0.9)[last]
            np.testing.assert_array_equal(batch.joints[row], wanted)
            np.testing.assert_array_equal(batch.inputs.joints[row], wanted)
            np.testing.assert_array_equal(batch.inputs.patches[row], e.patches[last])
            np.testing.assert_array_equal(batch.inputs.text[row], e.text)
    joints = np.concatenate([b.joints[b.real] for b in found])
    np.testing.assert_allclose([joints.min(), joints.max()], [0.1, 0.9], atol=1e-6)


def test_what_is_off_is_absent(prepared):
    (batch,) = run(prepared, batch_size=9, fields={"modalities": [IMAGE], "use_clip": False})
    assert set(batch.images) == {"image"} and batch.inputs.patches is None and batch.inputs.text is None
    (told,) = run(prepared, batch_size=9, fields={"use_clip": False, "text_units": 2})
    assert told.inputs.patches is None and told.inputs.text.shape == (6, 3)


def same(one, other):
    for a, b in zip(one, other, strict=True):
        assert a.episodes.numpy().tolist() == b.episodes.numpy().tolist()
        for name in a.inputs.images:
            np.testing.assert_array_equal(a.inputs.images[name], b.inputs.images[name])
        np.testing.assert_array_equal(a.inputs.joints, b.inputs.joints)


def test_a_resumed_epoch_has_the_batches_of_an_uninterrupted_one(prepared):
    noise = {"stdev": 0.1, "joint_stdev": 0.1, "augment": True}
    whole = run(prepared, batch_size=2, seed=3, epoch=5, **noise)
    assert len(whole) == num_batches(PART, 2) == 3
    for skip in range(4):
        same(run(prepared, batch_size=2, seed=3, epoch=5, skip=skip, **noise), whole[skip:])
    assert sorted(sum(names(whole), [])) == [f"e{i}" for i in PART]
    orders = {tuple(sum(names(run(prepared, seed=s, epoch=e)), [])) for s in (3, 4) for e in (5, 6)}
    assert len(orders) == 4


def by_episode(found):
    return {
        name: (b.inputs.images["image"][i].numpy()[:n], b.inputs.joints[i].numpy()[:n])
        for b in found
        for i, name in enumerate(b.episodes.numpy())
        for n in [int(b.real[i].numpy().sum())]
    }


def test_noise_is_the_episodes_own_and_on_inputs_alone(prepared):
    noise = {"stdev": 0.2, "joint_stdev": 0.3}
    clean = run(prepared, batch_size=6)[0]
    (noisy,) = run(prepared, batch_size=6, seed=1, **noise)
    order = [int(n[1:]) for n in noisy.episodes.numpy()]
    real = noisy.real.numpy()
    for m in ALL:
        np.testing.assert_array_equal(noisy.images[m.name], clean.images[m.name].numpy()[order])
        difference = (noisy.inputs.images[m.name] - noisy.images[m.name]).numpy()[real]
        assert difference.std() == pytest.approx(0.2, rel=0.05) and abs(difference.mean()) < 0.01
        padding = noisy.inputs.images[m.name].numpy()[~real]
        repeated = np.concatenate(
            [
                np.repeat(x[r][-1:], (~r).sum(), 0)
                for x, r in zip(noisy.inputs.images[m.name].numpy(), real, strict=True)
            ]
        )
        np.testing.assert_array_equal(padding, repeated)
    np.testing.assert_array_equal(noisy.joints, clean.joints.numpy()[order])
    np.testing.assert_array_equal(noisy.inputs.patches, clean.inputs.patches.numpy()[order])
    difference = (noisy.inputs.joints - noisy.joints).numpy()[real]
    assert difference.std() == pytest.approx(0.3, rel=0.25)
    # Other company, other padding, other modalities: the same noise.
    alone = by_episode(
        run(prepared, part=(4, 2), batch_size=1, seed=1, fields={"modalities": [IMAGE]}, **noise)
    )
    together = by_episode([noisy])
    for name, arrays in alone.items():
        for one, other in zip(arrays, together[name], strict=True):
            np.testing.assert_array_equal(one, other)
    later = by_episode(run(prepared, batch_size=6, seed=1, epoch=1, **noise))
    assert all((later[name][1] != together[name][1]).all() for name in together)


def test_augmentation_is_for_colours_alone(prepared):
    (batch,) = run(prepared, batch_size=6, seed=2, augment=True)
    assert (batch.inputs.images["image"] != batch.images["image"]).numpy().any(axis=(1, 2, 3, 4)).all()
    for name in ("depth", "gelsight_left"):
        np.testing.assert_array_equal(batch.inputs.images[name], batch.images[name])
    np.testing.assert_array_equal(batch.inputs.joints, batch.joints)


@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_batches_have_few_lengths(prepared, count):
    found = run(prepared, batch_size=1, max_lengths=count)
    lengths = [b.joints.shape[1] for b in found]
    assert len(set(lengths)) <= count and max(lengths) == 9
    assert all(length >= n for length, n in zip(lengths, LENGTHS, strict=True))
    assert count != 20 or tuple(lengths) == LENGTHS


def test_the_last_batch_may_be_smaller_and_none_is_dropped(prepared):
    made = batches(prepared, describe(prepared), PART, 4, seed=0)
    assert int(made.cardinality()) == 2
    assert [len(b.episodes) for b in made] == [4, 2]
    assert [len(b.episodes) for b in run(prepared, batch_size=100)] == [6]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"part": ()}, "part must be numbers"),
        ({"part": (0, 6)}, "of the 6 episodes"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"stdev": -0.1}, "stdev must be at least 0"),
        ({"joint_stdev": float("nan")}, "joint_stdev must be at least 0"),
        ({"skip": -1}, "skip must be at least 0"),
        ({"max_lengths": 0}, "max_lengths must be at least 1"),
        ({"fields": {"modalities": [dataclasses.replace(IMAGE, size=(9, 9))]}}, "must be prepared for"),
        ({"fields": {"modalities": [IMAGE, dataclasses.replace(TOUCH, name="gelsight_right")]}}, "for None"),
    ],
)
def test_what_does_not_fit_is_refused(prepared, options, message):
    with pytest.raises(ValueError, match=message):
        run(prepared, **options)


def test_another_clip_or_other_joints_are_refused(prepared):
    other = dataclasses.replace(describe(prepared), clip_fingerprint="other")
    with pytest.raises(ValueError, match="with the CLIP of the description"):
        batches(prepared, other, PART, 4, seed=0)
    bare = dataclasses.replace(prepared, patches=None)
    with pytest.raises(ValueError, match="patches: False"):
        batches(bare, describe(prepared), PART, 4, seed=0)
    swapped = dataclasses.replace(describe(prepared), joint_names=("elbow", "shoulder", "wrist"))
    with pytest.raises(ValueError, match="The joints of memory must be"):
        batches(prepared, swapped, PART, 4, seed=0)
