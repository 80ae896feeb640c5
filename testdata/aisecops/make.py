"""Writes governed tool calls of Harbor Goods in the two AISecOps audit schemas, "1.0" and "0.5.0".

usage: python make.py          (no packages needed; the same bytes every time)

Nothing here was recorded: the lines follow the documented fields and the
documented order of lines per tool call. Ids and times come from the trace
number and the line number.
"""

import hashlib
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

HERE = Path(__file__).resolve().parent
START = datetime(2026, 11, 3, 9, 0, 0, 125_000, tzinfo=timezone.utc)

CAPABILITY = {
    "get_service_status": "service.read", "deploy_service": "service.deploy", "delete_records": "data.delete",
    "issue_refund": "payments.refund", "read_customer": "customer.read", "send_email": "mail.send", "run_sql": "data.query",
    "restart_service": "service.restart",
}
RISK = {
    "get_service_status": "low", "read_customer": "low", "run_sql": "medium", "send_email": "medium",
    "issue_refund": "high", "restart_service": "high", "deploy_service": "critical", "delete_records": "critical",
}


def digest(*parts):
    return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()


class Log:
    """The lines of one file, which all have one schema version."""

    def __init__(self, version):
        self.version, self.lines, self.calls = version, [], 0

    def call(self, agent, tool, arguments, ending, reason, *, rule=None, dry_run=False, approval=None, approved=False,
             granted=True, actor="operator-3", session=None, environment="prod", sensitivity="internal", provenance=None,
             usage=None, violations=(), result=None, trust="internal", client=None):
        """One tool call: every line that the interceptor writes for it, in its order."""
        self.calls += 1
        trace = digest("harbor aisecops", self.version, self.calls)[:32]
        capabilities = [CAPABILITY[tool]] if granted else None
        context = {
            "agent_name": agent, "user_id": actor, "session_id": session, "prompt": None,
            "data_classification": sensitivity, "source": "chat", "sensitivity_level": sensitivity, "tool_name": tool,
            "arguments": arguments, "framework": "custom", "actor": actor, "environment": environment, "trace_id": trace,
            "correlation_id": f"corr-{self.version}-{self.calls}", "allowed_capabilities": capabilities, "tags": {}, "metadata": {},
        }
        newer = self.newer(trace, agent, tool, arguments, context, trust, provenance, usage, violations) if self.version == "0.5.0" else {}
        decision = {"allowed": "allowed", "blocked": "blocked", "approval": "require_approval"}[ending]
        verdict = "require_approval" if ending == "approval" or approved else decision
        lines = [
            ("plan", "pending", "plan", "plan", None, "Execution plan created", {"dry_run": dry_run, "tool_name": tool}),
            ("decision", verdict, "decision", "decision", None, reason, {
                "capability_result": "allowed" if granted else "not_applicable", "policy_result": verdict,
                "reason_chain": [reason], "requires_approval": verdict == "require_approval",
            }),
            ("tool_call", "pending", "tool_call", "execute", None, "Tool call received for execution",
             {"tool_name": tool, "arguments": arguments, "dry_run": dry_run}),
        ]
        if ending == "blocked":
            lines.append(("tool_blocked", "blocked", "decision", "decision", False, reason, {"approved": False, "requires_approval": False}))
        elif ending == "approval":
            lines.append(("approval_required", "require_approval", "decision", "decision", False, reason, {"approval_required": True}))
        else:
            said = f"{reason} (approved)" if approved else reason
            lines.append(("tool_allowed", "allowed", "decision", "decision", True, said, {"approved": approved, "requires_approval": approved}))
            if not dry_run:
                lines.append(("tool_executed", "allowed", "tool_execution", "execute", True, "Tool executed", None))
                lines.append(("final_output", "allowed", "final_output", "execute", None, "Execution completed", {"result": result}))
        if client:
            lines.append(("mcp_policy_decision", decision, "mcp_policy_decision", "mcp_policy", ending == "allowed", reason, {"protocol": "mcp"}))
        for number, (event, ruling, kind, stage, allowed, why, payload) in enumerate(lines):
            at = START + timedelta(minutes=7 * self.calls, milliseconds=41 * number)
            if self.version == "0.5.0":
                at += timedelta(days=1)
            line = {
                "timestamp": at.isoformat(timespec="microseconds"), "event_type": event, "decision": ruling,
                "schema_version": self.version, "trace_id": trace, "audit_kind": kind, "reason": why, "stage": "tool",
                "context": context, "agent_name": agent, "tool_name": tool, "allowed": allowed, "arguments": arguments,
                "framework": "custom", "actor": actor, "environment": environment, "session_id": session,
                "correlation_id": context["correlation_id"], "risk_level": RISK[tool], "matched_rule": rule,
                "approval_id": approval, "capabilities": capabilities,
                "capability_risks": {CAPABILITY[tool]: RISK[tool]} if granted and RISK[tool] != "critical" else None,
                **newer, "payload": payload,
            }
            if self.version == "0.5.0":
                line["event_id"] = "evt-" + digest(trace, number)[:32]
                line["decision_stage"] = stage
                if event == "mcp_policy_decision":
                    line.update(protocol="mcp", client_id=client, server_name="harbor-tools", capability=CAPABILITY[tool])
            self.lines.append(line)

    def newer(self, trace, agent, tool, arguments, context, trust, provenance, usage, violations):
        """The members that only the newer schema has. Its number, 0.5.0, is the lower one."""
        plan = digest(trace, "plan")[:32]
        limit = {"max_tool_calls": 20, "max_depth": 5, "max_runtime_seconds": 60.0, "max_cost_usd": 2.0}
        used = {"tool_calls_used": 0, "depth_used": 0, "runtime_seconds": 0, "estimated_cost_usd": 0.01, **(usage or {})}
        identity = {"agent_id": f"agent-{agent}", "agent_trust_level": trust, "agent_environment": context["environment"]}
        context.update(identity, parent_trace_id=None, provenance=provenance, runtime_budget=limit, runtime_usage=used, model_output=None)
        return {
            "event_id": None, "parent_trace_id": None, "execution_plan_id": plan, "plan_id": plan, "plan_intent": tool,
            "plan_risk_level": RISK[tool], "requested_capabilities": [CAPABILITY[tool]],
            "plan_steps": [{
                "schema_version": "0.8.0", "step_id": digest(trace, "step")[:32], "intent": tool, "tool_name": tool,
                "capability": CAPABILITY[tool], "target": None, "parameters": arguments, "risk_level": RISK[tool], "order": 1,
            }],
            "model_output": None, "user_input": None, "decision_stage": None, **identity, "provenance": provenance,
            "protocol": None, "client_id": None, "server_name": None, "capability": None,
            "budget_status": "violated" if violations else "within_budget", "runtime_budget": limit, "runtime_usage": used,
            "runtime_violations": list(violations), "tool_calls_used": used["tool_calls_used"],
            "tool_calls_remaining": limit["max_tool_calls"] - used["tool_calls_used"], "depth_used": used["depth_used"],
            "runtime_seconds": used["runtime_seconds"], "estimated_cost_usd": used["estimated_cost_usd"],
        }


def came_from(kind, trust, name, uri=None):
    return {
        "source_type": kind, "trust_level": trust, "source_name": name,
        "source_hash": "sha256:" + digest(name) if uri else None, "origin_uri": uri, "metadata": {},
    }


def older():
    log = Log("1.0")
    log.call("ops-agent", "get_service_status", {"service": "checkout"}, "allowed", "Status reads are open to ops-agent",
             session="session-ops-7", result={"state": "degraded"})
    log.call("intern-bot", "delete_records", {"table": "orders", "where": "status = 'lost'"}, "blocked", "delete_records is blocked for everyone",
             rule="blocked_tools", granted=False, actor="trainee-1", session="session-intern-7")
    refund = {"order_id": "H-20433", "amount_cents": 15000, "currency": "EUR"}
    log.call("support-agent", "issue_refund", refund, "approval", "Refunds need a second person", rule="agents.support-agent.approval_required_tools",
             approval="apr-5c1e09d2a7b4", actor="customer-1077", session="session-lost-7")
    # The approved call is a trace of its own; only the approval id and the session join the two.
    log.call("support-agent", "issue_refund", refund, "allowed", "Refunds need a second person", rule="agents.support-agent.approval_required_tools",
             approval="apr-5c1e09d2a7b4", approved=True, actor="customer-1077", session="session-lost-7", result={"refund_id": "R-20433", "state": "paid"})
    log.call("ops-agent", "deploy_service", {"service": "checkout", "version": "4.2.1", "environment": "prod"}, "allowed",
             "Deployments are watched", rule="monitored_tools", dry_run=True, session="session-deploy-7")
    return log


def newer():
    log = Log("0.5.0")
    asked = came_from("user_prompt", "internal", "chat")
    rules = came_from("system_prompt", "trusted", "house-rules")
    page = came_from("tool_result", "unverified", "fetch_url", "https://carrier.example/notices/7731")
    handbook = came_from("retrieval_chunk", "internal", "handbook", "https://docs.harbor.example/returns")
    log.call("support-agent", "read_customer", {"customer_id": "C-1042"}, "allowed", "Customer reads are open to support-agent",
             actor="customer-1042", session="session-returns-7", provenance=[asked], result={"tier": "gold"})
    log.call("support-agent", "issue_refund", {"order_id": "H-20417", "amount_cents": 6480, "currency": "EUR"}, "allowed", "Refund is within the limit",
             actor="customer-1042", session="session-returns-7", provenance=[asked, rules, handbook], result={"refund_id": "R-20417", "state": "paid"},
             usage={"tool_calls_used": 3, "depth_used": 1, "runtime_seconds": 4.25, "estimated_cost_usd": 0.15})
    log.call("research-agent", "send_email", {"to": "archive@collector.example", "subject": "Customer list", "body": "C-1042, C-1077"}, "blocked",
             "Mail on the word of an unverified page is blocked", rule="rules[2]", actor="customer-1077", session="session-parcels-7",
             sensitivity="confidential", provenance=[asked, page], usage={"tool_calls_used": 1})
    log.call("finance-agent", "run_sql", {"query": "SELECT holder, number FROM payment_cards", "database": "shop"}, "approval",
             "Restricted data needs a second person", rule="rules[4]", approval="apr-77f0c3be1d26", actor="analyst-2", session="session-close-7",
             sensitivity="restricted", provenance=[asked])
    log.call("ops-agent", "restart_service", {"service": "checkout", "environment": "prod"}, "blocked", "Runtime budget violated",
             rule="agent_limits", session="session-ops-8", provenance=[asked], usage={"tool_calls_used": 20, "depth_used": 2, "runtime_seconds": 61.5},
             violations=["tool_call_budget_exceeded", "runtime_limit_exceeded"])
    log.call("ops-agent", "get_service_status", {"service": "checkout"}, "allowed", "Status reads are open to ops-agent", dry_run=True,
             session="session-ops-8", provenance=[came_from("mcp_client", "external", "harbor-host")], client="harbor-host", trust="trusted")
    return log


def main():
    for log in (older(), newer()):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in log.lines)
        (HERE / f"audit-schema-{log.version}.jsonl").write_text(text)


main()
