package parameters_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
)

// FuzzParameters: whatever a developer sends is refused in one line, or reads
// back the same from its canonical form, before and after an update.
func FuzzParameters(f *testing.F) {
	f.Add(contractExample, `{}`)
	f.Add(`{}`, contractExample)
	f.Add(`{"mtls_allowed_apps":"`+frontend+`"}`, `{"allow_add":["`+app2+`"],"allow_remove":["`+app+`"]}`)
	f.Add(`{"allow":[{"source":"cf:any","expires":"9999-12-31T23:59:59.999999999Z","reason":"<&\u2028>"}]}`, `{"allow":null,"status":1}`)
	f.Add(`{"labels":{"a.b/c":"d"},"annotations":{"e":"\ud83d\ude00"}}`, `{"labels":{"a.b/c":null},"annotations":{"e":""}}`)
	f.Add(`{"report_routes":["*.a.b/c"],"mode":"report","assert":false}`, `{"mtls_allow_any":false}`)
	f.Add(`{"allow":[{"source":"cf:any","expires":"0001-01-01T00:00:00Z"}]}`, `{"scope":"any"}}`)
	f.Fuzz(func(t *testing.T, create, patch string) {
		p, err := parameters.ParseInstance([]byte(create))
		checkParameters(t, p, err)
		b, bindErr := parameters.ParseBinding([]byte(create))
		checkParameters(t, b, bindErr)
		if bindErr == nil {
			require.NoError(t, err, "a binding takes nothing that an instance does not")
			require.Equal(t, p, b)
		}
		if err != nil {
			return
		}
		next, err := p.Update([]byte(patch), now)
		checkParameters(t, next, err)
		if err != nil {
			return
		}
		again, err := next.Update([]byte(`{}`), now)
		require.NoError(t, err)
		require.Equal(t, next, again)
	})
}

// FuzzAllowAdd: adding an entry twice is adding it once, it is there then, and
// taking it off leaves no trace of it.
func FuzzAllowAdd(f *testing.F) {
	f.Add(contractExample, `"`+app2+`"`)
	f.Add(`{"allow":["`+app+`"]}`, `"`+app+`"`)
	f.Add(`{}`, `{"source":"cf:any","methods":["GET","HEAD"],"reason":"r"}`)
	f.Add(`{"allow":[{"source":"cf:any","methods":["HEAD","GET"]}]}`, `{"source":"cf:any","methods":["GET","HEAD"],"reason":"r"}`)
	f.Add(`{"allow":["`+app+`"]}`, `{"source":"`+app+`","paths":["/a"]}`)
	f.Fuzz(func(t *testing.T, create, entry string) {
		p, err := parameters.ParseInstance([]byte(create))
		if err != nil || !json.Valid([]byte(entry)) {
			return
		}
		add := []byte(`{"allow_add":[` + entry + `]}`)
		once, err := p.Update(add, now)
		checkParameters(t, once, err)
		if err != nil {
			return
		}
		twice, err := once.Update(add, now)
		require.NoError(t, err)
		require.Equal(t, once, twice)
		grant, err := grants.ParseGrant([]byte(entry))
		require.NoError(t, err)
		same := func(g grants.Grant) bool { return g.Identity() == grant.Identity() }
		require.True(t, slices.ContainsFunc(once.Allow, same), "%s", entry)
		without, err := once.Update([]byte(`{"allow_remove":[`+entry+`]}`), now)
		checkParameters(t, without, err)
		require.NoError(t, err)
		require.False(t, slices.ContainsFunc(without.Allow, same), "%s", entry)
	})
}

func checkParameters(t *testing.T, p parameters.Parameters, err error) {
	t.Helper()
	if err == nil {
		roundTrip(t, p)
		for _, grant := range p.Allow {
			require.NotEmpty(t, grant.Source.String())
		}
		return
	}
	require.ErrorIs(t, err, parameters.ErrParameters)
	require.Zero(t, p)
	require.False(t, strings.ContainsAny(err.Error(), "\r\n"), "%q", err)
	require.Less(t, len(err.Error()), 2000)
}
