"""Records an MCP client and server, each exporting its own spans over OTLP/HTTP JSON.

usage: python record.py OUTPUT_DIR, with `../common` on PYTHONPATH (record.sh does both)
"""

import asyncio
import os
import sys
from pathlib import Path

from capture import Capture
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from opentelemetry import trace
from telemetry import set_up

LOOP_ROUNDS = 14

POLL = ("get_service_status", {"service": "checkout"})

def deploy(environment):
    return ("deploy_service", {"service": "checkout", "version": "4.2.1", "environment": environment})


# One connection, and so one server process, per label; one trace per agent run.
CONNECTIONS = [
    ("3 polling loop", [
        ("ops-agent", [POLL] * LOOP_ROUNDS + [("restart_service", {"service": "checkout", "environment": "production"})]),
    ]),
    ("7 restricted table, 8 deploy, 9 intern-bot deletes, 2 error and retry", [
        ("finance-agent", [
            ("run_sql", {"query": "SELECT status, count(*) FROM orders GROUP BY status", "database": "shop"}),
            ("run_sql", {"query": "SELECT holder, number FROM payment_cards", "database": "shop"}),
        ]),
        ("ops-agent", [deploy("staging"), deploy("production")]),
        ("intern-bot", [("delete_records", {"table": "orders", "where": "status = 'lost'"})]),
        ("support-agent", [("get_order", {"order_id": "H-20433"})] * 3),
    ]),
]


def server_parameters(capture):
    """The server is a child process that finds its modules and the receiver through its environment."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return StdioServerParameters(
        command=sys.executable, args=[str(Path(__file__).parent / "server.py")],
        env={**kept, "HARBOR_OTLP": capture.base_url},
    )


async def run(capture, tracer, label, runs):
    with open(os.devnull, "w") as quiet:
        async with Client(stdio_client(server_parameters(capture), errlog=quiet)) as client:
            for agent, calls in runs:
                # MCP has no notion of an agent. A host that knows which agent acts says so
                # on a span of its own, with the names of the GenAI conventions.
                attributes = {
                    "gen_ai.operation.name": "invoke_agent", "gen_ai.provider.name": "harbor",
                    "gen_ai.agent.name": agent, "session.id": f"session-{label[0]}-{agent}",
                }
                with tracer.start_as_current_span(f"invoke_agent {agent}", attributes=attributes):
                    for name, arguments in calls:
                        await client.call_tool(name, arguments)


def main():
    capture = Capture(sys.argv[1])
    [provider] = set_up("harbor-host", capture.base_url)
    tracer = trace.get_tracer("harbor-host")
    for scenario, runs in CONNECTIONS:
        capture.scenario = scenario
        asyncio.run(run(capture, tracer, scenario, runs))
        # The server has ended and sent its spans; the client's spans, their parents, come after.
        provider.force_flush()
    provider.shutdown()
    capture.close()


main()
