"""What a picture's header says, before any of its pixels is decoded."""

import io

from falconet.core.image_header import claimed_size, read_header
from falconet.serving.body import Upload
from falconet.serving.limits import Limits
from falconet.serving.problems import Problem

MOST_SCANS = 12
"""Of a progressive JPEG of the most pixels; encoders write ten. Each goes over all pixels, so a smaller picture may
have as many more as it is smaller."""


def check_header(upload: Upload, place: int, limits: Limits) -> int:
    """The pixels of a picture, as its header says.

    Args:
        place: of the picture in its request, from 0.

    Raises:
        Problem: it has too many, does not say how many, or is no picture.
    """
    name = upload.file or "the picture"
    if not upload.data:
        raise Problem("no-picture", f"{name}: is empty; expected the bytes of a picture", picture=place)
    header = read_header(io.BytesIO(upload.data))
    pixels = (claimed_size(upload.data) or (0, 8))[0] if header is None else header.height * header.width
    if pixels <= 0:
        raise Problem(
            "bad-picture",
            f"{name}: is no picture whose header says its size; expected JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or JPEG "
            "2000",
            picture=place,
        )
    if pixels > limits.pixels:
        size = f"{header.width} x {header.height} pixels" if header else f"{pixels / 10**6:.0f} megapixels"
        raise Problem(
            "too-many-pixels",
            f"{name}: its header says {size}; expected at most {limits.pixels / 10**6:g} megapixels: make it smaller, "
            "or start the service with a larger --max-pixels",
            picture=place,
        )
    if header is not None and header.progressive:
        scans = upload.data.count(b"\xff\xda")
        if scans * pixels > MOST_SCANS * limits.pixels:
            raise Problem(
                "too-many-pixels",
                f"{name}: is a JPEG of {scans} scans over {header.width} x {header.height} pixels, which takes too "
                "long to decode; save it again as an ordinary one",
                picture=place,
            )
    return pixels
