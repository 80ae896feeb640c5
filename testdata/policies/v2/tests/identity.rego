package harbor.testing

test_registered_agent_with_listed_tool if {
	says(call("support-agent", "get_order", {"order_id": "H-1"})) == {["tools.allow", "allow"]}
}

test_registered_agent_with_other_tool if {
	says(call("support-agent", "run_sql", {"query": "select 1", "database": "shop"})) == {["tools.not_allowed", "block"]}
}

test_unknown_agent if {
	["identity.unknown_agent", "block"] in says(call("intern-bot", "delete_records", {"table": "orders", "where": "id = 1"}))
}

test_no_agent_is_an_unknown_agent if {
	document := object.remove(call("support-agent", "get_order", {}), ["agent"])
	says(document) == {["identity.unknown_agent", "block"]}
}

test_message_of_a_registered_agent if {
	says(object.union(base, {"action": {"kind": "message", "name": "answer"}})) == {["messages.allow", "allow"]}
}

test_model_calls_are_nobodys_business if {
	says(object.union(base, {"action": {"kind": "model", "name": "harbor-large-1"}})) == set()
}
