package store_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/store"
)

// TestScale measures what MTLS_AUTHZ_SCALE bindings cost, 10 to an instance and
// each with 10 grants; it prints a table and asserts nothing about it. See make
// bench-scale.
func TestScale(t *testing.T) {
	bindings, err := strconv.Atoi(os.Getenv("MTLS_AUTHZ_SCALE"))
	if err != nil {
		t.Skip("make bench-scale runs it")
	}
	// PostgreSQL as it is installed, with durable commits.
	printFigures(fmt.Sprintf("%d bindings, 10 grants each", bindings), measure(t, databases["sqlite"], bindings), measure(t, ownPostgres(t).newDatabase, bindings))
}

func printFigures(what string, sqlite, postgres []figure) {
	fmt.Printf("| %-52s | %20s | %20s |\n|---|---|---|\n", what, "SQLite", "PostgreSQL")
	for i, one := range sqlite {
		fmt.Printf("| %-52s | %20s | %20s |\n", one.name, one.value, postgres[i].value)
	}
}

type figure struct{ name, value string }

const changes = 150

func measure(t *testing.T, fresh database, bindings int) []figure {
	url := generate(t, fresh, bindings)
	process := otherProcess(t, url)
	process.Stderr = os.Stderr
	out, err := process.Output()
	require.NoError(t, err)
	var elsewhere opened
	require.NoError(t, json.Unmarshal(out, &elsewhere))
	here, there := open(t, url), open(t, url)
	found := []figure{
		{"start of a process", elsewhere.Took.Round(10 * time.Millisecond).String()},
		{"its peak of resident memory", fmt.Sprintf("%d MiB", elsewhere.PeakKiB>>10)},
	}
	add := func(name string, times int, f func(n int)) {
		found = append(found, figure{name + ", p50 / p99", percentiles(times, f)})
	}
	id := func(n int) string { return fmt.Sprintf("new%d", n) }
	of := func(n int) string { return fmt.Sprintf("i%d", n*7919%(bindings/10)) }
	add("provision", changes, func(n int) { create(t, here, id(n), allow(app(n))) })
	add("bind", changes, func(n int) { bind(t, here, of(n), id(n), "{}") })
	add("unbind", changes, func(n int) { require.NoError(t, here.DeleteBinding(ctx, by, of(n), id(n))) })
	add("change begun until decided by elsewhere", changes, func(n int) {
		bind(t, here, of(n), "seen"+id(n), "{}")
		for there.View().Access("seen"+id(n)) == nil {
			time.Sleep(100 * time.Microsecond)
		}
	})
	add("look-up in the view", 10_000, func(n int) {
		if here.View().Access(fmt.Sprintf("b%d", n*7919%bindings)) == nil {
			t.Error("missing")
		}
	})
	policy, err := rego.Compile(ctx, rego.Config{Timeout: patience})
	require.NoError(t, err)
	add("decision on a route not asked for before", 5000, func(n int) { decideOn(t, here, policy, n*7919%bindings) })
	add("decision again", 5000, func(n int) { decideOn(t, here, policy, n%100) })
	lists := []struct {
		name   string
		filter store.BindingFilter
		page   store.Page
	}{
		{"list, first page", store.BindingFilter{}, store.Page{}},
		{"list, last page", store.BindingFilter{}, store.Page{Number: bindings / 50}},
		{"list by route", store.BindingFilter{Routes: []string{fmt.Sprintf("r%d.apps.identity", bindings/2)}}, store.Page{}},
		{"list by host", store.BindingFilter{Hosts: []string{fmt.Sprintf("r%d.apps.identity", bindings/2)}}, store.Page{}},
		{"list by organization", store.BindingFilter{Organizations: []string{guid(1).String()}}, store.Page{Descending: true}},
		{"list of what is unused", store.BindingFilter{UnusedSince: start}, store.Page{}},
	}
	for _, list := range lists {
		add(list.name, 10, func(int) {
			_, total, err := here.AllBindings(ctx, list.filter, list.page)
			require.NoError(t, err)
			require.NotZero(t, total)
		})
	}
	return found
}

func decideOn(t *testing.T, s *store.Store, policy *rego.Policy, n int) {
	access := s.View().Access(fmt.Sprintf("b%d", n))
	decision, err := policy.Decide(ctx, &rego.Request{
		Policy: policy, Live: access.Live(start, policy.Site()), Now: start, Method: "GET", Host: access.Route.Host, Path: "/",
		Caller: identity.Caller{Foundation: "local", App: guid(n * 10), Space: guid(3), Org: guid(4)},
	})
	require.NoError(t, err)
	require.True(t, decision.Allow)
}

// percentiles are the middle and the 99th of how long f takes.
func percentiles(times int, f func(n int)) string {
	took := make([]time.Duration, times)
	for n := range took {
		if times <= changes { // not in step with what happens now and then
			time.Sleep(rand.N(100 * time.Millisecond))
		}
		started := time.Now()
		f(n)
		took[n] = time.Since(started)
	}
	slices.Sort(took)
	return fmt.Sprintf("%s / %s", short(took[times/2]), short(took[times*99/100]))
}

// short leaves three digits.
func short(d time.Duration) string {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit).String()
}
