package harbor.testing

sql(query) := call("finance-agent", "run_sql", {"query": query, "database": "shop"})

test_plain_selects if {
	every query in {
		"SELECT status, count(*) FROM orders GROUP BY status",
		"  with a as (select 1) select * from a;\n",
	} {
		says(sql(query)) == {["tools.allow", "allow"]}
	}
}

test_writes_and_several_statements if {
	every query in {
		"update orders set status = 'paid'",
		"select 1; drop table orders",
		"with x as (delete from orders returning *) select * from x",
		"",
	} {
		"block" in {effect | some [_, effect] in says(sql(query))}
	}
}

test_a_query_that_is_missing if {
	"block" in {effect | some [_, effect] in says(call("finance-agent", "run_sql", {"database": "shop"}))}
}

test_restricted_table_is_refused if {
	"block" in {effect | some [_, effect] in says(sql("SELECT holder, number FROM payment_cards"))}
}

test_similar_table_is_not_restricted if {
	says(sql("select * from payroll_calendar_public")) == {["tools.allow", "allow"]}
}

test_restricted_classification_is_refused if {
	"block" in {effect | some [_, effect] in says(object.union(sql("select 1 from x"), {"classification": "restricted"}))}
}

test_a_restricted_table_has_one_rule if {
	document := object.union(sql("select number from payment_cards"), {"classification": "restricted"})
	says(document) == {["tools.allow", "allow"], ["sql.restricted_table", "block"]}
}
