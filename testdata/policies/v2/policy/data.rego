package harbor.agents

query := lower(arguments.query) if tool == "run_sql"

single_select if {
	regex.match(`^\s*(select|with)\s`, query)
	not contains(trim_right(query, "; \n\t"), ";")
	not regex.match(`\b(insert|update|delete|drop|alter|truncate|grant)\b`, query)
}

findings contains {
	"effect": "block",
	"rule": "sql.not_read_only",
	"reason": "only single SELECT statements are run for agents",
} if {
	tool == "run_sql"
	not single_select
}

restricted_tables contains table if {
	some table in data.harbor.classified.tables
	regex.match(sprintf(`\b%s\b`, [table]), query)
}

findings contains {
	"effect": "block",
	"rule": "sql.restricted_table",
	"reason": sprintf("the query reads the restricted table %s", [table]),
	"obligations": [{"kind": "notify", "params": {"role": "privacy"}}],
} if {
	some table in restricted_tables
}

# Rows can be restricted where their table is not.
findings contains {
	"effect": "block",
	"rule": "sql.restricted_result",
	"reason": "the result is classified restricted",
	"obligations": [{"kind": "notify", "params": {"role": "privacy"}}],
} if {
	tool == "run_sql"
	input.classification == "restricted"
	count(restricted_tables) == 0
}
