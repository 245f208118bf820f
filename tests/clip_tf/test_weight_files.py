"""Weight files: what the unpickler refuses, damaged archives, views, safetensors, names in the wild."""

import collections
import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from clip_tf.convert import open_weights
from clip_tf.model_config import ClipConfig
from clip_tf.weights import name_maps
from clip_tf.weights.layout import from_openclip, openclip_shapes, to_openclip
from clip_tf.weights.safe_unpickler import safe_unpickle
from clip_tf.weights.safetensors_file import Entry, open_safetensors, read_metadata, write_safetensors
from clip_tf.weights.stored_tensor import StoredTensor, WeightFileError
from clip_tf.weights.torch_file import open_torch_file
from tests.clip_tf.clip_goldens import standin
from tests.golden_files import manifest

CONFIG = ClipConfig.from_json(manifest("ckpt_tiny_config.json"))
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
STORAGE = b"(X\x07\x00\x00\x00storagectorch\n%s\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK%ctQ"


def tensor(size=b"K\x02\x85", stride=b"K\x01\x85", offset=b"K\x00", kind=b"FloatStorage", count=2) -> bytes:
    """Opcodes that build a tensor as torch writes one."""
    return REBUILD + b"(" + STORAGE % (kind, count) + offset + size + stride + b"\x89NtR"


def state(value: bytes, name: bytes = b"w") -> bytes:
    """A pickle of {name: value}."""
    return b"\x80\x02}X" + len(name).to_bytes(4, "little") + name + value + b"s."


def archive(
    path: Path,
    content: bytes,
    numbers: bytes = b"\0" * 8,
    compression: int = zipfile.ZIP_STORED,
    **members: bytes,
) -> Path:
    """A .pt file."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("a/data.pkl", content)
        file.writestr("a/data/0", numbers)
        for name, value in members.items():
            file.writestr(f"a/{name}", value)
    return path


def read(path: Path) -> dict[str, np.ndarray]:
    with open_torch_file(path) as tensors:
        return {name: t.read() for name, t in tensors.items()}


def test_a_tensor_is_read(tmp_path):
    numbers = np.arange(2, dtype=np.float32)
    got = read(archive(tmp_path / "x.pt", state(tensor()), numbers.tobytes()))
    np.testing.assert_array_equal(got["w"], numbers)


def test_views_are_read_by_offset_and_stride(tmp_path):
    numbers = np.arange(12, dtype=np.float16)
    content = state(tensor(b"K\x03K\x02\x86", b"K\x01K\x04\x86", b"K\x01", b"HalfStorage", 12))
    got = read(archive(tmp_path / "x.pt", content, numbers.tobytes()))
    np.testing.assert_array_equal(got["w"], [[1, 5], [2, 6], [3, 7]])
    assert got["w"].dtype == np.float16


def test_bfloat16_is_read(tmp_path):
    numbers = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    got = read(archive(tmp_path / "x.pt", state(tensor(kind=b"BFloat16Storage")), numbers.tobytes()))
    np.testing.assert_array_equal(got["w"], numbers)


class Malicious:
    def __init__(self, call, *arguments):
        self._call = call, arguments

    def __reduce__(self):
        return self._call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "call", [(os.system, "touch %s"), (exec, "open(%r, 'w')"), (eval, "open(%r, 'w')"), (open, "%s", "w")]
)
def test_code_is_refused_before_it_runs(protocol, call, tmp_path):
    victim = tmp_path / "victim"
    function, command, *rest = call
    content = pickle.dumps({"w": Malicious(function, command % str(victim), *rest)}, protocol)
    with pytest.raises(WeightFileError, match="refused"):
        read(archive(tmp_path / "x.pt", content))
    assert not victim.exists()
    pickle.loads(content)  # The attack is a real one.
    assert victim.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"ctorch.storage\n_load_from_bytes\n(C\x00tR.",
        b"cbuiltins\ngetattr\n.",
        b"cnumpy.core.multiarray\n_reconstruct\n.",
        b"ccollections\nnamedtuple\n.",
        b"ctorch._utils\n__builtins__\n.",
        b"ctorch\nload\n.",
        b"ccollections\nOrderedDict.__init__.__globals__\n.",
        b"\x80\x04\x8c\x0bcollections\x8c\x0fabc.Mapping.get\x93.",
        b"cclip_tf.weights.safe_unpickler\nsafe_unpickle\n.",
    ],
)
def test_other_names_are_refused(content):
    with pytest.raises(WeightFileError):
        safe_unpickle(content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"\x80\x02}X\xff\xff\xff\x7f",
        b"garbage",
        b"\x80\x02K\x01(t.",
        b"\x80\x02h\x05.",
        b"I" + b"9" * 9999 + b"\n.",
    ],
)
def test_damaged_pickles_are_refused(content, tmp_path):
    with pytest.raises(WeightFileError):
        read(archive(tmp_path / "x.pt", content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (state(tensor(size=b"K\x03\x85")), "beyond"),
        (state(tensor(offset=b"K\x01")), "beyond"),
        (state(tensor(stride=b"K\x02\x85")), "beyond"),
        (state(tensor(stride=b"J\xff\xff\xff\xff\x85")), "no shape"),
        (state(tensor(size=b"J\xfe\xff\xff\xff\x85")), "no shape"),
        (state(tensor(size=b"K\x02K\x01\x86")), "no shape"),
        (state(tensor(size=b"\x88\x85")), "no shape"),
        (state(tensor(size=b"]")), "wrong type"),
        (state(tensor(count=200)), "must hold 200"),
        (state(b"K\x01"), "maps names to tensors"),
        (b"\x80\x02}K\x01" + tensor() + b"s.", "maps names to tensors"),
        (b"\x80\x02}.", "no state dictionary"),
        (b"\x80\x02].", "no state dictionary"),
        (state(b"(X\x05\x00\x00\x00otherK\x01tQ"), "no storage"),
        (state(b"(X\x07\x00\x00\x00storageK\x01K\x01K\x01K\x01tQ"), "wrongly"),
    ],
)
def test_wrong_tensors_are_refused(content, message, tmp_path):
    with pytest.raises(WeightFileError, match=message):
        read(archive(tmp_path / "x.pt", content))


def doubled(levels: int) -> bytes:
    """A tuple of twice the one before: small in memory, endless as text or to hash."""
    return b")" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(levels))


def modules(levels: int, first: bytes = b"}") -> bytes:
    """Each module has the one before as two attributes; the first has its own."""
    content = b"\x80\x02c__torch__\nM\n)\x81" + first + b"b"
    for i in range(levels):
        name = bytes([i])
        content += b"q" + name + b"0c__torch__\nM\n)\x81}(X\1\0\0\0ah" + name + b"X\1\0\0\0bh" + name + b"ub"
    return content + b"."


# What must be refused at once: each took minutes or all memory.
ENDLESS = {
    "memo": b"\x80\x02Nr" + struct.pack("<I", 0x3FFFFFFF) + b".",
    "reference": b"\x80\x02" + doubled(60) + b"Q.",
    "tensor": b"\x80\x02"
    + REBUILD
    + b"("
    + STORAGE % (b"FloatStorage", 2)
    + b"K\0"
    + doubled(60)
    + b"h\2\x89NtR.",
    "key": b"\x80\x02}" + doubled(60) + b"Ns.",
    "keys": b"\x80\x02}(" + doubled(60) + b"Nu.",
    "ordered": b"\x80\x02ccollections\nOrderedDict\n](" + doubled(60) + b"N\x86e\x85R.",
    "set": b"\x80\x04\x8f(" + doubled(60) + b"\x90.",
    "modules": modules(31),
    "tensors of modules": modules(
        11, b"}(" + b"".join(b"X\5\0\0\0%05dK\1" % i for i in range(20_000)) + b"u"
    ),
    "bytes": b"\x80\x05\x96" + struct.pack("<Q", 1 << 36) + b".",
    "number": b"\x80\x02cnumpy\ndtype\n" + doubled(60) + b"\x85R.",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_small_pickles_that_ask_for_the_world_are_refused(name, tmp_path):
    with pytest.raises(WeightFileError):
        read(archive(tmp_path / "x.pt", ENDLESS[name]))


def test_a_checked_tensor_cannot_be_changed(tmp_path):
    """State that is given to a tensor after its bounds were checked would read beside its storage."""
    change = b"}X\6\0\0\0offsetJ\0\0\0\x10sb"
    for content in (state(tensor() + change), state(tensor() + b"N" + change[:-1] + b"\x86b")):
        with pytest.raises(WeightFileError, match="changes a TensorRef"):
            read(archive(tmp_path / "x.pt", content))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_checkpoint_of_any_protocol(protocol, tmp_path):
    """What training checkpoints hold beside tensors: numbers, texts, lists, nested dictionaries."""
    beside = {"epoch": 3, "name": "x", "lr": 0.5, "groups": [{"betas": (0.9, 0.98), "on": True, 0: None}]}
    content = pickle.dumps(beside, protocol)
    assert safe_unpickle(content) == beside
    ordered = pickle.dumps(collections.OrderedDict(a=1, b=2), protocol)
    assert list(safe_unpickle(ordered).items()) == [("a", 1), ("b", 2)]


def test_a_missing_storage_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as file:
        file.writestr("a/data.pkl", state(tensor()))
    with pytest.raises(WeightFileError, match="a/data/0"):
        read(tmp_path / "x.pt")


def test_compressed_members_are_refused(tmp_path):
    """A small file could fill the memory."""
    path = archive(tmp_path / "x.pt", state(tensor()), b"\0" * 80_000_000, zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightFileError, match="stored as it is"):
        read(path)


def test_big_endian_is_refused(tmp_path):
    with pytest.raises(WeightFileError, match="little-endian"):
        read(archive(tmp_path / "x.pt", state(tensor()), byteorder=b"big"))


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_truncated_archives_are_refused(kept, tmp_path):
    whole = manifest("ckpt_tiny_bare.bin").read_bytes()
    (tmp_path / "x.pt").write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(WeightFileError), open_weights(tmp_path / "x.pt"):
        pass


def test_a_flipped_bit_among_the_numbers_is_found(tmp_path):
    whole = bytearray(manifest("ckpt_tiny_bare.bin").read_bytes())
    with zipfile.ZipFile(io.BytesIO(bytes(whole))) as file:
        where = file.getinfo("ckpt_tiny_bare/data/5").header_offset + 400
    whole[where] ^= 1
    (tmp_path / "x.pt").write_bytes(whole)
    with pytest.raises(WeightFileError, match="damaged"):
        read(tmp_path / "x.pt")


def test_the_format_before_zip_is_named(tmp_path):
    (tmp_path / "x.pt").write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + b"\0" * 100)
    with pytest.raises(WeightFileError, match=r"1\.6"), open_weights(tmp_path / "x.pt"):
        pass


def entries() -> list[Entry]:
    return [
        Entry("a", (2, 3), np.dtype(np.float32), lambda: np.arange(6, dtype=np.float32).reshape(3, 2).T),
        Entry("b", (), np.dtype(ml_dtypes.bfloat16), lambda: np.asarray(1.5, ml_dtypes.bfloat16)),
    ]


def test_safetensors_round_trip_and_the_library_agrees(tmp_path):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, entries(), {"k": "v"})
    with open_safetensors(path) as tensors:
        assert {n: (t.shape, t.dtype) for n, t in tensors.items()} == {
            e.name: (e.shape, e.dtype) for e in entries()
        }
        for entry in entries():
            np.testing.assert_array_equal(tensors[entry.name].read(), entry.read())
    assert read_metadata(path) == {"k": "v"}
    np.testing.assert_array_equal(safetensors.numpy.load_file(path)["a"], entries()[0].read())


def test_an_entry_that_breaks_its_word_leaves_no_file(tmp_path):
    wrong = [*entries(), Entry("c", (2,), np.dtype(np.float32), lambda: np.zeros(3, np.float32))]
    with pytest.raises(ValueError, match="c must be"):
        write_safetensors(tmp_path / "x.safetensors", wrong, {})
    assert list(tmp_path.iterdir()) == []


def header(fields: object) -> bytes:
    text = json.dumps(fields).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        (1 << 60).to_bytes(8, "little") + b"{",
        (10**9).to_bytes(8, "little") + b"{}",
        (100).to_bytes(8, "little") + b"{}",
        header({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}),
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}) + b"\0" * 4,
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}) + b"\0" * 12,
        header({"a": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}) + b"\0" * 2,
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}) + b"\0" * 7,
        header([1]),
    ],
)
def test_hostile_safetensors_are_refused(content, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(WeightFileError), open_weights(tmp_path / "x.safetensors") as tensors:
        list(tensors)


def stored(value: np.ndarray) -> StoredTensor:
    return StoredTensor(value.shape, value.dtype, lambda: value)


def openclip() -> dict[str, np.ndarray]:
    return {key: standin(key, shape) for key, shape in openclip_shapes(CONFIG).items()}


def hugging_face() -> dict[str, np.ndarray]:
    """The tiny model by Hugging Face's names, by the recorded map."""
    found: dict[str, np.ndarray] = {"text_model.embeddings.position_ids": np.arange(8)[None]}
    names = json.loads(manifest("hf_name_map.json").read_text())["map_tiny"]
    for key, value in openclip().items():
        theirs = names[key]
        if key in ("visual.proj", "text_projection"):
            value = value.T
        found |= dict(zip(theirs, np.split(value, len(theirs)) if len(theirs) > 1 else [value], strict=True))
    return found


WRAPPED = {
    "bare": openclip,
    "data-parallel": lambda: {f"module.{k}": v for k, v in openclip().items()},
    "compiled": lambda: {f"module._orig_mod.{k}": v for k, v in openclip().items()},
    "text tower apart": lambda: {
        k if k.startswith("visual.") or k == "logit_scale" else f"text.{k}": v for k, v in openclip().items()
    },
    "OpenAI": lambda: openclip() | {"input_resolution": np.asarray(16), "vocab_size": np.asarray(64)},
    "with mask": lambda: openclip() | {"attn_mask": np.zeros((8, 8))},
    "scale of one axis": lambda: openclip() | {"logit_scale": standin("logit_scale", ()).reshape(1)},
    "Hugging Face": hugging_face,
}


@pytest.mark.parametrize("make", WRAPPED.values(), ids=WRAPPED)
def test_names_in_the_wild_become_openclips(make):
    got, unknown = name_maps.to_openclip({k: stored(v) for k, v in make().items()})
    assert unknown == []
    want = openclip()
    assert got.keys() == want.keys()
    for key, value in want.items():
        assert got[key].shape == value.shape
        np.testing.assert_array_equal(got[key].read(), value, key)


def test_layouts_are_told_apart():
    assert name_maps.detect(WRAPPED["OpenAI"]()) == name_maps.OPENAI
    assert name_maps.detect(hugging_face()) == name_maps.HUGGING_FACE
    assert name_maps.detect(WRAPPED["data-parallel"]()) == name_maps.OPENCLIP


def test_a_missing_third_is_reported_not_loaded():
    tensors = {k: stored(v) for k, v in hugging_face().items()}
    del tensors["text_model.encoder.layers.0.self_attn.k_proj.weight"]
    got, _ = name_maps.to_openclip(tensors)
    key = "transformer.resblocks.0.attn.in_proj_weight"
    assert key not in got and {f"{key}/q", f"{key}/v"} <= got.keys()


def test_unknown_and_double_names():
    _, unknown = name_maps.to_openclip({"logit_bias": stored(np.zeros(()))})
    assert unknown == ["logit_bias"]
    with pytest.raises(ValueError, match="one name"):
        name_maps.to_openclip({n: stored(np.zeros(())) for n in ("logit_scale", "module.logit_scale")})


def test_layouts_are_inverse():
    for key, shape in openclip_shapes(CONFIG).items():
        value = np.random.default_rng(0).standard_normal(shape)
        np.testing.assert_array_equal(to_openclip(key, from_openclip(key, value)), value)
