package api_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
)

// populated has three instances and four bindings. b2 and b3 are of one route,
// as after a bind that timed out.
func populated(t *testing.T) *testbed {
	b := newTestbed(t)
	b.create("i1", grants.ScopeSpace, acme, shop, "{}")                   // 10:15:01
	b.create("i2", grants.ScopeOrg, acme, lab, "{}")                      // 10:15:02
	b.create("i3", grants.ScopeAny, globex, lab, "{}")                    // 10:15:03
	b.bind("i1", "b1", "one.apps.example", "{}")                          // 10:15:04
	b.bind("i2", "b2", "two.apps.example/api", "{}")                      // 10:15:05
	b.bind("i2", "b3", "two.apps.example/api", "{}")                      // 10:15:06
	b.bind("i3", "b4", "two.apps.example", "{}")                          // 10:15:07
	b.set("i1", `{"allow":["cf:any"]}`)                                   // 10:15:08
	require.Equal(t, 204, b.do("DELETE", "/v1/instances/i3").StatusCode)  // b4 with it
	b.create("i4", grants.ScopeAny, globex, shop, `{"labels":{"a":"b"}}`) // 10:15:09
	return b
}

func TestFilters(t *testing.T) {
	b := populated(t)
	for path, want := range map[string]string{
		"/v1/instances":                                                       "i1 i2 i4",
		"/v1/instances?order_by=-created_at":                                  "i4 i2 i1",
		"/v1/instances?guids=i4,i1,nobody":                                    "i1 i4",
		"/v1/instances?guids=nobody":                                          "",
		"/v1/instances?organization_guids=" + acme:                            "i1 i2",
		"/v1/instances?space_guids=" + shop:                                   "i1 i4",
		"/v1/instances?organization_guids=" + globex + "&space_guids=" + shop: "i4",
		"/v1/instances?plans=space,any":                                       "i1 i4",
		"/v1/bindings":                                                        "b1 b2 b3",
		"/v1/bindings?guids=b3,b4":                                            "b3",
		"/v1/bindings?service_instance_guids=i2,i3":                           "b2 b3",
		"/v1/bindings?organization_guids=" + globex:                           "",
		"/v1/bindings?space_guids=" + shop + "," + lab:                        "b1 b2 b3",
		"/v1/bindings?routes=two.apps.example/api":                            "b2 b3",
		"/v1/bindings?routes=TWO.apps.example/API/":                           "b2 b3",
		"/v1/bindings?routes=two.apps.example":                                "",
		"/v1/bindings?hosts=two.apps.example":                                 "b2 b3",
		"/v1/bindings?hosts=ONE.apps.example,two.apps.example":                "b1 b2 b3",
		"/v1/bindings?hosts=apps.example":                                     "",
		"/v1/bindings?unused_since=2026-05-04T10:15:05Z":                      "b1",
		"/v1/bindings?unused_since=2026-05-04T12:15:05%2B02:00":               "b1",
		"/v1/audit": "i4 i3 b4 i1 b4 b3 b2 b1 i3 i2 i1",
		"/v1/audit?order_by=created_at&per_page=2":        "i1 i2",
		"/v1/audit?guids=b4":                              "b4 b4",
		"/v1/audit?service_instance_guids=i3":             "i3 b4 b4 i3",
		"/v1/audit?kinds=instance&actions=delete":         "i3",
		"/v1/audit?kinds=binding&actions=delete,update":   "b4",
		"/v1/audit?actions=update":                        "i1",
		"/v1/audit?users=operator:broker":                 "i3 b4",
		"/v1/audit?users=another,operator:broker":         "i3 b4 i1",
		"/v1/audit?users=operator":                        "",
		"/v1/audit?created_ats[gte]=2026-05-04T10:15:07Z": "i4 i3 b4 i1 b4",
		"/v1/audit?created_ats[lt]=2026-05-04T10:15:03Z":  "i2 i1",
		"/v1/audit?created_ats%5Bgte%5D=2026-05-04T10:15:02Z&created_ats[lt]=2026-05-04T10:15:04Z": "i3 i2",
	} {
		p := b.list(path, asReader)
		assert.Equal(t, want, strings.Join(p.guids(), " "), path)
		if !strings.Contains(path, "per_page") {
			assert.Equal(t, len(p.guids()), p.Pagination.TotalResults, path)
		}
	}
}

func TestWhatAListDoesNotUnderstandIsRefused(t *testing.T) {
	b := populated(t)
	for path, say := range map[string]string{
		"/v1/instances?guid=i1":                          `unknown query parameter "guid"; known are guids, order_by, organization_guids, page, per_page, plans, space_guids`,
		"/v1/instances?routes=one.apps.example":          "unknown",
		"/v1/instances?plans=galaxy":                     "expected one of space, org, any",
		"/v1/instances?guids=i1&guids=i2":                "2 times",
		"/v1/instances?page=0":                           "from 1 to 1000000",
		"/v1/instances?page=99999999999999999999":        "from 1 to 1000000",
		"/v1/instances?per_page=5001":                    "from 1 to 5000",
		"/v1/instances?order_by=guid":                    "created_at or -created_at",
		"/v1/bindings?users=me":                          "unknown",
		"/v1/bindings?routes=10.0.0.1":                   "IP address",
		"/v1/bindings?routes=one.apps.example:80":        "port",
		"/v1/bindings?routes=https://one.apps.example":   "route",
		"/v1/bindings?hosts=two.apps.example/api":        "without a path",
		"/v1/bindings?hosts=":                            "host",
		"/v1/bindings?unused_since=1h":                   "RFC 3339",
		"/v1/audit?kinds=instances":                      "expected one of instance, binding",
		"/v1/audit?actions=deleted":                      "expected one of create, update, delete",
		"/v1/audit?created_ats=2026-05-04T10:15:07Z":     "created_ats[gte]",
		"/v1/audit?created_ats[gt]=2026-05-04T10:15:07Z": "unknown",
		"/v1/audit?a;b":                                  "malformed",
		"/v1/audit?guids=" + strings.Repeat("a,", 9999):  "10000 values; at most 100",
	} {
		b.do("GET", path, asReader).expect(t, 400, say)
	}
}

func TestWhatReadsLikeSQLIsText(t *testing.T) {
	b := populated(t)
	before := b.do("GET", "/v1/audit").body
	for _, hostile := range []string{
		`' OR 1=1 --`, `'; DROP TABLE audit; --`, `" OR ""="`, `\' OR 1=1`, `%`, `_`, `$1`, `$9`, `?`, `:id`, `@x`, `)) OR ((1=1`, `NULL`, `/**/`, "x' UNION SELECT value FROM keys--",
	} {
		escaped := url.QueryEscape(hostile)
		p := b.list("/v1/audit?users=" + escaped)
		assert.Empty(t, p.Resources, hostile)
		assert.Zero(t, p.Pagination.TotalResults, hostile)
		for _, filter := range []string{
			"instances?guids=", "instances?organization_guids=", "instances?plans=", "bindings?guids=", "bindings?hosts=", "bindings?routes=",
			"bindings?unused_since=", "audit?kinds=", "audit?created_ats[gte]=", "audit?order_by=", "audit?per_page=", "audit?page=",
		} {
			r := b.do("GET", "/v1/"+filter+escaped)
			if r.StatusCode == 200 {
				assert.Contains(t, r.body, `"total_results":0,`, filter+hostile)
			} else {
				r.expect(t, 400, "")
			}
		}
	}
	assert.Equal(t, before, b.do("GET", "/v1/audit").body)
}

func TestPagesHoldEveryResourceOnce(t *testing.T) {
	b := newTestbed(t)
	b.create("i", grants.ScopeOrg, acme, shop, "{}")
	var want []string
	for n := range 7 {
		id := fmt.Sprintf("b%d", n)
		b.bind("i", id, id+".apps.example", "{}")
		want = append(want, id)
	}
	for _, size := range []int{1, 2, 3, 7, 8} {
		var got []string
		path := fmt.Sprintf("/v1/bindings?service_instance_guids=i,j&per_page=%d", size)
		for pages := 1; ; pages++ {
			p := b.list(path)
			got = append(got, p.guids()...)
			assert.Equal(t, 7, p.Pagination.TotalResults)
			if p.Pagination.Next == nil {
				assert.Equal(t, pages, p.Pagination.TotalPages)
				break
			}
			var ours bool
			path, ours = strings.CutPrefix(p.Pagination.Next.Href, base)
			require.True(t, ours)
			assert.Contains(t, path, "service_instance_guids=i%2Cj")
		}
		assert.Equal(t, want, got)
	}
	p := b.list("/v1/bindings?page=1000000&per_page=5000")
	assert.Empty(t, p.Resources, "far after the end")
	assert.Equal(t, 7, p.Pagination.TotalResults)
}

// Tools ask for what was not used for a month.
func TestLastUse(t *testing.T) {
	b := populated(t)
	var shown struct {
		LastUsed *time.Time `json:"last_used_at"`
	}
	b.get("/v1/bindings/b1", &shown)
	assert.Nil(t, shown.LastUsed)
	used := start.Add(time.Hour)
	b.store.Used("b1", used)
	b.reopen() // which writes what was noted
	b.get("/v1/bindings/b1", &shown)
	require.NotNil(t, shown.LastUsed)
	assert.Equal(t, used, *shown.LastUsed)
	assert.Equal(t, []string{"b2", "b3"}, b.list("/v1/bindings?unused_since="+used.Format(time.RFC3339)).guids())
}
