"""An OpenTelemetry collector: takes spans over OTLP/HTTP and keeps them."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from time import monotonic, sleep
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from stand_ins.http_server import serving


@dataclass
class Collector:
    address: str
    received: list[tuple[str, ExportTraceServiceRequest]] = field(default_factory=list)

    def spans(self) -> list[Any]:
        """Return all spans so far."""
        return [
            span
            for _, request in self.received
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def wait_for(self, count: int, seconds: float = 20) -> list[Any]:
        """Return all spans as soon as there are `count`."""
        end = monotonic() + seconds
        while len(self.spans()) < count and monotonic() < end:
            sleep(0.02)
        return self.spans()


@contextmanager
def collecting() -> Iterator[Collector]:
    received: list[tuple[str, ExportTraceServiceRequest]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            received.append((self.path, ExportTraceServiceRequest.FromString(body)))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: object) -> None:
            pass

    with serving(Handler) as server:
        yield Collector(server.address(), received)
