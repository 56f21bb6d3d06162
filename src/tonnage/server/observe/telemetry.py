"""Requests as OpenTelemetry traces over OTLP/HTTP; the extra `otel`, imported only when asked for.

Specifications: W3C Trace Context (the parent of a request), OpenTelemetry's semantic conventions
for HTTP servers and for generative AI (names of attributes). Of prompts and answers, stop strings
included, no text is exported. A request becomes spans when it is over, so that no step waits for
it, and a thread of the SDK sends them.
"""

import os
from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.resources import (
    SERVICE_NAME,
    SERVICE_VERSION,
    OTELResourceDetector,
    Resource,
)
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tonnage.core.version import VERSION
from tonnage.engine.generation import Generation
from tonnage.server.observe.trace import Trace

Attribute = str | int | float | list[str]

_OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/responses": "chat",
    "/v1/messages": "chat",
    "/v1/embeddings": "embeddings",
}
_OPTIONS = (
    "temperature", "top_p", "top_k", "max_tokens", "seed", "presence_penalty", "frequency_penalty",
)  # fmt: skip
_SEND_EVERY_MS = 2000
_MOST_WAITING = 1024  # spans; more are dropped, so that a collector that is away costs 5 MiB
_SEND_TIMEOUT_S = 3  # of a collector that does not answer, also when the server ends
_TIMEOUT_VARIABLES = ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")


class OtelTracer:
    """Tells requests to an OpenTelemetry provider."""

    def __init__(self, processor: SpanProcessor) -> None:
        """processor: takes finished spans; it is shut down by `close`."""
        named = Resource.create({SERVICE_NAME: "tonnage", SERVICE_VERSION: VERSION})
        # What the operator says (OTEL_SERVICE_NAME) goes before what we are called.
        resource = named.merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("tonnage", VERSION)
        self._propagator = TraceContextTextMapPropagator()

    def report(self, trace: Trace, route: str, status: int) -> None:
        """Make a span of the request, and one of queue, prefill and decode for each answer."""
        parent = self._propagator.extract(trace.headers, context=Context())
        span = self._tracer.start_span(
            f"{trace.method} {route}",
            context=parent,
            kind=SpanKind.SERVER,
            attributes=_attributes(trace, route, status),
            start_time=trace.begin_ns,
        )
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        if span.is_recording():
            inside = set_span_in_context(span, Context())
            for index, generation in enumerate(trace.generations):
                self._report_completion(inside, trace.queued_ns, index, generation)
        span.end()

    def _report_completion(
        self, inside: Context, queued_ns: int, index: int, answer: Generation
    ) -> None:
        """Tell the phases that an answer with a first token went through."""
        if not answer.tokens:
            return
        admitted_ns = queued_ns + answer.queue_ns
        first_ns = queued_ns + answer.time_to_first_token_ns
        counts = {
            "gen_ai.usage.input_tokens": len(answer.prompt),
            "gen_ai.usage.cache_read.input_tokens": answer.num_cached_tokens,
        }
        written = {"gen_ai.usage.output_tokens": len(answer.tokens)}
        for name, begin_ns, end_ns, numbers in (
            ("queue", queued_ns, admitted_ns, {}),
            ("prefill", admitted_ns, first_ns, counts),
            ("decode", first_ns, first_ns + answer.decode_ns, written),
        ):
            attributes = {"tonnage.choice.index": index, **numbers}
            span = self._tracer.start_span(
                name, context=inside, attributes=attributes, start_time=begin_ns
            )
            span.end(end_ns)

    def close(self) -> None:
        """Send what was not sent yet, for a few seconds at most."""
        self._provider.shutdown()


def otlp_tracer(endpoint: str | None) -> OtelTracer:
    """Return a tracer that sends to a collector.

    endpoint: its address without a path, such as http://127.0.0.1:4318; None for what the
    environment says (OTEL_EXPORTER_OTLP_ENDPOINT and its kin).
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    address = None if endpoint is None else endpoint.rstrip("/") + "/v1/traces"
    stated = any(name in os.environ for name in _TIMEOUT_VARIABLES)
    exporter = OTLPSpanExporter(address, timeout=None if stated else _SEND_TIMEOUT_S)
    processor = BatchSpanProcessor(
        exporter, max_queue_size=_MOST_WAITING, schedule_delay_millis=_SEND_EVERY_MS
    )
    return OtelTracer(processor)


def _attributes(trace: Trace, route: str, status: int) -> dict[str, Attribute]:
    """Return what is attributes of a whole request."""
    attributes: dict[str, Attribute] = {"http.request.method": trace.method, "http.route": route}
    if status:
        attributes["http.response.status_code"] = status
    if status >= 500:
        attributes["error.type"] = str(status)
    if route in _OPERATIONS:
        attributes["gen_ai.operation.name"] = _OPERATIONS[route]
        attributes["gen_ai.provider.name"] = "tonnage"
        attributes["gen_ai.request.model"] = trace.model
    if trace.served_by:
        attributes["gen_ai.response.model"] = trace.served_by
        if trace.embedded_tokens:
            attributes["gen_ai.usage.input_tokens"] = trace.embedded_tokens
        else:
            attributes |= _sampling(trace) | _usage(trace.generations)
    return attributes


def _sampling(trace: Trace) -> dict[str, Attribute]:
    """Return how answers were to be drawn."""
    attributes: dict[str, Attribute] = {"gen_ai.request.choice.count": len(trace.generations)}
    for name in _OPTIONS:
        value = getattr(trace.options, name, None)
        # Attributes are signed numbers of 64 bits.
        if value is not None and value < 1 << 63:
            attributes[f"gen_ai.request.{name}"] = value
    return attributes


def _usage(answers: Sequence[Generation]) -> dict[str, Attribute]:
    """Return what answers came to, all together."""
    return {
        "gen_ai.usage.input_tokens": sum(len(one.prompt) for one in answers),
        "gen_ai.usage.cache_read.input_tokens": sum(one.num_cached_tokens for one in answers),
        "gen_ai.usage.output_tokens": sum(len(one.tokens) for one in answers),
        "gen_ai.response.finish_reasons": [one.finish_reason or "cancelled" for one in answers],
    }
