"""RLDS data sets become RT-1 windows: actions, bounds, instructions, hold-out, masks."""

import logging

import gin
import numpy as np
import pytest
import tensorflow as tf

from episodes.statistics import compute_statistics
from language import make_text_encoder
from rt1.action_mapping import ActionSource, action_mapping, action_specs, map_actions
from rt1.augmentation import Augmentation
from rt1.rlds_dataset import FIRST, LAST, MID, TRAIN, VALIDATION, open_training_data
from tests.episodes.tiny_rlds import episode, write_rlds
from tests.shared_data import shared


class LetterEncoder:
    """Sentences of the same letters have the same unit vector; counts what it is asked."""

    identity, size, free_text = "letters", 512, True

    def __init__(self):
        self.asked = []

    def encode(self, texts):
        self.asked += texts
        if any("!" in text for text in texts):
            raise ValueError(f"cannot encode. Received: {texts}")
        vectors = np.zeros((len(texts), 512), np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            np.add.at(vector, [ord(letter) for letter in text], 1)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


MAPPING = {
    "terminate_episode": {"path": "is_terminal", "one_hot": True},
    "world_vector": {"path": "action", "stop": 3},
    "gripper_closedness_action": {"path": "action", "start": 3, "scale": -2.0, "offset": 1.0},
    "base_displacement_vector": {"constant": (0.0, 0.0)},
}
LENGTHS = [3, 9, 5, 1, 7, 8, 2, 6]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    train = [episode(i, n, instruction=f"pick {'abc'[i % 3]}") for i, n in enumerate(LENGTHS)]
    extra = [episode(20, 4, instruction="pick d"), episode(21, 3, instruction="pick d")]
    return write_rlds(tmp_path_factory.mktemp("rlds"), {"train": train, "extra": extra, "copy": train[2:4]})


def opened(folder, encoder=None, mapping=None, **arguments):
    arguments = {"validation_episodes": 2, "window": 4, **arguments}
    return open_training_data(
        folder, encoder or LetterEncoder(), mapping=action_mapping(mapping or MAPPING), **arguments
    )


def listed(data, part=TRAIN, batch_size=3, **arguments):
    arguments = {"seed": 1, **arguments}
    return list(data.batches(part, batch_size, **arguments).as_numpy_iterator())


def joined(batches):
    return tf.nest.map_structure(lambda *x: np.concatenate(x), *batches)


def test_the_contract(tiny):
    data = opened(tiny)
    batch = listed(data)[0]
    assert {k: (v.shape, v.dtype.name) for k, v in batch["observation"].items()} == {
        "image": ((3, 4, 8, 8, 3), "uint8"),
        "natural_language_embedding": ((3, 4, 512), "float32"),
    }
    assert {k: (v.shape, v.dtype.name) for k, v in batch["action"].items()} == {
        "terminate_episode": ((3, 4, 3), "int32"),
        "world_vector": ((3, 4, 3), "float32"),
        "gripper_closedness_action": ((3, 4, 1), "float32"),
        "base_displacement_vector": ((3, 4, 2), "float32"),
    }
    assert batch["step_type"].dtype == np.int32 and batch["step_type"].shape == (3, 4)
    assert batch["is_padding"].dtype == bool and batch["is_padding"].shape == (3, 4)
    assert batch["info"]["episode_id"].shape == batch["info"]["step_index"].shape == (3,)


@pytest.mark.parametrize("padding", ["start", "end"])
def test_every_step_of_every_training_episode_has_its_window(tiny, padding):
    data = opened(tiny, padding=padding)
    whole = joined(listed(data))
    info = whole["info"]
    got = sorted(zip([int(i[1:]) for i in info["episode_id"]], info["step_index"].tolist(), strict=True))
    ids = data.episode_ids(TRAIN)
    assert len(ids) == 6
    assert got == sorted((int(i[1:]), t) for i in ids for t in range(LENGTHS[int(i[1:])]))
    assert data.statistics.steps == len(got)
    for i in range(len(got)):
        number, step = int(info["episode_id"][i][1:]), int(info["step_index"][i])
        real = ~whole["is_padding"][i]
        steps = np.arange(max(0, step - 3), step + 1)
        # Image, action and flags tell the step in different ways; all must agree.
        image = whole["observation"]["image"][i][real]
        assert image[:, 0, 0, 0].tolist() == steps.tolist() and (image[:, 1:] == number).all()
        action = whole["action"]
        np.testing.assert_array_equal(
            action["world_vector"][i][real], np.stack([np.full_like(steps, number), steps, -steps], 1)
        )
        np.testing.assert_array_equal(action["gripper_closedness_action"][i][real, 0], 1 - 2 * (steps % 2))
        last = steps == LENGTHS[number] - 1
        np.testing.assert_array_equal(action["terminate_episode"][i][real, 0], last)
        np.testing.assert_array_equal(action["terminate_episode"][i][real, 1], ~last)
        wanted = np.where(last, LAST, np.where(steps == 0, FIRST, MID))
        np.testing.assert_array_equal(whole["step_type"][i][real], wanted)
        embedding = LetterEncoder().encode([f"pick {'abc'[number % 3]}"])[0]
        np.testing.assert_array_equal(whole["observation"]["natural_language_embedding"][i][2], embedding)


def test_last_steps_count_where_their_action_was_carried_out(tiny):
    whole = joined(listed(opened(tiny, last_step_has_action=True)))
    assert (whole["step_type"] != LAST).all() and (whole["step_type"] == FIRST).any()


def test_parts_are_disjoint_and_complete(tiny):
    data = opened(tiny)
    train, held_out = data.episode_ids(TRAIN), data.episode_ids(VALIDATION)
    assert len(held_out) == 2
    assert sorted(train + held_out) == sorted(f"e{i}" for i in range(8))
    others = {tuple(opened(tiny, salt=s).episode_ids(VALIDATION)) for s in "abcd"}
    assert len(others) > 1
    by_share = opened(tiny, validation_episodes=None, validation_fraction=0.4)
    assert sorted(by_share.episode_ids(TRAIN) + by_share.episode_ids(VALIDATION)) == sorted(train + held_out)


def test_statistics_are_of_the_training_episodes_alone(tiny):
    data = opened(tiny)
    numbers = {int(i[1:]) for i in data.episode_ids(TRAIN)}
    values = np.concatenate([np.full(LENGTHS[i], i) for i in numbers])
    got = data.statistics["world_vector"]
    assert got.mean[0] == pytest.approx(values.mean())
    spec = data.action_specs[1]
    assert spec.name == "world_vector" and spec.unit == "m" and spec.shape == (3,)
    assert spec.minimum[0] == pytest.approx(np.quantile(values, 0.01))
    assert spec.maximum[0] == pytest.approx(np.quantile(values, 0.99))


def test_statistics_handed_in_are_taken(tiny):
    first = opened(tiny)
    encoder = LetterEncoder()
    again = opened(tiny, encoder, statistics=first.statistics)
    assert encoder.asked == []
    assert again.action_specs == first.action_specs


def test_each_sentence_is_encoded_once(tiny):
    encoder = LetterEncoder()
    data = opened(tiny, encoder)
    listed(data), listed(data, VALIDATION, seed=None)
    assert sorted(encoder.asked) == ["pick a", "pick b", "pick c"]


def test_epochs_and_resuming(tiny):
    data, on = opened(tiny), Augmentation(shift=(0.2, 0.2), brightness=0.2)
    whole = listed(data, epoch=1, augment=on)
    tf.nest.map_structure(np.testing.assert_array_equal, listed(data, epoch=1, augment=on, skip=2), whole[2:])
    other = listed(data, epoch=2, augment=on)
    assert [b["info"]["step_index"].tolist() for b in whole] != [
        b["info"]["step_index"].tolist() for b in other
    ]


def test_augmentation_changes_images_alone_and_whole_windows_alike(tiny):
    data = opened(tiny)
    plain, changed = (joined(listed(data, augment=a)) for a in (None, Augmentation(brightness=0.5)))
    before, after = (w["observation"].pop("image").astype(int) for w in (plain, changed))
    tf.nest.map_structure(np.testing.assert_array_equal, plain, changed)
    difference = (after - before)[:, :, 4, 4, 0]
    visible = (after[:, :, 4, 4, 0] > 0).all(axis=1)
    assert visible.any() and (np.ptp(difference[visible], axis=1) == 0).all()
    assert len(np.unique(difference[visible])) > 3
    with pytest.raises(ValueError, match="needs a label"):
        listed(data, augment=Augmentation(rotate_90=True))
    with pytest.raises(ValueError, match="needs a seed"):
        listed(data, augment=Augmentation(brightness=0.5), seed=None)


def test_images_are_brought_to_size(tiny):
    batch = listed(opened(tiny, image_size=(4, 6)))[0]
    assert batch["observation"]["image"].shape == (3, 4, 4, 6, 3)
    assert batch["observation"]["image"].dtype == np.uint8


def test_validation_keeps_the_order(tiny):
    info = joined(listed(opened(tiny), VALIDATION, seed=None))["info"]
    assert info["step_index"].tolist() == [
        t for i in dict.fromkeys(info["episode_id"]) for t in range(LENGTHS[int(i[1:])])
    ]


def test_workers_share_the_episodes(tiny):
    data = opened(tiny)
    parts = [
        set(joined(listed(data, seed=None, shard=(2, i)))["info"]["episode_id"].tolist()) for i in range(2)
    ]
    assert not parts[0] & parts[1]
    assert {i.decode() for i in parts[0] | parts[1]} == set(data.episode_ids(TRAIN))


def test_whole_episodes_for_open_loop(tiny):
    data = opened(tiny)
    episodes = {e["episode_id"]: e for e in data.read_episodes(TRAIN)}
    assert sorted(episodes) == sorted(data.episode_ids(TRAIN))
    for name, e in episodes.items():
        length = LENGTHS[int(name[1:])]
        assert e["image"].shape == (length, 8, 8, 3) and e["image"].dtype == np.uint8
        assert e["instruction"] == [f"pick {'abc'[int(name[1:]) % 3]}"] * length
        assert e["natural_language_embedding"].shape == (length, 512)
        assert e["action"]["world_vector"][:, 1].tolist() == list(range(length))
        assert e["step_type"][-1] == LAST


class TestValidationSplit:
    def test_is_used(self, tiny):
        data = opened(tiny, validation_episodes=None, validation_split="extra")
        assert data.episode_ids(VALIDATION) == ["e20", "e21"]
        assert len(data.episode_ids(TRAIN)) == 8

    def test_that_repeats_training_episodes_is_refused(self, tiny):
        with pytest.raises(ValueError, match="'copy' is in 'train' too"):
            opened(tiny, validation_split="copy")


class TestStoredEmbeddings:
    def test_of_the_same_encoder_are_used(self, tiny):
        encoder = LetterEncoder()
        data = opened(tiny, encoder, embedding_key="language_embedding", embedding_encoder="letters")
        whole = joined(listed(data))
        assert encoder.asked == []
        got = whole["observation"]["natural_language_embedding"].argmax(axis=-1)
        numbers = [int(i[1:]) for i in whole["info"]["episode_id"]]
        np.testing.assert_array_equal(got, np.repeat(np.array(numbers)[:, None], 4, axis=1))

    @pytest.mark.parametrize("named", [None, "USE-large/5"])
    def test_of_another_or_unknown_encoder_are_refused(self, tiny, named):
        with pytest.raises(ValueError, match=r"language_embedding"):
            opened(tiny, embedding_key="language_embedding", embedding_encoder=named)


class TestInstructions:
    @pytest.fixture
    def some_empty(self, tmp_path):
        texts = ["pick a", " ", "pick b", "pick c", "pick a"]
        return write_rlds(tmp_path, {"train": [episode(i, 2, instruction=t) for i, t in enumerate(texts)]})

    def test_an_empty_one_is_an_error_that_names_the_episode(self, some_empty):
        with pytest.raises(ValueError, match="Episode 'e1' has no instruction at step 0"):
            opened(some_empty, validation_episodes=1)

    def test_or_left_out(self, some_empty):
        data = opened(some_empty, validation_episodes=1, unlabelled="skip")
        assert sorted(data.episode_ids(TRAIN) + data.episode_ids(VALIDATION)) == ["e0", "e2", "e3", "e4"]

    def test_one_that_cannot_be_encoded_is_an_error(self, tmp_path):
        folder = write_rlds(tmp_path, {"train": [episode(i, 2, instruction="pick !") for i in range(3)]})
        with pytest.raises(ValueError, match="Episode 'e0': cannot encode"):
            opened(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_key": "observation/img"}, "Near"),
        ({"image_key": "observation/depth"}, r"observation/depth must be uint8 \[H, W, 3\]"),
        ({"instruction_key": "instruction"}, "language_instruction"),
        ({"mapping": {"a": {"path": "acton"}}}, "Near: .*action"),
        ({"mapping": {"a": {"path": "action", "stop": 9}}}, "has 4 elements"),
        ({"mapping": {"a": {"path": "language_instruction"}}}, "must come from numbers"),
        ({"mapping": {"a": {"path": "action", "scale": (1.0, 2.0)}}}, "scale must be 1 or 4 numbers"),
        ({"mapping": {"a": {"path": "action", "one_hot": True}}}, "1 or 3 elements"),
        ({"validation_episodes": 8}, "0 to 7 of 8"),
        ({"validation_episodes": 0}, "no episode is held out"),
        ({"validation_episodes": None, "validation_fraction": 1.5}, "add up to 1"),
        ({"validation_split": "test"}, "'extra': 2"),
        ({"unlabelled": "ignore"}, "'error' or 'skip'"),
    ],
)
def test_what_does_not_fit_is_named(tiny, arguments, message):
    with pytest.raises(ValueError, match=message):
        opened(tiny, **arguments)


class TestMapping:
    def test_from_gin(self):
        text = """
          action_mapping.actions = {
            'world_vector': {'path': 'action', 'stop': 3, 'minimum': -1.0, 'maximum': [1.0, 2.0, 3.0]},
          }
        """
        with gin.unlock_config():
            gin.parse_config(text)
        try:
            (source,) = action_mapping()
        finally:
            gin.clear_config()
        statistics = compute_statistics([("e", {"world_vector": np.zeros((2, 3))})])
        (spec,) = action_specs([source], statistics)
        assert spec.minimum == (-1.0, -1.0, -1.0) and spec.maximum == (1.0, 2.0, 3.0)

    def test_one_hot_flags_pass(self):
        columns = {"flag": tf.constant([[1, 0, 0], [0, 0, 1]])}
        got = map_actions(columns, [ActionSource("t", "flag", one_hot=True)])["t"]
        np.testing.assert_array_equal(got, columns["flag"])

    def test_threshold(self):
        columns = {"flag": tf.constant([0.2, 0.4])}
        got = map_actions(columns, [ActionSource("t", "flag", one_hot=True, threshold=0.3)])["t"]
        np.testing.assert_array_equal(got, [[0, 1, 0], [1, 0, 0]])

    def test_dimensions_that_never_change_get_narrow_bounds_and_a_warning(self, caplog):
        statistics = compute_statistics([("e", {"a": np.array([[0.5, 1.0], [0.5, 2.0]])})])
        with caplog.at_level(logging.WARNING):
            (spec,) = action_specs([ActionSource("a", "a")], statistics)
        assert spec.minimum[0] < 0.5 < spec.maximum[0]
        assert "never change" in caplog.text and "[0]" in caplog.text

    def test_missing_statistics_are_an_error(self):
        statistics = compute_statistics([("e", {"a": np.zeros((2, 1))})])
        with pytest.raises(ValueError, match="Received: 'b'"):
            action_specs([ActionSource("b", "b")], statistics)

    @pytest.mark.parametrize(
        ("actions", "message"),
        [
            ({}, "at least one action"),
            ({"a": {"pth": "x"}}, r"Received: \['pth'\]"),
            ({"a": {}}, "either a path in the data or a constant"),
            ({"a": {"path": "x", "constant": (0.0,)}}, "either a path"),
            ({"a": {"path": "x", "minimum": 0.0}}, "given together"),
            ({"a": {"constant": (0, 0, 1), "one_hot": True}}, "one-hot constant"),
        ],
    )
    def test_wrong_mappings(self, actions, message):
        with pytest.raises(ValueError, match=message):
            action_mapping(actions)

    def test_what_the_data_lack_is_said(self, tiny, caplog):
        with caplog.at_level(logging.WARNING):
            opened(tiny)
        assert "base_displacement_vector" in caplog.text and "constant" in caplog.text


def test_real_bridge_episodes():
    mapping = {
        "terminate_episode": {"path": "is_terminal", "one_hot": True},
        "world_vector": {"path": "action", "stop": 3},
        "rotation_delta": {"path": "action", "start": 3, "stop": 6},
        "gripper_closedness_action": {"path": "action", "start": 6, "scale": -2.0, "offset": 1.0},
    }
    folder = shared("data/rlds/octo_bridge_debug")
    encoder = make_text_encoder()
    data = opened(folder, encoder, mapping, image_key="observation/image_0", validation_episodes=5, window=6)
    train, held_out = data.episode_ids(TRAIN), data.episode_ids(VALIDATION)
    assert len(set(train)) == 20 and len(set(held_out)) == 5 and not set(train) & set(held_out)
    whole = joined(listed(data, batch_size=16))
    assert whole["observation"]["image"].shape == (200, 6, 64, 64, 3)
    assert whole["observation"]["image"].std() > 10
    embeddings = whole["observation"]["natural_language_embedding"]
    assert len(np.unique(embeddings.reshape(-1, 512), axis=0)) == 4
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=-1), 1, atol=1e-5)
    # Recorded flags: these episodes were cut, so no step is marked as the last.
    assert (whole["step_type"] != LAST).all()
    world, gripper = data.action_specs[1], data.action_specs[3]
    assert all(0.005 < high - low < 0.1 for low, high in zip(world.minimum, world.maximum, strict=True))
    assert (gripper.minimum, gripper.maximum) == ((-1.0,), (1.0,))
    # The stored embeddings are USE-large/5's, as features.json says.
    with pytest.raises(ValueError, match="letters"):
        opened(
            folder,
            mapping=mapping,
            image_key="observation/image_0",
            embedding_key="language_embedding",
            embedding_encoder="USE-large/5",
        )
    with pytest.raises(ValueError, match="'val' is in 'train' too"):
        opened(folder, mapping=mapping, image_key="observation/image_0", validation_split="val")
