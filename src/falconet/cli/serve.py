"""`falconet serve`: models behind an HTTP address."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from falconet.cli.options import ENGINE_HELP, PRECISION_HELP
from falconet.core.errors import ConfigError
from falconet.core.figures import plural

if TYPE_CHECKING:
    import socket

    from falconet.serving.service import Service

NEEDS = ("fastapi", "uvicorn", "httptools", "prometheus_client", "python_multipart", "jinja2")
"""Packages of the extra `serve`."""

LOOPBACK = ("127.", "::1")

_MEGA = 10**6


def serve(
    models: Annotated[
        list[str],
        typer.Argument(help="Exported files, published names or run folders; NAME=MODEL gives one another name."),
    ],
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes one that is free.")] = 8000,
    name: Annotated[str | None, typer.Option(help="Name of the model, where there is one.")] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with bearer tokens, one a line, one of which each request must carry.")
    ] = None,
    cors: Annotated[
        list[str] | None,
        typer.Option(help="Origin of a page elsewhere that may ask, as in https://example.org. Repeatable."),
    ] = None,
    engine: Annotated[str, typer.Option(help=ENGINE_HELP)] = "auto",
    precision: Annotated[str, typer.Option(help=PRECISION_HELP)] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="CPUs of a run of the network [default: 1; for a picture that is alone all, at most 4]."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Pictures worked on at once [default: as many as keep the CPUs busy]."),
    ] = None,
    queue: Annotated[int, typer.Option(min=1, help="Pictures that may wait; further requests get a 429.")] = 64,
    deadline: Annotated[float, typer.Option(min=0.1, help="Seconds from a request's last byte to its answer.")] = 10,
    max_bytes: Annotated[float, typer.Option(min=0.001, help="Megabytes of a request.")] = 20,
    max_pixels: Annotated[float, typer.Option(min=0.001, help="Megapixels of a picture, by its header.")] = 25,
    max_pictures: Annotated[int, typer.Option(min=1, help="Pictures of a request.")] = 16,
    client_seconds: Annotated[
        float, typer.Option(min=0.1, help="Seconds in which a client must have sent its request.")
    ] = 20,
    stop_seconds: Annotated[
        float, typer.Option(min=0.1, help="Seconds for requests under way when the service is stopped.")
    ] = 15,
) -> None:
    """Answer requests over HTTP: boxes of detectors, classes of classifiers, a page to try them, counters.

    A new version of a model's file takes over by itself once it has been tried; a broken one is refused, and the old
    one goes on. Ctrl-C or SIGTERM ends the service when the requests under way are answered.
    """
    from falconet.api.require import require

    require(NEEDS, extra="serve", purpose="'falconet serve'")
    from falconet.api.serve import find_source
    from falconet.serving.access import read_tokens
    from falconet.serving.app import create_app
    from falconet.serving.limits import Limits
    from falconet.serving.server import bind, run
    from falconet.serving.service import Service

    if name is not None and len(models) > 1:
        raise ConfigError(f"--name {name}: which of {len(models)} models is meant? Name them as in {name}={models[0]}")
    limits = Limits(
        bytes=round(max_bytes * _MEGA),
        pixels=round(max_pixels * _MEGA),
        pictures=max_pictures,
        queue=queue,
        memory=max(Limits().memory, round(2 * max_bytes * _MEGA)),
        workers=workers,
        deadline=deadline,
        client=client_seconds,
        stop=stop_seconds,
    )
    tokens = () if token_file is None else read_tokens(token_file)
    origins = [check_origin(one) for one in cors or ()]
    with bind(host, port) as listener:  # before models are opened, which takes longer
        sources = [
            find_source(one, engine=engine, precision=precision, threads=threads, workers=workers, name=name)
            for one in models
        ]
        service = Service(sources, limits)
        app = create_app(service, tokens=tokens, origins=origins)
        _warn(host, listener, guarded=bool(tokens))
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        if code := run(app, service, listener, started=lambda: _tell(service, listener)):
            raise typer.Exit(code)


def check_origin(text: str) -> str:
    """An origin as browsers send it. Raises ConfigError for what is none."""
    scheme, mark, rest = text.rstrip("/").partition("://")
    if text != "*" and (scheme not in ("http", "https") or not mark or not rest or "/" in rest):
        raise ConfigError(f"--cors {text}: is no origin; expected scheme, host and port, as in https://example.org")
    return text.rstrip("/")


def _warn(host: str, listener: "socket.socket", *, guarded: bool) -> None:
    address = listener.getsockname()[0]
    if not guarded and not address.startswith(LOOPBACK):
        whose = "all addresses of this machine" if address in ("0.0.0.0", "::") else address
        logging.getLogger(__name__).warning(
            "--host %s: listens at %s without a token, so everybody who reaches it may use it; --token-file FILE asks "
            "for one",
            host,
            whose,
        )


def _tell(service: "Service", listener: "socket.socket") -> None:
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    for one in service.models:
        card = one.card()
        size = f"{card['input']['width']} x {card['input']['height']}"
        classes = plural(len(card["classes"]), "class", "classes")
        print(f"{card['name']}: {card['architecture']}, {size}, {classes}, in {card['engine']}, {card['precision']}")
    print(f"{plural(service.workers.count, 'worker')}, a queue of {service.limits.queue} pictures")
    print(f"serving at http://{shown}:{port}, documented at /docs; Ctrl-C ends it", flush=True)
