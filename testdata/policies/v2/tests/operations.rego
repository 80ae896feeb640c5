package harbor.testing

deploy(environment) := call("ops-agent", "deploy_service", {"service": "checkout", "version": "4.2.1", "environment": environment})

delete_where(where) := call("ops-agent", "delete_records", {"table": "carts", "where": where})

test_staging_is_free if says(deploy("staging")) == {["tools.allow", "allow"]}

test_production_waits_for_the_engineer_on_call if {
	["operations.production", "require_approval"] in says(deploy("production"))
	says(object.union(deploy("production"), by_human)) == {["tools.allow", "allow"]}
}

test_no_environment_is_production if {
	document := call("ops-agent", "restart_service", {"service": "checkout"})
	["operations.production", "require_approval"] in says(document)
}

test_deletions_wait if {
	says(delete_where("age_days > 90")) == {["tools.allow", "allow"], ["operations.delete", "require_approval"]}
}

test_deletions_of_everything if {
	every where in {"1 = 1", "  ", "TRUE"} {
		["operations.delete_all", "block"] in says(object.union(delete_where(where), by_human))
	}
	["operations.delete_all", "block"] in says(call("ops-agent", "delete_records", {"table": "carts"}))
}

test_strangers_do_not_move_money if {
	["provenance.effectful", "block"] in says(object.union(refund(100), from_stranger))
}

test_what_a_network_tool_brought_is_a_stranger if {
	source := {"kind": "tool_result", "trust": "unknown", "name": "fetch_url"}
	["provenance.effectful", "block"] in says(object.union(refund(100), {"provenance": {"sources": [source]}}))
}

test_strangers_may_be_read_about if {
	says(object.union(call("support-agent", "get_order", {"order_id": "H-1"}), from_stranger)) == {["tools.allow", "allow"]}
}

test_an_active_control_stops_everything if {
	frozen := object.union(deploy("staging"), {"controls": [{"kind": "kill_switch"}]})
	["control.active", "block"] in says(frozen)
}
