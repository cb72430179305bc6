"""The addresses of the service."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from time import monotonic, perf_counter
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

from falconet import __version__, webpage
from falconet.serving.access import Guard, SafeHeaders
from falconet.serving.answers import Answered, Want
from falconet.serving.asked import Asked, asked_classes, check_given, task_for, wrong_parameter
from falconet.serving.described import BODY, DETECT_ANSWERS, MODELS_ANSWERS, docs_page
from falconet.serving.hosted import Version
from falconet.serving.metrics import ANSWERED
from falconet.serving.pictures import check_header
from falconet.serving.problems import MEDIA_TYPE, Problem
from falconet.serving.service import Service
from falconet.serving.work import Job

PAGE = Path(webpage.__file__).with_name("static")
"""The files at /."""


def create_app(
    service: Service, *, tokens: Sequence[str] = (), origins: Sequence[str] = (), page: Path = PAGE
) -> FastAPI:
    """The application, to be run by any ASGI server.

    Args:
        service: whose models answer; whoever runs the application starts and stops it.
        tokens: one of them must come with each request for an answer; none are asked for where this is empty.
        origins: addresses of pages elsewhere whose scripts may ask (CORS).
        page: folder of the files at /.
    """
    app = FastAPI(
        title="Falconet",
        version=__version__,
        summary="Detects objects in pictures.",
        docs_url=None,  # FastAPI's own page loads its script from another host
        redoc_url=None,
    )
    _add_detect(app, service)
    _add_about(app, service)
    _add_problems(app, service)
    if tokens:
        app.add_middleware(Guard, tokens=tokens)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Retry-After", "Server-Timing"],
        )
    app.add_middleware(SafeHeaders)
    docs = docs_page(app.openapi())

    @app.get("/docs", include_in_schema=False)
    async def documentation() -> Response:
        return Response(docs.text, media_type="text/html", headers={"Content-Security-Policy": docs.policy})

    app.mount("/", StaticFiles(directory=page, html=True), name="page")
    return app


def _add_detect(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/detect",
        summary="Say what is in pictures.",
        responses=DETECT_ANSWERS,
        openapi_extra={"requestBody": BODY},
        response_class=Response,
    )
    async def detect(request: Request, asked: Annotated[Asked, Query()]) -> Response:
        """Boxes of a detector, classes of a classifier, for one or several pictures.

        Pictures come as the bytes of one file with its content type, or as a form with one field named image for each.
        """
        start = perf_counter()
        model, outcome = "", ANSWERED
        try:
            check_given(request.query_params.multi_items())
            version = service.models.find(asked.model)
            model = version.name
            return await _detect(service, request, asked, version)
        except Problem as problem:
            outcome = problem.kind
            raise
        except ClientDisconnect:
            outcome = "client-gone"
            return Response(status_code=HTTPStatus.BAD_REQUEST)  # which nobody reads
        finally:
            service.metrics.request(model, outcome, perf_counter() - start)


async def _detect(service: Service, request: Request, asked: Asked, version: Version) -> Response:
    task = task_for(version, asked)
    if service.stopping:
        raise Problem("stopping", "The service is being stopped; send the request to its successor")
    want = Want(
        relative=asked.boxes == "relative",
        drawn=asked.answer == "jpeg",
        score=asked.score,
        top=asked.top,
        classes=asked_classes(asked),
    )
    limits = service.limits
    with service.uploads.room() as room:
        uploads = await service.uploads.receive(request, room)
        if want.drawn and len(uploads) > 1:
            raise Problem("too-many-pictures", f"answer=jpeg draws one picture, but got {len(uploads)}; ask for each")
        pixels = [check_header(one, place, limits) for place, one in enumerate(uploads)]
        until = monotonic() + limits.deadline
        loop = asyncio.get_running_loop()
        jobs = [
            Job(version, task, one, place, pixels[place], want, until, loop, loop.create_future())
            for place, one in enumerate(uploads)
        ]
        service.workers.put(jobs)
        answers = await _wait(jobs, request, limits.deadline)
        return _response(jobs, answers, version)


async def _wait(jobs: Sequence[Job], request: Request, deadline: float) -> list[Answered]:
    """The answers of all jobs.

    Raises:
        Problem: one of them has none, or the deadline has passed.
        ClientDisconnect: nobody waits for them.
    """
    gone = asyncio.ensure_future(_gone(request))
    answered = asyncio.ensure_future(asyncio.wait([job.future for job in jobs]))
    try:
        both: set[asyncio.Future[Any]] = {gone, answered}
        await asyncio.wait(both, timeout=deadline, return_when=asyncio.FIRST_COMPLETED)
        if not answered.done():
            if gone.done():
                raise ClientDisconnect
            raise _too_late(jobs, deadline)
        outcomes = [job.future.result() for job in jobs]
        if wrong := next((one for one in outcomes if isinstance(one, Problem)), None):
            raise wrong
        return [one for one in outcomes if isinstance(one, Answered)]
    finally:
        for job in jobs:
            job.dropped = True
        gone.cancel()
        answered.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _too_late(jobs: Sequence[Job], deadline: float) -> Problem:
    if any(not job.begun for job in jobs):
        return Problem(
            "waited-too-long",
            f"The pictures were not begun within {deadline:g} s; send them again later, or fewer at once",
            retry_after=1,
        )
    return Problem(
        "took-too-long",
        f"The answer took more than {deadline:g} s; send smaller pictures, or start the service with a larger "
        "--deadline",
    )


def _response(jobs: Sequence[Job], answers: Sequence[Answered], version: Version) -> Response:
    timing = ", ".join(
        f"{name};dur={sum(getattr(one, name) for one in answers):.2f}" for name in ("decode", "queue", "detect")
    )
    headers = {"Server-Timing": timing}
    if (drawn := answers[0].drawn) is not None:
        return Response(drawn, media_type="image/jpeg", headers=headers)
    tree = {
        "model": {"name": version.name, "sha256": version.sha256},
        "results": [
            {
                "file": job.upload.file,
                "width": one.width,
                "height": one.height,
                **one.found,
                "milliseconds": {name: round(getattr(one, name), 3) for name in ("decode", "queue", "detect")},
            }
            for job, one in zip(jobs, answers, strict=True)
        ],
    }
    return _json(tree, headers=headers)


def _json(tree: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    body = json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
    return Response(body, status, media_type="application/json", headers=dict(headers or {}))


def _add_about(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", summary="The models that are served.", responses=MODELS_ANSWERS, response_class=Response)
    async def models() -> Response:
        """Names, classes, input, thresholds, and what is known of each file; the first one is the default."""
        return _json({"models": [one.card() for one in service.models]})

    @app.head("/healthz", include_in_schema=False)  # as some load balancers ask
    @app.get("/healthz", summary="Whether the service is alive.", response_class=Response)
    async def healthz() -> Response:
        """200 as long as it answers anything."""
        return _json({"status": "alive"})

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", summary="Whether the service takes requests.", response_class=Response)
    async def readyz() -> Response:
        """200, or 503 while it is being stopped."""
        if service.stopping:
            return _json({"status": "stopping"}, status=503)
        return _json({"status": "ready", "queue": service.workers.waiting})

    @app.get("/metrics", summary="Counters for Prometheus.", response_class=Response)
    async def metrics() -> Response:
        """Requests by outcome, seconds by stage, the queue, the versions of models."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_problems(app: FastAPI, service: Service) -> None:
    def answer(problem: Problem) -> Response:
        return Response(problem.body(), problem.status, media_type=MEDIA_TYPE, headers=problem.headers)

    @app.exception_handler(Problem)
    async def refused(_request: Request, problem: Problem) -> Response:
        return answer(problem)

    @app.exception_handler(RequestValidationError)
    async def wrong(_request: Request, error: RequestValidationError) -> Response:
        service.metrics.request("", "bad-parameter", None)
        first: Mapping[str, Any] = error.errors()[0]
        if first["type"] == "extra_forbidden":
            try:
                check_given([(str(first["loc"][-1]), "")])
            except Problem as problem:
                return answer(problem)
        return answer(wrong_parameter(first))

    @app.exception_handler(HTTPException)
    async def elsewhere(request: Request, error: HTTPException) -> Response:
        path = request.url.path
        # The files at / take every address that no other takes with this method.
        taken = {getattr(one, "path", ""): getattr(one, "methods", None) for one in app.routes}
        if (methods := taken.get(path)) is not None or error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = ", ".join(sorted(methods or ("GET", "HEAD")))
            problem = Problem("wrong-method", f"{path[:100]}: does not take {request.method[:20]}; expected {allowed}")
            return Response(problem.body(), problem.status, media_type=MEDIA_TYPE, headers={"Allow": allowed})
        if error.status_code == HTTPStatus.NOT_FOUND:
            known = ", ".join(one for one, methods in taken.items() if methods)
            return answer(Problem("not-found", f"{path[:100]}: nothing is here; expected one of {known}"))
        kind = "failed" if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR else "bad-request"
        return answer(Problem(kind, str(error.detail)))

    @app.exception_handler(Exception)
    async def failed(_request: Request, _error: Exception) -> Response:
        return answer(Problem("failed", "The service has a fault; its log says more"))
