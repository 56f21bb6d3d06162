"""Requests as OpenTelemetry spans: parents, phases, names of the conventions, and no text."""

import socket
import time

import anthropic
import openai
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv.attributes import error_attributes, http_attributes
from opentelemetry.trace import SpanKind, StatusCode

from stand_ins.trace_collector import collecting
from support.live_server import NAME, ScriptedEngine, live, write_chat_model
from tonnage.engine.engine import Engine
from tonnage.server.observe.telemetry import OtelTracer, otlp_tracer

WORD = "xylophone"  # what must never be in a trace
HI = [{"role": "user", "content": f"Say {WORD}"}]
GREEDY = {"model": NAME, "temperature": 0}
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
KNOWN = {
    value
    for module in (gen_ai_attributes, http_attributes, error_attributes)
    for name, value in vars(module).items()
    if isinstance(value, str) and name.isupper()
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = write_chat_model(tmp_path_factory.mktemp("model") / "hf")
    with Engine.open(str(folder), context=512, threads=1, concurrency=2) as engine:
        yield engine


@pytest.fixture
def kept():
    return InMemorySpanExporter()


@pytest.fixture
def tracer(kept):
    tracer = OtelTracer(SimpleSpanProcessor(kept))
    yield tracer
    tracer.close()


def asked(server, **more):
    """Ask as OpenAI's client does, with a parent; more: of the request."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        answer = client.chat.completions.create(
            **{**GREEDY, "messages": HI, "max_tokens": 6, **more},
            extra_headers={"traceparent": PARENT},
        )
        return list(answer) if more.get("stream") else answer


def test_a_request_is_a_server_span_below_its_caller_with_a_span_for_each_phase(
    engine, tracer, kept
):
    before_ns = time.time_ns()
    with live(engine, tracer=tracer) as server:
        answer = asked(server, seed=3)
    phases, spans = {}, kept.get_finished_spans()
    (request,) = (span for span in spans if span.kind == SpanKind.SERVER)
    assert request.name == "POST /v1/chat/completions"
    assert f"{request.context.trace_id:032x}" == PARENT.split("-")[1]
    assert f"{request.parent.span_id:016x}" == PARENT.split("-")[2]
    told = request.attributes
    assert told["gen_ai.request.model"] == told["gen_ai.response.model"] == NAME
    assert told["gen_ai.usage.input_tokens"] == answer.usage.prompt_tokens
    assert told["gen_ai.usage.output_tokens"] == 6
    assert told["gen_ai.response.finish_reasons"] == ("length",)
    assert (told["gen_ai.request.seed"], told["gen_ai.request.temperature"]) == (3, 0)
    assert (told["http.response.status_code"], told["http.route"]) == (200, "/v1/chat/completions")
    for span in spans:
        if span is not request:
            assert span.parent.span_id == request.context.span_id
            assert span.context.trace_id == request.context.trace_id
            phases[span.name] = span
    assert list(phases) == ["queue", "prefill", "decode"]
    queue, prefill, decode = phases.values()
    assert before_ns < request.start_time <= queue.start_time
    assert queue.end_time == prefill.start_time < prefill.end_time == decode.start_time
    assert decode.start_time < decode.end_time <= request.end_time
    assert decode.attributes["gen_ai.usage.output_tokens"] == 6


def test_a_request_for_vectors_is_told_with_its_tokens(engine, tracer, kept):
    with (
        live(engine, tracer=tracer) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
    ):
        answer = client.embeddings.create(model=NAME, input=["One text.", "And another."])
    (span,) = kept.get_finished_spans()
    told = span.attributes
    assert told["gen_ai.operation.name"] == "embeddings"
    assert told["gen_ai.request.model"] == told["gen_ai.response.model"] == NAME
    assert told["gen_ai.usage.input_tokens"] == answer.usage.total_tokens > 0
    assert told.keys() <= KNOWN


def test_names_are_those_of_the_conventions_and_texts_are_not_told(engine, tracer, kept):
    with live(engine, tracer=tracer) as server:
        asked(server, n=2, stop=[WORD], stream=False)
        asked(server, stream=True)
        with anthropic.Anthropic(base_url=server.url, api_key="x", max_retries=0) as claude:
            claude.messages.create(model=NAME, messages=HI, max_tokens=3, system=WORD)
    spans = kept.get_finished_spans()
    names = [span.name for span in spans]
    assert names.count("decode") == 4
    assert "POST /v1/messages" in names
    used = {name for span in spans for name in span.attributes}
    assert {name for name in used if not name.startswith("tonnage.")} <= KNOWN
    assert all(WORD not in span.to_json() for span in spans)


def test_an_error_and_a_caller_without_a_trace(engine, tracer, kept):
    failing = ScriptedEngine((), error=ValueError(WORD))
    with (
        live(engine, failing, tracer=tracer) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
    ):
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(**GREEDY, messages=HI)
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="other", messages=HI)
        client.models.list()  # not worth a trace
    broken, unknown = kept.get_finished_spans()
    assert broken.parent is None
    assert broken.status.status_code == StatusCode.ERROR
    assert broken.attributes["error.type"] == "500"
    assert unknown.status.status_code == StatusCode.UNSET
    assert unknown.attributes["http.response.status_code"] == 404
    assert unknown.attributes["gen_ai.request.model"] == "other"
    assert WORD not in broken.to_json()


def test_a_collector_receives_them_and_the_operator_names_the_service(engine, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "reader")
    with collecting() as collector:
        tracer = otlp_tracer(collector.address)
        with live(engine, tracer=tracer) as server:
            asked(server)
        tracer.close()  # sends at once
        path, request = collector.received[0]
        assert path == "/v1/traces"
        (resource,) = request.resource_spans
        named = {one.key: one.value.string_value for one in resource.resource.attributes}
        assert named["service.name"] == "reader"
        spans = collector.spans()
    assert sorted(span.name for span in spans) == [
        "POST /v1/chat/completions", "decode", "prefill", "queue",
    ]  # fmt: skip
    assert {span.trace_id.hex() for span in spans} == {PARENT.split("-")[1]}


def test_a_collector_that_is_not_there_delays_nobody_for_long(engine, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    tracer = otlp_tracer(f"http://127.0.0.1:{port}")
    with live(engine, tracer=tracer) as server:
        asked(server)
    begin = time.monotonic()
    tracer.close()
    assert time.monotonic() - begin < 3
