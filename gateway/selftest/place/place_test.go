package place_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/gateway/selftest/place"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/route"
)

func bound(t *testing.T, text string) *grants.Access {
	t.Helper()
	r, err := route.Parse(text)
	require.NoError(t, err)
	return &grants.Access{Binding: "of " + text, Route: r}
}

// address has a router of its own for one host and for one domain.
func address(host string) string {
	if host == "own.apps.example.com" || strings.HasSuffix(host, ".shard.example.com") {
		return "shard:443"
	}
	return "shared:443"
}

func TestTheDomainOfAHost(t *testing.T) {
	for host, want := range map[string]string{
		"backend.apps.example.com": "apps.example.com", "a.b.apps.example.com": "b.apps.example.com", "a.example.com": "example.com",
		"example.com": "example.com", "internal": "internal", // not all that have a top-level domain in common
	} {
		assert.Equal(t, want, place.Domain(host), host)
	}
}

func TestWhereARequestsProbeGoes(t *testing.T) {
	for _, test := range []struct {
		route, host, want string
		below             bool
	}{
		{"backend.apps.example.com", "backend.apps.example.com", "backend.apps.example.com", false},
		{"backend.apps.example.com/beta", "backend.apps.example.com", "backend.apps.example.com/beta", false},
		{"*.apps.example.com", "a.apps.example.com", "any.apps.example.com", false},
		{"*.apps.example.com/beta", "a.apps.example.com", "any.apps.example.com/beta", false},
		{"*.apps.example.com", "a.b.apps.example.com", "any.b.apps.example.com", true},
		{"*.apps.example.com", "own.apps.example.com", "own.apps.example.com", false}, // another router
		{"*.example", "a.example", "a.example", true},
	} {
		access := bound(t, test.route)
		target := place.TargetFor(access, test.host, address)
		if label, rest, _ := strings.Cut(target.String(), "."); strings.HasPrefix(label, "probe-") {
			assert.NoError(t, route.CheckHost(target.Host))
			assert.NotEqual(t, target, place.TargetFor(access, test.host, address), "not to be foreseen")
			assert.Equal(t, test.want, "any."+rest)
		} else {
			assert.Equal(t, test.want, target.String())
		}
		assert.Equal(t, access.Binding, target.Binding)
		assert.Equal(t, place.Of(access.Owner.Space, test.host, address), place.Of(target.Space, target.Host, address), "proves the place of the request")
		assert.Equal(t, test.below, place.IsBelow(access, test.host), test.host)
	}
}

func TestTheIndexKnowsAPlaceForEachDomainAndRouter(t *testing.T) {
	index := place.NewIndex(address)
	for _, text := range []string{
		"a.apps.example.com", "b.apps.example.com/x", "own.apps.example.com", "*.shard.example.com", "*.tld",
	} {
		index.Add(bound(t, text))
	}
	assert.Equal(t, 5, index.Routes)
	apps, shard := place.Place{Domain: "apps.example.com", Router: "shared:443"}, place.Place{Domain: "shard.example.com", Router: "shard:443"}
	own := place.Place{Domain: "apps.example.com", Router: "shard:443"}
	assert.ElementsMatch(t, []place.Place{apps, shard, own}, index.Places())
	assert.Len(t, index.Some(apps, 9), 2)
	assert.Len(t, index.Some(apps, 1), 1)
	assert.Equal(t, []place.Target{{Binding: "of own.apps.example.com", Host: "own.apps.example.com"}}, index.Some(own, 9))
	assert.Empty(t, index.Some(place.Place{Domain: "tld"}, 9))
	assert.False(t, index.Has(place.Place{Domain: "tld", Router: "shared:443"}))
}

// What developers make is bounded: routes of a domain by a lot, domains in all.
func TestTheIndexIsBounded(t *testing.T) {
	index := place.NewIndex(address)
	drawn := map[string]bool{}
	for n := range 10_000 {
		index.AddTarget(place.Target{Host: fmt.Sprintf("h%d.apps.example.com", n)})
		index.AddTarget(place.Target{Host: fmt.Sprintf("h.d%d.example.com", 2*n)})
		index.AddTarget(place.Target{Host: fmt.Sprintf("h.d%d.example.com", 2*n+1)})
	}
	some := index.Some(place.Place{Domain: "apps.example.com", Router: "shared:443"}, 1000)
	assert.Len(t, some, 8)
	for _, target := range some {
		drawn[target.Host] = true
	}
	assert.NotEqual(t, map[string]bool{
		"h0.apps.example.com": true, "h1.apps.example.com": true, "h2.apps.example.com": true, "h3.apps.example.com": true,
		"h4.apps.example.com": true, "h5.apps.example.com": true, "h6.apps.example.com": true, "h7.apps.example.com": true,
	}, drawn, "not the first ones")
	assert.Len(t, index.Places(), place.MaxPlaces)
}

// A finding about a target is told of its route, and of no other.
func TestTargetsAreOfTheirRoutes(t *testing.T) {
	address := func(string) string { return "router:443" }
	for name, others := range map[string][]string{
		"a.example.com":        {"a.example.com/x", "b.example.com", "example.com", "*.example.com", "a.example.com.evil", ""},
		"a.example.com/x":      {"a.example.com", "a.example.com/y", "a.example.com/x/y"},
		"*.apps.example.com":   {"apps.example.com", "*.example.com", "*.apps.example.com/x", "*.com", "*"},
		"*.apps.example.com/x": {"*.apps.example.com", "a.apps.example.com/x"},
	} {
		bound, err := route.Parse(name)
		require.NoError(t, err)
		target := place.TargetFor(&grants.Access{Route: bound}, strings.Replace(bound.Host, "*", "any", 1), address)
		assert.True(t, target.IsOf(name), "%v", target)
		for _, other := range others {
			assert.False(t, target.IsOf(other), "%v is of %s", target, other)
		}
	}
	assert.False(t, place.Target{Host: "probe-x", Path: ""}.IsOf("*"))
}
