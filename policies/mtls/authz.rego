# METADATA
# title: The decision
# description: |
#   Allows a request if a grant of its route matches the caller, the method and
#   the path, and every check of the operator holds. The gateway has verified
#   the caller and the scope before, leaves expired grants out of the input, and
#   confirms the grant afterwards: this policy can only narrow.
# schemas:
#   - input: schema.input
package mtls.authz

# METADATA
# title: The one document that the gateway asks for
# description: |
#   Exactly one object of allow, policy, reason and headers. Whatever else comes
#   out, an error or nothing, denies.
# entrypoint: true
decision := {"allow": true, "policy": "", "reason": "", "headers": data.mtls.site.headers} if {
	granted
	data.mtls.site.pass
}

decision := deny("route:no_matching_grant", "no_matching_grant") if not granted

decision := deny(concat("", ["policy:", check]), reason_of(check)) if {
	granted
	not data.mtls.site.pass
	check := min(data.mtls.site.failing)
}

deny(policy, reason) := {"allow": false, "policy": policy, "reason": reason, "headers": {}}

reason_of(check) := data.mtls.site.reasons[check] if has_reason(check)

reason_of(check) := "policy_denied" if not has_reason(check)

has_reason(check) if is_string(data.mtls.site.reasons[check])

# METADATA
# title: A grant matches caller, method and path
# description: |
#   Grants are grouped by kind and keyed by guid, so that finding the caller's
#   costs the same for one grant and for ten thousand.
# scope: document
granted if {
	known
	some grant in input.grants.apps[input.caller.app]
	holds(grant)
}

granted if {
	known
	some grant in input.grants.spaces[input.caller.space]
	holds(grant)
}

granted if {
	known
	some grant in input.grants.orgs[input.caller.org]
	holds(grant)
}

granted if {
	known
	some grant in input.grants.any
	holds(grant)
}

# METADATA
# title: The caller is somebody
# description: Nobody is allowed nothing, not even by a grant to any caller.
known if {
	input.caller.kind == "cf"
	input.caller.app != ""
	input.caller.space != ""
	input.caller.org != ""
}

# METADATA
# title: All conditions of a grant hold
# description: It avoids builtins, which cost most, where plain references say the same.
# scope: document
holds(grant) if {
	not grant.methods
	not grant.paths
}

holds(grant) if {
	grant.methods[_] == input.request.method
	not grant.paths
}

holds(grant) if {
	not grant.methods
	path_allowed(grant.paths)
}

holds(grant) if {
	grant.methods[_] == input.request.method
	path_allowed(grant.paths)
}

path := concat("", ["/", concat("/", input.request.segments)])

# Most patterns are literal, or literal but for "**" at the end; those need no
# comparison of segments.
path_allowed(patterns) if patterns[_] == path

path_allowed(patterns) if {
	some pattern in patterns
	endswith(pattern, "/**")
	startswith(concat("", [path, "/"]), trim_suffix(pattern, "**"))
}

path_allowed(patterns) if {
	some pattern in patterns
	contains(pattern, "/*")
	covers(split(trim_prefix(pattern, "/"), "/"), input.request.segments)
}

# covers compares a pattern with a path, segment by segment: "*" stands for one
# segment, "**" at the end for any number.
covers(pattern, segments) if {
	count(pattern) == count(segments)
	every i, want in pattern {
		want in {"*", segments[i]}
	}
}

covers(pattern, segments) if {
	fixed := count(pattern) - 1
	pattern[fixed] == "**"
	every i, want in array.slice(pattern, 0, fixed) {
		want in {"*", segments[i]}
	}
}
