# Facts that several rules share. Whatever an input lacks makes a fact undefined, and the rules are written so
# that an undefined fact never permits anything.
package harbor.agents

# Actions that need a permission; model calls and the like happen without one.
with_effects if input.action.kind in {"tool", "data", "message"}

tool := input.action.name if input.action.kind in {"tool", "data"}

arguments := input.action.arguments

known_agent if data.harbor.registry[input.agent.name]

tool_allowed if tool in data.harbor.registry[input.agent.name].tools

# A person said yes to this very action.
approved if {
	some approval in input.approvals
	approval.effect == "allow"
	approval.by == "human"
}

now_ns := object.get(input.event, "ts_ns", 0)

cost_estimate_nano := object.get(input.action, "estimated_cost_nano", 0)

# Something that nobody vouches for reached this action.
tainted if {
	some source in input.provenance.sources
	source.trust in data.harbor.trust.not_for_effects
}

tainted if {
	some source in input.provenance.sources
	source.name in data.harbor.trust.untrusted_tools
}
