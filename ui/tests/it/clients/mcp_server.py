"""The MCP server of mcp_host.py. usage: python mcp_server.py ACKNOWLEDGED"""

import sys

from acknowledged import tracing
from mcp.server.mcpserver import MCPServer
from opentelemetry import trace


def get_service_status(service: str) -> str:
    """Tells how a service does."""
    if service.endswith("7"):
        raise RuntimeError(f"{service} does not answer")
    return f"{service} is up"


def main():
    provider = tracing("mcp-tools", sys.argv[1])
    trace.set_tracer_provider(provider)
    server = MCPServer("mcp-tools", version="1.0.0")
    server.add_tool(get_service_status)
    try:
        server.run("stdio")
    finally:
        provider.shutdown()


main()
