package identity_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/identity"
)

func TestGUIDHasOneSpelling(t *testing.T) {
	for _, s := range []string{frontend, shop, "ffffffff-ffff-ffff-ffff-ffffffffffff", "00000000-0000-0000-0000-000000000001"} {
		id, err := identity.ParseGUID(s)
		require.NoError(t, err)
		assert.Equal(t, s, id.String())
	}
	for _, s := range []string{
		"", nobody, strings.ToUpper(frontend), frontend[:35], frontend + "0", " " + frontend[:35], "urn:uuid:" + frontend,
		"{" + frontend + "}", "d76446a1_f429-4444-8797-be2f78b75b08", "d76446a1f-429-4444-8797-be2f78b75b08", "g76446a1-f429-4444-8797-be2f78b75b08",
	} {
		id, err := identity.ParseGUID(s)
		assert.Error(t, err, s)
		assert.Zero(t, id, s)
	}
}

func TestZeroGUIDNamesNothing(t *testing.T) {
	assert.True(t, identity.GUID{}.IsZero())
	assert.Empty(t, identity.GUID{}.String())
	var id identity.GUID
	assert.Error(t, id.UnmarshalText(nil), "the zero GUID cannot be read")
}

func TestGUIDInJSON(t *testing.T) {
	text, err := json.Marshal(map[identity.GUID]identity.GUID{guid(frontend): guid(shop)})
	require.NoError(t, err)
	assert.JSONEq(t, `{"`+frontend+`":"`+shop+`"}`, string(text))
	var back map[identity.GUID]identity.GUID
	require.NoError(t, json.Unmarshal(text, &back))
	assert.Equal(t, guid(shop), back[guid(frontend)])
	assert.Error(t, json.Unmarshal([]byte(`{"`+frontend+`":"`+nobody+`"}`), &back))
}
