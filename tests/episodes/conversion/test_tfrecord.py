"""TFRecord framing: TensorFlow reads what is written, and no damage of a copied record goes unseen."""

import io

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.conversion import tfrecord
from episodes.conversion.tfrecord import DamagedRecordError, RecordWriter


def record(pieces):
    file = io.BytesIO()
    writer = RecordWriter(file, sum(map(len, pieces)))
    for piece in pieces:
        writer.write(piece)
    return file, writer.finish()


def test_tensorflow_reads_the_records(tmp_path):
    contents = [[b"one ", b"two"], [b""], [b"x" * 3_000_000]]
    path = tmp_path / "file"
    path.write_bytes(b"".join(record(pieces)[0].getvalue() for pieces in contents))
    read = [r.numpy() for r in tf.data.TFRecordDataset(str(path))]
    assert read == [b"".join(pieces) for pieces in contents]


@pytest.mark.parametrize("announced", [3, 5])
def test_another_length_than_announced_is_refused(announced):
    writer = RecordWriter(io.BytesIO(), announced)
    writer.write(b"four")
    with pytest.raises(ValueError, match="as long as announced"):
        writer.finish()


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=4), st.data())
@settings(deadline=None, max_examples=60)
def test_a_copy_is_the_record_itself(contents, data):
    files = [record([c]) for c in contents]
    source = io.BytesIO(b"".join(f.getvalue() for f, _ in files))
    index = data.draw(st.integers(0, len(contents) - 1))
    offset = sum(len(f.getvalue()) for f, _ in files[:index])
    target = io.BytesIO()
    tfrecord.copy_record(source, offset, len(contents[index]), files[index][1], target, "file")
    assert target.getvalue() == files[index][0].getvalue()


@given(st.binary(min_size=1, max_size=40), st.data())
@settings(deadline=None, max_examples=100)
def test_any_changed_or_missing_byte_is_found(content, data):
    file, crc = record([content])
    good = file.getvalue()
    if data.draw(st.booleans()):
        bad = good[: data.draw(st.integers(0, len(good) - 1))]
    else:
        place, bit = data.draw(st.integers(0, len(good) - 1)), data.draw(st.integers(0, 7))
        bad = good[:place] + bytes([good[place] ^ 1 << bit]) + good[place + 1 :]
    with pytest.raises(DamagedRecordError, match="file"):
        tfrecord.copy_record(io.BytesIO(bad), 0, len(content), crc, io.BytesIO(), "file")


def test_a_whole_record_of_another_episode_is_found():
    file, _ = record([b"abcd"])
    _, other = record([b"efgh"])
    with pytest.raises(DamagedRecordError, match="CRC"):
        tfrecord.copy_record(file, 0, 4, other, io.BytesIO(), "file")
