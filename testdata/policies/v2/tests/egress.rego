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

test_confidential_data_stays_inside_too if {
	["classification.egress", "block"] in says(object.union(mail("mail.example"), {"classification": "confidential"}))
}

test_a_page_does_not_send_mail if {
	["exfiltration.unverified", "block"] in says(object.union(mail("collector.example"), from_stranger))
	not ["exfiltration.unverified", "block"] in says(object.union(mail("mail.example"), from_stranger))
	not ["exfiltration.unverified", "block"] in says(mail("collector.example"))
}

test_a_page_does_not_send_data_in_an_address if {
	document := object.union(fetch("carrier.example"), from_stranger)
	says(document) == {["tools.allow", "allow"]}
	leaking := object.union(document, {"action": {"arguments": {"url": "https://carrier.example/?q=C-1042"}}})
	["exfiltration.unverified", "block"] in says(leaking)
}

test_external_mail_is_redacted if {
	some finding in findings_of(mail("supplier.example"))
	finding.rule == "email.external"
	{"kind": "redact", "params": {"pointer": "/arguments/body"}} in finding.obligations
}
