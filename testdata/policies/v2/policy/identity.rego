package harbor.agents

# Only agents in the registry act. An action without an agent is an action of an unknown one.
findings contains {
	"effect": "block",
	"rule": "identity.unknown_agent",
	"reason": sprintf("agent %s is not in the registry", [object.get(input, ["agent", "name"], "(none)")]),
	"obligations": [{"kind": "notify", "params": {"role": "security"}}],
} if {
	with_effects
	not known_agent
}

findings contains {
	"effect": "block",
	"rule": "tools.not_allowed",
	"reason": sprintf("%s may not call %s", [input.agent.name, tool]),
} if {
	known_agent
	not tool_allowed
}

findings contains {
	"effect": "allow",
	"rule": "tools.allow",
	"reason": sprintf("%s is on the list of %s", [tool, input.agent.name]),
} if {
	known_agent
	tool_allowed
}

# Agents of the registry may answer each other.
findings contains {
	"effect": "allow",
	"rule": "messages.allow",
	"reason": "a message of a registered agent",
} if {
	known_agent
	input.action.kind == "message"
}
