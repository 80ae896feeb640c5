"""Tool calls through the OpenTelemetry SDK. usage: python sdk.py ACKNOWLEDGED http|grpc CALLS"""

import logging
import sys
import time

from acknowledged import exporters, logs, tracing
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor


def main():
    path, kind, calls = sys.argv[1], sys.argv[2], int(sys.argv[3])
    provider = tracing("sdk-client", path, kind)
    tracer = provider.get_tracer("sdk-client")
    logging_provider = LoggerProvider(resource=provider.resource)
    logging_provider.add_log_record_processor(BatchLogRecordProcessor(
        logs(exporters(kind)[1], path), max_export_batch_size=4, schedule_delay_millis=20,
    ))
    log = logging.getLogger("sdk-client")
    log.setLevel(logging.INFO)
    log.addHandler(LoggingHandler(logger_provider=logging_provider))
    for number in range(calls):
        with tracer.start_as_current_span("execute_tool get_order", attributes={
            "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "get_order",
            "gen_ai.tool.call.id": f"call_{number}", "session.id": "session-sdk",
            "gen_ai.tool.call.arguments": f'{{"order_id":"H-{number}"}}',
        }):
            log.info("order %d", number)
        time.sleep(0.004)
    provider.shutdown()
    logging_provider.shutdown()


main()
