// The official JavaScript exporters tell a checkout: spans, a log record, metrics; run by
// tests/e2e/otlp.rs.
//
//     export.mjs grpc|http/protobuf|http/json ENDPOINT SERVICE [delta]

import { SpanKind, SpanStatusCode, context, diag, DiagLogLevel, trace } from "@opentelemetry/api";
import { SeverityNumber } from "@opentelemetry/api-logs";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchLogRecordProcessor, LoggerProvider } from "@opentelemetry/sdk-logs";
import {
  AggregationTemporality,
  AggregationType,
  MeterProvider,
  PeriodicExportingMetricReader,
} from "@opentelemetry/sdk-metrics";
import { BatchSpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";

const [protocol, endpoint, service, temporality] = process.argv.slice(2);
const suffix = { grpc: "grpc", "http/protobuf": "proto", "http/json": "http" }[protocol];
const { OTLPTraceExporter } = await import(`@opentelemetry/exporter-trace-otlp-${suffix}`);
const { OTLPLogExporter } = await import(`@opentelemetry/exporter-logs-otlp-${suffix}`);
const { OTLPMetricExporter } = await import(`@opentelemetry/exporter-metrics-otlp-${suffix}`);

// Exporters log what fails; here it must not stay unseen.
const loud = (...said) => {
  console.error(...said);
  process.exit(1);
};
diag.setLogger({ error: loud, warn: loud, info() {}, debug() {}, verbose() {} }, DiagLogLevel.WARN);

const url = (path) => (protocol === "grpc" ? endpoint : `${endpoint}/v1/${path}`);
const options = (path) => ({ url: url(path), compression: "gzip" });
const resource = resourceFromAttributes({
  "service.name": service,
  "service.version": "1.2.3",
  "service.instance.id": "cart-1",
});
const tracing = new TracerProvider({
  resource,
  spanProcessors: [new BatchSpanProcessor({ exporter: new OTLPTraceExporter(options("traces")) })],
});
const logs = new LoggerProvider({
  resource,
  processors: [new BatchLogRecordProcessor({ exporter: new OTLPLogExporter(options("logs")) })],
});
const metrics = new MeterProvider({
  resource,
  readers: [
    new PeriodicExportingMetricReader({
      exporter: new OTLPMetricExporter({
        ...options("metrics"),
        temporalityPreference:
          temporality === "delta" ? AggregationTemporality.DELTA : AggregationTemporality.CUMULATIVE,
      }),
      exportIntervalMillis: 3_600_000,
    }),
  ],
  views: [{ instrumentName: "sizes", aggregation: { type: AggregationType.EXPONENTIAL_HISTOGRAM } }],
});

const tracer = tracing.getTracer("shop");
const checkout = tracer.startSpan("checkout", {
  kind: SpanKind.SERVER,
  attributes: { "http.request.method": "POST", items: 3 },
});
const inside = trace.setSpan(context.active(), checkout);
const charge = tracer.startSpan("charge", { kind: SpanKind.CLIENT }, inside);
charge.recordException(new Error("no such card"));
charge.setStatus({ code: SpanStatusCode.ERROR, message: "declined" });
logs.getLogger("shop").emit({
  severityNumber: SeverityNumber.WARN,
  severityText: "WARN",
  body: "card declined",
  attributes: { "order.id": 7 },
  context: trace.setSpan(inside, charge),
});
charge.end();
checkout.end();

const meter = metrics.getMeter("shop");
const done = meter.createCounter("jobs.done", { unit: "{job}" });
const open = meter.createUpDownCounter("jobs.open");
const took = meter.createHistogram("took", { unit: "ms" });
const sizes = meter.createHistogram("sizes", { unit: "By" });
for (const jobs of [3, 4]) {
  done.add(jobs, { "queue.name": "mail" });
  open.add(1);
  for (const ms of [1, 12, 700]) took.record(ms, { "queue.name": "mail" });
  for (const size of [1, 2, 4, 8]) sizes.record(size);
  await metrics.forceFlush();
}
await Promise.all([tracing.forceFlush(), logs.forceFlush()]);
await Promise.all([tracing.shutdown(), logs.shutdown(), metrics.shutdown()]);
console.log("told");
