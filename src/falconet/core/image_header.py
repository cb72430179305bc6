"""The header of a picture file: size and orientation without decoding, and whether the file is complete.

JPEG (ITU-T T.81, Annex B), PNG (W3C, section 5), BMP and WebP (RFC 9649); orientation from EXIF (JEITA
CP-3451, tag 0x0112). Of TIFF (revision 6.0), GIF (89a), JPEG 2000 (ISO 15444-1, Annex I), AVIF (ISO 23008-12) and PNM
the size alone is read, see `claimed_size`. Every other format is left to the decoder.
"""

import os
import re
import struct
from dataclasses import dataclass
from typing import BinaryIO, Literal

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
_ORIENTATION_TAG = 0x0112
_NOT_A_FRAME = (0xC4, 0xC8, 0xCC)
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_TAIL = _HEAD = 1 << 16
_DIRECTORIES = 16
"""Pictures of a TIFF that are looked at; the decoder reads the first."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says about its picture.

    Attributes:
        kind: file format.
        height, width: in pixels as stored, before the orientation is applied; 0 where the header leaves it open.
        orientation: EXIF, 1..8; 1 where absent or invalid.
        channels: of the pixels as stored: 1 grey, 3 colour, 4 with alpha (PNG, WebP, BMP) or CMYK (JPEG).
        body: offset of the compressed pixels (JPEG: of the first scan), 0 where it does not matter.
        length: bytes the file must have to be complete, where the header says so, else 0.
        depth: bits per channel.
        progressive: a JPEG whose scans each refine the whole picture.
    """

    kind: Literal["jpeg", "png", "bmp", "webp"]
    height: int
    width: int
    orientation: int = 1
    channels: int = 3
    body: int = 0
    length: int = 0
    depth: int = 8
    progressive: bool = False

    @property
    def displayed(self) -> tuple[int, int]:
        """(height, width) after the orientation is applied: 5..8 swap the sides."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


def read_header(stream: BinaryIO) -> Header | None:
    """The header of the picture in `stream` (read from its start), None where the format or the header is unknown."""
    stream.seek(0)
    start = stream.read(64)
    try:
        if start.startswith(JPEG_SIGNATURE):
            return _jpeg(stream)
        if start.startswith(PNG_SIGNATURE):
            return _png(stream)
        if start.startswith(b"BM"):
            return _bmp(start)
        if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
            return _webp(stream, start)
    except (struct.error, IndexError):
        return None
    return None


def claimed_size(data: bytes) -> tuple[int, int] | None:
    """(pixels, bits per channel) that a TIFF, GIF, JPEG 2000, AVIF or PNM says it has; None for any other file.

    Where a file holds several pictures or tiles, the largest.
    """
    try:
        if data[:4] in (b"II*\0", b"MM\0*"):
            return _tiff(data)
        if data[:6] in (b"GIF87a", b"GIF89a"):
            # Frames are put together with an alpha channel, in a second picture.
            width, height = struct.unpack_from("<HH", data, 6)
            return width * height, 16
        if data[4:8] == b"jP  " or data[4:8] == b"ftyp":
            return _boxed(data)
        if data[:1] == b"P" and data[1:2] in b"1234567" and len(data) > 2:
            numbers = [int(word) for word in re.sub(rb"#[^\n]*", b" ", data[2:512]).split()[:3] if word.isdigit()]
            return (
                (numbers[0] * numbers[1], 16 if len(numbers) > 2 and numbers[2] > 255 else 8)
                if len(numbers) > 1
                else None
            )
    except (struct.error, IndexError):
        return None
    return None


def _tiff(data: bytes) -> tuple[int, int] | None:
    order = "<" if data[:2] == b"II" else ">"
    (place,) = struct.unpack_from(order + "I", data, 4)
    pixels, depth = 0, 8
    for _ in range(_DIRECTORIES):
        if not place:
            break
        (count,) = struct.unpack_from(order + "H", data, place)
        values = {}
        for entry in range(count):
            tag, kind, many = struct.unpack_from(order + "HHI", data, place + 2 + 12 * entry)
            form = {1: "B", 3: "H", 4: "I"}.get(kind)
            if form is None:
                continue
            at = place + 10 + 12 * entry
            if many * struct.calcsize(form) > 4:
                (at,) = struct.unpack_from(order + "I", data, at)
            (values[tag],) = struct.unpack_from(order + form, data, at)
        whole = values.get(256, 0) * values.get(257, 0)
        tile = values.get(322, 0) * values.get(323, 0)
        strip = values.get(256, 0) * min(values.get(278, 0), values.get(257, 0))
        pixels = max(pixels, whole, tile, strip)
        depth = max(depth, values.get(258, 8))
        (place,) = struct.unpack_from(order + "I", data, place + 2 + 12 * count)
    return pixels, depth


def _boxed(data: bytes) -> tuple[int, int] | None:
    """The largest picture among the boxes of a JPEG 2000 (ihdr) or AVIF (ispe) file."""
    sizes = [struct.unpack_from(">II", data, found.end()) for found in re.finditer(rb"ihdr|ispe\0{4}", data[:_HEAD])]
    return max((height * width for height, width in sizes), default=0), 8


def is_complete(stream: BinaryIO, header: Header) -> bool:
    """Whether the end of the picture is there: end-of-image marker, last chunk, or the length in the header.

    Bytes after the end are no fault. The whole file is read only where its tail is not the end marker.
    """
    size = stream.seek(0, os.SEEK_END)
    if header.kind in ("bmp", "webp"):
        return size >= header.length
    marker = b"\xff\xd9" if header.kind == "jpeg" else b"IEND"
    begin = max(header.body, size - _TAIL)
    stream.seek(begin)
    # From the end, where it mostly is.
    if stream.read().rfind(marker) >= 0:
        return True
    stream.seek(header.body)
    return stream.read().rfind(marker) >= 0


def _jpeg(stream: BinaryIO) -> Header | None:
    stream.seek(2)
    height = width = channels = frame = 0
    orientation = 1
    while True:
        byte = stream.read(1)
        while byte and byte != b"\xff":
            byte = stream.read(1)
        while byte == b"\xff":
            byte = stream.read(1)
        if not byte:
            return None
        marker = byte[0]
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            continue
        (length,) = struct.unpack(">H", stream.read(2))
        if marker == 0xDA:
            if not channels:
                return None
            return Header(
                "jpeg", height, width, orientation, channels, body=stream.tell(), progressive=frame in _PROGRESSIVE
            )
        if 0xC0 <= marker <= 0xCF and marker not in _NOT_A_FRAME:
            frame = marker
            _, height, width, channels = struct.unpack(">BHHB", stream.read(6))
            stream.seek(length - 8, os.SEEK_CUR)
        elif marker == 0xE1 and orientation == 1:
            orientation = exif_orientation(stream.read(length - 2).removeprefix(b"Exif\0\0"))
        else:
            stream.seek(length - 2, os.SEEK_CUR)


def _png(stream: BinaryIO) -> Header | None:
    stream.seek(len(PNG_SIGNATURE))
    height = width = channels = depth = 0
    orientation = 1
    while len(prefix := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", prefix)
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", stream.read(10))
            channels = {0: 1, 4: 4, 6: 4}.get(colour, 3)
            stream.seek(length - 10 + 4, os.SEEK_CUR)
        elif kind == b"eXIf":
            orientation = exif_orientation(stream.read(length))
            stream.seek(4, os.SEEK_CUR)
        elif kind == b"IDAT":
            if not channels:
                return None
            return Header("png", height, width, orientation, channels, body=stream.tell(), depth=depth)
        else:
            stream.seek(length + 4, os.SEEK_CUR)
    return None


def _bmp(start: bytes) -> Header | None:
    offset, header_size = struct.unpack_from("<II", start, 10)
    if header_size < 40:
        return None
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", start, 18)
    row = (abs(width) * bits + 31) // 32 * 4
    length = offset + row * abs(height) if compression in (0, 3) else 0
    return Header("bmp", abs(height), abs(width), channels=4 if bits == 32 else 3, length=length)


def _webp(stream: BinaryIO, start: bytes) -> Header | None:
    (riff,) = struct.unpack_from("<I", start, 4)
    kind, orientation, channels = start[12:16], 1, 3
    if kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", start, 26))
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", start, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        channels = 4 if bits >> 28 & 1 else 3
    elif kind == b"VP8X":
        flags = start[20]
        width = int.from_bytes(start[24:27], "little") + 1
        height = int.from_bytes(start[27:30], "little") + 1
        channels = 4 if flags & 0x10 else 3
        orientation = _webp_orientation(stream) if flags & 0x08 else 1
    else:
        return None
    return Header("webp", height, width, orientation, channels, length=riff + 8)


def _webp_orientation(stream: BinaryIO) -> int:
    stream.seek(12)
    while len(prefix := stream.read(8)) == 8:
        kind, length = struct.unpack("<4sI", prefix)
        if kind == b"EXIF":
            return exif_orientation(stream.read(length).removeprefix(b"Exif\0\0"))
        stream.seek(length + length % 2, os.SEEK_CUR)
    return 1


def exif_orientation(tiff: bytes) -> int:
    """The orientation 1..8 in the TIFF structure of EXIF data; 1 where it is absent, broken or out of range."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(count):
            tag, kind = struct.unpack_from(order + "HH", tiff, directory + 2 + 12 * entry)
            if tag == _ORIENTATION_TAG:
                (value,) = struct.unpack_from(order + ("I" if kind == 4 else "H"), tiff, directory + 10 + 12 * entry)
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1
