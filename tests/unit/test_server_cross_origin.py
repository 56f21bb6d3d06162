"""Which pages may read answers, at the interface of ASGI."""

import asyncio
from typing import Any

import pytest

from tonnage.core.errors import RequestError
from tonnage.server.http.cross_origin import CrossOrigin, require_origins

PAGE = "https://chat.example.org"


async def application(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"1")]})
    await send({"type": "http.response.body", "body": scope["method"].encode()})


def asked(origins: list[str], method: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    sent: list[dict[str, Any]] = []

    async def send(event: Any) -> None:
        sent.append(event)

    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    app = CrossOrigin(application, origins)
    asyncio.run(app({"type": "http", "method": method, "headers": pairs}, None, send))  # type: ignore[arg-type]
    told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], told, sent[1]["body"]


def test_a_named_origin_is_let_in_and_told_apart_from_others() -> None:
    status, told, body = asked([PAGE], "POST", origin=PAGE)
    assert (status, body) == (200, b"POST")
    assert told["access-control-allow-origin"] == PAGE
    assert told["vary"] == "origin, access-control-request-headers"
    assert told["x"] == "1"


@pytest.mark.parametrize("origin", ["https://evil.example", f"{PAGE}.evil.example", "null", ""])
def test_others_get_what_they_got_without(origin: str) -> None:
    assert asked([PAGE], "POST", origin=origin)[1] == {"x": "1"}
    assert asked([PAGE], "OPTIONS", origin=origin, access_control_request_method="POST") == (
        200, {"x": "1"}, b"OPTIONS",
    )  # fmt: skip


def test_browsers_that_ask_before_are_told_what_may_be_sent() -> None:
    status, told, body = asked([PAGE], "OPTIONS", origin=PAGE, access_control_request_method="POST")
    assert (status, body) == (204, b"")
    assert "access-control-allow-headers" not in told
    assert told["access-control-allow-methods"] == "GET, POST"
    # A plain OPTIONS is the application's.
    assert asked([PAGE], "OPTIONS", origin=PAGE)[0] == 200


@pytest.mark.parametrize(
    "names",
    [
        "authorization,content-type,x-stainless-arch,x-stainless-retry-count",
        "anthropic-dangerous-direct-browser-access,anthropic-version,x-api-key",
        "x-of-a-later-version",
    ],
)
def test_a_page_may_send_the_fields_that_its_client_has(names: str) -> None:
    headers = {
        "access_control_request_method": "POST",
        "access_control_request_headers": names,
    }
    _, told, _ = asked([PAGE], "OPTIONS", origin=PAGE, **headers)
    assert told["access-control-allow-headers"] == names
    assert asked([PAGE], "OPTIONS", origin="https://evil.example", **headers)[1] == {"x": "1"}


@pytest.mark.parametrize("names", ["a b", "a,", "x: y", "a\r\nset-cookie: b", "", ","])
def test_what_names_no_fields_is_not_sent_back(names: str) -> None:
    headers = {"access_control_request_method": "POST", "access_control_request_headers": names}
    status, told, _ = asked([PAGE], "OPTIONS", origin=PAGE, **headers)
    assert status == 204
    assert "access-control-allow-headers" not in told


def test_all_origins_are_for_servers_with_keys() -> None:
    assert asked(["*"], "GET", origin=PAGE)[1]["access-control-allow-origin"] == PAGE
    require_origins(["*", PAGE], need_keys=True)
    require_origins([PAGE, "http://localhost:3000"], need_keys=False)
    with pytest.raises(RequestError, match="serve with keys"):
        require_origins(["*"], need_keys=False)


@pytest.mark.parametrize(
    "origin", ["chat.example.org", "https://a.example/", "https://", "x y", "http://[::1"]
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(RequestError, match="it takes an origin"):
        require_origins([origin], need_keys=True)
