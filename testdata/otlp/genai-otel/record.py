"""Records Pydantic AI agents through its own OpenTelemetry instrumentation and the OTLP/HTTP protobuf exporter.

usage: python record.py OUTPUT_DIR, with `../common` on PYTHONPATH (record.sh does both)
"""

import sys

import harbor
from capture import Capture
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from pydantic_ai import (
    Agent, ApprovalRequired, DeferredToolRequests, DeferredToolResults, ModelRetry, RunContext, ToolDenied,
)
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.usage import RequestUsage

CACHED_AFTER = 40


def scripted(turns):
    """Makes a model that plays fixed turns. The turn is the number of answers already in the conversation."""

    def answer(messages, info):
        turn = sum(isinstance(message, ModelResponse) for message in messages)
        step = turns[turn]
        used = sum(harbor.tokens(str(part.content)) for message in messages for part in message.parts if hasattr(part, "content"))
        usage = RequestUsage(
            input_tokens=used, output_tokens=harbor.tokens(str(step)), cache_read_tokens=max(0, used - CACHED_AFTER),
        )
        if isinstance(step, str):
            return ModelResponse([TextPart(step)], usage=usage)
        calls = [ToolCallPart(name, args, f"call_{turn}_{index}_{name}") for index, (name, args) in enumerate(step)]
        return ModelResponse(calls, usage=usage)

    return FunctionModel(answer, model_name="harbor-scripted-2")


def get_order(order_id: str) -> str:
    """Read one order. A late answer is given back to the model to try again."""
    try:
        return harbor.get_order(order_id)
    except TimeoutError as late:
        raise ModelRetry(str(late)) from late


def issue_refund(context: RunContext, order_id: str, amount_cents: int, currency: str) -> str:
    """Pay money back for an order. Waits for a person above the approval amount."""
    if harbor.REFUND_APPROVAL_CENTS < amount_cents <= harbor.REFUND_LIMIT_CENTS and not context.tool_call_approved:
        raise ApprovalRequired()
    return harbor.issue_refund(order_id, amount_cents, currency)


def refund_with_research():
    research = Agent(
        scripted([
            [("search_docs", {"query": "returns"}), ("search_orders", {"customer_id": "C-1042", "query": "lantern"})],
            "H-20417 is a storm lantern of 64.80 EUR; damaged in transit is refunded in full.",
        ]),
        name="research-agent", tools=[harbor.search_docs, harbor.search_orders],
    )

    async def ask_research_agent(context: RunContext, question: str) -> str:
        """Hand a question to the research agent."""
        return (await research.run(question, usage=context.usage)).output

    Agent(
        scripted([
            [("read_customer", {"customer_id": "C-1042"})],
            [("ask_research_agent", {"question": "What may C-1042 get back for the broken lantern?"})],
            [("issue_refund", {"order_id": "H-20417", "amount_cents": 6480, "currency": "EUR"})],
            [("send_email", {"to": "customer-1042@mail.example", "subject": "Your refund", "body": "64.80 EUR is on its way."})],
            "Refunded 64.80 EUR and told the customer.",
        ]),
        name="support-agent", tools=[harbor.read_customer, ask_research_agent, issue_refund, harbor.send_email],
        instructions="You help the customers of Harbor Goods.",
    ).run_sync("The lantern of C-1042 arrived broken. Please refund it.", conversation_id="session-returns-2")


def error_and_retry():
    Agent(
        scripted([[("get_order", {"order_id": "H-20433"})]] * 3 + ["The order is marked lost."]),
        name="support-agent", tools=[get_order], retries=3,
    ).run_sync("What happened to H-20433?", conversation_id="session-lost-3")


def waiting_refund(answers):
    """Asks for a refund that waits, then goes on with each answer in turn: one trace for the question, one per answer."""
    support = Agent(
        scripted([
            [("issue_refund", {"order_id": "H-20433", "amount_cents": 15000, "currency": "EUR"})],
            "That is settled.",
        ]),
        name="support-agent", tools=[issue_refund], output_type=[str, DeferredToolRequests],
    )
    asked = support.run_sync("Refund the lost order H-20433.", conversation_id="session-lost-4")
    for answer in answers:
        [call] = asked.output.approvals
        results = DeferredToolResults(approvals={call.tool_call_id: answer})
        support.run_sync(message_history=asked.all_messages(), deferred_tool_results=results, conversation_id="session-lost-4")


def refund_refused():
    support = Agent(
        scripted([[("issue_refund", {"order_id": "H-20440", "amount_cents": 80000, "currency": "EUR"})], "not reached"]),
        name="support-agent", tools=[issue_refund],
    )
    try:
        support.run_sync("Refund the dinghy in full.", conversation_id="session-dinghy-2")
    except PermissionError:
        # Nothing turns the refusal into a message here, so it ends the run as it would in an application.
        pass


def main():
    capture = Capture(sys.argv[1])
    provider = TracerProvider(resource=Resource.create({
        "service.name": "harbor-returns", "service.version": "1.8.2", "deployment.environment.name": "production",
    }))
    exporter = OTLPSpanExporter(endpoint=f"{capture.base_url}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=4096, schedule_delay_millis=60_000))
    Agent.instrument_all(InstrumentationSettings(tracer_provider=provider))

    for scenario, run in [
        ("1 refund with research agent", refund_with_research),
        ("2 error and retry", error_and_retry),
        ("4 waits for approval, then denied, then approved", lambda: waiting_refund([ToolDenied("the shift lead said no"), True])),
        ("5 refund refused by policy", refund_refused),
    ]:
        capture.scenario = scenario
        run()
        provider.force_flush()
    provider.shutdown()
    capture.close()


main()
