"""The written Example is one: protocol buffers read from it just what was put in."""

import io

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.conversion import example_writer, tfrecord
from episodes.conversion.example_writer import (
    EpisodeTooLongError,
    FrameSpool,
    SpooledFrames,
    read_floats,
    write_example,
)

INT64 = st.integers(-(2**63), 2**63 - 1)
FLOAT32 = st.floats(width=32, allow_nan=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
COLUMN = st.one_of(
    st.lists(FLOAT32, max_size=40).map(lambda v: np.array(v, np.float32)),
    st.lists(INT64, max_size=5).map(lambda v: np.array(v, np.int64)),
    st.lists(st.booleans(), max_size=5).map(lambda v: np.array(v, bool)),
    st.lists(TEXT, min_size=1, max_size=5).map(lambda v: np.array(v, object)),
    st.lists(st.binary(max_size=5), min_size=1, max_size=5).map(lambda v: np.array(v, object)),
)


def parsed(file):
    data = file.getvalue()[tfrecord.HEADER_BYTES : -tfrecord.FOOTER_BYTES]
    return tf.train.Example.FromString(data).features.feature, data


def spooled(spool, frames):
    offsets = [spool.append(f) for f in frames]
    return SpooledFrames(spool, np.array(offsets, np.int64), np.array([len(f) for f in frames], np.int64))


def values(feature):
    kind = feature.WhichOneof("kind")
    return list(getattr(feature, kind).value)


def expected(column):
    if column.dtype == object:
        return [v.encode() if isinstance(v, str) else v for v in column.tolist()]
    return column.astype(int).tolist() if column.dtype == bool else column.reshape(-1).tolist()


@given(st.dictionaries(TEXT, COLUMN, max_size=5))
@settings(deadline=None, max_examples=80)
def test_protocol_buffers_read_what_was_put_in(columns):
    file = io.BytesIO()
    length, crc = write_example(file, columns)
    features, data = parsed(file)
    assert {k: values(v) for k, v in features.items()} == {k: expected(c) for k, c in columns.items()}
    assert (length, crc) == (len(data), tfrecord.google_crc32c.value(data))
    again = io.BytesIO()
    write_example(again, dict(reversed(columns.items())))
    assert again.getvalue() == file.getvalue()
    floats = {k: c for k, c in columns.items() if c.dtype == np.float32}
    read = read_floats(file, 0, floats)
    assert {k: v.tolist() for k, v in read.items()} == {k: c.tolist() for k, c in floats.items()}


# Lengths around those at which the length of a length changes.
@pytest.mark.parametrize("sizes", [[0], [127, 128], [16383, 16384, 1], [2**21 - 1, 2**21]])
def test_frames_come_from_the_spool_in_the_order_of_steps(tmp_path, sizes):
    frames = [bytes([i]) * n for i, n in enumerate(sizes)]
    file = io.BytesIO()
    with FrameSpool(tmp_path / "spool") as spool:
        column = spooled(spool, frames)
        order = [*range(len(frames))[::-1], 0]  # One frame serves two steps.
        column = SpooledFrames(spool, column.offsets[order], column.lengths[order])
        write_example(file, {"a": np.ones(3, np.float32), "frames": column, "z": np.array([True])})
    features, _ = parsed(file)
    assert values(features["frames"]) == [frames[i] for i in order]
    assert values(features["z"]) == [1]
    np.testing.assert_array_equal(read_floats(file, 0, ["a", "absent"])["a"], np.ones(3))
    assert not list(tmp_path.iterdir())


def test_an_episode_that_no_example_can_hold_is_refused_before_anything_is_written(monkeypatch):
    file = io.BytesIO()
    length, _ = write_example(file, {"a": np.zeros(100, np.float32)})
    monkeypatch.setattr(example_writer, "MAXIMUM_BYTES", length - 1)
    file = io.BytesIO()
    with pytest.raises(EpisodeTooLongError, match=f"e7 must fit.*cut.*Received: {length} bytes"):
        write_example(file, {"a": np.zeros(100, np.float32)}, "e7")
    assert not file.getvalue()


def test_a_column_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="e7: a must hold numbers or strings.*complex"):
        write_example(io.BytesIO(), {"a": np.zeros(3, complex)}, "e7")


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_a_cut_record_is_no_record(data):
    file = io.BytesIO()
    write_example(file, {"a": np.arange(50, dtype=np.float32), "b": np.array(["x"], object)})
    cut = file.getvalue()[: data.draw(st.integers(0, 30))]
    with pytest.raises(tfrecord.DamagedRecordError):
        read_floats(io.BytesIO(cut), 0, ["b", "a"])
