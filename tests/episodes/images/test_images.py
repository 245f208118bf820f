"""Image messages: every encoding gives the true pixels; whatever is damaged is an ImageError."""

import io
import struct
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from episodes import images
from episodes.images import COLOUR, DEPTH, ImageError, decode_frame, decode_image
from episodes.images.raw import ENCODINGS
from tests.shared_data import shared

SETTINGS = settings(deadline=None, max_examples=60)
# Encoding -> (dtype, where R, G, B stand in a pixel of so many elements).
COLOUR_LAYOUTS = {
    "rgb8": ("u1", (0, 1, 2), 3),
    "bgr8": ("u1", (2, 1, 0), 3),
    "8UC3": ("u1", (2, 1, 0), 3),
    "rgba8": ("u1", (0, 1, 2), 4),
    "bgra8": ("u1", (2, 1, 0), 4),
    "8UC4": ("u1", (2, 1, 0), 4),
    "rgb16": ("u2", (0, 1, 2), 3),
    "bgr16": ("u2", (2, 1, 0), 3),
    "rgba16": ("u2", (0, 1, 2), 4),
    "bgra16": ("u2", (2, 1, 0), 4),
    "mono8": ("u1", (0, 0, 0), 1),
    "8UC1": ("u1", (0, 0, 0), 1),
    "mono16": ("u2", (0, 0, 0), 1),
}
BAYER = ("rggb", "bggr", "gbrg", "grbg")
YUV = {"yuv422": (1, 0), "uyvy": (1, 0), "yuv422_yuy2": (0, 1), "yuyv": (0, 1)}


def raw(pixels, encoding, *, padding=0, big_endian=False, last_row_padded=True, as_bytes=False):
    """An Image message of [H, W] or [H, W, C] pixels."""
    order = ">" if big_endian else "<"
    rows = pixels.astype(pixels.dtype.newbyteorder(order)).reshape(len(pixels), -1).view(np.uint8)
    step = rows.shape[1] + padding
    padded = np.full((len(pixels), step), 0xA5, np.uint8)
    padded[:, : rows.shape[1]] = rows
    data = padded.reshape(-1)
    if not last_row_padded and padding:
        data = data[:-padding]
    data.flags.writeable = False
    return SimpleNamespace(
        encoding=encoding,
        height=pixels.shape[0],
        width=pixels.shape[1],
        step=step,
        is_bigendian=int(big_endian),
        data=data.tobytes() if as_bytes else data,
    )


def compressed(data, text="jpeg"):
    return SimpleNamespace(format=text, data=np.frombuffer(bytes(data), np.uint8))


def png(pixels):
    return cv2.imencode(".png", pixels)[1].tobytes()


def jpeg(pixels):
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()


def picture(h=24, w=32, seed=0):
    """Smooth, and different in each channel, so that JPEG keeps it and no flip goes unseen."""
    y, x = np.mgrid[:h, :w]
    channels = [60 + 4 * x, 200 - 5 * y, 30 + 2 * x + 3 * y + seed]
    return np.stack(channels, -1).clip(0, 255).astype(np.uint8)


@st.composite
def framing(draw):
    return {
        "padding": draw(st.integers(0, 5)),
        "big_endian": draw(st.booleans()),
        "last_row_padded": draw(st.booleans()),
        "as_bytes": draw(st.booleans()),
    }


def arrays(dtype, channels):
    sides = hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)
    return sides.flatmap(lambda s: hnp.arrays(dtype, (*s, channels) if channels else s))


@SETTINGS
@given(st.data(), framing(), st.sampled_from(sorted(COLOUR_LAYOUTS)))
def test_colour_is_rgb_whatever_the_layout(data, frame, encoding):
    dtype, places, channels = COLOUR_LAYOUTS[encoding]
    stored = data.draw(arrays(dtype, channels))
    rgb = stored[..., list(places)]
    if dtype == "u2":
        rgb = np.rint(rgb / 257).astype(np.uint8)
    message = raw(stored, encoding, **frame)
    decoded = decode_image(message, kind=COLOUR)
    np.testing.assert_array_equal(decoded, rgb)
    assert decoded.dtype == np.uint8 and decoded.flags.writeable and decoded.flags.c_contiguous
    np.testing.assert_array_equal(decode_frame(message, "observation/image"), rgb)


@SETTINGS
@given(st.data(), framing(), st.sampled_from(["16UC1", "mono16"]), st.sampled_from([None, 1e-4, 0.002]))
def test_integer_depth_is_millimetres(data, frame, encoding, unit_m):
    stored = data.draw(arrays("u2", 0))
    message = raw(stored, encoding, **frame)
    wanted = stored if unit_m is None else np.minimum(np.rint(stored * (unit_m * 1000.0)), 65535)
    decoded = decode_image(message, depth_unit_m=unit_m)
    assert decoded.dtype == np.uint16 and images.is_depth(message)
    np.testing.assert_array_equal(decoded, wanted)


@SETTINGS
@given(arrays("f4", 0), framing())
def test_float_depth_is_metres(stored, frame):
    decoded = decode_image(raw(stored, "32FC1", **frame), depth_unit_m=0.5)  # The unit is of integers only.
    for got, metres in zip(decoded.reshape(-1), stored.reshape(-1).tolist(), strict=True):
        known = np.isfinite(metres) and metres > 0
        assert got == (min(65535, round(metres * 1000)) if known else 0)


def test_depths_worth_writing_down():
    metres = np.array(
        [[0.0, -1.0, np.nan, np.inf, -np.inf, 0.0004, 0.0006, 1.2344, 65.535, 65.6, 1e30]], "f4"
    )
    decoded = decode_image(raw(metres, "32FC1"))
    assert decoded.tolist() == [[0, 0, 0, 0, 0, 0, 1, 1234, 65535, 65535, 65535]]


@pytest.mark.parametrize("pattern", BAYER)
@pytest.mark.parametrize("bits", [8, 16])
def test_bayer_patterns_are_as_ros_names_them(pattern, bits):
    colour = {"r": 200, "g": 100, "b": 30}
    tile = np.array([colour[c] for c in pattern], np.uint8).reshape(2, 2)
    mosaic = np.tile(tile, (4, 5)).astype(f"u{bits // 8}") * (257 if bits == 16 else 1)
    decoded = decode_image(raw(mosaic, f"bayer_{pattern}{bits}", padding=3, big_endian=bits == 16))
    np.testing.assert_array_equal(decoded, np.broadcast_to([200, 100, 30], (8, 10, 3)))


@pytest.mark.parametrize("encoding", YUV)
def test_yuv(encoding):
    luma_first = YUV[encoding] == (0, 1)
    # BT.601 of red, and of gray: (Y, U, V).
    pair = [[81, 90], [81, 240]] if luma_first else [[90, 81], [240, 81]]
    gray = [[126, 128], [126, 128]] if luma_first else [[128, 126], [128, 126]]
    pixels = np.array([pair, gray, pair], np.uint8)
    decoded = decode_image(raw(pixels, encoding, padding=2, last_row_padded=False)).astype(int)
    red, neutral = np.array([255, 0, 0]), np.array([128, 128, 128])
    np.testing.assert_allclose(decoded, [[red, red], [neutral, neutral], [red, red]], atol=3)


def test_every_encoding_is_tested_here():
    tested = {*COLOUR_LAYOUTS, *YUV, "16UC1", "32FC1"} | {f"bayer_{p}{b}" for p in BAYER for b in (8, 16)}
    assert {name.lower() for name in tested} == set(ENCODINGS)


def test_a_padded_image_of_a_real_camera_is_not_sheared():
    photo = cv2.imread(str(shared("data/images/gripper_far_from_grasp.png")))
    for padding in (0, 1, 64):
        decoded = decode_image(raw(photo, "bgr8", padding=padding))
        np.testing.assert_array_equal(decoded, photo[..., ::-1])


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("text", ["jpeg", "png", "bgr8; jpeg compressed bgr8", "", "rgb8; png compressed "])
def test_the_bytes_decide_and_not_the_text(suffix, text):
    rgb = picture()
    decoded = decode_image(compressed(cv2.imencode(suffix, rgb[..., ::-1])[1], text))
    np.testing.assert_allclose(decoded.astype(int), rgb, atol=0 if suffix == ".png" else 12)
    assert decoded.dtype == np.uint8


def test_gray_alpha_palette_and_16_bit_png_become_rgb():
    rgb = picture()
    gray = rgb[..., 0]
    gray_rgb = np.repeat(gray[..., None], 3, -1)
    with_alpha = np.dstack([rgb[..., ::-1], gray])
    deep = rgb.astype(np.uint16) * 257
    palette = io.BytesIO()
    few = (rgb // 64 * 64).astype(np.uint8)
    Image.fromarray(few).quantize(64, dither=Image.Dither.NONE).save(palette, "PNG")
    decoded = decode_image(compressed(png(deep[..., ::-1])))
    np.testing.assert_array_equal(decoded, rgb)
    np.testing.assert_array_equal(decode_image(compressed(png(gray))), gray_rgb)
    np.testing.assert_array_equal(decode_image(compressed(png(with_alpha))), rgb)
    assert decode_image(compressed(palette.getvalue())).shape == rgb.shape
    np.testing.assert_array_equal(decode_image(compressed(jpeg(gray))).shape, rgb.shape)


def test_exif_orientation_is_ignored():
    rgb, file = picture(), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # Turned by 90 degrees.
    Image.fromarray(rgb).save(file, "JPEG", quality=100, exif=exif)
    assert cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_COLOR).shape[:2] == (32, 24)
    np.testing.assert_allclose(decode_image(compressed(file.getvalue())).astype(int), rgb, atol=12)


def test_16_bit_png_is_depth_to_the_bit():
    depth = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    message = compressed(png(depth), "16UC1; png compressed ")
    np.testing.assert_array_equal(decode_image(message), depth)
    np.testing.assert_array_equal(decode_frame(message, "observation/depth"), depth)
    assert images.is_depth(message) and not images.is_depth(compressed(png(picture())))


def compressed_depth(pixels, text, a=0.0, b=0.0):
    return compressed(struct.pack("<iff", 0, a, b) + png(pixels), text)


@pytest.mark.parametrize("text", ["16UC1; compressedDepth", "16UC1; compressedDepth png"])
def test_integer_compressed_depth(text):
    depth = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    # The publisher leaves the quantisation of integer depth as it finds it.
    message = compressed_depth(depth, text, a=np.nan, b=3.0)
    np.testing.assert_array_equal(decode_image(message), depth)
    np.testing.assert_array_equal(decode_image(message, depth_unit_m=0.0005), np.rint(depth / 2))


def test_float_compressed_depth():
    # As ROS' publisher does it: A = z0 (z0 + 1), B = 1 - A / max, stored = A / z + B.
    z = np.linspace(0.3, 9.9, 600, dtype=np.float64).reshape(20, 30)
    z0, farthest = 100.0, 10.0
    a = np.float32(z0 * (z0 + 1))
    b = np.float32(1 - a / farthest)
    stored = np.rint(a / z + b).astype(np.uint16)
    stored[0, 0] = 0
    decoded = decode_image(compressed_depth(stored, "32FC1; compressedDepth png", a, b)).astype(int)
    assert decoded[0, 0] == 0
    step_mm = z**2 / a * 1000  # What one level of the quantisation is worth.
    assert np.all(np.abs(decoded - z * 1000).reshape(-1)[1:] <= (step_mm / 2 + 1).reshape(-1)[1:])


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (compressed(struct.pack("<iff", 0, 1, 1) + b"\x01\x02" * 9, "16UC1; compressedDepth rvl"), "RVL"),
        (compressed_depth(np.ones((2, 2), np.uint16), "compressedDepth"), "begin with 16UC1 or 32FC1"),
        (compressed_depth(np.ones((2, 2), np.uint16), "32FC1; compressedDepth"), "quantisation 0.0, 0.0"),
        (compressed_depth(np.ones((2, 2), np.uint8), "16UC1; compressedDepth"), "16-bit gray PNG"),
    ],
)
def test_compressed_depth_that_cannot_be_read(message, reason):
    with pytest.raises(ImageError, match=reason):
        decode_frame(message, "observation/depth")


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (raw(picture(), "rgb8"), "observation/depth"),
        (raw(picture()[..., 0], "mono8"), "observation/depth"),
        (raw(picture()[..., 0].astype("u2"), "16UC1"), "observation/image"),
        (raw(picture()[..., 0].astype("f4"), "32FC1"), "observation/gelsight_left"),
        (compressed(jpeg(picture())), "observation/depth"),
        (compressed(png(picture())), "observation/depth"),
        (compressed(png(picture()[..., 0])), "observation/depth"),
        (compressed(png(picture()[..., 0].astype("u2"))), "observation/image"),
        (compressed_depth(np.ones((2, 2), np.uint16), "16UC1; compressedDepth"), "observation/image"),
    ],
)
def test_a_topic_of_the_other_kind_is_an_error(message, field):
    kind = "depth" if field.endswith("depth") else "colour"
    with pytest.raises(ImageError, match=rf"^{field}: A {kind} image is wanted. Received: a"):
        decode_frame(message, field)


def test_gray_of_16_bits_may_be_colour_when_ros_says_so():
    gray = picture()[..., 0]
    message = compressed(png(gray.astype(np.uint16) * 257), "mono16; png compressed ")
    np.testing.assert_array_equal(decode_image(message, kind=COLOUR)[..., 1], gray)
    assert decode_image(message, kind=DEPTH).dtype == np.uint16


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"encoding": "nv21"}, "encoding 'nv21', 4 x 3, step 12, 36 bytes"),
        ({"encoding": ""}, "can be decoded"),
        ({"height": 0}, "1 to 100000000 pixels. Received: .* 4 x 0"),
        ({"width": 0}, "pixels"),
        ({"height": 2**32 - 1, "width": 2**32 - 1}, "pixels"),
        ({"step": 11}, "step must be at least 12"),
        ({"step": 2**32 - 1}, "must have"),
        ({"data": np.zeros(35, np.uint8)}, "36 to 36 bytes. Received: .* 35 bytes"),
        ({"data": np.zeros(37, np.uint8)}, "37 bytes"),
        ({"data": np.zeros(0, np.uint8)}, "0 bytes"),
        ({"data": b""}, "0 bytes"),
        ({"encoding": "yuyv", "width": 3, "step": 6}, "even"),
        ({"encoding": "rgba8"}, "step must be at least 16"),
    ],
)
def test_sizes_that_cannot_be(change, reason):
    message = SimpleNamespace(**{**vars(raw(np.zeros((3, 4, 3), np.uint8), "rgb8")), **change})
    with pytest.raises(ImageError, match=reason):
        decode_image(message)


def bomb_png(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    end = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", 0x35AF061E)
    crc = struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(header)) + chunk + crc + end


def bomb_jpeg(width, height):
    data = bytearray(jpeg(picture()))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize("bomb", [bomb_png, bomb_jpeg])
@pytest.mark.parametrize("size", [(60000, 60000), (10001, 10000)])
@pytest.mark.filterwarnings("ignore:Image size")
def test_size_bombs_are_refused_before_decoding(bomb, size, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageError, match="pixels"):
        decode_image(compressed(bomb(*size)))


@SETTINGS
@given(st.data(), st.sampled_from(["jpeg", "png", "deep", "depth"]))
def test_any_truncation_is_an_image_error(data, name):
    depth = picture()[..., 0].astype(np.uint16) * 100
    whole = {
        "jpeg": jpeg(picture()),
        "png": png(picture()),
        "deep": png(depth),
        "depth": struct.pack("<iff", 0, 0, 0) + png(depth),
    }[name]
    cut = data.draw(st.integers(0, len(whole) - 13))  # PNG's last twelve bytes hold no pixels.
    for field in ("observation/image", "observation/depth"):
        with pytest.raises(ImageError):
            decode_frame(compressed(whole[:cut], "16UC1; compressedDepth"), field)


@SETTINGS
@given(st.binary(max_size=200), st.sampled_from(["", "jpeg", "png", "depth"]), st.data())
def test_garbage_is_an_image_error_or_an_image(garbage, start, data):
    depth = struct.pack("<iff", 0, 1, 0) + png(np.full((4, 4), 900, np.uint16))
    head = {"": b"", "jpeg": jpeg(picture()), "png": png(picture()), "depth": depth}[start]
    at = data.draw(st.integers(0, len(head)))
    message = compressed(head[:at] + garbage + head[at + len(garbage) :], "32FC1; compressedDepth")
    try:
        decoded = decode_image(message)
    except ImageError:
        return
    assert start and decoded.dtype in (np.uint8, np.uint16)


@SETTINGS
@given(
    st.sampled_from(sorted(ENCODINGS)),
    st.binary(max_size=64),
    st.integers(0, 40),
    st.integers(0, 40),
    st.integers(0, 200),
    st.integers(0, 255),
)
def test_raw_garbage_is_an_image_error_or_an_image(encoding, data, height, width, step, big_endian):
    message = SimpleNamespace(
        encoding=encoding, height=height, width=width, step=step, is_bigendian=big_endian, data=data
    )
    try:
        decoded = decode_image(message)
    except ImageError as error:
        assert f"step {step}, {len(data)} bytes" in str(error)
        return
    assert decoded.shape[:2] == (height, width)


def test_what_is_no_image_message():
    with pytest.raises(ImageError, match="Received: SimpleNamespace"):
        decode_image(SimpleNamespace(name=["j1"], position=[0.0]))
    with pytest.raises(ValueError, match="kind must be"):
        decode_image(raw(picture(), "rgb8"), kind="color")


def test_depth_is_never_averaged():
    depth = np.array([[100, 100], [60000, 60000]], np.uint16)
    assert set(np.unique(images.resize(depth, (5, 7)))) == {100, 60000}
    assert images.resize(picture(), (6, 8)).shape == (6, 8, 3)
    assert images.resize(depth, None) is depth
