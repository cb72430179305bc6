"""Pictures from files and memory: uint8 blue-green-red pixels, upright, whole or not at all.

JPEG goes through libjpeg-turbo (simplejpeg), which is faster than OpenCV, can decode at a reduced scale and is
told to treat every warning as an error; everything else, and the rare JPEG it does not take (CMYK, unusual
subsampling), goes through OpenCV. Some cameras write bytes between the end of a scan and its marker, or scan parameters
that baseline JPEG does not use: all pixels are there, and the file is read without these. The EXIF orientation is
applied here in both cases, so results do not depend on the version of OpenCV.

* Grey becomes three equal channels; CMYK becomes colour as OpenCV converts it.
* Alpha is dropped and the stored colour kept, as OpenCV and thereby most trainers do: a transparent pixel shows
  whatever colour the file holds for it.
* 16 bits per channel are scaled to 8 by 255 / 65535, rounded.
"""

import io
import re
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from falconet.core.errors import DataError
from falconet.core.files import regular, replace_file
from falconet.core.image_header import Header, claimed_size, is_complete, read_header
from falconet.core.tar_index import open_member, read_member
from falconet.core.types import Pixels

MAX_PIXELS = 1 << 28
"""A header that claims more (268 megapixels of 8 bits, 800 MB of memory) is an error; of 16 bits half as many."""

MAX_SCANNED = 1 << 32
"""Pixels times scans of a progressive JPEG, each of which goes over all of them: 16 scans of the largest picture."""

WRITABLE = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff"})
"""Endings of pictures that are written, in small letters."""

READABLE = WRITABLE | {
    ".jfif", ".pjpeg", ".pjp", ".mpo", ".gif", ".jp2", ".avif", ".dib", ".ppm", ".pgm", ".pbm", ".pnm"
}  # fmt: skip
"""Endings of files that are taken for pictures in folders; the decoder says whether they are."""

UNREADABLE = frozenset({".heic", ".heif", ".jxl", ".tga", ".psd", ".svg", ".ico", ".raw", ".dng", ".cr2", ".nef"})
"""Endings of pictures that no decoder here reads."""

_JPEG_PIXELS_PER_BYTE = 512
"""A block of 8 x 8 takes at least one bit, so no Huffman-coded JPEG packs more pixels into a byte."""

_LARGE = 1 << 24

_REPAIRS = 4
"""Places with bytes between scan and marker that are looked at in a file; each costs a few decodings."""

_LATE = 100
"""Markers that a place may lie before the one that is reported; fewer in files above 2 MB, as each try decodes."""

_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0x([0-9a-f]{2})")


def read_image(path: Path | str, *, at_least: tuple[int, int] | None = None) -> tuple[Pixels, tuple[int, int]]:
    """The picture in the file `path`, which may go on within a tar (see `falconet.core.tar_index`).

    Args:
        at_least: (height, width) of the picture as displayed. Allows decoding a JPEG at a reduced scale (1/2 at
            most) as long as both sides stay at least that.

    Returns:
        uint8 [H, W, 3], channels blue, green, red, EXIF orientation applied, C-contiguous; and (height, width) of
        the picture at full size.

    Raises:
        DataError: missing, truncated, damaged, absurdly large or not a picture.
    """
    return decode_image(_read_bytes(Path(path)), str(path), at_least=at_least)


def decode_image(data: bytes, name: str, *, at_least: tuple[int, int] | None = None) -> tuple[Pixels, tuple[int, int]]:
    """The picture in the bytes of a file; `name` stands for the file in messages. As `read_image`."""
    stream = io.BytesIO(data)
    header = read_header(stream)
    if header is None:
        _check_size(*(claimed_size(data) or (0, 8)), name)
        pixels = _decode_with_opencv(data, name)
        return pixels, (pixels.shape[0], pixels.shape[1])
    _check(stream, header, len(data), name)
    if header.progressive:
        scans = data.count(b"\xff\xda")
        if scans * header.height * header.width > MAX_SCANNED:
            most = MAX_SCANNED // (header.height * header.width)
            raise DataError(
                f"{name}: has {scans} scans of {header.width} x {header.height} pixels; expected at most {most}: the "
                "file is damaged, or made to keep a decoder busy"
            )
    image: Pixels | None = None
    if header.kind == "jpeg" and header.channels in (1, 3):
        image = _decode_with_simplejpeg(data, name, _stored_order(at_least, header))
    if image is None:
        image = _decode_with_opencv(data, name)
    image = _upright(image, header.orientation)
    full = header.displayed if min(header.displayed) > 0 else image.shape[:2]
    return image, (full[0], full[1])


def image_size(path: Path | str) -> tuple[int, int]:
    """(height, width) of the picture in `path` as displayed, from its header where the format allows it.

    Raises:
        DataError: missing, or not a picture. A truncated file is not noticed here, see `check_complete`.
    """
    with _open(Path(path)) as stream:
        header = read_header(stream)
        if header is not None and min(header.displayed) > 0:
            _check_claim(header, None, str(path))
            return header.displayed
        stream.seek(0)
        return decode_image(stream.read(), str(path))[1]


def orientation(path: Path | str) -> int:
    """The EXIF orientation of a picture, 1 to 8; 1 where there is none, or the file cannot be read.

    1 is upright; 5 to 8 swap the sides when it is applied.
    """
    try:
        with _open(Path(path)) as stream:
            header = read_header(stream)
    except DataError:
        return 1
    return 1 if header is None else header.orientation


def check_complete(path: Path | str) -> tuple[int, int]:
    """(height, width) as `image_size`, after a cheap look whether the end of the file is there.

    Raises:
        DataError: missing, truncated or not a picture. Damage in the middle is only found by `read_image`.
    """
    with _open(Path(path)) as stream:
        header = read_header(stream)
        if header is not None and min(header.displayed) > 0:
            _check(stream, header, None, str(path))
            return header.displayed
        stream.seek(0)
        return decode_image(stream.read(), str(path))[1]


def encode_image(image: Pixels, suffix: str, *, jpeg_quality: int = 95) -> bytes:
    """The bytes of a file of the format that belongs to `suffix` (".jpg", ".png", ...).

    Raises:
        DataError: OpenCV knows no format for `suffix`.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"image must be uint8 [H, W, 3], but got {image.dtype} {list(image.shape)}")
    options = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality] if suffix.lower() in (".jpg", ".jpeg", ".jpe") else []
    try:
        done, data = cv2.imencode(suffix, image, options)
    except cv2.error:
        done = False
    if not done:
        raise DataError(f"pictures cannot be written as '{suffix}'; expected one of {_endings(WRITABLE)}")
    return data.tobytes()


def write_image(path: Path | str, image: Pixels, *, jpeg_quality: int = 95) -> None:
    """Write uint8 [H, W, 3] blue-green-red to `path`, in the format of its ending; folders are created.

    Raises:
        DataError: unknown ending, or the file cannot be written (nothing half-written is left).
    """
    path = Path(path)
    if path.suffix.lower() not in WRITABLE:
        raise DataError(f"{path}: unknown picture format '{path.suffix}'; expected one of {_endings(WRITABLE)}")
    replace_file(path, encode_image(image, path.suffix, jpeg_quality=jpeg_quality))


def is_picture(path: Path) -> bool:
    """Whether the ending is one of pictures that are read."""
    return path.suffix.lower() in READABLE


def is_any_picture(path: Path) -> bool:
    """Whether the ending is a picture's, also one that cannot be read."""
    return path.suffix.lower() in READABLE | UNREADABLE


def _endings(suffixes: frozenset[str]) -> str:
    return ", ".join(sorted(suffixes))


def _open(path: Path) -> BinaryIO:
    try:
        return open_member(path) or regular(path).open("rb")
    except (OSError, ValueError) as error:
        raise DataError(_cannot_read(path, error)) from error


def _read_bytes(path: Path) -> bytes:
    try:
        data = read_member(path)
        return regular(path).read_bytes() if data is None else data
    except (OSError, ValueError) as error:
        raise DataError(_cannot_read(path, error)) from error


def _cannot_read(path: Path, error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{path}: no such picture file"
    if isinstance(error, ValueError):  # a NUL, or half of a character
        return f"{str(path)[:200]!a}: no file can have this name ({error})"
    if isinstance(error, IsADirectoryError | PermissionError) and path.is_dir():
        return f"{path}: is a folder; expected a picture file"
    return f"{path}: cannot be read: {error.strerror or error}"


def _check(stream: BinaryIO, header: Header, size: int | None, name: str) -> None:
    _check_claim(header, size, name)
    if not is_complete(stream, header):
        end = {"jpeg": "end-of-image marker", "png": "last chunk (IEND)"}.get(header.kind, "last bytes")
        raise DataError(
            f"{name}: the {header.kind.upper()} is truncated, its {end} is missing; copy or download it again"
        )


def _check_claim(header: Header, size: int | None, name: str) -> None:
    pixels = header.height * header.width
    _check_size(pixels, header.depth, name, f"{header.width} x {header.height} pixels")
    if size is not None and header.kind == "jpeg" and pixels > max(_LARGE, size * _JPEG_PIXELS_PER_BYTE):
        raise DataError(
            f"{name}: claims {header.width} x {header.height} pixels in {size} bytes, which no JPEG can hold; "
            "the file is damaged"
        )


def _check_size(pixels: int, depth: int, name: str, what: str = "") -> None:
    """Raise DataError where so many pixels of so many bits a channel take more memory than any picture may."""
    most = MAX_PIXELS // max(1, depth // 8)
    if pixels > most:
        claim = (what or f"{pixels // 10**6} megapixels") + (f" of {depth} bits" if depth > 8 else "")
        raise DataError(
            f"{name}: claims {claim}; expected at most {most // 10**6} megapixels: the file is damaged, or must be cut "
            "into tiles"
        )


def _stored_order(at_least: tuple[int, int] | None, header: Header) -> tuple[int, int]:
    """`at_least` in the axes of the picture as stored; (0, 0) means no reduction wanted."""
    if at_least is None:
        return (0, 0)
    height, width = (max(1, side) for side in at_least)
    return (width, height) if header.orientation >= 5 else (height, width)


def _decode_with_simplejpeg(data: bytes, name: str, at_least: tuple[int, int]) -> Pixels | None:
    """Pixels as stored; None where libjpeg-turbo's simple interface does not take this kind of JPEG."""
    height, width = at_least
    reduce = {"min_height": height, "min_width": width, "min_factor": 2} if height else {}
    try:
        image: Pixels = simplejpeg.decode_jpeg(data, "BGR", **reduce)
    except ValueError as error:
        message = str(error)
        if "subsampling" in message or "nsupported" in message:
            return None
        body = read_header(io.BytesIO(data))
        cleaned = None if body is None else _without_faults(data, body.body, message)
        if cleaned is not None:
            return np.asarray(simplejpeg.decode_jpeg(cleaned, "BGR", **reduce))
        raise DataError(f"{name}: the JPEG is damaged ({message.strip()}); copy or download it again") from error
    return image


def _without_faults(data: bytes, body: int, message: str) -> bytes | None:
    """The JPEG without what the decoder only skips; None where pixels are missing, or may be.

    The decoder reports the first fault alone, so each is taken out, and the rest decoded again, until none is left.

    Args:
        body: offset of the first scan.
        message: of the decoder, which says the first fault.
    """
    for _ in range(_REPAIRS):
        if "Invalid SOS parameters for sequential JPEG" in message:
            cleaned: bytes | None = _with_plain_scans(data)
        elif found := _EXTRANEOUS.search(message):
            cleaned = _without_skipped(data, body, int(found[1]), int(found[2], 16), message)
        else:
            return None
        if cleaned is None or cleaned == data:
            return None
        data, message = cleaned, _fault(cleaned)
        if not message:
            return data
    return None


def _fault(data: bytes) -> str:
    """The first fault of a JPEG; empty where there is none."""
    try:
        simplejpeg.decode_jpeg(data, "BGR", min_height=1, min_width=1, min_factor=8)
    except ValueError as error:
        return str(error)
    return ""


def _with_plain_scans(data: bytes) -> bytes:
    """The JPEG with the parameters 0, 63, 0 in its scans: a sequential JPEG has no others (T.81, table B.3)."""

    def plain(scan: re.Match[bytes]) -> bytes:
        return scan[0][:-3] + b"\0\x3f\0" if scan[0][3] == 6 + 2 * scan[0][4] else scan[0]

    heads = (rb"\xff\xda\0[\s\S]%c[\s\S]{%d}" % (count, 2 * count + 3) for count in (1, 2, 3))
    return re.sub(b"|".join(heads), plain, data)


def _without_skipped(data: bytes, body: int, count: int, marker: int, message: str) -> bytes | None:
    """The JPEG without the `count` bytes that the decoder skipped before a marker; None where there is no such place.

    Of several such markers it is the first with which a file that ends there has the same fault. What the decoder had
    read ahead, it reports a few markers late. Bytes that hold pixels cannot be meant: without them a segment is too
    short, which is another fault.
    """
    ends = [body + found.start() for found in re.finditer(rb"\xff[\xd0-\xd7\xd9]", data[body:])]
    places = [index for index, end in enumerate(ends) if data[end + 1] == marker]
    low, high = 0, len(places) - 1
    while low < high:
        middle = (low + high) // 2
        if _fault(data[: ends[places[middle]] + 2] + b"\xff\xd9") == message:
            high = middle
        else:
            low = middle + 1
    header = read_header(io.BytesIO(data))
    pixels = 1 if header is None else max(1, header.height * header.width)
    tries = max(1, min(_LATE, 2 * 10**8 // len(data), 2 * 10**9 // pixels))
    for index in range(places[low] if places else -1, -1, -1)[:tries]:
        cleaned = data[: ends[index] - count] + data[ends[index] :]
        if "premature" not in (fault := _fault(cleaned)).lower() and fault != message:
            return cleaned
    return None


def _decode_with_opencv(data: bytes, name: str) -> Pixels:
    if not data:
        raise DataError(f"{name}: is empty; expected a picture")
    if (ending := Path(name).suffix.lower()) in UNREADABLE:
        raise DataError(f"{name}: pictures ending in {ending} cannot be read here; convert it to .jpg or .png")
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise DataError(f"{name}: cannot be decoded ({error.err})") from error
    if image is None:
        raise DataError(
            f"{name}: is not a picture that can be read, or is damaged; expected one of {_endings(READABLE)}"
        )
    if image.dtype == np.uint16:
        return _to_eight_bits(image)
    if image.dtype != np.uint8:
        raise DataError(f"{name}: holds {image.dtype} numbers per channel; expected 8 or 16 bits")
    return np.asarray(image, np.uint8)


def _to_eight_bits(image: NDArray[Any]) -> Pixels:
    """Scaled by 255 / 65535 and rounded; some rows at a time, as the sums need more bits."""
    result = np.empty(image.shape, np.uint8)
    rows = max(1, _LARGE // max(1, image[0].size))
    for start in range(0, len(image), rows):
        part = slice(start, start + rows)
        # 257 = 65535 / 255; adding half of it rounds.
        result[part] = (image[part].astype(np.uint32) + 128) // 257
    return result


def _upright(image: Pixels, orientation: int) -> Pixels:
    """The picture as displayed: EXIF 1 as it is, 2 mirrored, 3 half turn, ... 8 a quarter turn to the left."""
    if orientation == 1:
        return image
    if orientation in (5, 6, 7, 8):
        image = np.transpose(image, (1, 0, 2))
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)
