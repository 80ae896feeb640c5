package harbor.agents

refund if tool == "issue_refund"

amount_cents := arguments.amount_cents if {
	is_number(arguments.amount_cents)
	arguments.amount_cents > 0
}

well_formed_refund if {
	amount_cents
	arguments.currency in data.harbor.limits.refund.currencies
}

# What cannot be compared with a limit is not below it.
findings contains {
	"effect": "block",
	"rule": "refund.malformed",
	"reason": "the refund has no positive amount in a currency that we pay out",
} if {
	refund
	not well_formed_refund
}

findings contains {
	"effect": "block",
	"rule": "refund.limit",
	"reason": sprintf("%d cents is above the limit of %d", [amount_cents, data.harbor.limits.refund.block_above_cents]),
	"obligations": [{"kind": "notify", "params": {"role": "finance"}}],
} if {
	refund
	amount_cents > data.harbor.limits.refund.block_above_cents
}

findings contains {
	"effect": "require_approval",
	"rule": "refund.approval",
	"reason": sprintf("%d cents needs a second person above %d", [amount_cents, data.harbor.limits.refund.approval_above_cents]),
	"obligations": [{"kind": "approver_role", "params": {"role": "finance"}}],
} if {
	refund
	amount_cents > data.harbor.limits.refund.approval_above_cents
	not approved
}
