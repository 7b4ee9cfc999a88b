package routes_test

import (
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/router/routes"
)

const (
	host    = "backend.apps.identity"
	backend = "http://127.0.0.1:1"
)

func TestTheZeroTableKnowsNothing(t *testing.T) {
	assert.Nil(t, new(routes.Table).Lookup(host))
}

func TestARouteThatWasFoundDoesNotChange(t *testing.T) {
	var table routes.Table
	require.NoError(t, table.Add(host, routes.Backend{URL: backend}))
	before := table.Lookup(host + "/x")
	require.NoError(t, table.Add(host, routes.Backend{URL: "http://127.0.0.1:2"}))
	require.NoError(t, table.Bind(host, &url.URL{Scheme: "https", Host: "gateway"}))
	assert.Len(t, before.Backends, 1)
	assert.Nil(t, before.Service)
	assert.Len(t, table.Lookup(host).Backends, 2)
	assert.True(t, before.Same(table.Lookup(host)))
}

func TestTurnsGoAroundAndStopAtTheLimit(t *testing.T) {
	var table routes.Table
	for _, port := range []string{"1", "2", "3", "4"} {
		require.NoError(t, table.Add(host, routes.Backend{URL: "http://127.0.0.1:" + port}))
	}
	var order []string
	for range 5 {
		var ports string
		for _, b := range table.Lookup(host).Turns(3) {
			ports += strings.TrimPrefix(b.Address(), "127.0.0.1:")
		}
		order = append(order, ports)
	}
	assert.Equal(t, []string{"123", "234", "341", "412", "123"}, order)
}

func TestParseInstance(t *testing.T) {
	const guid = "d76446a1-f429-4444-8797-be2f78b75b08"
	for value, ok := range map[string]bool{
		guid + ":0": true, guid + ":12": true, guid: false, guid + ":": false, guid + ":x": false, ":1": false, "": false,
		strings.ToUpper(guid) + ":1": false, guid + ":1 ": false, "x" + guid + ":1": false,
	} {
		_, _, got := routes.ParseInstance(value)
		assert.Equal(t, ok, got, value)
	}
}

func TestReadersAndWritersMeet(t *testing.T) {
	var table routes.Table
	require.NoError(t, table.Add(host, routes.Backend{URL: backend}))
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 200 {
				_ = table.Lookup(host + "/path").Turns(3)
			}
		})
		group.Go(func() {
			for range 200 {
				_ = table.Add(host+"/path", routes.Backend{URL: backend})
				_ = table.Remove(host+"/path", backend)
			}
		})
	}
	group.Wait()
}

// FuzzLookup looks for panics and for routes that match by less than a whole
// segment.
func FuzzLookup(f *testing.F) {
	var table routes.Table
	for _, name := range []string{host, host + "/api", "*.apps.identity", "*.identity/x"} {
		require.NoError(f, table.Add(name, routes.Backend{URL: backend}))
	}
	for _, seed := range []string{"", "/", "*.", host + "/api/x?y", host + "/apiary", "a.b.c.identity/x//", "x/.apps.identity"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		found := table.Lookup(uri)
		if found == nil || found.Path == "" {
			return
		}
		key, _, _ := strings.Cut(strings.ToLower(uri)+"/", "?")
		if !strings.Contains(key+"/", found.Path+"/") {
			t.Fatalf("%q matched %s%s", uri, found.Host, found.Path)
		}
	})
}
