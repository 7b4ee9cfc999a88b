package site.check.freeze_test

import data.site.check.freeze

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

called(method) := object.union(request, {"request": {"method": method}})

changing := ["POST", "PUT", "PATCH", "DELETE", "LOCK"]

on := {"active": true, "exempt_apps": []}

test_nothing_is_frozen_while_off if {
	every method in changing {
		freeze.allow with input as called(method) with data.freeze.active as false
	}
}

test_changes_are_denied_while_on if {
	every method in changing {
		not freeze.allow with input as called(method) with data.freeze as on
	}
}

test_reading_goes_on if {
	every method in ["GET", "HEAD", "OPTIONS"] {
		freeze.allow with input as called(method) with data.freeze as on
	}
}

test_exempt_apps_go_on if {
	freeze.allow with input as called("POST")
		with data.freeze as {"active": true, "exempt_apps": [request.caller.app]}
	not freeze.allow with input as called("POST")
		with data.freeze as {"active": true, "exempt_apps": [request.caller.org]}
}

# Only exactly false is off.
test_a_switch_that_is_neither_is_on if {
	every strange in ["false", 0, null, ""] {
		not freeze.allow with input as called("POST")
			with data.freeze as {"active": strange, "exempt_apps": []}
	}
}

test_the_decision_names_the_check if {
	got := data.mtls.authz.decision with input as called("POST") with data.freeze as on
	got == {"allow": false, "policy": "policy:freeze", "reason": "change_freeze", "headers": {}}
}
