# Limits on how much and how often.
package harbor.agents

trace_nano := object.get(input.state.trace.spent_nano, "USD", 0) + cost_estimate_nano

agent_day_nano := object.get(input.state.windows.agent_24h.spent_nano, "USD", 0) + cost_estimate_nano

findings contains {
	"effect": "require_approval",
	"rule": "cost.trace",
	"reason": sprintf("this run has spent %d of %d nano USD", [trace_nano, data.harbor.limits.cost.trace_nano_usd]),
	"obligations": [{"kind": "approver_role", "params": {"role": "team-lead"}}],
} if {
	with_effects
	trace_nano > data.harbor.limits.cost.trace_nano_usd
	not approved
}

findings contains {
	"effect": "block",
	"rule": "cost.agent_day",
	"reason": sprintf("the agent has spent %d of %d nano USD in 24 hours", [agent_day_nano, data.harbor.limits.cost.agent_day_nano_usd]),
	"obligations": [{"kind": "notify", "params": {"role": "finance"}}],
} if {
	with_effects
	agent_day_nano > data.harbor.limits.cost.agent_day_nano_usd
}

# The same tool again and again is a loop, whatever it is that the model is waiting for.
findings contains {
	"effect": "cooldown",
	"rule": "loop.same_tool",
	"reason": sprintf("%d calls of %s in a row", [input.state.trace.consecutive_same_tool, tool]),
	"obligations": [{"kind": "cooldown_until", "params": {"until_ns": now_ns + data.harbor.limits.loop.cooldown_ns}}],
} if {
	input.state.trace.consecutive_same_tool >= data.harbor.limits.loop.same_tool_max
}

findings contains {
	"effect": "cooldown",
	"rule": "cooldown.active",
	"reason": "the agent is cooling down",
	"obligations": [{"kind": "cooldown_until", "params": {"until_ns": input.state.agent.cooldown_until_ns}}],
} if {
	with_effects
	input.state.agent.cooldown_until_ns > now_ns
}
