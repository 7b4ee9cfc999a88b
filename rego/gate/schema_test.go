package gate_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mtls-authz/mtls-authz/rego/bundle"
)

// A misspelt path is undefined, and under negation it would allow: the input
// schema makes it an error at activation, with the operator's file and line.
func TestTyposInTheInputAreRefused(t *testing.T) {
	for name, rules := range map[string]string{
		"misspelt member":      "allow if not deny\ndeny if input.request.methd == \"DELETE\"",
		"misspelt document":    "allow if not input.caler.app == \"evil\"",
		"another name":         "allow if not input.caller.organisation == \"evil\"",
		"a list as text":       "allow if not deny\ndeny if input.request.segments == \"admin\"",
		"a number as text":     "allow if not input.now.minute == \"615\"",
		"what is not there":    "allow if not input.headers.x",
		"in the grants":        "allow if not input.grants.app[\"x\"]",
		"in a grant's members": "allow if not input.grants.any[0].method",
	} {
		_, err := pass(t.Context(), directory(t, files{"check.rego": "package site.check.typo\n" + rules}))
		if assert.ErrorIs(t, err, bundle.ErrRefused, name) {
			assert.Regexp(t, `check\.rego:\d`, err.Error(), name)
		}
	}
}

func TestTheWholeInputCanBeRead(t *testing.T) {
	_, err := pass(t.Context(), directory(t, files{"check.rego": `package site.check.whole
allow if {
	input.caller.kind == "cf"
	input.caller.foundation != input.caller.instance
	input.request.segments[0] == input.request.path
	input.route.labels.team == input.route.binding
	input.owner.scope != input.owner.service_instance
	input.grants.apps[input.caller.app][0].methods[_] == input.request.method
	input.grants.any[_].paths[_] == input.request.host
	input.now.minute < 600
	input.now.date != input.now.weekday
}`}))
	assert.NoError(t, err)
}
