# METADATA
# title: Change freeze
# description: |
#   While the switch is on, requests that change something are denied on every
#   route, but for those of exempt apps. The switch is data, so that freezing is
#   a change of one word.
# schemas:
#   - input: schema.input
package site.check.freeze

default allow := false

allow if data.freeze.active == false

allow if input.request.method in {"GET", "HEAD", "OPTIONS"}

allow if input.caller.app in data.freeze.exempt_apps

# METADATA
# title: What the log and the caller read
reason := "change_freeze"
