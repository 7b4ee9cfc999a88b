# What nginx asks OPA. The decision is the gateway's own policy; here its input is
# put together, which the gateway does in Go. Undefined is no.
package rival

# The caller of a certificate that the identity CA issued.
verified if {
	[valid, chain] := crypto.x509.parse_and_verify_certificates_with_options(
		concat("", [data.rival_config.ca, "-----BEGIN CERTIFICATE-----\n", input.certificate, "\n-----END CERTIFICATE-----\n"]),
		{"KeyUsages": ["KeyUsageClientAuth"]},
	)
	valid
	units := chain[0].Subject.OrganizationalUnit
	count(units) == 3
	granted(named(units, "app:"), named(units, "space:"), named(units, "organization:"))
}

# The caller of a header that somebody else must have verified.
told if {
	[app, space, org] := split(input.told, "/")
	granted(app, space, org)
}

named(units, prefix) := trim_prefix(unit, prefix) if {
	some unit in units
	startswith(unit, prefix)
}

granted(app, space, org) if {
	org == data.rival_config.owner.org # the scope of the route's plan
	data.mtls.authz.decision.allow with input as {
		"caller": {"kind": "cf", "foundation": "local", "app": app, "space": space, "org": org, "instance": ""},
		"request": {"method": input.method, "host": data.rival_config.route.host, "path": input.path, "segments": segments},
		"route": data.rival_config.route,
		"owner": data.rival_config.owner,
		"grants": data.rival_config.grants,
		"now": {"minute": 0, "weekday": "mon", "date": "2026-01-01"}, # no rule reads it
	}
}

segments := [segment | some segment in split(input.path, "/"); segment != ""]
