package monitoring_test

monitoring := "cf:space:0b7d4a8c-3b9e-4a43-9d3f-8a2c7f1f5e11"

test_monitoring_may_read_metrics if {
	some grant in data.site.grants
	grant.source == monitoring
	grant.methods == ["GET"]
	grant.paths == ["/metrics"]
}

# An operator's grant is on every route that it matches: it must stay narrow.
test_no_grant_is_without_conditions if {
	every grant in data.site.grants {
		is_object(grant)
		count(grant.methods) > 0
		count(grant.paths) > 0
		count(grant.routes) > 0
	}
}

test_no_grant_is_for_everybody if {
	every grant in data.site.grants {
		grant.source != "cf:any"
	}
}

test_no_grant_writes if {
	every grant in data.site.grants {
		every method in grant.methods {
			method in {"GET", "HEAD"}
		}
	}
}
