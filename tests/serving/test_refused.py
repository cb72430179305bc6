"""What gets no answer gets a sentence."""

import struct
import zlib

import pytest

from falconet.core.images import encode_image
from falconet.serving import answers
from falconet.serving.limits import Limits
from tests.runtime.tiny_model import picture
from tests.serving.here import PNG, Asker, refused, serving, source

JPEG = encode_image(picture((0, 0, "red")), ".jpg")


def bomb(width: int, height: int) -> bytes:
    """A PNG of few bytes whose header claims many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("parameters", "status", "kind", "words"),
    [
        (
            {"model": "cell"},
            404,
            "unknown-model",
            "'cell' is not served; expected one of: cells, colours. did you mean",
        ),
        ({"classes": "red,grene"}, 400, "unknown-class", "does not know 'grene'; did you mean 'green'?"),
        ({"classes": "zebra"}, 400, "unknown-class", "its classes are: blue, green, red"),
        ({"score": "high"}, 400, "bad-parameter", "score: expected a number from 0 to 1, but got 'high'"),
        ({"score": "1.5"}, 400, "bad-parameter", "score: expected a number from 0 to 1, but got '1.5'"),
        ({"score": "nan"}, 400, "bad-parameter", "score: expected a number from 0 to 1"),
        ({"boxes": "pixels"}, 400, "bad-parameter", "boxes: expected absolute or relative, but got 'pixels'"),
        ({"answer": "png"}, 400, "bad-parameter", "answer: expected json or jpeg"),
        ({"treshold": "0.5"}, 400, "bad-parameter", "treshold: there is no such parameter"),
        ({"scores": "0.5"}, 400, "bad-parameter", "did you mean 'score'?"),
        ({"classes": ""}, 400, "bad-parameter", "classes: is empty; expected names, as in classes=person,car"),
        ({"classes": " , "}, 400, "bad-parameter", "classes: is empty; expected names"),
        ({"classes": "red,,blue"}, 400, "bad-parameter", "classes: 'red,,blue' has an empty name"),
        ({"model": "colours", "classes": ""}, 400, "bad-parameter", "classes: is empty"),
        ({"operating_point": "recall=0.9"}, 400, "bad-parameter", "the model was not stored with it"),
        ({"operating_point": "f1", "score": "0.1"}, 400, "bad-parameter", "leave one out"),
        ({"top": "2"}, 400, "bad-parameter", "top: the model is a detector, for which it means nothing"),
        ({"model": "colours", "iou": "0.5"}, 400, "bad-parameter", "iou: the model is a classifier"),
        ({"model": "colours", "boxes": "relative"}, 400, "bad-parameter", "whose answers have none"),
    ],
)
def test_parameters(ask: Asker, parameters: dict, status: int, kind: str, words: str) -> None:
    assert words in refused(ask.raw(PNG, **parameters), status, kind)


def test_a_parameter_that_is_given_twice(ask: Asker) -> None:
    answer = ask("POST", "/v1/detect?classes=red&classes=blue", content=PNG, headers={"Content-Type": "image/png"})
    assert "classes: is given 2 times; expected once; name several classes as in" in refused(
        answer, 400, "bad-parameter"
    )


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (b"", "no-picture", "The request holds no picture; send the bytes of a picture"),
        (b"GIF89a", "bad-picture", "is no picture whose header says its size"),
        (b"hello world" * 30, "bad-picture", "expected JPEG, PNG, WebP"),
        (JPEG[:-200], "bad-picture", "the JPEG is truncated"),
        (PNG[:-30], "bad-picture", "the PNG is truncated"),
        (PNG[:20], "bad-picture", "header says its size"),
        (bomb(64, 64)[:60] + b"x" * 60, "bad-picture", "the PNG is truncated"),
    ],
)
def test_what_is_no_picture(ask: Asker, data: bytes, kind: str, words: str) -> None:
    assert words in refused(ask.raw(data, "application/octet-stream"), 400, kind)


def test_the_wrong_picture_of_several_is_named(ask: Asker) -> None:
    answer = ask.detect(PNG, PNG[:-30])
    assert refused(answer, 400, "bad-picture").startswith("1.png: the PNG is truncated")
    assert answer.json()["picture"] == 1
    assert "2.png: is empty" in refused(ask.detect(PNG, PNG, b""), 400, "no-picture")


def test_a_bomb_is_refused_before_it_is_decoded(ask: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(*_: object, **__: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(answers, "decode_image", decoded)
    for width, height in ((50_000, 50_000), (6_000, 5_000), (2**31 - 1, 2**31 - 1)):
        words = refused(ask.raw(bomb(width, height)), 413, "too-many-pixels")
        assert f"its header says {width} x {height} pixels; expected at most 25 megapixels" in words
    tiff = b"II*\0\x08\0\0\0\x02\0" + struct.pack("<HHII", 256, 4, 1, 60_000) + struct.pack("<HHII", 257, 4, 1, 60_000)
    assert "3600 megapixels" in refused(ask.raw(tiff + bytes(100)), 413, "too-many-pixels")


def test_a_jpeg_of_many_scans(ask: Asker) -> None:
    head = JPEG[: JPEG.index(b"\xff\xc0")] + b"\xff\xc2" + JPEG[JPEG.index(b"\xff\xc0") + 2 :]
    large = bytearray(head)
    place = large.index(b"\xff\xc2")
    large[place + 5 : place + 9] = struct.pack(">HH", 4000, 6000)
    many = bytes(large[:-2]) + b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" * 40 + b"\xff\xd9"
    assert "scans over 6000 x 4000 pixels" in refused(ask.raw(many, "image/jpeg"), 413, "too-many-pixels")


def test_content_types(ask: Asker) -> None:
    for kind in ("application/json", "application/x-www-form-urlencoded", "text/plain"):
        assert f"Content-Type {kind}: is none of a picture" in refused(ask.raw(PNG, kind), 415, "wrong-type")
    headers = {"Content-Type": "image/png", "Content-Encoding": "gzip"}
    answer = ask("POST", "/v1/detect", content=PNG, headers=headers)
    assert "Content-Encoding gzip" in refused(answer, 415, "wrong-type")
    assert ask("POST", "/v1/detect", content=PNG).status_code == 200


def form(ask: Asker, body: bytes, kind: str = "multipart/form-data; boundary=x") -> tuple:
    return ask("POST", "/v1/detect", content=body, headers={"Content-Type": kind}), 400, "bad-request"


def test_forms(ask: Asker) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + PNG + b"\r\n"
    assert form(ask, part + b"--x--\r\n")[0].status_code == 200
    assert "the request was cut off" in refused(*form(ask, part))
    assert "the request was cut off" in refused(*form(ask, part[:60]))
    assert "names no boundary" in refused(*form(ask, part, "multipart/form-data"))
    assert "The form cannot be read" in refused(*form(ask, b"something else"))
    assert "The form cannot be read" in refused(*form(ask, part, f"multipart/form-data; boundary={'x' * 5000}"))
    odd = ask("POST", "/v1/detect", files={"picture": PNG})
    assert "a field 'picture'; expected 'image'" in refused(odd, 400, "no-picture")
    path = ask("POST", "/v1/detect", files={"image": ("..\\..\\C:/secret/a.png", PNG)})
    assert path.json()["results"][0]["file"] == "a.png"


def test_too_much(model) -> None:
    limits = Limits(bytes=5_000, pictures=2, workers=1)
    with serving(source(model), limits=limits) as ask:
        assert "more than 0.005 MB" in refused(ask.raw(bytes(5_001)), 413, "too-large")

        async def chunks():
            for _ in range(4):
                yield bytes(2_000)

        answer = ask("POST", "/v1/detect", content=chunks(), headers={"Content-Type": "image/png"})
        assert "more than 0.005 MB" in refused(answer, 413, "too-large")
        assert "more than 2 pictures" in refused(ask.detect(PNG, PNG, PNG), 413, "too-many-pictures")
        assert "draws one picture, but got 2" in refused(ask.detect(PNG, PNG, answer="jpeg"), 413, "too-many-pictures")
        assert ask.service.uploads.held == 0


def test_addresses(ask: Asker) -> None:
    assert "expected one of /openapi.json, /v1/detect" in refused(ask("GET", "/v1/detct"), 404, "not-found")
    for method in ("GET", "DELETE", "PUT"):
        answer = ask(method, "/v1/detect")
        assert "expected POST" in refused(answer, 405, "wrong-method")
        assert answer.headers["allow"] == "POST"
    assert "expected GET" in refused(ask("POST", "/v1/models"), 405, "wrong-method")
    for path in ("/../pyproject.toml", "/%2e%2e/app.py", "/%00", "/a%00b", "/" + "a" * 5000):
        assert ask("GET", path).status_code == 404


def test_a_fault_is_told_without_its_details(ask: Asker, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("a secret")

    monkeypatch.setattr(answers, "decode_image", broken)
    assert "secret" not in refused(ask.raw(PNG), 500, "failed")
    assert "a secret" in caplog.text
