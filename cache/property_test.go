package cache_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/cache"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/reads"
)

// writer writes random checks that read random parts of the input in every way
// that the language has.
type writer struct {
	*rand.Rand
	helpers []string
	locals  int
}

func (w *writer) pick(options ...string) string { return options[w.IntN(len(options))] }

func (w *writer) local() string { w.locals++; return fmt.Sprintf("v%d", w.locals) }

// text is an expression that is a string wherever it is defined.
func (w *writer) text() string {
	return w.pick("input.caller.app", "input.caller.space", "input.caller.org", "input.caller.instance", "input.caller.foundation",
		"input.request.method", "input.request.host", "input.request.path", "input.now.weekday", "input.now.date", "input.owner.scope",
		"input.request.segments[0]", "input.request.segments[1]", "input.request.segments[2]", `input["request"]["method"]`,
		"input.route.labels.team", `object.get(input.request, "path", "")`, `concat("/", input.request.segments)`)
}

func (w *writer) value() string {
	return w.pick(`"GET"`, `"PUT"`, `"a"`, `"b"`, `"/a"`, `"/a/b"`, `"i-1"`, `"mon"`, `"local"`, fmt.Sprintf("%q", frontend), fmt.Sprintf("%q", shop))
}

// condition is one or more expressions of a body. It may fail, be undefined, or
// be in error.
func (w *writer) condition(depth int) string {
	if depth == 0 {
		return w.pick(w.text()+" == "+w.value(), w.text()+" != "+w.value(), w.text()+" != "+w.value(), w.text()+" != "+w.value(), "startswith("+w.text()+", "+w.value()+")", w.text()+" < "+w.text())
	}
	inner := func() string { return w.condition(depth - 1) }
	x := w.local()
	switch w.IntN(17) {
	case 0:
		return "not " + w.condition(0)
	case 1:
		return fmt.Sprintf("%s := %s\n\t%s == %s", x, w.text(), x, w.value())
	case 2: // a document in hand
		return fmt.Sprintf("%s := input.%s\n\tcount(%s) == %d", x, w.pick("caller", "request", "now", "request.segments", "grants.apps"), x, 1+w.IntN(4))
	case 3:
		y := w.local()
		return fmt.Sprintf("%s := input.request\n\t%s := %s.%s\n\t%s == %s", x, y, x, w.pick("path", "method"), y, w.value())
	case 4:
		return fmt.Sprintf("count([%s | %s := input.request.segments[_]; %s != %s]) == %d", x, x, x, w.value(), w.IntN(3))
	case 5:
		return fmt.Sprintf("some %s in input.request.segments\n\t%s == %s", x, x, w.value())
	case 6:
		return fmt.Sprintf("every %s in input.request.segments { %s != %s }", x, x, w.value())
	case 7:
		return fmt.Sprintf("input.now.minute > %d", 610+w.IntN(8))
	case 8: // in error for most
		return "to_number(" + w.text() + ") == 1"
	case 9:
		return fmt.Sprintf("{%s | %s := %s} == {%s}", x, x, w.text(), w.value())
	case 10:
		return w.function(inner())
	case 11:
		return w.rule(inner())
	case 12:
		name := w.rule(inner())
		return fmt.Sprintf("%s with %s as %s", name, w.pick("input.request.method", "input.caller.app", "input.request", "input", "input.now.minute"),
			w.pick(w.text(), w.value(), "input.request", "{}", "input"))
	case 13:
		return fmt.Sprintf("data.blocked[%s]", w.text())
	case 14:
		return fmt.Sprintf("not data.blocked[%s]", w.text())
	case 15: // the built-in policy, and its input changed
		return w.pick("data.mtls.authz.granted", "not data.mtls.authz.granted", "data.mtls.authz.known",
			"data.mtls.authz.granted with input.request.method as "+w.text(), "data.mtls.authz.granted with input.caller.app as "+w.text(),
			"input.grants.apps[input.caller.app]", "not input.grants.orgs[input.caller.org]", "input.grants.apps[_][_].paths[_] == input.request.path")
	default:
		return inner() + "\n\t" + inner()
	}
}

func (w *writer) rule(body string) string {
	w.locals++
	name := fmt.Sprintf("r%d", w.locals)
	text := fmt.Sprintf("%s if {\n\t%s\n}\n", name, body)
	switch w.IntN(4) {
	case 0:
		text = "default " + name + " := false\n" + text
	case 1:
		text = strings.TrimSuffix(text, "\n") + fmt.Sprintf(" else := false if {\n\t%s\n} else := %s\n", w.condition(0), w.pick("true", w.text()+" == "+w.value()))
	case 2:
		text += fmt.Sprintf("%s if %s\n", name, w.condition(0))
	}
	w.helpers = append(w.helpers, text)
	return name
}

func (w *writer) function(body string) string {
	w.locals++
	name := fmt.Sprintf("f%d", w.locals)
	w.helpers = append(w.helpers, fmt.Sprintf("%s(x) if {\n\tx != %s\n\t%s\n}\n%s(x) if x == %s\n", name, w.value(), body, name, w.text()))
	return name + "(" + w.text() + ")"
}

// check is one random check.
func (w *writer) check(name string) string {
	w.helpers = nil
	var b strings.Builder
	fmt.Fprintf(&b, "package site.check.%s\n\n", name)
	if w.IntN(2) == 0 {
		b.WriteString("default allow := false\n\n")
	}
	for range 1 + w.IntN(2) {
		fmt.Fprintf(&b, "allow if {\n\t%s\n}\n\n", w.condition(w.IntN(3)))
	}
	// What the decision says shows what was read.
	if w.IntN(2) == 0 {
		fmt.Fprintf(&b, "reason := \"r1\" if {\n\t%s\n}\n\n", w.condition(2))
	}
	if w.IntN(2) == 0 {
		value := w.text()
		if w.IntN(2) == 0 {
			w.helpers = append(w.helpers, fmt.Sprintf("h0(x) := concat(\"-\", [x, %s, %s])\n", w.text(), w.text()))
			value = "h0(" + value + ")"
		}
		fmt.Fprintf(&b, "headers := {\"X-Mtls-Authz-Policy-A\": h} if h := %s\n\n", value)
	}
	return b.String() + strings.Join(w.helpers, "\n")
}

// policy compiles random checks, or none where one of them is refused.
func (w *writer) policy(t testing.TB) *rego.Policy {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "data.json"), []byte(`{"blocked":{"GET":true,"a":false,"`+frontend+`":true}}`), 0o600))
	for i := range w.IntN(3) {
		name := fmt.Sprintf("c%d", i)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+".rego"), []byte(w.check(name)), 0o600))
	}
	compiled, err := rego.Compile(t.Context(), rego.Config{Bundle: dir, Timeout: 10 * time.Second})
	if err != nil {
		require.ErrorIs(t, err, rego.ErrBundle)
		return nil
	}
	return compiled
}

func (w *writer) access(t testing.TB, revision int64) *grants.Access {
	var entries []string
	for i := range w.IntN(4) {
		source := w.pick("cf:any", "cf:app:"+w.guid(), "cf:app:"+frontend, "cf:space:"+w.guid(), "cf:org:"+w.guid())
		entry := fmt.Sprintf(`{"source":%q,"expires":"2027-01-0%dT00:00:00Z"`, source, i+1)
		if w.IntN(3) == 0 {
			entry += fmt.Sprintf(`,"methods":[%q]`, w.pick("GET", "PUT"))
		}
		if w.IntN(3) == 0 {
			entry += fmt.Sprintf(`,"paths":[%q]`, w.pick("/a", "/a/**", "/*", "/a/*", "/**"))
		}
		entries = append(entries, entry+"}")
	}
	return access(t, revision, "["+strings.Join(entries, ",")+"]")
}

func (w *writer) guid() string { return w.pick(frontend, metrics, shop, acme) }

func (w *writer) request(p *rego.Policy, a *grants.Access) *rego.Request {
	r := request(p, a, "/", start)
	for path := range reads.Whole.All() {
		w.mutate(r, path)
	}
	return r
}

// mutate gives one path of the input another value, perhaps.
func (w *writer) mutate(r *rego.Request, path reads.Path) {
	switch path {
	case reads.Foundation:
		r.Caller.Foundation = w.pick("local", "other")
	case reads.App:
		r.Caller.App = guid(w.guid())
	case reads.Space:
		r.Caller.Space = guid(w.guid())
	case reads.Org:
		r.Caller.Org = guid(w.guid())
	case reads.Instance:
		r.Caller.Instance = w.pick("", "i-1", "1")
	case reads.Method:
		r.Method = w.pick("GET", "PUT", "1")
	case reads.Host:
		r.Host = w.pick("backend.apps.identity", "a")
	case reads.RawPath:
		r.Path = w.pick("/", "/a", "/a/b", "/b/a/")
	case reads.Segments:
		r.Segments = route.Segments(w.pick("/", "/a", "/a/b", "/b/a/c", "/GET", "/b"))
	case reads.Minute, reads.Weekday, reads.Date:
		r.Now = start.AddDate(0, 0, w.IntN(2)).Add(time.Duration(w.IntN(3)) * time.Minute)
	}
}

func (w *writer) requestTo(p *rego.Policy, a *grants.Access) *rego.Request {
	r := w.request(p, a)
	if w.IntN(30) == 0 {
		r.Caller.Space = identity.GUID{}
	}
	return r
}

// same demands that both ways to decide say the same, errors included.
func same(t testing.TB, r *rego.Request, one, two rego.Decision, oneErr, twoErr error, hint string) {
	t.Helper()
	one.Cache, two.Cache = 0, 0
	if !assert.Equal(t, oneErr == nil, twoErr == nil, "%s: %v, %v", hint, oneErr, twoErr) || !assert.Equal(t, one, two, hint) {
		t.Fatalf("%s\nkey %v of %s, request %+v", hint, r.Key().Paths.Strings(), r.Key().Shape, *r)
	}
}

func rounds(few int) int {
	if os.Getenv("MTLS_AUTHZ_HEAVY") != "" {
		return few * 40
	}
	return few
}

// What is remembered is what a fresh evaluation says, for random policies,
// grants and requests.
func TestRememberedDecisionsEqualFreshOnes(t *testing.T) {
	seed := rand.Uint64()
	w := &writer{Rand: rand.New(rand.NewPCG(seed, 0))}
	counts := map[string]int{}
	for range rounds(40) {
		p := w.policy(t)
		if p == nil {
			counts["refused"]++
			continue
		}
		c := newCache(t, cache.Config{Now: func() time.Time { return start }})
		for revision := range int64(2) {
			a := w.access(t, revision)
			for range 30 {
				r := w.requestTo(p, a)
				fresh, freshErr := p.Decide(t.Context(), r)
				remembered, err := c.Decide(t.Context(), r)
				same(t, r, fresh, remembered, freshErr, err, fmt.Sprintf("seed %d", seed))
				counts[remembered.Cache.String()]++
				counts[fmt.Sprint(fresh.Allow)]++
				if err != nil {
					counts["error"]++
				}
			}
		}
	}
	t.Logf("seed %d: %v", seed, counts)
	for _, kind := range []string{"local", "miss", "true", "false"} {
		assert.Greater(t, counts[kind], 50, "too few %s for this to say something: %v", kind, counts)
	}
}

// What is not in the key does not change the decision.
func TestWhatIsNotInTheKeyDoesNotMatter(t *testing.T) {
	seed := rand.Uint64()
	w := &writer{Rand: rand.New(rand.NewPCG(seed, 1))}
	mutations := 0
	for range rounds(20) {
		p := w.policy(t)
		if p == nil {
			continue
		}
		for range 12 {
			r := w.request(p, w.access(t, 1))
			before, beforeErr := p.Decide(t.Context(), r)
			key := r.Key()
			for path := range reads.Whole.All() {
				if key.Paths.Has(path) || path == reads.Segments && key.Paths.RequestPath() || (path == reads.Minute || path == reads.Weekday || path == reads.Date) && key.Paths.Now() {
					continue
				}
				mutated := *r
				w.mutate(&mutated, path)
				after, afterErr := p.Decide(t.Context(), &mutated)
				same(t, r, before, after, beforeErr, afterErr, fmt.Sprintf("seed %d, %s", seed, path))
				mutations++
			}
		}
	}
	assert.Greater(t, mutations, 300)
}
