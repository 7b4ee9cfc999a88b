# METADATA
# title: No DELETE across organizations
# description: |
#   A caller of another organization than the route's owner may do whatever the
#   grants allow, but not delete.
# schemas:
#   - input: schema.input
package site.check.no_cross_org_delete

default allow := false

allow if input.request.method != "DELETE"

allow if input.caller.org == input.owner.org

# METADATA
# title: What the log and the caller read
reason := "cross_org_delete"
