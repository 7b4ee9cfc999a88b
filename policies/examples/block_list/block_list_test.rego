package site.check.block_list_test

import data.site.check.block_list

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

test_a_caller_that_is_not_listed_passes if block_list.allow with input as request

test_a_listed_caller_does_not if {
	every listed in [
		{"apps": {request.caller.app: "why"}, "spaces": {}, "orgs": {}},
		{"apps": {}, "spaces": {request.caller.space: "why"}, "orgs": {}},
		{"apps": {}, "spaces": {}, "orgs": {request.caller.org: "why"}},
	] {
		not block_list.allow with input as request with data.blocked as listed
	}
}

test_the_kind_counts if {
	listed := {"apps": {request.caller.org: "why"}, "spaces": {request.caller.app: "why"}, "orgs": {}}
	block_list.allow with input as request with data.blocked as listed
}

# The reason is for people: an empty one blocks too.
test_an_entry_without_a_reason_blocks if {
	every why in ["", null, {}] {
		not block_list.allow with input as request
			with data.blocked as {"apps": {request.caller.app: why}, "spaces": {}, "orgs": {}}
	}
}

test_the_decision_names_the_check if {
	got := data.mtls.authz.decision with input as request
		with data.blocked as {"apps": {request.caller.app: "why"}, "spaces": {}, "orgs": {}}
	got == {"allow": false, "policy": "policy:block_list", "reason": "blocked", "headers": {}}
}

test_guids_are_in_lower_case if {
	every kind in data.blocked {
		every guid, _ in kind {
			guid == lower(guid)
			count(guid) == 36
		}
	}
}
