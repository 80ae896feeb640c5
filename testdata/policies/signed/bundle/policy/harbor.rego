package harbor

findings contains {"effect": "block", "rule": "limit"} if {
	input.state.trace.tool_calls > data.harbor.limits.calls
}
