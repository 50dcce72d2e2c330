"""The official Python exporters tell a checkout: spans, a log record, metrics; run by tests/e2e/otlp.rs.

    export.py grpc|http/protobuf ENDPOINT SERVICE [BEGIN]

With ``BEGIN`` it tells nothing before there is a file of that name, may have to try again, and prints that
it does.
"""

import logging
import os
import sys
import time

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode

protocol, endpoint, service, *more = sys.argv[1:]
if protocol == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from grpc import Compression

    def exporter(kind, _path):
        return kind(endpoint=endpoint, insecure=True, compression=Compression.Gzip)
else:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    def exporter(kind, path):
        return kind(endpoint=f"{endpoint}/v1/{path}", compression=Compression.Gzip)


class Loud(logging.Handler):
    """Exporters log what fails; here it must not stay unseen."""

    def emit(self, record):
        sys.exit(f"{record.name}: {record.getMessage()}")


exporters = logging.getLogger("opentelemetry")
exporters.addHandler(Loud(logging.ERROR if more else logging.WARNING))
if more:
    exporters.addHandler(logging.StreamHandler(sys.stdout))
resource = Resource.create(
    {"service.name": service, "service.version": "1.2.3", "service.instance.id": "cart-1"}
)
tracing = TracerProvider(resource=resource)
tracing.add_span_processor(BatchSpanProcessor(exporter(OTLPSpanExporter, "traces")))
logs = LoggerProvider(resource=resource)
logs.add_log_record_processor(BatchLogRecordProcessor(exporter(OTLPLogExporter, "logs")))
metrics = MeterProvider(
    resource=resource,
    metric_readers=[PeriodicExportingMetricReader(exporter(OTLPMetricExporter, "metrics"), 3_600_000)],
    views=[View(instrument_name="sizes", aggregation=ExponentialBucketHistogramAggregation())],
)

if more:
    print("ready to tell")
    while not os.path.exists(more[0]):
        time.sleep(0.02)

tracer = tracing.get_tracer("shop")
with tracer.start_as_current_span(
    "checkout", kind=SpanKind.SERVER, attributes={"http.request.method": "POST", "items": 3}
):
    with tracer.start_as_current_span("charge", kind=SpanKind.CLIENT) as span:
        span.record_exception(ValueError("no such card"))
        span.set_status(Status(StatusCode.ERROR, "declined"))
        logs.get_logger("shop").emit(
            LogRecord(
                severity_number=SeverityNumber.WARN,
                severity_text="WARN",
                body="card declined",
                attributes={"order.id": 7},
            )
        )

meter = metrics.get_meter("shop")
done = meter.create_counter("jobs.done", unit="{job}")
is_open = meter.create_up_down_counter("jobs.open")
took = meter.create_histogram("took", unit="ms")
sizes = meter.create_histogram("sizes", unit="By")
for jobs in (3, 4):
    done.add(jobs, {"queue.name": "mail"})
    is_open.add(1)
    for ms in (1, 12, 700):
        took.record(ms, {"queue.name": "mail"})
    for size in (1, 2, 4, 8):
        sizes.record(size)
    assert metrics.force_flush(), "the metrics were not taken"
assert tracing.force_flush() and logs.force_flush(), "spans or logs were not taken"
tracing.shutdown()
logs.shutdown()
metrics.shutdown()
print("told")
