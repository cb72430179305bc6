"""The queue, deadlines, clients that go away, memory."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from falconet.core.errors import ConfigError
from falconet.runtime.engines import ENGINES, Use
from falconet.runtime.predictor import Predictor
from falconet.serving.hosted import Opened, Source
from falconet.serving.limits import Limits
from tests.serving.here import PNG, Asker, held_source, refused, serving, source

HEADERS = {"Content-Type": "image/png"}


def post(ask: Asker) -> Awaitable[httpx.Response]:
    return asyncio.create_task(ask.send("POST", "/v1/detect", content=PNG, headers=HEADERS))


async def until(ready: Callable[[], bool]) -> None:
    for _ in range(3000):
        if ready():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come")


def test_a_full_queue_refuses_at_once_and_answers_the_others(model: Path) -> None:
    held, engine = held_source(model)
    with serving(held, limits=Limits(workers=1, queue=2)) as ask:

        async def crowd() -> tuple[httpx.Response, list[httpx.Response]]:
            engine.let.clear()
            first = post(ask)
            await until(lambda: ask.service.workers.running == 1)
            waiting = [post(ask), post(ask)]
            await until(lambda: ask.service.workers.waiting == 2)
            refusal = await post(ask)
            engine.let.set()
            return refusal, [await first, *[await one for one in waiting]]

        refusal, answered = asyncio.run(crowd())
        assert "2 pictures wait already; send this request again in" in refused(refusal, 429, "queue-full")
        assert int(refusal.headers["retry-after"]) >= 1
        assert [one.status_code for one in answered] == [200, 200, 200]
        assert ask.service.uploads.held == 0
        assert ask.raw(PNG).status_code == 200


def test_pictures_of_one_request_find_places_together_or_not_at_all(model: Path) -> None:
    held, engine = held_source(model)
    with serving(held, limits=Limits(workers=1, queue=2)) as ask:

        async def crowd() -> httpx.Response:
            engine.let.clear()
            first, second = post(ask), None
            await until(lambda: ask.service.workers.running == 1)
            second = post(ask)
            await until(lambda: ask.service.workers.waiting == 1)
            files = [("image", ("a.png", PNG, "image/png"))] * 2
            refusal = await ask.send("POST", "/v1/detect", files=files)
            assert ask.service.workers.waiting == 1
            engine.let.set()
            await first, await second
            return refusal

        refused(asyncio.run(crowd()), 429, "queue-full")


def test_deadlines(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    held, engine = held_source(model)
    with serving(held, limits=Limits(workers=1, deadline=0.3)) as ask:

        async def crowd() -> list[httpx.Response]:
            engine.let.clear()
            first = post(ask)
            await until(lambda: ask.service.workers.running == 1)
            second = post(ask)
            both = [await first, await second]
            engine.let.set()
            await until(lambda: not ask.service.workers.running)
            return both

        begun, waited = asyncio.run(crowd())
        assert "took more than 0.3 s" in refused(begun, 504, "took-too-long")
        assert "were not begun within 0.3 s" in refused(waited, 503, "waited-too-long")
        assert waited.headers["retry-after"] == "1"
        assert ask.raw(PNG).status_code == 200
        gc.collect()
        assert not caplog.records  # asyncio complains of futures that nobody asked


def test_the_picture_of_a_client_that_is_gone_is_not_worked_on(model: Path) -> None:
    held, engine = held_source(model)
    with serving(held, limits=Limits(workers=1)) as ask:

        async def leave() -> None:
            engine.let.clear()
            first = post(ask)
            await until(lambda: ask.service.workers.running == 1)
            sent: list[Any] = []
            messages = [{"type": "http.request", "body": PNG, "more_body": False}]

            async def receive() -> dict[str, Any]:
                if messages:
                    return messages.pop()
                await until(lambda: ask.service.workers.waiting == 1)
                return {"type": "http.disconnect"}

            async def send(message: Any) -> None:
                sent.append(message)

            scope = {"type": "http", "method": "POST", "path": "/v1/detect", "query_string": b"", "headers": []}
            scope |= {"http_version": "1.1", "scheme": "http", "root_path": "", "server": ("here", 80)}
            await ask.app(scope, receive, send)
            engine.let.set()
            assert (await first).status_code == 200
            await until(lambda: not ask.service.workers.waiting and not ask.service.workers.running)

        before = engine.entered._value
        asyncio.run(leave())
        assert engine.entered._value == before + 1
        assert 'outcome="client-gone"} 1.0' in ask("GET", "/metrics").text


def test_bodies_that_come_too_slowly(model: Path) -> None:
    async def slowly():
        yield PNG[:10]
        await asyncio.sleep(30)

    with serving(source(model), limits=Limits(workers=1, client=0.2)) as ask:
        answer = ask("POST", "/v1/detect", content=slowly(), headers=HEADERS)
        assert "did not arrive within 0.2 seconds" in refused(answer, 408, "slow-client")
        assert ask.service.uploads.held == 0


def test_all_bodies_together_have_a_limit(model: Path) -> None:
    with serving(source(model), limits=Limits(workers=1, bytes=2_000, memory=3_000)) as ask:

        async def many() -> list[httpx.Response]:
            full = asyncio.Event()

            async def body():
                yield PNG[:-30] + bytes(1_900 - len(PNG))
                full.set()
                await asyncio.sleep(0.3)
                yield bytes(10)

            first = asyncio.create_task(ask.send("POST", "/v1/detect", content=body(), headers=HEADERS))
            await full.wait()
            second = await ask.send("POST", "/v1/detect", content=bytes(1_900), headers=HEADERS)
            return [await first, second]

        first, second = asyncio.run(many())
        refused(first, 400, "bad-picture")
        assert "as many requests as its memory is meant for" in refused(second, 429, "queue-full")


def test_large_pictures_are_decoded_one_after_the_other(model: Path) -> None:
    held, engine = held_source(model)
    pixels = 128 * 128
    with serving(held, limits=Limits(workers=2, pixels=pixels + pixels // 2)) as ask:

        async def two() -> int:
            engine.let.clear()
            both = [post(ask), post(ask)]
            await until(lambda: ask.service.workers.running == 1 and ask.service.workers.waiting == 1)
            await asyncio.sleep(0.05)
            running = ask.service.workers.running
            engine.let.set()
            assert [(await one).status_code for one in both] == [200, 200]
            return running

        assert asyncio.run(two()) == 1


def test_a_picture_alone_gets_more_threads(model: Path) -> None:
    class Counted:
        def __init__(self, engine: Any, streams: int) -> None:
            self._engine, self.calls, self.streams = engine, 0, streams
            self.manifest, self.name, self.version = engine.manifest, engine.name, engine.version

        def __call__(self, pixels: Any) -> Any:
            self.calls += 1
            return self._engine(pixels)

    opener = ENGINES["onnxruntime"].open
    many, alone = Counted(opener(model, Use(1, 2)), 2), Counted(opener(model, Use(2)), 1)
    opened = Opened(Predictor(many), Predictor(alone), "float32")
    with serving(Source("cells", model, lambda _: opened)) as ask:
        tried = (many.calls, alone.calls)
        assert tried == (1, 1)
        ask.raw(PNG)
        assert (many.calls, alone.calls) == (1, 2)
        assert ask.detect(*[PNG] * 8).status_code == 200
        assert many.calls + alone.calls == 11
        assert many.calls > 1


def test_a_service_that_is_being_stopped(model: Path) -> None:
    with serving(source(model)) as ask:

        async def late() -> httpx.Response:
            begun = asyncio.Event()

            async def body():
                yield PNG[:10]
                begun.set()
                await asyncio.sleep(30)

            slow = asyncio.create_task(ask.send("POST", "/v1/detect", content=body(), headers=HEADERS))
            await begun.wait()
            ask.service.stopping = True
            ask.service.uploads.stop(0.05)
            return await slow

        refused(asyncio.run(late()), 503, "stopping")
        refused(ask.raw(PNG), 503, "stopping")
        assert ask("GET", "/readyz").status_code == 503
        assert ask("GET", "/healthz").status_code == 200


def test_a_model_that_cannot_answer(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    held, engine = held_source(model)
    with serving(held) as ask:
        engine._engine = lambda pixels: {"boxes": pixels[:, 0, 0], "scores": pixels[:, 0, 0]}
        assert "the service's log says why" in refused(ask.raw(PNG), 503, "model-failed")
        assert "its output 'boxes' has shape" in caplog.text


@pytest.mark.parametrize(
    ("limits", "words"),
    [({"queue": 0}, "queue: expected"), ({"workers": 0}, "workers:"), ({"bytes": 10**9}, "more than the")],
)
def test_limits_that_let_nothing_in(limits: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Limits(**limits)
