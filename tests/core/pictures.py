"""Picture files with properties that OpenCV does not write: orientations, broken claims."""

import struct
import zlib

import cv2
import numpy as np

from falconet.core.types import Pixels


def smooth(height: int, width: int) -> Pixels:
    """A picture without symmetry that JPEG keeps well: uint8 [height, width, 3]."""
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    return np.stack([40 + 150 * rows, 30 + 180 * columns, 230 - 120 * rows * columns], -1).astype(np.uint8)


def encode(image: Pixels, suffix: str, quality: int = 95) -> bytes:
    done, data = cv2.imencode(suffix, image, [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == ".jpg" else [])
    assert done
    return data.tobytes()


def exif(orientation: int, order: str = "<") -> bytes:
    """EXIF data that holds nothing but the orientation."""
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def jpeg_with_exif(jpeg: bytes, data: bytes) -> bytes:
    body = b"Exif\0\0" + data
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with_exif(png: bytes, data: bytes) -> bytes:
    return png[:33] + png_chunk(b"eXIf", data) + png[33:]


def webp_with_exif(webp: bytes, data: bytes, height: int, width: int) -> bytes:
    """A simple WebP file in the extended container with an EXIF chunk."""
    canvas = bytes([0x08, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + canvas + webp[12:]
    body += b"EXIF" + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body
