# Where data may go.
package harbor.agents

sends if tool == "send_email"

inside if input.features.email_domain in data.harbor.destinations.internal_email

customer if input.features.email_domain in data.harbor.destinations.customer_email

# Several destinations of one action stand in one text, joined with commas.
destinations := split(input.features.email_domain, ",") if sends

destinations := split(input.features.url_host, ",") if tool == "fetch_url"

usable_destination if {
	destinations
	every destination in destinations {
		not destination in data.harbor.destinations.denied
	}
}

# A destination that cannot be read is as bad as a forbidden one.
findings contains {
	"effect": "block",
	"rule": "egress.destination",
	"reason": sprintf("%s has no destination that is known and not denied", [tool]),
} if {
	tool in {"send_email", "fetch_url"}
	not usable_destination
}

# Mail to somebody who is neither of the house nor a customer goes out, and privacy hears of it.
findings contains {
	"effect": "allow",
	"rule": "email.external",
	"reason": sprintf("mail to %s leaves the house", [input.features.email_domain]),
	"obligations": [{"kind": "notify", "params": {"role": "privacy"}}],
} if {
	sends
	tool_allowed
	usable_destination
	not inside
	not customer
}

findings contains {
	"effect": "block",
	"rule": "classification.egress",
	"reason": sprintf("%s data does not leave the house", [input.classification]),
	"obligations": [{"kind": "notify", "params": {"role": "privacy"}}],
} if {
	sends
	input.classification in data.harbor.classified.stay_inside
	not inside
}
