"""Refusals as RFC 9457 has them: JSON of the type `application/problem+json` with a sentence that says what to do."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

MEDIA_TYPE = "application/problem+json"


class Kind(NamedTuple):
    """One kind of refusal."""

    status: int
    title: str


KINDS: Mapping[str, Kind] = {
    "bad-request": Kind(400, "The request cannot be read"),
    "bad-parameter": Kind(400, "A parameter is wrong"),
    "unknown-class": Kind(400, "The model does not know the class"),
    "no-picture": Kind(400, "The request holds no picture"),
    "bad-picture": Kind(400, "The picture cannot be read"),
    "unauthorized": Kind(401, "The token is missing or wrong"),
    "not-found": Kind(404, "Nothing is at this address"),
    "unknown-model": Kind(404, "No such model is served"),
    "wrong-method": Kind(405, "The address does not take this method"),
    "slow-client": Kind(408, "The request came too slowly"),
    "too-large": Kind(413, "The request has too many bytes"),
    "too-many-pixels": Kind(413, "The picture has too many pixels"),
    "too-many-pictures": Kind(413, "The request has too many pictures"),
    "wrong-type": Kind(415, "The content type is none of a picture"),
    "queue-full": Kind(429, "The service is busy"),
    "head-too-large": Kind(431, "The head of the request is too large"),
    "failed": Kind(500, "The service has a fault"),
    "out-of-memory": Kind(503, "The service is out of memory"),
    "model-failed": Kind(503, "The model cannot answer"),
    "stopping": Kind(503, "The service is being stopped"),
    "waited-too-long": Kind(503, "The picture waited too long"),
    "took-too-long": Kind(504, "The answer took too long"),
}
"""By their names, which `type` links to in the service's own documentation."""


class Problem(Exception):  # noqa: N818  RFC 9457 calls it so
    """A request that gets no answer but a reason.

    Args:
        kind: a name in `KINDS`.
        detail: a sentence for people: what is wrong, and what to do.
        retry_after: seconds after which the same request may succeed; None where it will not.
        members: what programs may want to know besides, as `picture`, the place of the wrong one, from 0.
    """

    def __init__(self, kind: str, detail: str, *, retry_after: int | None = None, **members: int | str) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.retry_after, self.members = kind, detail, retry_after, members

    @property
    def status(self) -> int:
        """The HTTP status."""
        return KINDS[self.kind].status

    @property
    def headers(self) -> dict[str, str]:
        """Those beside the content type."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.kind == "unauthorized":
            headers["WWW-Authenticate"] = 'Bearer realm="falconet"'
        return headers

    def tree(self) -> dict[str, Any]:
        """The members of the document."""
        kind = KINDS[self.kind]
        return {
            "type": f"/docs#{self.kind}",
            "title": kind.title,
            "status": kind.status,
            "detail": self.detail,
            **self.members,
        }

    def body(self) -> bytes:
        """The document."""
        return json.dumps(self.tree(), ensure_ascii=False).encode("utf-8", "backslashreplace")
