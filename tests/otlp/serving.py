"""A web program with OpenTelemetry's SDK and nothing of us; run by tests/e2e/otlp.rs.

It passes contexts on as OpenTelemetry's instrumentations do. ``/outer`` asks ``/inner`` of itself.
"""

import http.server
import os
import urllib.request

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract, inject
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind

PORT = int(os.environ["PORT"])
tracing = TracerProvider()
tracing.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
tracer = tracing.get_tracer("serving")


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        around = extract({name.lower(): value for name, value in self.headers.items()})
        told = {"http.request.method": "GET", "http.response.status_code": 200}
        with tracer.start_as_current_span(
            "GET", around, SpanKind.SERVER, {**told, "http.route": "/{which}"}
        ):
            if self.path == "/outer":
                with tracer.start_as_current_span("GET", None, SpanKind.CLIENT, told):
                    headers = {}
                    inject(headers)
                    inner = urllib.request.Request(f"http://127.0.0.1:{PORT}/inner", headers=headers)
                    urllib.request.urlopen(inner).read()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"served")

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Page).serve_forever()
