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

reads_classified if {
	some table in data.harbor.classified.tables
	regex.match(sprintf(`\b%s\b`, [table]), query)
}

reads_classified if {
	tool == "run_sql"
	input.classification == "restricted"
}

findings contains {
	"effect": "block",
	"rule": "sql.restricted",
	"reason": "the query reads restricted data",
	"obligations": [{"kind": "notify", "params": {"role": "privacy"}}],
} if {
	reads_classified
}
