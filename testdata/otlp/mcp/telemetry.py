"""Sets up tracing, and on request logging, with the OTLP/HTTP JSON exporters."""

import logging

from opentelemetry import trace
from opentelemetry.exporter.otlp.json.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def set_up(service, base_url, logger=None):
    """Returns the providers; shutting them down sends what is left."""
    resource = Resource.create({"service.name": service, "service.version": "3.2.0", "deployment.environment.name": "production"})
    tracing = TracerProvider(resource=resource)
    # One body per process and batch: nothing is sent before a flush.
    tracing.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{base_url}/v1/traces"), schedule_delay_millis=60_000))
    trace.set_tracer_provider(tracing)
    if logger is None:
        return [tracing]
    logs = LoggerProvider(resource=resource)
    logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(f"{base_url}/v1/logs"), schedule_delay_millis=60_000))
    logging.getLogger(logger).addHandler(LoggingHandler(logger_provider=logs))
    return [tracing, logs]
