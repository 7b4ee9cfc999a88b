package rego_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego"
)

// Policy and Go say the same of every request: what Rego allows Go confirms,
// and what Go would confirm Rego allows.
func TestPolicyAndGoAgree(t *testing.T) {
	policy := compiled(t, nil)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	answers := map[bool]int{}
	for range 400 {
		entries := randomGrants(random)
		for range 5 {
			r := request(t, policy, pick(random, methods)+" "+randomPath(random, []string{"", "a", "b", "A", "*", "**", "é"}), entries...)
			r.Caller = randomCaller(random)
			decision := decide(t, r)
			_, matches := r.Live.Match(r.Caller, r.Method, r.Segments)
			require.Equal(t, matches, decision.Allow, "seed %d: %s %q by %v with %v", seed, r.Method, r.Path, r.Caller, entries)
			require.Equal(t, matches, rego.Confirm(decision, r).Allow)
			answers[matches]++
		}
	}
	require.Greater(t, answers[true], 100, "too few requests were allowed for this to say something")
	require.Greater(t, answers[false], 100, "too few requests were denied for this to say something")
}

var (
	methods = []string{"GET", "HEAD", "POST"}
	guids   = []string{frontend, shop, acme} // also of the wrong kind
)

func pick(random *rand.Rand, list []string) string { return list[random.IntN(len(list))] }

func randomCaller(random *rand.Rand) identity.Caller {
	c := caller(pick(random, guids), pick(random, guids), pick(random, guids))
	if random.IntN(20) == 0 {
		c.Space = identity.GUID{}
	}
	return c
}

func randomPath(random *rand.Rand, segments []string) string {
	path := ""
	for range random.IntN(4) {
		path += "/" + pick(random, segments)
	}
	return path + []string{"", "/"}[random.IntN(2)]
}

// randomGrants always has conditions that differ, so that no two entries are
// refused beside each other.
func randomGrants(random *rand.Rand) []string {
	var entries []string
	for i := range random.IntN(6) {
		source := "cf:any"
		if random.IntN(5) > 0 {
			source = pick(random, []string{"cf:app:", "cf:space:", "cf:org:"}) + pick(random, guids)
		}
		entry := fmt.Sprintf(`{"source":%q,"expires":"2026-05-0%dT10:15:42Z"`, source, i+2) // the first two or three have expired
		if random.IntN(2) == 0 {
			entry += fmt.Sprintf(`,"methods":[%q,%q]`, pick(random, methods), pick(random, methods))
		}
		if random.IntN(2) == 0 {
			entry += fmt.Sprintf(`,"paths":[%q,%q]`, randomPattern(random), randomPattern(random))
		}
		entries = append(entries, entry+"}")
	}
	return entries
}

func randomPattern(random *rand.Rand) string {
	pattern := strings.TrimSuffix(randomPath(random, []string{"a", "b", "*"}), "/")
	if pattern == "" || random.IntN(3) == 0 {
		return pattern + []string{"/", "/**"}[random.IntN(2)]
	}
	return pattern
}
