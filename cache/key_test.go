package cache_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/mtls-authz/mtls-authz/cache"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/names"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego"
)

// Whatever a decision may depend on is in the key of a policy that reads it: every field of a request
// has its mutations here, or the test says which is new.
func TestEveryPartOfARequestIsInTheKey(t *testing.T) {
	reading := policy(t, readsAll)
	other := policy(t, readsAll+"\nother := 1")
	expiring := access(t, 7, `[{"source":"cf:app:`+frontend+`","expires":"2026-05-04T10:20:00Z"},{"source":"cf:any","expires":"2026-05-04T10:25:00Z"}]`)
	fresh := func() *rego.Request { return request(reading, expiring, "/a/b", start) }
	type mutation = func(*rego.Request)
	onCaller := func(change func(*identity.Caller)) mutation { return func(r *rego.Request) { change(&r.Caller) } }
	mutations := map[string][]mutation{
		"Policy": {func(r *rego.Request) { r.Policy = other }},
		"Live": {
			func(r *rego.Request) { r.Live = access(t, 8, allowFrontend).Live(start, nil) },
			func(r *rego.Request) {
				a := access(t, 7, allowFrontend)
				a.Binding = "b-2"
				r.Live = a.Live(start, nil)
			},
			func(r *rego.Request) { r.Live = expiring.Live(start.Add(5*time.Minute), reading.Site()) },
			func(r *rego.Request) { r.Live = standingFor(t, frontend).Live(start, reading.Site()) },
			func(r *rego.Request) { r.Live = standingFor(t, metrics).Live(start, reading.Site()) },
			func(r *rego.Request) { r.Live = standingFor(t, frontend, metrics).Live(start, reading.Site()) },
			func(r *rego.Request) { r.Live = standingFor(t).Live(start, reading.Site()) },
			func(r *rego.Request) { r.Live = expiring.Live(start.Add(10*time.Minute), reading.Site()) },
		},
		"Caller": {
			onCaller(func(c *identity.Caller) { c.Foundation = "other" }), onCaller(func(c *identity.Caller) { c.App = guid(metrics) }),
			onCaller(func(c *identity.Caller) { c.Space = guid(metrics) }), onCaller(func(c *identity.Caller) { c.Org = guid(metrics) }),
			onCaller(func(c *identity.Caller) { c.Instance = "i-2" }), onCaller(func(c *identity.Caller) { *c = identity.Caller{} }),
			onCaller(func(c *identity.Caller) { c.Space, c.Org = c.Org, c.Space }),
		},
		"Method": {func(r *rego.Request) { r.Method = "HEAD" }, func(r *rego.Request) { r.Method = "" }},
		"Host":   {func(r *rego.Request) { r.Host = "frontend.apps.identity" }},
		"Path":   {func(r *rego.Request) { r.Path = "/a/c" }, func(r *rego.Request) { r.Path = "/a/b/" }},
		"Segments": {
			func(r *rego.Request) { r.Segments = []string{"a/b"} }, func(r *rego.Request) { r.Segments = nil },
			func(r *rego.Request) { r.Segments = []string{"ab", ""} }, func(r *rego.Request) { r.Segments = []string{"a", "b", ""} },
		},
		"Now": {func(r *rego.Request) { r.Now = r.Now.Add(time.Minute) }, func(r *rego.Request) { r.Now = r.Now.AddDate(0, 0, 1) }, func(r *rego.Request) { r.Now = r.Now.AddDate(1, 0, 0) }},
	}
	seen := map[cache.Key]string{cache.KeyOf(fresh()): "the request itself"}
	for i := range reflect.TypeFor[rego.Request]().NumField() {
		field := reflect.TypeFor[rego.Request]().Field(i).Name
		assert.NotEmpty(t, mutations[field], "is %s in the key?", field)
		for j, mutate := range mutations[field] {
			r := fresh()
			mutate(r)
			k := cache.KeyOf(r)
			assert.NotContains(t, seen, k, "%s, mutation %d", field, j)
			seen[k] = field
		}
	}
	for field, count := range map[string]int{"identity.Caller": reflect.TypeFor[identity.Caller]().NumField()} {
		assert.Equal(t, 5, count, "a new field of %s: is it in the key?", field)
	}
	assert.Equal(t, cache.KeyOf(fresh()), cache.KeyOf(fresh()))
}

// standingFor is the binding with a source by name that stands for these apps.
func standingFor(t *testing.T, apps ...string) *grants.Access {
	book := &names.Book{}
	made := access(t, 7, `["app:frontend"]`)
	made.Names = book
	var holders []names.Holder
	for _, app := range apps {
		holders = append(holders, names.Holder{ID: guid(app)})
	}
	reference := names.Name{Kind: names.App, App: "frontend"}.From(guid(acme), guid(shop))
	book.Turn(names.NewPage(map[names.Reference]names.Resolution{reference: {Holders: holders}}))
	return made
}

// Parts next to each other do not run together.
func TestPartsOfTheKeyDoNotRunTogether(t *testing.T) {
	p, a := policy(t, readsAll), access(t, 7, allowFrontend)
	keys := map[cache.Key]bool{}
	texts := [][4]string{
		{"GET", "ab", "/c", "i"},
		{"GET", "a", "b/c", "i"},
		{"GETa", "b", "/c", "i"},
		{"GE", "Tab", "/c", "i"},
		{"", "GETab", "/c", "i"},
		{"GET", "ab", "/c\x00", "i"},
		{"ET", "ab", "/c", "iG"},
		{"GET", "", "ab/c", "i"},
		{"GET", "ab/c", "", "i"},
	}
	for _, text := range texts {
		r := request(p, a, "/", start)
		r.Method, r.Host, r.Path, r.Caller.Instance = text[0], text[1], text[2], text[3]
		keys[cache.KeyOf(r)] = true
	}
	assert.Len(t, keys, len(texts))
}

func TestTheTimeIsInTheKeyOnlyWhereItIsRead(t *testing.T) {
	a := access(t, 7, allowFrontend)
	key := func(p *rego.Policy, at time.Time) cache.Key { return cache.KeyOf(request(p, a, "/", at)) }
	silent, reading := policy(t, ""), policy(t, `allow if input.now.minute < 1000`)
	assert.Equal(t, key(silent, start), key(silent, start.Add(time.Hour)))
	assert.Equal(t, key(reading, start), key(reading, start.Add(17*time.Second)), "the same minute")
	assert.NotEqual(t, key(reading, start), key(reading, start.Add(18*time.Second)), "the next minute")

	// input.now says something else in another zone, and Redis may be shared.
	zone := time.FixedZone("CEST", 2*60*60)
	assert.NotEqual(t, key(reading, start), key(policyIn(t, zone, `allow if input.now.minute < 1000`), start))
	assert.Equal(t, key(silent, start), key(policyIn(t, zone, ""), start))
}
