"""Tokens, pages elsewhere, and what a browser may load."""

import base64
import os
import re
from hashlib import sha256
from pathlib import Path

import pytest

from falconet.cli.serve import check_origin
from falconet.core.errors import ConfigError
from falconet.serving.access import read_tokens
from falconet.serving.problems import KINDS
from falconet.webpage import page_files
from tests.serving.here import PNG, Asker, refused, serving, source

TOKEN, OTHER = "0123456789abcdef0123", "fedcba98765432100000"


def test_tokens(model: Path) -> None:
    with serving(source(model), tokens=(TOKEN, OTHER)) as ask:
        for headers in (
            {},
            {"Authorization": "Bearer no"},
            {"Authorization": TOKEN},
            {"Authorization": f"Basic {TOKEN}"},
        ):
            for method, path in (("POST", "/v1/detect"), ("GET", "/v1/models"), ("GET", "/metrics")):
                answer = ask(method, path, headers=headers)
                assert "send the header 'Authorization: Bearer TOKEN'" in refused(answer, 401, "unauthorized")
                assert answer.headers["www-authenticate"].startswith("Bearer")
        for token in (TOKEN, OTHER):
            answer = ask("POST", "/v1/detect", content=PNG, headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 200
        for path in ("/healthz", "/readyz", "/docs", "/openapi.json", "/"):
            assert ask("GET", path).status_code == 200, path


def test_the_file_of_tokens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "tokens"
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_tokens(path)
    path.write_text(f"# ours\n\n  {TOKEN}  \n{OTHER}\n")
    path.chmod(0o600)
    assert read_tokens(path) == (TOKEN, OTHER)
    assert not caplog.records
    for text, words in (
        ("# none\n", "holds no token"),
        ("short\n", "token 1 is none; expected 16"),
        ("a b" * 9, "none"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=words):
            read_tokens(path)


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_a_file_of_tokens_that_others_may_use(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "tokens"
    path.write_text(TOKEN)
    path.chmod(0o622)
    with pytest.raises(ConfigError, match=r"others may write it.*chmod 600"):
        read_tokens(path)
    path.chmod(0o644)
    assert read_tokens(path) == (TOKEN,)
    assert "everybody on this machine may read it" in caplog.text


def test_pages_elsewhere(model: Path) -> None:
    asked = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    with serving(source(model)) as ask:
        answer = ask("POST", "/v1/detect", content=PNG, headers={"Origin": "https://example.org"})
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert ask("OPTIONS", "/v1/detect", headers=asked).status_code == 405
    with serving(source(model), tokens=(TOKEN,), origins=("https://example.org",)) as ask:
        answer = ask("POST", "/v1/detect", content=PNG, headers={"Origin": "https://example.org"})
        assert answer.status_code == 401  # which the page can read
        assert answer.headers["access-control-allow-origin"] == "https://example.org"
        assert ask("OPTIONS", "/v1/detect", headers=asked).status_code == 200
        answer = ask("GET", "/healthz", headers={"Origin": "https://other.org"})
        assert "access-control-allow-origin" not in answer.headers


def test_origins() -> None:
    assert check_origin("https://example.org:8443/") == "https://example.org:8443"
    assert check_origin("*") == "*"
    for text in ("example.org", "ftp://example.org", "https://", "https://example.org/page"):
        with pytest.raises(ConfigError, match="is no origin; expected scheme, host and port"):
            check_origin(text)


def test_the_page_loads_nothing_from_elsewhere(ask: Asker) -> None:
    answer = ask("GET", "/")
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert ask("GET", "/site.json").json() == {"backend": "server"}
    for name in page_files():
        assert ask("GET", f"/{name}").status_code == 200, name
    assert "javascript" in ask("GET", "/app.js").headers["content-type"]


def test_the_documentation(ask: Asker) -> None:
    answer = ask("GET", "/docs")
    assert "<script" not in answer.text
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", answer.text)
    style = re.search(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    assert style
    assert "style=" not in answer.text.replace(style[0], "")
    digest = base64.b64encode(sha256(style[1].encode()).digest()).decode()
    assert answer.headers["content-security-policy"].startswith(f"default-src 'none'; style-src 'sha256-{digest}'")
    for kind in KINDS:
        assert f'id="{kind}"' in answer.text
    for word in ("/v1/detect", "operating_point", "multipart/form-data", "/readyz"):
        assert word in answer.text


def test_the_description_for_programs(ask: Asker) -> None:
    tree = ask("GET", "/openapi.json").json()
    detect = tree["paths"]["/v1/detect"]["post"]
    assert {one["name"] for one in detect["parameters"]} >= {"model", "score", "classes", "boxes", "answer"}
    assert set(detect["requestBody"]["content"]) == {"image/*", "application/octet-stream", "multipart/form-data"}
    assert {"200", "400", "401", "404", "408", "413", "415", "429", "503", "504"} <= set(detect["responses"])
