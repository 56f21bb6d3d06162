"""The ASGI application: routes, who may use them, and one place where errors become answers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from traceback import walk_tb

from tonnage.core.record import record
from tonnage.core.version import VERSION
from tonnage.server.anthropic import messages
from tonnage.server.http import page
from tonnage.server.http.decoding import decode
from tonnage.server.http.exchange import (
    BodyBudget,
    ClientGoneError,
    HttpExchange,
    Receive,
    Scope,
    Send,
    ServerLimits,
)
from tonnage.server.http.failures import INTERNAL_ERROR, HttpError, failure_of
from tonnage.server.http.request_line import require_sound
from tonnage.server.models.pool import ModelPool, draining
from tonnage.server.models.service import Service
from tonnage.server.models.tenants import Tenant, Tenants
from tonnage.server.observe import overview
from tonnage.server.observe.log import REQUEST, Field, RequestContext, frames_of, log
from tonnage.server.observe.trace import Tracer
from tonnage.server.openai import chat, completions, embeddings, responses
from tonnage.server.openai.schema import ModelRequest, OptionalModel, StreamRequest

Handler = Callable[[ModelPool, HttpExchange, Tenant, bytes], Awaitable[None]]
ModelHandler = Callable[[Service, HttpExchange, Tenant, bytes], Awaitable[None]]


@record
class Route:
    """What answers a method and path; is_open: without a key. in_api: is listed as interface."""

    handler: Handler
    is_open: bool = False
    in_api: bool = True


def of_model(
    handler: ModelHandler, kind: type[ModelRequest] | type[OptionalModel] = ModelRequest
) -> Handler:
    """Return what hands requests to `handler` while the model that they name is in memory.

    The name alone is read here, and no other object is made of the body. A request may wait for
    its model for a minute, and until then its bytes are all that it holds.
    """

    async def answer(pool: ModelPool, exchange: HttpExchange, tenant: Tenant, body: bytes) -> None:
        name = decode(kind, body).model
        exchange.trace.model = name or ""
        async with pool.using(name) as service:
            await handler(service, exchange, tenant, body)

    return answer


def of_stream(handler: ModelHandler, sign: bytes) -> Handler:
    """Return the same for completions; sign: what their streams send while there is no news."""
    whole = of_model(handler)

    async def answer(pool: ModelPool, exchange: HttpExchange, tenant: Tenant, body: bytes) -> None:
        if not decode(StreamRequest, body).stream:
            await whole(pool, exchange, tenant, body)
            return
        async with exchange.signs_of_life(sign):
            await whole(pool, exchange, tenant, body)

    return answer


async def _openapi(pool: ModelPool, exchange: HttpExchange, tenant: Tenant, body: bytes) -> None:
    """Describe what may be asked, for tools that read OpenAPI."""
    from tonnage.server.http.openapi import document

    methods = {
        path: [method for method, route in routes.items() if route.in_api]
        for path, routes in ROUTES.items()
    }
    methods = {path: allowed for path, allowed in methods.items() if allowed}
    await exchange.json(document(methods, VERSION, with_keys=bool(tenant.name)))


# What streams send in a silence: a comment, which readers of events skip, and Anthropic's event.
_COMMENT = b": no news yet\n\n"
_PING = b'event: ping\ndata: {"type": "ping"}\n\n'
_PAGE = Route(page.page, is_open=True, in_api=False)
ROUTES: dict[str, dict[str, Route]] = {
    "/": {"GET": _PAGE},
    page.STATIC: {"GET": _PAGE},
    "/health": {"GET": Route(overview.health, is_open=True)},
    "/ready": {"GET": Route(overview.health, is_open=True)},
    "/openapi.json": {"GET": Route(_openapi)},
    "/metrics": {"GET": Route(overview.metrics)},
    "/memory": {"GET": Route(overview.memory)},
    "/models": {"GET": Route(overview.models)},
    "/models/load": {"POST": Route(overview.load)},
    "/models/unload": {"POST": Route(overview.unload)},
    "/v1/models": {"GET": Route(overview.models)},
    "/v1/models/{model}": {"GET": Route(overview.model)},
    "/v1/chat/completions": {"POST": Route(of_stream(chat.chat, _COMMENT))},
    "/v1/completions": {"POST": Route(of_stream(completions.complete, _COMMENT))},
    "/v1/embeddings": {"POST": Route(of_model(embeddings.embed))},
    "/v1/responses": {"POST": Route(of_stream(responses.respond, _COMMENT))},
    "/v1/messages": {"POST": Route(of_stream(messages.messages, _PING))},
    "/v1/messages/count_tokens": {"POST": Route(of_model(messages.count_tokens))},
    "/tokenize": {"POST": Route(of_model(completions.tokenize, OptionalModel))},
    "/detokenize": {"POST": Route(of_model(completions.detokenize, OptionalModel))},
}
# Header fields that proxies add (RFC 7239, RFC 9110 7.6.3, and older habits).
_OF_PROXIES = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
_LOOPBACK = frozenset(["localhost", "127.0.0.1", "[::1]", "::1"])


class App:
    """Serves the models of a pool to all comers."""

    def __init__(
        self, pool: ModelPool, tenants: Tenants, limits: ServerLimits, tracer: Tracer | None = None
    ) -> None:
        """tenants: who may ask. limits: what one of them can take. tracer: receives all POSTs."""
        self.pool = pool
        self._tenants = tenants
        self._limits = limits
        self._budget = BodyBudget()
        self._tracer = tracer
        self.draining = False
        self._told_of_proxy = False

    def use_tenants(self, tenants: Tenants) -> int:
        """Let these ask from now on; return how many keys they have.

        Who is known already keeps what is left of its quotas.
        """
        self._tenants = tenants.renewed(self._tenants)
        return self._tenants.num_keys

    def drain(self) -> None:
        """Take no more requests; running answers go on."""
        self.draining = True
        self.pool.drain()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of ASGI."""
        exchange = HttpExchange(scope, receive, send, self._limits, self._budget)
        exchange.trace.is_exported = self._tracer is not None
        path = route_of(exchange.path)
        begin_s = perf_counter()
        # Each request has a task of its own, and so a context of its own.
        REQUEST.set(RequestContext(exchange.request_id))
        failure = None
        try:
            await self._answer(exchange, path)
        except (ClientGoneError, asyncio.CancelledError):
            pass  # the client is gone
        except Exception as error:
            # What failed, and all that it held, is gone before the answer is sent.
            failure = failure_of(error, exchange.request_id)
            if failure.status >= 500:
                _report(exchange, error, failure)
        finally:
            exchange.release()
        if failure is not None:
            await self._fail(exchange, failure)
        route = path if path in ROUTES else "other"
        self.pool.requests.answered(route, exchange.status)
        _log_end(exchange, route, perf_counter() - begin_s)
        if self._tracer is not None and exchange.method == "POST":
            self._tracer.report(exchange.trace, route, exchange.status)

    async def _answer(self, exchange: HttpExchange, path: str) -> None:
        require_sound(exchange.method, exchange.version, exchange.path, exchange.headers)
        self._require_known_host(exchange)
        if exchange.method == "OPTIONS":
            await exchange.empty(204, {"allow": _allowed(path)})
            return
        route = _route(path, exchange.method)
        if self.draining and path != "/health":
            raise draining()
        tenant = Tenant("", "") if route.is_open else self._tenants.of(exchange.headers)
        REQUEST.set(RequestContext(exchange.request_id, tenant.name))
        if exchange.method in ("GET", "HEAD"):
            await route.handler(self.pool, exchange, tenant, b"")
            return
        body = await exchange.body()
        work = asyncio.ensure_future(route.handler(self.pool, exchange, tenant, body))
        gone = asyncio.ensure_future(exchange.until_gone())
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not work.done():
                work.cancel()
        try:
            await work
        finally:
            # What failed would refer to itself through this frame, and hold the body until garbage
            # is collected.
            del work

    def _require_known_host(self, exchange: HttpExchange) -> None:
        """Refuse names that a web page made resolve to this machine (DNS rebinding)."""
        if self._tenants.need_keys:
            return
        host = exchange.headers.get("host", "localhost").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name not in _LOOPBACK:
            raise HttpError(
                403,
                f"The host {name[:80]!r} is not this machine; without keys only localhost is "
                "served.",
                code="unknown_host",
            )
        self._warn_of_proxy(exchange.headers)

    def _warn_of_proxy(self, headers: Mapping[str, str]) -> None:
        """Tell the operator once that a proxy stands before a server without keys."""
        found = next((name for name in _OF_PROXIES if name in headers), None)
        if found is not None and not self._told_of_proxy:
            self._told_of_proxy = True
            log(
                logging.WARNING,
                f"A request came through a proxy ({found}), and no key is asked for: whoever "
                "reaches the proxy may use this server. Serve with --keys FILE or TONNAGE_API_KEY.",
            )

    async def _fail(self, exchange: HttpExchange, failure: HttpError) -> None:
        """Answer with an error, in the words of the interface that was used."""
        in_anthropic = exchange.path.startswith("/v1/messages")
        body = failure.anthropic() if in_anthropic else failure.openai()
        if not exchange.started:
            await exchange.json(body, failure.status, failure.headers)
            return
        if exchange.in_events:
            await exchange.event(body, "error" if in_anthropic else None)
            await exchange.end_events()
            return
        # The connection is cut: half of an answer must not look like a whole one.
        log(
            logging.WARNING,
            f"{exchange.path}: what had begun was cut.",
            status=failure.status,
            code=failure.code or "",
        )


def route_of(path: str) -> str:
    """Return the path as ROUTES writes it."""
    if path.startswith("/v1/models/") and len(path) > len("/v1/models/"):
        return "/v1/models/{model}"
    return page.STATIC if path.startswith("/static/") else path


def _route(path: str, method: str) -> Route:
    allowed = _allowed(path)
    route = ROUTES[path].get("GET" if method == "HEAD" else method)
    if route is None:
        raise HttpError(
            405, f"{path} takes {allowed}.", code="method_not_allowed", headers={"allow": allowed}
        )
    return route


def _allowed(path: str) -> str:
    """Return the methods of a path, or of the server as a whole (`*`). Raises HttpError 404."""
    methods = ("GET", "POST") if path == "*" else ROUTES.get(path)
    if methods is None:
        raise HttpError(404, f"There is no {path[:80]}; see /openapi.json.", code="not_found")
    heads = ["HEAD"] if "GET" in methods else []
    return ", ".join([*methods, *heads, "OPTIONS"])


def _report(exchange: HttpExchange, error: Exception, failure: HttpError) -> None:
    """Tell the operator where it failed; neither the message nor the request is shown."""
    *_, innermost = [None, *walk_tb(error.__traceback__)]
    where = "unknown" if innermost is None else f"{innermost[0].f_code.co_filename}:{innermost[1]}"
    is_bug = failure.code == INTERNAL_ERROR
    log(
        logging.ERROR if is_bug else logging.WARNING,
        f"{exchange.path}: {type(error).__name__} at {where}",
        traceback=frames_of(error) if is_bug else "",
        status=failure.status,
    )


def _log_end(exchange: HttpExchange, route: str, seconds: float) -> None:
    """Log what came of a request; status 0: the client was gone.

    What looks at the server, such as its page once a second, is for those who debug.
    """
    trace = exchange.trace
    fields: dict[str, Field] = {"model": trace.served_by} if trace.served_by else {}
    if trace.embedded_tokens:
        fields["prompt_tokens"] = trace.embedded_tokens
    fields |= trace.figures
    log(
        logging.INFO if exchange.method == "POST" else logging.DEBUG,
        f"{exchange.method} {route} has ended.",
        status=exchange.status,
        traceback="",
        duration_s=seconds,
        **fields,
    )
