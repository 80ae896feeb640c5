package harbor.testing

fetch(host) := object.union(
	call("research-agent", "fetch_url", {"url": concat("", ["https://", host, "/page"])}),
	{"features": {"url_host": host}},
)

test_mail_to_customers_and_colleagues if {
	every domain in {"mail.example", "harbor-goods.example"} {
		says(mail(domain)) == {["tools.allow", "allow"]}
	}
}

test_mail_to_others_is_told_to_privacy if {
	["email.external", "allow"] in says(mail("supplier.example"))
}

test_mail_without_a_recipient if {
	["egress.destination", "block"] in says(call("support-agent", "send_email", {"subject": "s"}))
}

test_denied_and_unreadable_hosts if {
	says(fetch("carrier.example")) == {["tools.allow", "allow"]}
	["egress.destination", "block"] in says(fetch("169.254.169.254"))
	["egress.destination", "block"] in says(call("research-agent", "fetch_url", {"url": "::"}))
}

test_one_bad_destination_among_several if {
	["egress.destination", "block"] in says(fetch("carrier.example,localhost"))
	["egress.destination", "block"] in says(mail("mail.example,unreadable.invalid"))
	["email.external", "allow"] in says(mail("collector.example,mail.example"))
}

test_restricted_data_stays_inside if {
	restricted := {"classification": "restricted"}
	["classification.egress", "block"] in says(object.union(mail("mail.example"), restricted))
	says(object.union(mail("harbor-goods.example"), restricted)) == {["tools.allow", "allow"]}
}
