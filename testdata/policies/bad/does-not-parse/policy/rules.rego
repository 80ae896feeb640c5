package bad

findings contains {
	"effect": "block",
	"rule": "bad.unclosed",
} if {
	input.action.name == "delete_records"
