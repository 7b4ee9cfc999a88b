package site.check.office_hours_test

import data.site.check.office_hours

request := {
	"caller": {
		"kind": "cf",
		"foundation": "local",
		"app": "d76446a1-f429-4444-8797-be2f78b75b08",
		"space": "6755b19d-c543-4e0c-a4b3-cd6e7c9c68a3",
		"org": "6e424e4e-5e46-419a-9cb6-eac9de2794e8",
		"instance": "i",
	},
	"request": {"method": "GET", "host": "payroll.apps.identity", "path": "/api/x", "segments": ["api", "x"]},
	"route": {"host": "payroll.apps.identity", "path": "", "binding": "b", "labels": {}},
	"owner": {
		"service_instance": "s",
		"space": "6755b19d-c543-4e0c-a4b3-cd6e7c9c68a3",
		"org": "6e424e4e-5e46-419a-9cb6-eac9de2794e8",
		"scope": "any",
	},
	"grants": {"any": [{}], "apps": {}, "spaces": {}, "orgs": {}},
	"now": {"minute": 615, "weekday": "mon", "date": "2026-05-04"},
}

at(weekday, minute) := object.union(request, {"now": {"weekday": weekday, "minute": minute}})

times := [
	["mon", 480, true],
	["fri", 1079, true],
	["mon", 479, false],
	["fri", 1080, false],
	["sat", 615, false],
	["sun", 615, false],
]

test_a_listed_route_keeps_the_hours if {
	every row in times {
		got := office_hours.allow with input as at(row[0], row[1])
		got == row[2]
	}
}

test_other_routes_are_always_open if {
	other := object.union(at("sun", 0), {"route": {"host": "backend.apps.identity"}})
	office_hours.allow with input as other
}

test_the_decision_names_the_check if {
	got := data.mtls.authz.decision with input as at("sun", 0)
	got == {"allow": false, "policy": "policy:office_hours", "reason": "outside_office_hours", "headers": {}}
}

test_the_hours_make_sense if {
	data.office_hours.from_minute < data.office_hours.to_minute
	every day in data.office_hours.weekdays {
		day in {"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
	}
}
