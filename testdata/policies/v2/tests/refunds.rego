package harbor.testing

test_small_refund if says(refund(data.harbor.limits.refund.approval_above_cents)) == {["tools.allow", "allow"]}

test_larger_refund_waits if {
	cents := data.harbor.limits.refund.approval_above_cents + 1
	["refund.approval", "require_approval"] in says(refund(cents))
	says(object.union(refund(cents), by_human)) == {["tools.allow", "allow"]}
}

test_no_approval_lifts_the_limit if {
	cents := data.harbor.limits.refund.block_above_cents + 1
	["refund.limit", "block"] in says(object.union(refund(cents), by_human))
}

malformed := {
	"absent": {"order_id": "H-1", "currency": "EUR"},
	"text": {"order_id": "H-1", "amount_cents": "100", "currency": "EUR"},
	"negative": {"order_id": "H-1", "amount_cents": -5, "currency": "EUR"},
	"other currency": {"order_id": "H-1", "amount_cents": 100, "currency": "BTC"},
	"no currency": {"order_id": "H-1", "amount_cents": 100},
}

test_amounts_that_are_none if {
	every arguments in malformed {
		["refund.malformed", "block"] in says(call("support-agent", "issue_refund", arguments))
	}
}

test_a_policy_does_not_approve if {
	document := object.union(refund(data.harbor.limits.refund.approval_above_cents + 1), {"approvals": [{"approval_id": "a", "by": "policy", "at_ns": 1, "effect": "allow"}]})
	["refund.approval", "require_approval"] in says(document)
}
