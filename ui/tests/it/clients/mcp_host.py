"""An MCP host and its server, each exporting its own spans. usage: python mcp_host.py ACKNOWLEDGED CALLS"""

import asyncio
import os
import sys
from pathlib import Path

from acknowledged import tracing
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from opentelemetry import trace


async def run(tracer, path, calls):
    kept = ("PATH", "PYTHONPATH", "VERDICT_HTTP", "VERDICT_GRPC")
    server = StdioServerParameters(
        command=sys.executable, args=["-B", str(Path(__file__).parent / "mcp_server.py"), path],
        env={name: os.environ[name] for name in kept if name in os.environ},
    )
    async with Client(stdio_client(server)) as client:
        for number in range(calls):
            attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "ops-agent",
                          "session.id": f"session-mcp-{number}"}
            with tracer.start_as_current_span("invoke_agent ops-agent", attributes=attributes):
                await client.call_tool("get_service_status", {"service": f"checkout-{number}"})
            await asyncio.sleep(0.02)


def main():
    path, calls = sys.argv[1], int(sys.argv[2])
    provider = tracing("mcp-host", path)
    trace.set_tracer_provider(provider)
    asyncio.run(run(provider.get_tracer("mcp-host"), path, calls))
    provider.shutdown()


main()
