# METADATA
# title: Block list
# description: |
#   Callers that are on the list are denied on every route, whatever they were
#   granted. The list is data: one entry a guid, with the reason for people.
# schemas:
#   - input: schema.input
package site.check.block_list

default allow := false

allow if not blocked

# METADATA
# title: What the log and the caller read
reason := "blocked"

blocked if data.blocked.apps[input.caller.app]

blocked if data.blocked.spaces[input.caller.space]

blocked if data.blocked.orgs[input.caller.org]
