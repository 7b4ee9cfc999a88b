package parameters_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/identity"
)

const (
	frontend = "d76446a1-f429-4444-8797-be2f78b75b08"
	metrics  = "0b7d4a8c-3b9e-4a43-9d3f-8a2c7f1f5e11"
	shop     = "6755b19d-c543-4e0c-a4b3-cd6e7c9c68a3"
	billing  = "1c5f1b9e-8f0a-4d0a-8a52-3e3b5f0a7c22"
	acme     = "6e424e4e-5e46-419a-9cb6-eac9de2794e8"
	nobody   = "00000000-0000-0000-0000-000000000000"
)

var (
	// now is the time of every test that has one.
	now = time.Date(2026, 5, 4, 10, 15, 0, 0, time.UTC)

	backend = route.Route{Host: "backend.apps.identity"}
)

// given are the parameters of an instance, which must be accepted.
func given(t testing.TB, text string) parameters.Parameters {
	t.Helper()
	p, err := parameters.ParseInstance([]byte(text))
	require.NoError(t, err, text)
	return p
}

// allowing are parameters with these entries: sources, or JSON objects.
func allowing(t testing.TB, entries ...string) parameters.Parameters {
	t.Helper()
	return given(t, `{"allow":`+list(entries...)+`}`)
}

// list writes entries as a JSON list.
func list(entries ...string) string {
	quoted := make([]string, len(entries))
	for i, entry := range entries {
		quoted[i] = entry
		if !strings.HasPrefix(entry, "{") {
			quoted[i] = `"` + entry + `"`
		}
	}
	return "[" + strings.Join(quoted, ",") + "]"
}

// refused demands a refusal for the developer: one line that says these words.
func refused(t testing.TB, err error, words ...string) {
	t.Helper()
	require.ErrorIs(t, err, parameters.ErrParameters)
	for _, word := range words {
		assert.ErrorContains(t, err, word)
	}
	assert.NotContains(t, err.Error(), "\n")
	assert.NotContains(t, err.Error(), "grants.", "no Go types")
	assert.Less(t, len(err.Error()), 1500)
}

func guid(s string) identity.GUID {
	id, err := identity.ParseGUID(s)
	if err != nil {
		panic(err)
	}
	return id
}
