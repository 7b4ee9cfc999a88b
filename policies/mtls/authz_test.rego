package mtls.authz_test

import data.mtls.authz

frontend := "d76446a1-f429-4444-8797-be2f78b75b08"

monitoring := "6755b19d-c543-4e0c-a4b3-cd6e7c9c68a3"

acme := "6e424e4e-5e46-419a-9cb6-eac9de2794e8"

caller := {"kind": "cf", "foundation": "local", "app": frontend, "space": monitoring, "org": acme, "instance": "i"}

nobody := {"kind": "cf", "foundation": "local", "app": "", "space": "", "org": "", "instance": ""}

none := {"any": [], "apps": {}, "spaces": {}, "orgs": {}}

request(method, path) := {
	"caller": caller,
	"request": {"method": method, "host": "backend.apps.identity", "path": path, "segments": [s | some s in split(path, "/"); s != ""]},
	"route": {"host": "backend.apps.identity", "path": "", "binding": "b", "labels": {}},
	"owner": {"service_instance": "s", "space": monitoring, "org": acme, "scope": "org"},
	"grants": none,
	"now": {"minute": 615, "weekday": "mon", "date": "2026-05-04"},
}

with_grants(input_, grants) := object.union(input_, {"grants": grants})

get := request("GET", "/api/x")

allowed := {"allow": true, "policy": "", "reason": "", "headers": {}}

no_match := {"allow": false, "policy": "route:no_matching_grant", "reason": "no_matching_grant", "headers": {}}

test_no_grants_no_allow if authz.decision == no_match with input as get

test_empty_input_is_denied if authz.decision == no_match with input as {}

test_each_kind_of_source if {
	every grants in [{"apps": {frontend: [{}]}}, {"spaces": {monitoring: [{}]}}, {"orgs": {acme: [{}]}}, {"any": [{}]}] {
		authz.decision == allowed with input as with_grants(get, grants)
	}
}

test_another_source_does_not_match if {
	every grants in [{"apps": {monitoring: [{}]}}, {"spaces": {acme: [{}]}}, {"orgs": {frontend: [{}]}}] {
		authz.decision == no_match with input as with_grants(get, grants)
	}
}

test_nobody_is_denied_even_by_any if {
	every part in ["app", "space", "org"] {
		partly := object.union(caller, {part: ""})
		authz.decision == no_match with input as object.union(with_grants(get, {"any": [{}]}), {"caller": partly})
	}
	authz.decision == no_match with input as object.union(with_grants(get, {"any": [{}]}), {"caller": nobody})
	authz.decision == no_match with input as object.union(with_grants(get, {"any": [{}]}), {"caller": {"kind": "spiffe"}})
}

test_methods_are_exact if {
	only_get := {"apps": {frontend: [{"methods": ["GET"]}]}}
	authz.decision == allowed with input as with_grants(get, only_get)
	every method in ["HEAD", "get", "POST"] {
		authz.decision == no_match with input as with_grants(request(method, "/api/x"), only_get)
	}
}

# Conditions of two grants do not mix.
test_conditions_hold_together if {
	two := {"apps": {frontend: [{"methods": ["GET"], "paths": ["/a"]}, {"methods": ["POST"], "paths": ["/b"]}]}}
	authz.decision == allowed with input as with_grants(request("GET", "/a"), two)
	authz.decision == allowed with input as with_grants(request("POST", "/b"), two)
	authz.decision == no_match with input as with_grants(request("POST", "/a"), two)
}

paths := [
	["/", "/", true],
	["/", "/a", false],
	["/a", "/", false],
	["/**", "/", true],
	["/**", "/a/b", true],
	["/a/**", "/a", true],
	["/a/**", "/a/b/c", true],
	["/a/**", "/b", false],
	["/a/**", "/", false],
	["/*", "/", false],
	["/*", "/a", true],
	["/*", "/a/b", false],
	["/a/*/c", "/a/b/c", true],
	["/a/*/c", "/a/c", false],
	["/a/*/**", "/a/b", true],
	["/a/*/**", "/a/b/c/d", true],
	["/a/*/**", "/a", false],
	["/a/*/c/**", "/a/b/d", false],
	["/*/**", "/", false],
	["/a/*", "/a/*", true],
	["/a/*", "/b/c", false],
	["/a", "/ab", false],
	["/a/**", "/ab", false],
	["/a", "/a/", true],
	["/a", "/A", false],
	["/a/b", "/a", false],
	["/a", "/a/b", false],
]

test_paths if {
	every row in paths {
		got := authz.decision.allow with input as with_grants(request("GET", row[1]), {"apps": {frontend: [{"paths": [row[0]]}]}})
		got == row[2]
	}
}

failing := {"pass": false, "failing": {"zebra", "no_delete"}, "reasons": {"zebra": "stripes"}, "headers": {}}

test_a_failing_check_denies if {
	got := authz.decision with input as with_grants(get, {"any": [{}]}) with data.mtls.site as failing
	got == {"allow": false, "policy": "policy:no_delete", "reason": "policy_denied", "headers": {}}
}

test_a_failing_check_gives_its_reason if {
	got := authz.decision with input as with_grants(get, {"any": [{}]})
		with data.mtls.site as object.union(failing, {"reasons": {"no_delete": "change_freeze", "zebra": "stripes"}})
	got == {"allow": false, "policy": "policy:no_delete", "reason": "change_freeze", "headers": {}}
}

test_a_reason_that_is_no_text_is_no_reason if {
	every reason in [true, false, null, 1, ["a"]] {
		got := authz.decision with input as with_grants(get, {"any": [{}]})
			with data.mtls.site as object.union(failing, {"reasons": {"no_delete": reason}})
		got.reason == "policy_denied"
	}
}

test_checks_that_neither_pass_nor_fail_decide_nothing if {
	not authz.decision with input as with_grants(get, {"any": [{}]})
		with data.mtls.site as object.union(failing, {"failing": set()})
}

test_a_check_does_not_stand_in_for_a_grant if {
	authz.decision == no_match with input as get with data.mtls.site as failing
}

test_headers_of_checks_go_to_the_app if {
	got := authz.decision with input as with_grants(get, {"any": [{}]})
		with data.mtls.site.headers as {"X-Mtls-Authz-Policy-Tier": "gold"}
	got == object.union(allowed, {"headers": {"X-Mtls-Authz-Policy-Tier": "gold"}})
}
