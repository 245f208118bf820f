"""What ``torch_writer`` writes, read back, and numbers of numpy's in pickles. (PyTorch was tried by hand.)"""

import collections
import math
import pickle
import pickletools
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from clip_tf.weights.safe_unpickler import STORAGE_TYPES, safe_unpickle
from clip_tf.weights.stored_tensor import StoredTensor, WeightFileError
from clip_tf.weights.torch_file import open_torch_checkpoint, open_torch_file
from clip_tf.weights.torch_writer import write_torch_file

ARRAYS = {
    "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
    "view": np.arange(24, dtype=np.float64).reshape(2, 3, 4).transpose(2, 0, 1),
    "scalar": np.array(2.5, np.float16),
    "empty": np.zeros((0, 3), np.int64),
    "brain": np.array([1.5, -2.0], ml_dtypes.bfloat16),
    "flags": np.array([True, False]),
    "Größe": np.array([7], np.uint8),
}


def read(path: Path) -> dict[str, np.ndarray]:
    with open_torch_file(path) as tensors:
        return {name: t.read().copy() for name, t in tensors.items()}


def test_arrays_come_back(tmp_path):
    write_torch_file(tmp_path / "x.pt", {"state_dict": ARRAYS})
    found = read(tmp_path / "x.pt")
    assert list(found) == list(ARRAYS)
    for name, value in ARRAYS.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        np.testing.assert_array_equal(found[name], value, name)


@pytest.mark.parametrize("dtype", STORAGE_TYPES.values(), ids=str)
def test_every_type_of_storage(dtype, tmp_path):
    values = np.array([[0, 1], [1, 1]]).astype(dtype)
    write_torch_file(tmp_path / "x.pt", {"w": values})
    found = read(tmp_path / "x.pt")["w"]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, values)


def test_what_stands_beside_comes_back(tmp_path):
    beside = {
        "epoch": 3,
        "large": 1 << 40,
        "negative": -(1 << 63),
        "loss": 0.1,
        "none": None,
        "yes": True,
        "name": "ä" * 300,
        "inner": {"a": {"b": 1}},
        "ordered": collections.OrderedDict(z=1, a=2),
    }
    write_torch_file(tmp_path / "x.pt", {"state_dict": ARRAYS, **beside, "array": ARRAYS["matrix"]})
    with open_torch_checkpoint(tmp_path / "x.pt") as (_, rest):
        array = rest["array"]
        assert isinstance(array, StoredTensor)
        np.testing.assert_array_equal(array.read(), ARRAYS["matrix"])
        assert {k: v for k, v in rest.items() if k != "array"} == beside
        assert type(rest["ordered"]) is collections.OrderedDict and type(rest["inner"]) is dict


def test_layout_is_that_of_torch(tmp_path):
    write_torch_file(tmp_path / "x.pt", {"a": ARRAYS["matrix"], "b": ARRAYS["brain"]})
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        members = archive.infolist()
        assert [m.filename.partition("/")[2] for m in members] == [
            "data.pkl",
            "byteorder",
            "data/0",
            "data/1",
            "version",
        ]
        assert {m.compress_type for m in members} == {zipfile.ZIP_STORED}
        content = (tmp_path / "x.pt").read_bytes()
        for member in members:
            expected = archive.read(member)
            begin = content.index(expected, member.header_offset)
            assert begin % 64 == 0
        program = archive.read("archive/data.pkl")
    named = {str(arg) for code, arg, _ in pickletools.genops(program) if code.name == "GLOBAL"}
    assert named == {
        "collections OrderedDict",
        "torch._utils _rebuild_tensor_v2",
        "torch FloatStorage",
        "torch BFloat16Storage",
    }
    assert next(pickletools.genops(program))[1] == 2


def test_the_same_content_is_the_same_bytes(tmp_path):
    for name in ("a.pt", "b.pt"):
        write_torch_file(tmp_path / name, {"state_dict": ARRAYS, "epoch": 1})
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


@pytest.mark.parametrize(
    "value", [np.zeros(2, ">f4"), np.zeros(2, np.complex64), np.array(["a"]), [1, 2], np.float32(1), b"x"]
)
def test_what_torch_does_not_have_is_refused(value, tmp_path):
    with pytest.raises(ValueError, match="Received"):
        write_torch_file(tmp_path / "x.pt", {"w": value})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "value", [np.float64(0.25), np.float32(-1.5), np.float16(2), np.int64(-7), np.uint8(200), np.bool_(True)]
)
def test_numbers_of_numpy_are_read(value, protocol):
    found = safe_unpickle(pickle.dumps({"loss": value}, protocol))["loss"]
    assert type(found) in (int, float, bool)
    assert found == value


def test_numbers_of_older_numpy_are_read():
    content = pickle.dumps(np.float64(math.pi), 2)
    assert content.count(b"numpy._core.multiarray") == 1
    assert safe_unpickle(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")) == math.pi


@pytest.mark.parametrize(
    "value",
    [
        np.array([(1, 2)], [("a", "i4"), ("b", "i4")])[0],
        np.str_("text"),
        np.complex64(1),
        np.datetime64("2020-01-01"),
        np.array([1.0]),
        np.dtype("O"),
        np.dtype(">f8").type,
    ],
)
def test_other_objects_of_numpy_are_refused(value):
    with pytest.raises(WeightFileError):
        safe_unpickle(pickle.dumps({"loss": value}, 2))


def scalar(kind: bytes = b"X\x02\x00\x00\x00f8", content: bytes = b"X\x08\x00\x00\x00abcdefgh") -> bytes:
    """Opcodes of a number as numpy pickles one in protocol 2."""
    dtype = b"cnumpy\ndtype\n" + kind + b"\x89\x88\x87R(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xff"
    dtype += b"J\xff\xff\xff\xffK\x00tb"
    latin = b"c_codecs\nencode\n" + content + b"X\x06\x00\x00\x00latin1\x86R"
    return b"\x80\x02cnumpy.core.multiarray\nscalar\n" + dtype + latin + b"\x86R."


def test_wrong_numbers_are_refused():
    assert isinstance(safe_unpickle(scalar()), float)
    short = b"X\x04\x00\x00\x00abcd"
    for wrong in (
        scalar(content=short),
        scalar(kind=b"X\x02\x00\x00\x00V9"),
        scalar(kind=b"]"),
        scalar().replace(b"X\x01\x00\x00\x00<", b"X\x01\x00\x00\x00>"),
        scalar().replace(b"latin1", b"utf-16"[:6]),
        b"\x80\x02cnumpy.core.multiarray\nscalar\nK\x01K\x02\x86R.",
    ):
        with pytest.raises(WeightFileError):
            safe_unpickle(wrong)
