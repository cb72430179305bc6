"""Reading pictures: every kind that occurs, upright, whole or refused with the file named."""

import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st

from falconet.core import images
from falconet.core.errors import DataError
from falconet.core.image_header import PNG_SIGNATURE, claimed_size, exif_orientation
from falconet.core.images import check_complete, decode_image, image_size, read_image, write_image
from falconet.core.types import Pixels
from tests.core.pictures import (
    encode,
    exif,
    jpeg_with_exif,
    png_chunk,
    png_with_exif,
    smooth,
    webp_with_exif,
)

UPRIGHT = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).transpose(1, 0, 2),
    8: lambda image: np.rot90(image),
}
"""What EXIF says must be done to the stored picture, by JEITA CP-3451, table 6."""


def _difference(first: Pixels, second: Pixels) -> float:
    assert first.shape == second.shape
    return float(np.abs(first.astype(int) - second.astype(int)).mean())


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff"])
def test_lossless_formats_come_back_as_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_image(path, smooth(30, 47))
    image, size = read_image(path)
    np.testing.assert_array_equal(image, smooth(30, 47))
    assert size == (30, 47) == image_size(path) == check_complete(path)


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy_formats_come_back_nearly(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_image(path, smooth(64, 50))
    image, size = read_image(str(path))
    assert _difference(image, smooth(64, 50)) < 2
    assert size == (64, 50) == image_size(path) == check_complete(path)


@pytest.mark.parametrize("size", [(64, 64), (33, 57), (1, 1), (7, 200)])
def test_both_decoders_agree(size: tuple[int, int]) -> None:
    data = encode(smooth(*size), ".jpg")
    fast, _ = decode_image(data, "a.jpg")
    assert _difference(fast, images._decode_with_opencv(data, "a.jpg")) < 1


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_of_jpeg(tmp_path: Path, orientation: int, order: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg_with_exif(encode(smooth(40, 64), ".jpg"), exif(orientation, order)))
    image, size = read_image(path)
    assert _difference(image, UPRIGHT[orientation](smooth(40, 64))) < 2
    assert _difference(image, cv2.imread(str(path))) < 1
    assert size == image.shape[:2] == image_size(path) == check_complete(path)
    assert image.flags.c_contiguous


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_exif_orientation_of_png_and_webp(tmp_path: Path, orientation: int) -> None:
    stored = smooth(40, 64)
    png = png_with_exif(encode(stored, ".png"), exif(orientation))
    webp = webp_with_exif(encode(stored, ".webp"), exif(orientation), 40, 64)
    for name, data in (("a.png", png), ("a.webp", webp)):
        (tmp_path / name).write_bytes(data)
        image, size = read_image(tmp_path / name)
        assert _difference(image, UPRIGHT[orientation](stored)) < 4
        assert size == image.shape[:2] == image_size(tmp_path / name)


@pytest.mark.parametrize("data", [b"", b"II*\0", b"MM\0*\xff\xff\xff\xff", exif(0), exif(9), exif(6)[:12]])
def test_broken_exif_means_upright(data: bytes) -> None:
    assert exif_orientation(data) == 1
    jpeg = encode(smooth(20, 30), ".jpg")
    image, _ = decode_image(jpeg_with_exif(jpeg, data), "a.jpg")
    assert image.shape == (20, 30, 3)


@given(st.binary(max_size=80))
def test_any_exif_gives_an_orientation(data: bytes) -> None:
    assert 1 <= exif_orientation(b"II*\0" + data) <= 8


def test_grey_becomes_three_equal_channels() -> None:
    grey = smooth(20, 30)[..., 0]
    for suffix in (".png", ".jpg"):
        image, _ = decode_image(encode(grey, suffix), "grey")
        assert image.shape == (20, 30, 3)
        assert (image[..., 0] == image[..., 2]).all()
        assert _difference(image[..., :1], grey[..., None]) < 2


def test_alpha_is_dropped_and_the_stored_colour_kept() -> None:
    colour = smooth(20, 30)
    transparent = np.dstack([colour, np.zeros((20, 30), np.uint8)])
    image, _ = decode_image(encode(transparent, ".png"), "alpha.png")
    np.testing.assert_array_equal(image, colour)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_scaled_and_rounded(suffix: str, channels: int) -> None:
    values = np.array([[0, 128, 129, 256, 32767, 65535]], np.uint16)
    image, _ = decode_image(encode(np.repeat(values[..., None], channels, 2), suffix), "deep")
    np.testing.assert_array_equal(image[0, :, 0], np.rint(values[0] / 257))
    assert image.dtype == np.uint8
    assert image.shape == (1, 6, 3)


def test_float_pixels_are_refused() -> None:
    data = encode(np.ones((4, 4, 3), np.float32), ".tiff")
    with pytest.raises(DataError, match=r"^a\.tiff: holds float32 numbers per channel; expected 8 or 16 bits$"):
        decode_image(data, "a.tiff")


def test_cmyk_jpeg_is_read_in_colour() -> None:
    # simplejpeg writes inverted CMYK, as Photoshop does: 255 means no ink.
    ink = np.full((16, 24, 4), 255, np.uint8)
    ink[:, 12:, :2] = 0
    data = simplejpeg.encode_jpeg(ink, quality=95, colorspace="CMYK")
    image, size = decode_image(data, "cmyk.jpg")
    assert size == (16, 24)
    assert image[8, 4].min() > 250
    blue, green, red = image[8, 20].tolist()
    assert blue > 200
    assert max(green, red) < 60


def test_a_jpeg_that_libjpeg_turbo_does_not_take_goes_to_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    data = jpeg_with_exif(encode(smooth(32, 48), ".jpg"), exif(6))
    expected, _ = decode_image(data, "a.jpg")

    def refuse(*_: object, **__: object) -> Pixels:
        raise ValueError("tjDecompressHeader3(): Could not determine subsampling level of JPEG image")

    monkeypatch.setattr(simplejpeg, "decode_jpeg", refuse)
    image, size = decode_image(data, "a.jpg", at_least=(10, 10))
    assert size == (48, 32)
    assert _difference(image, expected) < 1


def test_reduced_scale(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    write_image(path, smooth(480, 640))
    image, size = read_image(path, at_least=(200, 300))
    assert size == (480, 640)
    assert image.shape[:2] == (240, 320)
    whole, _ = read_image(path)
    assert _difference(image, cv2.resize(whole, (320, 240), interpolation=cv2.INTER_AREA)) < 2


@given(
    height=st.integers(1, 200),
    width=st.integers(1, 200),
    at_least=st.tuples(st.integers(0, 250), st.integers(0, 250)),
    orientation=st.integers(1, 8),
)
def test_reduced_scale_keeps_both_sides(height: int, width: int, at_least: tuple[int, int], orientation: int) -> None:
    data = jpeg_with_exif(encode(smooth(height, width), ".jpg"), exif(orientation))
    image, size = decode_image(data, "a.jpg", at_least=at_least)
    assert size == ((width, height) if orientation >= 5 else (height, width))
    for side, wanted, full in zip(image.shape[:2], at_least, size, strict=True):
        assert min(wanted, full) <= side <= full


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
@pytest.mark.parametrize("share", [0.99, 0.5, 0.2])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    data = encode(noise, suffix)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data[: int(len(data) * share)])
    for read in (read_image, check_complete):
        with pytest.raises(DataError, match=r"is truncated, its .* missing; copy or download it again") as error:
            read(path)
        assert str(error.value).startswith(f"{path}: the ")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
@pytest.mark.parametrize("rest", [b"\0" * 100, b"garbage" * 20_000])
def test_bytes_after_the_end_are_no_fault(tmp_path: Path, suffix: str, rest: bytes) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encode(smooth(30, 40), suffix) + rest)
    assert read_image(path)[1] == (30, 40) == check_complete(path)


def test_jpeg_without_its_middle_is_damaged() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    data = encode(noise, ".jpg")
    cut = data[: len(data) // 2] + data[-2:]
    with pytest.raises(DataError, match=r"^a\.jpg: the JPEG is damaged \(.*\); copy or download it again$"):
        decode_image(cut, "a.jpg")


def scan(data: bytes) -> int:
    """Where the compressed pixels of a JPEG begin."""
    place = data.index(b"\xff\xda")
    return place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")


def with_restarts(image: Pixels) -> bytes:
    """A JPEG with a restart marker after every eight blocks of 16 x 16."""
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_RST_INTERVAL, 8])
    assert done
    return data.tobytes()


@pytest.mark.parametrize("count", [2, 10, 300])
def test_bytes_between_scan_and_marker_are_skipped(count: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 128, 3), np.uint8)
    whole = with_restarts(noise)
    expected, _ = decode_image(whole, "a.jpg")
    markers = [m.start() for m in re.finditer(rb"\xff[\xd0-\xd7\xd9]", whole[scan(whole) :])]
    assert len(markers) > 8  # so that a marker comes twice
    # Of a few bytes the decoder reports the sum, so only one such place can be told.
    for places in ([len(markers) - 1], [9], [0, 4, 9])[: 2 if count == 2 else 3]:
        data = whole
        for place in reversed(places):
            at = scan(whole) + markers[place]
            data = data[:at] + b"\x55" * count + data[at:]
        image, size = decode_image(data, "a.jpg")
        np.testing.assert_array_equal(image, expected)
        assert size == (200, 128)
        reduced, _ = decode_image(data, "a.jpg", at_least=(40, 40))
        np.testing.assert_array_equal(reduced, decode_image(whole, "a.jpg", at_least=(40, 40))[0])


def test_extraneous_bytes_do_not_hide_missing_pixels() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 128, 3), np.uint8)
    whole = with_restarts(noise)
    markers = [scan(whole) + m.start() for m in re.finditer(rb"\xff[\xd0-\xd7]", whole[scan(whole) :])]
    early, late = markers[1], markers[6]
    data = whole[:early] + b"\x55" * 50 + whole[early : late - 40] + whole[late:]
    with pytest.raises(DataError, match=r"^a\.jpg: the JPEG is damaged \(.*\); copy or download it again$"):
        decode_image(data, "a.jpg")


def test_scan_parameters_that_baseline_has_no_use_for() -> None:
    whole = encode(np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8), ".jpg")
    expected, _ = decode_image(whole, "a.jpg")
    odd = bytearray(whole)
    odd[scan(whole) - 3 : scan(whole)] = b"\x01\x05\x10"
    np.testing.assert_array_equal(decode_image(bytes(odd), "a.jpg")[0], expected)
    cut = bytes(odd[: len(odd) // 2]) + whole[-2:]
    with pytest.raises(DataError, match=r"the JPEG is damaged \("):
        decode_image(cut, "a.jpg")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x" * 5000 + ".jpg", "cannot be read: File name too long"),
        ("a\0b.jpg", "'a\\x00b.jpg': no file can have this name (embedded null byte)"),
        ("a\ud800.jpg", "'a\\ud800.jpg': no file can have this name ("),
    ],
)
def test_names_that_no_file_can_have(name: str, message: str) -> None:
    for read in (read_image, image_size, check_complete):
        with pytest.raises(DataError) as error:
            read(name)
        assert message in str(error.value)


def test_kinds_that_are_not_read_are_called_by_their_name() -> None:
    with pytest.raises(DataError) as error:
        decode_image(b"\0\0\0\x18ftypheic", "a.HEIC")
    assert str(error.value) == "a.HEIC: pictures ending in .heic cannot be read here; convert it to .jpg or .png"


def test_png_with_a_wrong_checksum_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(encode(smooth(30, 40), ".png"))
    data[data.index(b"IDAT") + 30] ^= 0xFF
    with pytest.raises(DataError, match=r"^a\.png: is not a picture that can be read, or is damaged"):
        decode_image(bytes(data), "a.png")
    capfd.readouterr()


def test_absurd_claims_are_refused_before_decoding() -> None:
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    png = PNG_SIGNATURE + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b"0")) + png_chunk(b"IEND", b"")
    with pytest.raises(DataError, match=r"^a\.png: claims 100000 x 100000 pixels; expected at most 268 megapixels"):
        decode_image(png, "a.png")
    jpeg = bytearray(encode(smooth(16, 16), ".jpg"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 16_000, 16_000)
    with pytest.raises(DataError, match=r"claims 16000 x 16000 pixels in \d+ bytes, which no JPEG can hold"):
        decode_image(bytes(jpeg), "a.jpg")


def _tiff(*entries: tuple[int, int, int]) -> bytes:
    """A little-endian TIFF of (tag, type, value) and nothing else."""
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + struct.pack("<I", 0)


SIXTEEN = struct.pack(">IIBBBBB", 16_384, 16_384, 16, 2, 0, 0, 0)
SIXTEEN_BITS = PNG_SIGNATURE + png_chunk(b"IHDR", SIXTEEN) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "claim"),
    [
        (SIXTEEN_BITS, "16384 x 16384 pixels of 16 bits; expected at most 134 megapixels"),
        (_tiff((256, 4, 60_000), (257, 4, 60_000)), "3600 megapixels; expected at most 268"),
        (
            _tiff((256, 4, 64), (257, 4, 64), (322, 4, 60_000), (323, 4, 60_000)),
            "3600 megapixels; expected at most 268",
        ),
        (_tiff((256, 4, 10_000), (257, 4, 10_000), (258, 3, 32)), "100 megapixels of 32 bits; expected at most 67"),
        (b"GIF89a" + struct.pack("<HHBBB", 20_000, 20_000, 0, 0, 0), "400 megapixels of 16 bits; expected at most 134"),
        (b"P6\n# made\n40000 40000\n255\n", "1600 megapixels; expected at most 268"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0\0\0\x16ihdr" + struct.pack(">II", 50_000, 50_000), "2500 megapixels"),
        (b"\0\0\0\x18ftypavif" + b"\0\0\0\x14ispe\0\0\0\0" + struct.pack(">II", 50_000, 50_000), "2500 megapixels"),
    ],
    ids=["png", "tiff", "tiles", "deep tiff", "gif", "ppm", "jp2", "avif"],
)
def test_bombs_of_every_format_are_refused_before_decoding(data: bytes, claim: str, monkeypatch) -> None:
    monkeypatch.setattr(images.cv2, "imdecode", None)  # whoever calls it fails
    with pytest.raises(DataError, match=rf"^a\.img: claims {claim}.* or must be cut into tiles"):
        decode_image(data, "a.img")


@pytest.mark.parametrize("suffix", [".tiff", ".gif", ".ppm", ".jp2", ".avif"])
def test_sizes_of_formats_whose_header_is_read_for_the_size_alone(suffix: str) -> None:
    if not cv2.haveImageWriter(f"a{suffix}"):
        pytest.skip(f"this OpenCV writes no {suffix}")
    assert claimed_size(encode(smooth(120, 160), suffix))[0] == 19_200


def test_scans_that_only_keep_a_decoder_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    data = cv2.imencode(".jpg", smooth(64, 64), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    assert decode_image(data, "a.jpg")[1] == (64, 64)
    scans = data.count(b"\xff\xda")
    assert scans > 3
    monkeypatch.setattr(images, "MAX_SCANNED", 64 * 64 * scans - 1)
    with pytest.raises(DataError, match=rf"a\.jpg: has {scans} scans of 64 x 64 pixels; expected at most {scans - 1}:"):
        decode_image(data, "a.jpg")


def test_sixteen_bits_need_no_more_memory_than_eight_and_sixteen() -> None:
    """In a process of its own: the largest amount of memory held, beside that of the pixels themselves."""
    code = (
        "import resource, sys, numpy as np, cv2; from falconet.core.images import _to_eight_bits\n"
        "image = np.full((4000, 4000, 3), 65535, np.uint16)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert (_to_eight_bits(image)[::999] == 255).all()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    grown = int(done.stdout) / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    assert grown < 2.5 * 4000 * 4000 * 3 / 2**20 + 200, "megabytes"


def test_messages_for_what_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    for read in (read_image, image_size, check_complete):
        with pytest.raises(DataError, match=r"a\.jpg: no such picture file$"):
            read(path)
    path.write_text("hello")
    for read in (read_image, image_size, check_complete):
        with pytest.raises(DataError, match=r"a\.jpg: is not a picture that can be read, or is damaged; expected"):
            read(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.jpg: is empty; expected a picture"):
        read_image(path)
    with pytest.raises(DataError, match=r"is a folder; expected a picture file|cannot be read"):
        read_image(tmp_path)


def test_a_png_under_the_name_of_a_jpeg_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encode(smooth(20, 30), ".png"))
    np.testing.assert_array_equal(read_image(path)[0], smooth(20, 30))


def test_names_outside_ascii(tmp_path: Path) -> None:
    path = tmp_path / "Äpfel 苹果" / "früh 🍎.jpg"
    write_image(path, smooth(20, 30))
    assert read_image(path)[1] == (20, 30) == image_size(path)


@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8\xff", PNG_SIGNATURE, b"BM", b"RIFF\0\0\0\0WEBP"]))
def test_any_bytes_are_a_picture_or_an_error(data: bytes, start: bytes) -> None:
    message = ""
    try:
        image, size = decode_image(start + data, "any")
    except DataError as error:
        message = str(error)
    assert message.startswith("any: ") if message else image.shape == (*size, 3)


def test_write_image_refuses_an_unknown_ending(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.xyz: unknown picture format '\.xyz'; expected one of \.bmp, \.jpe, "):
        write_image(tmp_path / "a.xyz", smooth(4, 4))
    assert list(tmp_path.iterdir()) == []


def test_write_image_leaves_nothing_half_written(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(DataError, match=r"a\.png: cannot be written"):
        write_image(tmp_path / "a.png", smooth(4, 4))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3))])
def test_write_image_takes_colour_pixels_only(tmp_path: Path, image: Pixels) -> None:
    with pytest.raises(ValueError, match=r"image must be uint8 \[H, W, 3\], but got"):
        write_image(tmp_path / "a.png", image)
