package state_test

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/doctor/state"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/store"
)

// filled is the file of a database with two bound routes.
func filled(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "state.db")
	s, err := store.Open(t.Context(), store.Config{URL: "sqlite://" + file})
	require.NoError(t, err)
	guid, err := identity.ParseGUID("d76446a1-f429-4444-8797-be2f78b75b08")
	require.NoError(t, err)
	given, err := parameters.ParseInstance([]byte(`{}`))
	require.NoError(t, err)
	_, err = s.CreateInstance(t.Context(), store.Cause{}, store.Instance{ID: "si-1", PlanID: "p", Plan: grants.ScopeOrg, Owner: grants.Owner{Instance: "si-1", Org: guid, Space: guid}, Parameters: given})
	require.NoError(t, err)
	for id, at := range map[string]string{"b-1": "https://Old.example.com", "b-2": "https://gw.example.com:8443"} {
		r, err := route.Parse(id + ".apps.identity/path")
		require.NoError(t, err)
		none, err := parameters.ParseBinding([]byte(`{}`))
		require.NoError(t, err)
		_, _, err = s.CreateBinding(t.Context(), store.Cause{}, store.Binding{ID: id, InstanceID: "si-1", Route: r, Parameters: none, URL: at + "/r/" + id + "/TOKEN"})
		require.NoError(t, err)
	}
	_, err = s.Key(t.Context(), "self-test")
	require.NoError(t, err)
	require.NoError(t, s.Close())
	return file
}

func open(t *testing.T, file string) *state.State {
	t.Helper()
	s, err := state.Open(state.Config{URL: "sqlite://" + file})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestWhatIsBoundIsReadWithoutTheTokens(t *testing.T) {
	s := open(t, filled(t))
	found, err := s.Bindings(t.Context())
	require.NoError(t, err)
	const guid = "d76446a1-f429-4444-8797-be2f78b75b08"
	assert.Equal(t, []state.Binding{
		{ID: "b-1", Instance: "si-1", Route: "b-1.apps.identity/path", Prefix: "https://old.example.com", Org: guid, Space: guid},
		{ID: "b-2", Instance: "si-1", Route: "b-2.apps.identity/path", Prefix: "https://gw.example.com:8443", Org: guid, Space: guid},
	}, found)
	assert.Equal(t, []string{"b-1.apps.identity", "/path"}, []string{found[0].Host(), found[0].Path()})

	server, err := s.Server(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "SQLite", server.Kind)
	assert.Regexp(t, `^3\.`, server.Version)
	assert.GreaterOrEqual(t, server.Schema, int64(4))
	assert.Positive(t, server.Latency)

	key, err := s.Key(t.Context(), "self-test")
	require.NoError(t, err)
	assert.Len(t, key, 32)
	key, err = s.Key(t.Context(), "another")
	require.NoError(t, err)
	assert.Nil(t, key, "none is made")
}

func TestNothingIsChanged(t *testing.T) {
	file := filled(t)
	before, err := os.ReadFile(file)
	require.NoError(t, err)
	s := open(t, file)
	_, err = s.Server(t.Context())
	require.NoError(t, err)
	_, err = s.Bindings(t.Context())
	require.NoError(t, err)
	_, err = s.Key(t.Context(), "another")
	require.NoError(t, err)
	require.NoError(t, s.Close())
	after, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, sha256.Sum256(before), sha256.Sum256(after))
}

func TestAFileThatIsNotThereIsNotMade(t *testing.T) {
	file := filepath.Join(t.TempDir(), "none.db")
	_, err := state.Open(state.Config{URL: "sqlite://" + file})
	require.ErrorIs(t, err, state.ErrNone)
	assert.NoFileExists(t, file)
}

func TestAnEmptyDatabaseStaysEmpty(t *testing.T) {
	file := filepath.Join(t.TempDir(), "empty.db")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := state.Open(state.Config{URL: "sqlite://" + file})
	require.ErrorIs(t, err, state.ErrEmpty)
	info, err := os.Stat(file)
	require.NoError(t, err)
	assert.Zero(t, info.Size())
}

func TestADatabaseThatIsAwayIsAnErrorWithoutThePassword(t *testing.T) {
	s, err := state.Open(state.Config{URL: "postgres://gateway:s3cret-pw@127.0.0.1:1/state"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	_, err = s.Server(t.Context())
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "s3cret-pw")
	_, err = s.Bindings(t.Context())
	require.Error(t, err)
	assert.NotErrorIs(t, err, state.ErrEmpty)
}

func TestPrefixes(t *testing.T) {
	for given, prefix := range map[string]string{
		"https://gw.example.com/r/b/TOKEN": "https://gw.example.com", "https://GW.example.com:8443/r/b/T?x#y": "https://gw.example.com:8443",
		"https://user:TOKEN@gw.example.com/r": "https://gw.example.com", "TOKEN": "", "": "", "https:///r/TOKEN": "", "https://gw/%zz": "",
	} {
		assert.Equal(t, prefix, state.Prefix(given), given)
	}
}
