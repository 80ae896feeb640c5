"""The MCP server of Harbor Goods: the operations tools over stdio, with spans and logs over OTLP/HTTP JSON."""

import logging
import os
from functools import wraps

import harbor
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from telemetry import set_up

SERVED = [
    harbor.get_service_status, harbor.restart_service, harbor.run_sql, harbor.deploy_service,
    harbor.delete_records, harbor.get_order,
]


def main():
    providers = set_up("harbor-tools", os.environ["HARBOR_OTLP"], logger="mcp")
    logging.getLogger("mcp").setLevel(logging.INFO)
    server = MCPServer("harbor-tools", version="3.2.0")
    for function in SERVED:
        server.add_tool(refusals_as_tool_errors(function))
    try:
        server.run("stdio")
    finally:
        for provider in providers:
            provider.shutdown()


def refusals_as_tool_errors(function):
    """Turns a policy refusal into the error that MCP carries back to the client; other errors stay unexpected."""
    @wraps(function)
    def guarded(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except PermissionError as refusal:
            raise ToolError(str(refusal)) from None

    return guarded


main()
