package site.check.labelled_routes_test

import data.site.check.labelled_routes

request := {
	"caller": {
		"kind": "cf",
		"foundation": "local",
		"app": "d76446a1-f429-4444-8797-be2f78b75b08",
		"space": "6755b19d-c543-4e0c-a4b3-cd6e7c9c68a3",
		"org": "6e424e4e-5e46-419a-9cb6-eac9de2794e8",
		"instance": "i",
	},
	"request": {"method": "GET", "host": "backend.apps.identity", "path": "/api/x", "segments": ["api", "x"]},
	"route": {"host": "backend.apps.identity", "path": "", "binding": "b", "labels": {}},
	"owner": {
		"service_instance": "s",
		"space": "6755b19d-c543-4e0c-a4b3-cd6e7c9c68a3",
		"org": "6e424e4e-5e46-419a-9cb6-eac9de2794e8",
		"scope": "any",
	},
	"grants": {"any": [{}], "apps": {}, "spaces": {}, "orgs": {}},
	"now": {"minute": 615, "weekday": "mon", "date": "2026-05-04"},
}

labelled(labels) := object.union(request, {"route": {"labels": labels}})

test_a_labelled_route_answers if {
	every exposure in ["team", "organization", "company"] {
		labelled_routes.allow with input as labelled({"team": "payments", "exposure": exposure})
	}
}

test_others_do_not if {
	every labels in [
		{},
		{"team": "payments"},
		{"exposure": "team"},
		{"team": "", "exposure": "team"},
		{"team": "payments", "exposure": ""},
		{"team": "payments", "exposure": "world"},
		{"Team": "payments", "exposure": "team"},
	] {
		not labelled_routes.allow with input as labelled(labels)
	}
}

test_the_decision_names_the_check if {
	got := data.mtls.authz.decision with input as request
	got == {"allow": false, "policy": "policy:labelled_routes", "reason": "route_not_labelled", "headers": {}}
}
