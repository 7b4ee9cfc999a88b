package replay_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/recording"
	"github.com/mtls-authz/mtls-authz/rego/replay"
)

// goodLine is a line with every member that can be forged below.
func goodLine(t testing.TB) string {
	r := recording.New(recording.Config{Entries: 100})
	a := access(t, backend, `{"source":"cf:app:`+frontend+`","methods":["GET"],"paths":["/x/**"]}`, "cf:app:"+metrics)
	r.Observe("id-1", request(compiled(t, operators("cf:org:"+acme)), a, "GET /x/y"), rego.Decision{Allow: true, Policy: "route:cf:app:" + frontend})
	var line bytes.Buffer
	require.NoError(t, r.Write(&line, recording.Filter{}))
	return strings.TrimSuffix(line.String(), "\n")
}

func TestForgedAndBrokenLinesAreRefused(t *testing.T) {
	good := goodLine(t)
	for _, test := range []struct{ old, replacement, says string }{
		{`{"decision_id"`, `{"surprise":1,"decision_id"`, "surprise"},
		{`"decision_id"`, `"Decision_ID"`, "Decision_ID"},
		{`"omitted":["grants.apps"]`, `"omitted":null`, ".omitted"},
		{`,"omitted":["grants.apps"]`, ``, ".omitted"},
		{`"omitted":["grants.apps"]`, `"omitted":["caller.app"]`, "caller.app"},
		{`"omitted":["grants.apps"]`, `"omitted":["request.path"]`, "go together"},
		{`"headers":{}`, `"headers":null`, ".decision.headers"},
		{`"allow":true`, `"allow":"yes"`, "allow"},
		{`"allow":true`, `"allow":null`, ".decision.allow"},
		{`"kind":"cf"`, `"kind":"spiffe"`, "caller.kind"},
		{`"app":"` + frontend, `"app":"` + strings.ToUpper(frontend), "caller.app"},
		{`"app":"` + frontend + `"`, `"app":""`, "caller.app"},
		{`"foundation":"local",`, ``, ".input.caller.foundation"},
		{`"method":"GET"`, `"method":"get"`, "request.method"},
		{`"segments":["x","y"]`, `"segments":["x"]`, "request.segments"},
		{`"host":"backend.apps.identity","path":"/x/y"`, `"host":"127.0.0.1","path":"/x/y"`, "request.host"},
		{`"route":"backend.apps.identity/v1"`, `"route":"other.apps.identity"`, "others in the input"},
		{`"host":"backend.apps.identity","path":"/v1"`, `"host":"backend.apps.identity/v1","path":""`, "route"},
		{`"scope":"org"`, `"scope":"all"`, "scope"},
		{`"methods":["GET"]`, `"methods":[]`, "methods"},
		{`"paths":["/x/**"]`, `"paths":["x"]`, "paths"},
		{`"paths":["/x/**"]`, `"expires":"2099-01-01T00:00:00Z"`, "expires"},
		{`"apps":{"` + frontend, `"apps":{"` + "nobody", "source"},
		{`"operator_grants":{"any":[]`, `"operator_grants":{"any":[{}]`, "operator_grants"},
		{`"weekday":"mon"`, `"weekday":"sun"`, "weekday"},
		{`"minute":615`, `"minute":1440`, "minute"},
		{`"minute":615`, `"minute":6.15e2`, "minute"},
		{`"date":"2026-05-04"`, `"date":"2026-02-30"`, "date"},
		{good, "", "EOF"},
		{good, good + good, "more after it"},
		{good, good[:len(good)-1], "EOF"},
		{good, "null", "null"},
		{good, "[]", "array"},
	} {
		bad := strings.Replace(good, test.old, test.replacement, 1)
		require.NotEqual(t, good, bad, test.old)
		number := 0
		for recorded, err := range replay.Read(strings.NewReader(good + "\n" + bad + "\n" + good + "\n")) {
			number++
			if number != 2 {
				assert.NoError(t, err, "the lines around it are good")
				continue
			}
			if assert.ErrorIs(t, err, replay.ErrMalformed, test.replacement) {
				assert.True(t, strings.HasPrefix(err.Error(), "line 2: "), err.Error())
				assert.Contains(t, err.Error(), test.says)
				assert.Zero(t, recorded)
			}
		}
		assert.Equal(t, 3, number)
	}
}

func TestReadingEndsWhereItMust(t *testing.T) {
	errs := func(lines string) (all []error) {
		for _, err := range replay.Read(strings.NewReader(lines)) {
			all = append(all, err)
		}
		return all
	}
	assert.Empty(t, errs(""))
	good := goodLine(t)
	assert.Equal(t, []error{nil}, errs(good), "without a last newline")
	long := errs(good + "\n" + strings.Repeat("x", 9<<20) + "\n" + good)
	require.Len(t, long, 2)
	require.ErrorIs(t, long[1], replay.ErrMalformed)
	assert.Contains(t, long[1].Error(), "line 2: ")

	broken := errors.New("connection reset")
	for recorded, err := range replay.Read(iotest.ErrReader(broken)) {
		assert.ErrorIs(t, err, broken)
		assert.Zero(t, recorded)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(goodLine(f))
	f.Add(strings.Replace(goodLine(f), `"any":[]`, `"any":[{}]`, 1))
	policy := compiled(f, nil)
	f.Fuzz(func(t *testing.T, lines string) {
		for recorded, err := range replay.Read(strings.NewReader(lines)) {
			if err == nil {
				_, _ = replay.NewReplay(policy).Decide(t.Context(), recorded)
			}
		}
	})
}
