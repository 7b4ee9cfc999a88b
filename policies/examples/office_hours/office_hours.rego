# METADATA
# title: Office hours
# description: |
#   The routes that are listed answer on the weekdays and between the minutes
#   that the data gives, in the time zone of POLICY_TIME_ZONE.
# schemas:
#   - input: schema.input
package site.check.office_hours

default allow := false

allow if not limited

allow if {
	input.now.weekday in data.office_hours.weekdays
	input.now.minute >= data.office_hours.from_minute
	input.now.minute < data.office_hours.to_minute
}

# METADATA
# title: What the log and the caller read
reason := "outside_office_hours"

limited if input.route.host in data.office_hours.hosts
