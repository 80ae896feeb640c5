package bad

findings contains {"effect": "deny", "rule": "bad.effect"} if {
	input.action.name == "delete_records"
}

findings contains {"effect": "block", "reason": "no id"} if {
	input.agent.nmae == "intern-bot"
}
