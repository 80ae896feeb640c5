package harbor.testing

poll(calls) := object.union(
	call("ops-agent", "get_service_status", {"service": "checkout"}),
	{"state": {"trace": {"consecutive_same_tool": calls}}},
)

test_a_loop_cools_down_at_the_limit if {
	most := data.harbor.limits.loop.same_tool_max
	says(poll(most - 1)) == {["tools.allow", "allow"]}
	["loop.same_tool", "cooldown"] in says(poll(most))
}

test_the_cooldown_has_an_end if {
	some finding in findings_of(poll(data.harbor.limits.loop.same_tool_max))
	finding.rule == "loop.same_tool"
	some obligation in finding.obligations
	obligation.params.until_ns == base.event.ts_ns + data.harbor.limits.loop.cooldown_ns
}

test_an_agent_that_cools_down_waits if {
	cooling := {"state": {"agent": {"cooldown_until_ns": base.event.ts_ns + 1}}}
	over := {"state": {"agent": {"cooldown_until_ns": base.event.ts_ns}}}
	["cooldown.active", "cooldown"] in says(object.union(poll(0), cooling))
	says(object.union(poll(0), over)) == {["tools.allow", "allow"]}
}

test_a_run_that_costs_too_much_asks if {
	limit := data.harbor.limits.cost.trace_nano_usd
	spent := {"state": {"trace": {"spent_nano": {"USD": limit + 1}}}}
	["cost.trace", "require_approval"] in says(object.union(poll(0), spent))
	says(object.union(object.union(poll(0), spent), by_human)) == {["tools.allow", "allow"]}
}

test_the_estimate_counts_before_the_action if {
	limit := data.harbor.limits.cost.trace_nano_usd
	spent := {"state": {"trace": {"spent_nano": {"USD": limit}}}, "action": {"estimated_cost_nano": 1}}
	["cost.trace", "require_approval"] in says(object.union(poll(0), spent))
}

test_an_agent_that_costs_too_much_stops if {
	spent := {"state": {"windows": {"agent_24h": {"spent_nano": {"USD": data.harbor.limits.cost.agent_day_nano_usd + 1}}}}}
	["cost.agent_day", "block"] in says(object.union(poll(0), spent))
}
