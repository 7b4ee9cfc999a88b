# METADATA
# title: Only labelled routes
# description: |
#   A route answers only if its service instance or binding names the team that
#   owns it, and an exposure that the operator knows. Labels are the developer's
#   claim: they can close a route here, never open one.
# schemas:
#   - input: schema.input
package site.check.labelled_routes

default allow := false

allow if {
	input.route.labels.team != ""
	input.route.labels.exposure in data.exposures
}

# METADATA
# title: What the log and the caller read
reason := "route_not_labelled"
