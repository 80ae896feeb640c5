package harbor.agents

# An environment that is not named is production.
production if not arguments.environment in {"staging", "development"}

findings contains {
	"effect": "require_approval",
	"rule": "operations.production",
	"reason": sprintf("%s in production needs the engineer on call", [tool]),
	"obligations": [{"kind": "approver_role", "params": {"role": "sre"}}],
} if {
	tool in {"deploy_service", "restart_service"}
	production
	not approved
}

narrow_delete if {
	is_string(arguments.where)
	not regex.match(`^\s*($|1\s*=\s*1|true)`, lower(arguments.where))
}

findings contains {
	"effect": "block",
	"rule": "operations.delete_all",
	"reason": "a deletion without a real condition deletes everything",
} if {
	tool == "delete_records"
	not narrow_delete
}

findings contains {
	"effect": "require_approval",
	"rule": "operations.delete",
	"reason": "deletions need a second person",
	"obligations": [
		{"kind": "approver_role", "params": {"role": "data-owner"}},
		{"kind": "notify", "params": {"role": "sre"}},
	],
} if {
	tool == "delete_records"
	not approved
}

# What a stranger wrote must not move money or machines.
findings contains {
	"effect": "block",
	"rule": "provenance.effectful",
	"reason": sprintf("an unverified source reached %s", [tool]),
	"obligations": [{"kind": "notify", "params": {"role": "security"}}],
} if {
	tool in data.harbor.trust.effectful_tools
	tainted
}
