# METADATA
# title: The decision
# description: |
#   Allows a request if a grant of its route matches the caller, the method and
#   the path, and every check of the operator holds. The gateway has verified
#   the caller and the scope before, leaves expired grants out of the input, and
#   confirms the grant afterwards: this policy can only narrow.
package mtls.authz

# METADATA
# title: The one document that the gateway asks for
# entrypoint: true
decision := {"allow": true, "policy": "", "reason": "", "headers": headers} if {
	granted
	count(data.mtls.site.failing) == 0
}

decision := deny("route:no_matching_grant", "no_matching_grant") if not granted

decision := deny(concat("", ["policy:", check]), reason) if {
	granted
	check := min(data.mtls.site.failing)
	reason := object.get(data.mtls.site.reasons, check, "policy_denied")
}

deny(policy, reason) := {"allow": false, "policy": policy, "reason": reason, "headers": {}}

# Two checks that ask for different values of one header conflict, which is an
# error and therefore a denial.
headers := {name: value |
	some check
	some name, value in data.mtls.site.headers[check]
}

# Grants are grouped by kind and keyed by guid, so that finding the caller's
# costs the same for one grant and for ten thousand.
granted if {
	known
	holds(input.grants.apps[input.caller.app])
}

granted if {
	known
	holds(input.grants.spaces[input.caller.space])
}

granted if {
	known
	holds(input.grants.orgs[input.caller.org])
}

granted if {
	known
	holds(input.grants.any)
}

# Nobody is allowed nothing, not even by a grant to any caller.
known if {
	input.caller.kind == "cf"
	input.caller.app != ""
	input.caller.space != ""
	input.caller.org != ""
}

# holds is true if the conditions of one of the grants do.
holds(grants) if {
	some grant in grants
	method_allowed(grant)
	path_allowed(grant)
}

method_allowed(grant) if not "methods" in object.keys(grant)

method_allowed(grant) if input.request.method in grant.methods

path_allowed(grant) if not "paths" in object.keys(grant)

path_allowed(grant) if {
	some path in grant.paths
	covers(split(trim(path, "/"), "/"), input.request.segments)
}

# covers compares a pattern with a path, segment by segment: "*" stands for one
# segment, "**" at the end for any number.
covers([""], [])

covers(pattern, segments) if {
	count(pattern) == count(segments)
	pattern[count(pattern) - 1] != "**"
	every i, want in pattern {
		want in {"*", segments[i]}
	}
}

covers(pattern, segments) if {
	fixed := count(pattern) - 1
	pattern[fixed] == "**"
	count(segments) >= fixed
	every i, want in array.slice(pattern, 0, fixed) {
		want in {"*", segments[i]}
	}
}
