"""HTTP/1.1 as RFC 9110 and RFC 9112 demand it of an origin server, clause by clause.

Each test names its clause. What is asked for is written byte by byte, and so is what comes back.
"""

import gzip
import json
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from email.utils import parsedate_to_datetime

import pytest

from support.live_server import NAME, Live, ScriptedEngine, live, write_chat_model
from tonnage.engine.engine import Engine
from tonnage.server.http.exchange import ServerLimits
from tonnage.server.models.tenants import read_tenants

BODY = json.dumps({"model": NAME, "prompt": "hi"}).encode()
END = " HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
WITH_LENGTH = f"{POST}Content-Length: {len(BODY)}\r\n"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = write_chat_model(tmp_path_factory.mktemp("model") / "hf")
    with Engine.open(str(folder), context=512, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def server(engine: Engine) -> Iterator[Live]:
    with live(engine, ScriptedEngine(["Hello"])) as server:
        yield server


class Reply:
    """A response: status, fields, body, and whether the connection was closed behind it."""

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        found = re.fullmatch(r"HTTP/1\.1 (\d{3}) .*", line)
        assert found is not None, data
        self.status = int(found[1])
        self.fields = {
            name.lower(): value for name, value in (field.split(": ", 1) for field in fields)
        }
        assert len(self.fields) == len(fields), fields


def exchange(server: Live, data: str | bytes, *, is_head: bool = False) -> Reply:
    """Send `data` and return the first final response."""
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as connection:
        connection.sendall(data.encode("latin-1") if isinstance(data, str) else data)
        return read(connection, is_head=is_head)


def read(connection: socket.socket, *, is_head: bool = False) -> Reply:
    seen = b""
    while b"\r\n\r\n" not in seen:
        part = connection.recv(1)
        assert part, seen
        seen += part
    reply = Reply(seen)
    if is_head or reply.status in (100, 204, 304):
        return reply
    if "content-length" in reply.fields:
        length = int(reply.fields["content-length"])
        while len(reply.body) < length:
            reply.body += connection.recv(length - len(reply.body))
    return reply


def is_closed(connection: socket.socket) -> bool:
    connection.settimeout(2)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


GET = "GET /health HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = f"{POST}Transfer-Encoding: chunked\r\n\r\n"


def chunks(*parts: bytes, end: str = "0\r\n\r\n") -> str:
    return "".join(f"{len(p):x}\r\n{p.decode()}\r\n" for p in parts) + end


@pytest.mark.parametrize(
    ("data", "status"),
    [
        # RFC 9112, 2.2: a recipient of the message as it should be, and what it may overlook.
        pytest.param(f"{GET}\r\n", 200, id="9112-2.1 a request"),
        pytest.param(f"\r\n{GET}\r\n", 200, id="9112-2.2 an empty line before it"),
        pytest.param(GET.replace("\r\n", "\n") + "\n", 200, id="9112-2.2 a line feed alone"),
        pytest.param(f"{GET}a: b\rc\r\n\r\n", 400, id="9112-2.2 a carriage return alone"),
        pytest.param(" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="9112-2.2 space before it"),
        pytest.param("GET /health HTTP/2.0\r\nHost: localhost\r\n\r\n", 505, id="9110-15.6.6"),
        pytest.param("GET /health HTTP/1.2\r\nHost: localhost\r\n\r\n", 200, id="9110-2.5 minor"),
        pytest.param("GET /health HTTP/1.0\r\n\r\n", 200, id="9112-2.3 HTTP/1.0"),
        pytest.param("GET /health http/1.1\r\nHost: localhost\r\n\r\n", 400, id="9112-2.3 case"),
        # 3: the request line.
        pytest.param(f"GET /he alth{END}", 400, id="9112-3.2 space"),
        pytest.param(f"GET /{'a' * 70_000} HTTP/1.1\r\nHost: a\r\n\r\n", 414, id="9112-3 long"),
        pytest.param(f"GET /{'a' * 70_000}", 414, id="9110-15.5.15 without an end"),
        pytest.param(f"BREW /health{END}", 501, id="9110-9.1 unknown"),
        pytest.param(f"get /health{END}", 501, id="9110-9.1 case"),
        pytest.param(f"DELETE /health{END}", 405, id="9110-9.1 known"),
        pytest.param(f"CONNECT a:1{END}", 501, id="9110-9.3.6"),
        pytest.param(
            "GET http://localhost/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
            200,
            id="9112-3.2.2 absolute",
        ),
        pytest.param(
            "GET http://localhost:80/health?x=1 HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            200,
            id="9112-3.2.2 its host counts",
        ),
        pytest.param(
            "GET http://evil.example/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
            403,
            id="9112-3.2.2 and the field does not",
        ),
        pytest.param(
            "GET http:///health HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, id="9110-4.2.1"
        ),
        pytest.param(
            "GET http://u@localhost/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
            400,
            id="9110-4.2.4 user in the target",
        ),
        pytest.param(
            "GET HTTP://localhost/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
            200,
            id="9110-4.2.3 case of the scheme",
        ),
        pytest.param("GET http://localhost/health HTTP/1.1\r\n\r\n", 400, id="9112-3.2 both"),
        pytest.param(f"OPTIONS http://localhost{END}", 204, id="9112-3.2.4 absolute asterisk"),
        pytest.param(f"GET health{END}", 400, id="9112-3.2.1 no slash"),
        pytest.param(f"GET *{END}", 400, id="9112-3.2.4 asterisk elsewhere"),
        pytest.param(f"GET /he%61lth{END}", 200, id="9110-4.2.3 percent encoding"),
        pytest.param(f"TRACE /health{END}", 405, id="9110-9.3.8"),
        pytest.param(f"OPTIONS /nowhere{END}", 404, id="9110-9.3.7 of nothing"),
        pytest.param(f"OPTIONS *{END}", 204, id="9112-3.2.4"),
        pytest.param(f"OPTIONS /health{END}", 204, id="9110-9.3.7"),
        pytest.param("GET /health HTTP/1.1\r\n\r\n", 400, id="9112-3.2 without Host"),
        pytest.param(f"{GET}Host: localhost\r\n\r\n", 400, id="9112-3.2 two Hosts"),
        pytest.param("GET /health HTTP/1.1\r\nHost:\r\n\r\n", 403, id="9112-3.2 an empty Host"),
        pytest.param(
            "GET /health HTTP/1.1\r\nHost: a b\r\n\r\n", 400, id="9112-3.2 no host at all"
        ),
        pytest.param(
            "GET /health HTTP/1.1\r\nHost: u@localhost\r\n\r\n", 400, id="9110-4.2.4 user"
        ),
        # 5: fields.
        pytest.param(f"{GET}a : b\r\n\r\n", 400, id="9112-5.1 space before the colon"),
        pytest.param(f"{GET}a: b\r\n c\r\n\r\n", 200, id="9112-5.2 a folded line"),
        pytest.param(f"{GET}a: b\r\n\tc\r\n\r\n", 200, id="9112-5.2 folded by a tab"),
        pytest.param(
            "GET /health HTTP/1.1\r\n Host: localhost\r\n\r\n", 400, id="9112-2.2 space"
        ),
        pytest.param(f"{GET}a b: c\r\n\r\n", 400, id="9110-5.1 space in a name"),
        pytest.param(f"{GET}: c\r\n\r\n", 400, id="9110-5.1 no name"),
        pytest.param(f"{GET}a:\r\n\r\n", 200, id="9110-5.5 an empty value"),
        pytest.param(f"{GET}a: b\x00c\r\n\r\n", 400, id="9110-5.5 a zero in a value"),
        pytest.param(f"{GET}a: \xe9\r\n\r\n", 200, id="9110-5.5 obs-text"),
        pytest.param(f"{GET}\x00a: b\r\n\r\n", 400, id="9110-5.5 no text"),
        pytest.param(f"{GET}a: {'b' * 70_000}\r\n\r\n", 431, id="9110-5.4 long"),
        pytest.param(GET + "a: b\r\n" * 200 + "\r\n", 431, id="9110-5.4 many"),
        # 6: where a body ends.
        pytest.param(f"{WITH_LENGTH}\r\n{BODY.decode()}", 200, id="9112-6.2"),
        pytest.param(
            f"{WITH_LENGTH}Content-Length: {len(BODY)}\r\n\r\n{BODY.decode()}",
            200,
            id="9112-6.3 the same length twice",
        ),
        pytest.param(
            f"{WITH_LENGTH}Content-Length: 7\r\n\r\n{BODY.decode()}", 400, id="9112-6.3 two lengths"
        ),
        pytest.param(
            f"{POST}Content-Length: {len(BODY)}, {len(BODY)}\r\n\r\n{BODY.decode()}",
            200,
            id="9110-8.6 a list of one length",
        ),
        pytest.param(
            f"{POST}Content-Length: {len(BODY)}, 7\r\n\r\n{BODY.decode()}",
            400,
            id="9110-8.6 a list of two",
        ),
        pytest.param(f"{POST}Content-Length: {'9' * 30}\r\n\r\n", 400, id="9110-8.6 a huge number"),
        pytest.param(f"{POST}Content-Length: 0x10\r\n\r\n", 400, id="9110-8.6 hexadecimal"),
        pytest.param(f"{POST}Content-Length:\r\n\r\n", 400, id="9110-8.6 empty"),
        pytest.param(f"{POST}\r\n", 400, id="9112-6.3 no length is no body"),
        pytest.param(f"{GET}Content-Length: 3\r\n\r\nabc", 200, id="9110-9.3.1 a body of GET"),
        pytest.param(f"{POST}Content-Length: -1\r\n\r\n", 400, id="9110-8.6 no number"),
        pytest.param(f"{POST}Content-Length: +5\r\n\r\nabcde", 400, id="9110-8.6 a sign"),
        pytest.param(
            f"{WITH_LENGTH}Transfer-Encoding: chunked\r\n\r\n{chunks(BODY)}",
            400,
            id="9112-6.1 both",
        ),
        pytest.param(
            CHUNKED.replace("HTTP/1.1", "HTTP/1.0") + chunks(BODY), 400, id="9112-6.1 HTTP/1.0"
        ),
        pytest.param(
            f"{POST}Transfer-Encoding: gzip, chunked\r\n\r\n", 501, id="9112-6.1 unknown coding"
        ),
        pytest.param(
            f"{POST}Transfer-Encoding: chunked, chunked\r\n\r\n", 501, id="9112-6.1 chunked twice"
        ),
        pytest.param(f"{POST}Transfer-Encoding: identity\r\n\r\n", 501, id="9112-7 identity"),
        pytest.param(
            f"{POST}Transfer-Encoding: Chunked\r\n\r\n{chunks(BODY)}", 200, id="9112-7 case"
        ),
        pytest.param(f"{GET}TE: trailers, deflate;q=0.5\r\n\r\n", 200, id="9110-10.1.4 TE"),
        # 7: chunks.
        pytest.param(CHUNKED + chunks(BODY[:5], BODY[5:]), 200, id="9112-7.1"),
        pytest.param(
            CHUNKED + chunks(BODY).replace("\r\n", ";name=value\r\n", 1), 200, id="9112-7.1.1"
        ),
        pytest.param(
            CHUNKED + chunks(BODY, end="0\r\nX-End: 1\r\n\r\n"), 200, id="9112-7.1.2 trailers"
        ),
        pytest.param(
            CHUNKED + chunks(BODY).replace("\r\n", ';a="b;c\\""\r\n', 1), 200, id="7.1.1 quoted"
        ),
        pytest.param(
            CHUNKED + chunks(BODY).replace("\r\n", f";a={'b' * 70_000}\r\n", 1),
            400,
            id="9112-7.1.1 long",
        ),
        pytest.param(CHUNKED + f"{chunks(BODY, end='')}00000\r\n\r\n", 200, id="7.1 zeros"),
        pytest.param(
            CHUNKED + chunks(BODY, end="0\r\nContent-Length: 5\r\n\r\n"),
            200,
            id="9110-6.5.1 a trailer that means nothing",
        ),
        pytest.param(
            CHUNKED + chunks(BODY, end=f"0\r\nA: {'b' * 70_000}\r\n\r\n"), 400, id="9112-7.1.2 long"
        ),
        pytest.param(f"{CHUNKED}-5\r\nabcde\r\n", 400, id="9112-7.1 a sign"),
        pytest.param(f"{CHUNKED}0x5\r\nabcde\r\n", 400, id="9112-7.1 hexadecimal as in C"),
        pytest.param(f"{CHUNKED}5\r\nabcdeX\r\n0\r\n\r\n", 400, id="9112-7.1 data beyond its size"),
        pytest.param(f"{CHUNKED}zz\r\n", 400, id="9112-7.1 no size"),
        pytest.param(f"{CHUNKED}{'f' * 40}\r\n", 400, id="9112-7.1 too large a size"),
        # RFC 9110: content.
        pytest.param(
            WITH_LENGTH.replace("json", "xml") + f"\r\n{BODY.decode()}", 415, id="9110-15.5.16 type"
        ),
        pytest.param(
            f"{WITH_LENGTH}Content-Encoding: br\r\n\r\n{BODY.decode()}",
            415,
            id="9110-15.5.16 coding",
        ),
        pytest.param(
            f"{POST}Content-Length: 99999999\r\n\r\n", 413, id="9110-15.5.14 declared too large"
        ),
        pytest.param(f"GET /nowhere{END}", 404, id="9110-15.5.5"),
        pytest.param(f"{GET}Upgrade: h2c\r\nConnection: upgrade\r\n\r\n", 200, id="9110-7.8"),
        pytest.param(f"{GET}Range: bytes=0-1\r\n\r\n", 200, id="9110-14.2 ignored"),
    ],
)  # fmt: skip
def test_a_status_that_the_clause_demands(server: Live, data: str, status: int) -> None:
    reply = exchange(server, data)
    assert reply.status == status, reply.body
    # 6.6.1: an origin server with a clock dates what it sends.
    assert parsedate_to_datetime(reply.fields["date"]).tzinfo is not None
    if status == 204:
        assert "content-length" not in reply.fields  # 8.6
    else:
        assert reply.fields["content-type"].startswith("application/json")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(f"{GET}Host: localhost\r\n\r\n", id="9112-9.6 malformed"),
        pytest.param(
            f"{WITH_LENGTH}Transfer-Encoding: chunked\r\n\r\n{chunks(BODY)}", id="9112-6.1 both"
        ),
        pytest.param(f"{POST}Content-Length: 99999999\r\n\r\n", id="9110-15.5.14 unread body"),
        pytest.param(f"{GET}Connection: close\r\n\r\n", id="9112-9.6 asked for"),
        pytest.param(f"{GET}Connection: x, Close\r\n\r\n", id="9110-7.6.1 in a list"),
        pytest.param("GET /health HTTP/1.0\r\n\r\n", id="9112-9.3 HTTP/1.0"),
        pytest.param(f"{CHUNKED}zz\r\n", id="9112-8 a body that cannot be read"),
    ],
)
def test_the_connection_is_closed_and_that_is_said(server: Live, data: str) -> None:
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as connection:
        connection.sendall(data.encode())
        assert read(connection).fields["connection"].lower() == "close"
        assert is_closed(connection)


def test_9112_9_3_a_connection_serves_requests_one_behind_the_other(server: Live) -> None:
    data = f"{GET}\r\n{WITH_LENGTH}\r\n{BODY.decode()}{GET}\r\n"
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as connection:
        connection.sendall(data.encode())
        statuses = [read(connection) for _ in range(3)]
    assert [reply.status for reply in statuses] == [200, 200, 200]
    assert b"text_completion" in statuses[1].body


def test_9110_9_3_2_head_has_the_fields_of_get_and_no_content(server: Live) -> None:
    for path in ("/health", "/v1/models", "/"):
        asked = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        whole = exchange(server, asked).fields
        with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as one:
            one.sendall((asked.replace("GET", "HEAD", 1) + asked).encode())
            head = read(one, is_head=True)
            assert read(one).status == 200
        for fields in (whole, head.fields):
            del fields["date"], fields["x-request-id"]
        assert head.fields == whole


def test_9110_10_1_1_a_body_is_sent_once_it_is_wanted(server: Live) -> None:
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as connection:
        connection.sendall(f"{WITH_LENGTH}Expect: 100-continue\r\n\r\n".encode())
        assert read(connection).status == 100
        connection.sendall(BODY)
        assert read(connection).status == 200
    # What is refused by its header needs no body.
    too_large = f"{POST}Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n"
    assert exchange(server, too_large).status == 413
    # HTTP/1.0 knows no 100.
    old = WITH_LENGTH.replace("HTTP/1.1", "HTTP/1.0")
    assert exchange(server, f"{old}Expect: 100-continue\r\n\r\n{BODY.decode()}").status == 200


def test_9110_9_3_2_head_of_a_path_without_get(server: Live) -> None:
    reply = exchange(server, f"HEAD /v1/completions{END}", is_head=True)
    assert (reply.status, reply.fields["allow"]) == (405, "POST, OPTIONS")


def test_9110_10_1_1_an_expectation_that_is_not_known_is_a_417(server: Live) -> None:
    data = f"{WITH_LENGTH}Expect: a-miracle\r\n\r\n{BODY.decode()}"
    assert exchange(server, data).status == 417
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as connection:
        connection.sendall(f"{CHUNKED.rstrip()}\r\nExpect: 100-Continue\r\n\r\n".encode())
        assert read(connection).status == 100
        connection.sendall(chunks(BODY).encode())
        assert read(connection).status == 200
    # What has no body waits for nothing.
    assert exchange(server, f"{GET}Expect: 100-continue\r\n\r\n").status == 200


def test_9112_9_3_2_what_fails_among_pipelined_requests_fails_alone(server: Live) -> None:
    data = f"{GET}\r\nGET /nowhere{END}PUT /health{END}{GET}Connection: close\r\n\r\n{GET}\r\n"
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as connection:
        connection.sendall(data.encode())
        statuses = [read(connection).status for _ in range(4)]
        assert is_closed(connection)  # 9.6: nothing behind `close` is answered
    assert statuses == [200, 404, 405, 200]


def test_9112_9_6_a_body_that_is_left_unread_ends_the_connection(server: Live) -> None:
    wrong = WITH_LENGTH.replace("json", "xml")
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as connection:
        connection.sendall(f"{wrong}\r\n{BODY.decode()}{GET}\r\n".encode())
        reply = read(connection)
        assert (reply.status, reply.fields["connection"]) == (415, "close")
        assert is_closed(connection)


def test_9112_9_3_http_1_0_may_ask_for_more(server: Live) -> None:
    """A server need not keep such a connection, but has to say what it does."""
    data = "GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as connection:
        connection.sendall(data.encode())
        assert read(connection).fields["connection"].lower() == "close"
        assert is_closed(connection)


def test_9110_15_5_6_a_405_lists_what_is_allowed(server: Live) -> None:
    reply = exchange(server, f"PUT /health{END}")
    assert reply.fields["allow"] == "GET, HEAD, OPTIONS"
    reply = exchange(server, f"GET /v1/completions{END}")
    assert reply.fields["allow"] == "POST, OPTIONS"
    assert exchange(server, f"OPTIONS *{END}").fields["allow"]


@pytest.mark.parametrize("coding", ["zstd", "br", "gzip, zstd"])
def test_9110_12_5_3_a_415_lists_the_codings_that_are_taken(server: Live, coding: str) -> None:
    data = f"{WITH_LENGTH}Content-Encoding: {coding}\r\n\r\n{BODY.decode()}"
    reply = exchange(server, data)
    assert (reply.status, reply.fields["accept-encoding"]) == (415, "gzip, deflate")
    sentence = f"The Content-Encoding is '{coding}'; send gzip, deflate or none."
    assert json.loads(reply.body)["error"]["message"] == sentence


@pytest.mark.parametrize("members", [1, 50])
def test_9110_15_5_14_what_a_body_becomes_is_bounded_too(server: Live, members: int) -> None:
    bomb = gzip.compress(bytes((64 << 20) // members)) * members
    head = f"{POST}Content-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
    assert len(bomb) < ServerLimits().body_bytes
    assert exchange(server, head.encode() + bomb).status == 413


def test_9110_11_6_1_a_401_says_how_to_authenticate(engine: Engine) -> None:
    tenants = read_tenants(None, "a-key-of-more-than-16-characters")
    with live(engine, ScriptedEngine(["Hello"]), tenants=tenants) as server:
        reply = exchange(server, f"GET /v1/models{END}")
    assert (reply.status, reply.fields["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize(
    ("field", "status"),
    [
        ("If-None-Match: TAG", 304),
        ("If-None-Match: W/TAG", 304),
        ('If-None-Match: "x", TAG', 304),
        ("If-None-Match: *", 304),
        ('If-None-Match: "x"', 200),
        ("If-Match: TAG", 200),
        ("If-Match: *", 200),
        ("If-Match: W/TAG", 412),
        ('If-Match: "x"', 412),
    ],
)
def test_9110_13_1_preconditions_of_the_page(server: Live, field: str, status: int) -> None:
    asked = "GET / HTTP/1.1\r\nHost: localhost\r\n"
    tag = exchange(server, f"{asked}\r\n").fields["etag"]
    reply = exchange(server, f"{asked}{field.replace('TAG', tag)}\r\n\r\n")
    assert reply.status == status
    if status == 304:
        assert reply.fields["etag"] == tag  # 15.4.5
        assert "cache-control" in reply.fields
        assert reply.body == b""
