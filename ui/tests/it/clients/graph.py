"""LangGraph agents through OpenInference. usage: python graph.py ACKNOWLEDGED RUNS"""

import sys

from acknowledged import tracing
from langchain.agents import create_agent
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from openinference.instrumentation import using_attributes
from openinference.instrumentation.langchain import LangChainInstrumentor


class Scripted(BaseChatModel):
    """Calls the tool twice and answers."""

    model_name: str = "scripted-1"

    @property
    def _llm_type(self):
        return "scripted"

    def bind_tools(self, tools, **kwargs):
        return self

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        turn = sum(isinstance(message, AIMessage) for message in messages)
        calls = [] if turn == 2 else [
            {"name": "get_order", "args": {"order_id": f"H-{turn}"}, "id": f"call_{turn}", "type": "tool_call"}]
        message = AIMessage(
            content="" if calls else "done", tool_calls=calls,
            usage_metadata={"input_tokens": 10, "output_tokens": 5, "total_tokens": 15},
            response_metadata={"model_name": self.model_name},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


@tool
def get_order(order_id: str) -> str:
    """Looks an order up."""
    return f"{order_id} was shipped"


def main():
    path, runs = sys.argv[1], int(sys.argv[2])
    provider = tracing("graph", path)
    LangChainInstrumentor().instrument(tracer_provider=provider)
    for number in range(runs):
        graph = create_agent(Scripted(), [get_order], name="support-agent")
        with using_attributes(session_id=f"session-graph-{number}", user_id="user-1"):
            graph.invoke({"messages": [("user", "where are my orders?")]})
    provider.shutdown()


main()
