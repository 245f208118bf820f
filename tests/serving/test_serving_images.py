import base64
import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from serving_testing import png

from serving import images
from serving.client import encode_image
from serving.errors import ApiError

LIMIT = 1 << 20


def _bytes(array: np.ndarray, kind: str, mode: str | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array, mode=mode).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})])
def test_lossless_formats_give_the_same_pixels(pixels: np.ndarray, kind: str, options: dict) -> None:
    decoded = images.decode_image(_bytes(pixels, kind, **options), LIMIT)
    np.testing.assert_array_equal(decoded, pixels)
    assert decoded.dtype == np.uint8
    assert decoded.flags.writeable


def test_jpeg_is_read() -> None:
    decoded = images.decode_image(_bytes(np.full((16, 8, 3), 200, np.uint8), "JPEG", quality=95), LIMIT)
    assert decoded.shape == (16, 8, 3)
    assert np.abs(decoded.astype(int) - 200).max() <= 2


def test_alpha_is_dropped_and_gray_becomes_rgb(pixels: np.ndarray) -> None:
    alpha = np.concatenate([pixels, np.full((5, 7, 1), 3, np.uint8)], axis=-1)
    np.testing.assert_array_equal(images.decode_image(_bytes(alpha, "PNG"), LIMIT), pixels)
    gray = images.decode_image(_bytes(pixels[..., 0], "PNG"), LIMIT)
    np.testing.assert_array_equal(gray, np.repeat(pixels[..., :1], 3, axis=-1))


def test_exif_orientation_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # Rotated by 90 degrees.
    buffer = io.BytesIO()
    Image.new("RGB", (16, 8)).save(buffer, "JPEG", exif=exif)
    assert images.decode_image(buffer.getvalue(), LIMIT).shape == (8, 16, 3)


def test_sixteen_bits_are_refused_not_clipped() -> None:
    deep = _bytes(np.full((4, 4), 30000, np.uint16), "PNG")
    with pytest.raises(ApiError) as caught:
        images.decode_image(deep, LIMIT)
    assert (caught.value.status, caught.value.field) == (415, "image")


def test_decompression_bomb_is_refused_by_its_header() -> None:
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n"
    for name, data in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")):
        bomb += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ApiError) as caught:
            images.decode_image(bomb, LIMIT)
    assert (caught.value.status, caught.value.code) == (413, "image_too_large")


def test_pixel_limit_is_exact() -> None:
    assert images.decode_image(png(size=(10, 10)), 100).shape == (10, 10, 3)
    with pytest.raises(ApiError, match="99 pixels"):
        images.decode_image(png(size=(10, 10)), 99)


def test_other_formats_are_refused() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "TIFF")
    for data in (buffer.getvalue(), b"not an image", b""):
        with pytest.raises(ApiError) as caught:
            images.decode_image(data, LIMIT)
        assert caught.value.status == 415


@given(st.binary(max_size=200), st.integers(0, 80))
def test_damaged_images_are_refused_or_read(junk: bytes, keep: int) -> None:
    try:
        decoded = images.decode_image(png()[:keep] + junk, LIMIT)
    except ApiError as error:
        assert error.status in (413, 415, 422)
    else:
        assert decoded.ndim == 3


def test_base64_with_prefix_and_line_breaks() -> None:
    data = png()
    text = "data:image/png;base64," + base64.encodebytes(data).decode()
    assert images.decode_base64(text, LIMIT) == data


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ("", 422, "missing_image"),
        ("data:image/png;base64,", 422, "missing_image"),
        ("a", 422, "invalid_base64"),
        ("!!!!", 422, "invalid_base64"),
        ("héé=", 422, "invalid_base64"),
        ("AAAA" * 100, 413, "image_too_large"),
    ],
)
def test_bad_base64(text: str, status: int, code: str) -> None:
    with pytest.raises(ApiError) as caught:
        images.decode_base64(text, 100)
    assert (caught.value.status, caught.value.code, caught.value.field) == (status, code, "image")


@given(st.binary(min_size=1, max_size=300))
def test_byte_limit_is_exact(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    assert images.decode_base64(text, len(data)) == data
    with pytest.raises(ApiError) as caught:
        images.decode_base64(text, len(data) - 1)
    assert caught.value.status == 413


def test_the_clients_own_png_writer(pixels: np.ndarray) -> None:
    for array in (pixels, pixels[:, ::2]):
        data = images.decode_base64(encode_image(array), LIMIT)
        np.testing.assert_array_equal(images.decode_image(data, LIMIT), array)
    with pytest.raises(ValueError, match="uint8"):
        encode_image(pixels.astype(np.float32))
    with pytest.raises(ValueError, match="Received: int"):
        encode_image(3)
