package site.check.no_cross_org_delete_test

import data.site.check.no_cross_org_delete

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

delete := object.union(request, {"request": {"method": "DELETE"}})

foreign := {"caller": {"org": "2d6a2c8f-9a1b-4e1b-9b63-4f4c6a1b8d33"}}

test_the_own_organization_may_delete if no_cross_org_delete.allow with input as delete

test_another_may_not if {
	not no_cross_org_delete.allow with input as object.union(delete, foreign)
	no_cross_org_delete.reason == "cross_org_delete"
}

test_another_may_do_the_rest if {
	every method in ["GET", "HEAD", "POST", "PUT", "PATCH"] {
		called := object.union(request, {"request": {"method": method}})
		no_cross_org_delete.allow with input as object.union(called, foreign)
	}
}

test_the_decision_names_the_check if {
	got := data.mtls.authz.decision with input as object.union(delete, foreign)
	got.allow == false
	got.policy == "policy:no_cross_org_delete"
	got.reason == "cross_org_delete"
}

test_without_a_grant_nobody_may_delete if {
	bare := object.union(object.remove(delete, ["grants"]), {"grants": {"any": [], "apps": {}, "spaces": {}, "orgs": {}}})
	got := data.mtls.authz.decision with input as bare
	got.allow == false
}
