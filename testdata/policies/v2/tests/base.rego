# Inputs that the tests start from: complete, harmless, and as the input builder makes them.
package harbor.testing

counters := {"tool_calls": 3, "spent_nano": {"USD": 120000}}

state := {
	"trace": {
		"tool_calls": 3,
		"model_calls": 2,
		"blocked": 0,
		"spent_nano": {"USD": 120000},
		"consecutive_tool_calls": 1,
		"consecutive_same_tool": 0,
	},
	"session": counters,
	"agent": {"tool_calls": 40, "spent_nano": {"USD": 900000}, "blocked": 0, "cooldown_until_ns": 0},
	"tenant": counters,
	"windows": {"agent_1h": counters, "agent_24h": counters},
}

base := {
	"schema": "verdict-input/1",
	"event": {"seq": 12, "ts_ns": 1763670000000000000, "trace": "59901f0000000000000000000000aaaa"},
	"agent": {"name": "support-agent", "inherited": false},
	"approvals": [],
	"controls": [],
	"provenance": {"sources": [{"kind": "user_prompt", "trust": "internal", "name": "chat"}], "lowest_trust": "internal"},
	"state": state,
	"features": {"lowest_trust_rank": 1},
}

call(agent, name, arguments) := object.union(base, {
	"agent": {"name": agent},
	"action": {"kind": "tool", "name": name, "arguments": arguments},
})

by_human := {"approvals": [{"approval_id": "a1", "by": "human", "at_ns": 1, "effect": "allow"}]}

from_stranger := {"provenance": {"sources": [{"kind": "tool_result", "trust": "unverified", "name": "page"}], "lowest_trust": "unverified"}}

refund(cents) := call("support-agent", "issue_refund", {"order_id": "H-1", "amount_cents": cents, "currency": "EUR"})

mail(domain) := object.union(
	call("support-agent", "send_email", {"to": "x", "subject": "s", "body": "b"}),
	{"features": {"email_domain": domain}},
)

# The findings of an input.
findings_of(document) := found if {
	found := data.harbor.agents.findings with input as document
}

# What the policy says about an input: rule and effect of every finding.
says(document) := {[finding.rule, finding.effect] | some finding in findings_of(document)}
