package list_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"iter"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/api/list"
)

const target = "https://gateway.example/v1/things"

// asked is all that a query can ask for here.
type asked struct {
	guids, kinds, users []string
	since               time.Time
	list.Query
}

func parse(raw string) (a asked, err error) {
	a.Query, err = list.Parse(raw, map[string]list.Param{
		"guids": list.Strings(&a.guids, list.GUID), "kinds": list.Strings(&a.kinds, list.OneOf("one", "other")),
		"users": list.Strings(&a.users, list.Text), "since": list.Time(&a.since),
	}, false)
	return a, err
}

func TestQueries(t *testing.T) {
	for raw, want := range map[string]asked{
		"":                                    {Query: list.Query{Number: 1, Size: 50}},
		"page=3&per_page=5000":                {Query: list.Query{Number: 3, Size: 5000}},
		"page=1000000":                        {Query: list.Query{Number: 1_000_000, Size: 50}},
		"order_by=-created_at":                {Query: list.Query{Number: 1, Size: 50, Descending: true}},
		"order_by=created_at":                 {Query: list.Query{Number: 1, Size: 50}},
		"guids=a,B.1_~-,a":                    {guids: []string{"a", "B.1_~-", "a"}, Query: list.Query{Number: 1, Size: 50}},
		"guids=a%2Cb&kinds=one":               {guids: []string{"a", "b"}, kinds: []string{"one"}, Query: list.Query{Number: 1, Size: 50}},
		"users=operator:x,it's%20%22me%22;--": {},
		"users=operator:x,it's%20%22me%22":    {users: []string{"operator:x", `it's "me"`}, Query: list.Query{Number: 1, Size: 50}},
		"since=2026-05-04T10:15:00%2B02:00":   {since: time.Date(2026, 5, 4, 8, 15, 0, 0, time.UTC), Query: list.Query{Number: 1, Size: 50}},
	} {
		got, err := parse(raw)
		if want.Number == 0 {
			require.Error(t, err, raw)
			continue
		}
		require.NoError(t, err, raw)
		assert.Equal(t, []any{want.guids, want.kinds, want.users, want.since, want.Number, want.Size, want.Descending},
			[]any{got.guids, got.kinds, got.users, got.since, got.Number, got.Size, got.Descending}, raw)
	}
}

// A filter that was dropped would show something else than what was asked for.
func TestWhatIsNotUnderstoodIsRefusedByName(t *testing.T) {
	for raw, say := range map[string][]string{
		"guid=a":                            {`"guid"`, "unknown", "guids, kinds, order_by, page, per_page, since, users"},
		"GUIDS=a":                           {`"GUIDS"`, "unknown"},
		"guids[]=a":                         {`"guids[]"`, "unknown"},
		"=a":                                {`""`, "unknown"},
		"guids=a&guids=b":                   {`"guids"`, "2 times"},
		"guids=a&%67uids=b":                 {`"guids"`, "2 times"},
		"guids":                             {`"guids"`, `""`, "expected a guid"},
		"guids=":                            {`"guids"`, `""`, "expected a guid"},
		"guids=a,":                          {`"guids"`, `""`, "expected a guid"},
		"guids=a,%20b":                      {`" b"`, "expected a guid"},
		"guids='%20OR%201=1--":              {`"' OR 1=1--"`, "expected a guid"},
		"guids=%00":                         {`"\x00"`, "expected a guid"},
		"guids=" + strings.Repeat("a", 129): {"expected a guid"},
		"guids=" + strings.Repeat("a,", 9_999) + "a": {`"guids"`, "10000 values", "at most 100"},
		"guids=" + strings.Repeat("a,", 100) + "a":   {"101 values"},
		"kinds=two":                          {`"kinds"`, `"two"`, "one, other"},
		"kinds=One":                          {`"One"`, "one, other"},
		"users=":                             {`"users"`, "printable"},
		"users=%0a":                          {`"users"`, "printable"},
		"users=%ff":                          {`"users"`, "printable"},
		"users=" + strings.Repeat("a", 1025): {`"users"`, "1024 bytes"},
		"since=yesterday":                    {`"since"`, `"yesterday"`, "2026-12-31T00:00:00Z"},
		"since=2026-05-04":                   {`"2026-05-04"`, "RFC 3339"},
		"since=0001-01-01T00:00:00Z":         {"RFC 3339"},
		"since=9999-12-31T23:59:59-12:00":    {"RFC 3339"},
		"page=0":                             {`"page"`, `"0"`, "1 to 1000000"},
		"page=-1":                            {`"-1"`, "1 to 1000000"},
		"page=1000001":                       {`"1000001"`, "1 to 1000000"},
		"page=9223372036854775808":           {"1 to 1000000"},
		"page=1e3":                           {`"1e3"`},
		"page=+1":                            {`" 1"`},
		"per_page=0":                         {`"per_page"`, "1 to 5000"},
		"per_page=5001":                      {`"5001"`, "1 to 5000"},
		"order_by=updated_at":                {`"order_by"`, `"updated_at"`, "created_at or -created_at"},
		"order_by=created_at;DROP%20TABLE%20audit": {"malformed"},
		"order_by=created_at%3BDROP%20TABLE":       {`"order_by"`},
		"page=%zz":                                 {"malformed"},
		strings.Repeat("x", 10_000) + "=1":         {"unknown", "..."},
	} {
		_, err := parse(raw)
		require.Error(t, err, "%.100s", raw)
		for _, part := range say {
			assert.ErrorContains(t, err, part, "%.100s", raw)
		}
		assert.Less(t, len(err.Error()), 1000)
	}
}

func TestPaginationLeadsThroughTheListWithItsFilters(t *testing.T) {
	link := func(page string) string { return target + "?guids=a%2Cb&page=" + page + "&per_page=2" }
	for name, row := range map[string]struct {
		page           string
		total, pages   int
		last           string
		previous, next string
	}{
		"nothing":       {"1", 0, 1, "1", "", ""},
		"one page":      {"1", 2, 1, "1", "", ""},
		"the first":     {"1", 5, 3, "3", "", "2"},
		"in between":    {"2", 5, 3, "3", "1", "3"},
		"the last":      {"3", 5, 3, "3", "2", ""},
		"after the end": {"9", 5, 3, "3", "3", ""},
	} {
		q, err := parse("per_page=2&guids=a,b&page=" + row.page)
		require.NoError(t, err)
		p := q.Pagination(target, row.total)
		assert.Equal(t, row.total, p.TotalResults, name)
		assert.Equal(t, row.pages, p.TotalPages, name)
		assert.Equal(t, link("1"), p.First.Href, name)
		assert.Equal(t, link(row.last), p.Last.Href, name)
		for _, beside := range []struct {
			link *list.Link
			page string
		}{{p.Previous, row.previous}, {p.Next, row.next}} {
			if beside.page == "" {
				assert.Nil(t, beside.link, name)
			} else if assert.NotNil(t, beside.link, name) {
				assert.Equal(t, link(beside.page), beside.link.Href, name)
			}
		}
	}
}

func TestAPageIsOneResourceALine(t *testing.T) {
	q, err := parse("users=a%26b")
	require.NoError(t, err)
	for want, resources := range map[string][]map[string]string{
		"[]}": nil, "[\n{\"a\":\"<&>\"}\n]}": {{"a": "<&>"}}, "[\n{\"a\":\"1\"}\n,{\"b\":\"2\"}\n]}": {{"a": "1"}, {"b": "2"}},
	} {
		var out bytes.Buffer
		require.NoError(t, list.Write(&out, q.Pagination(target, 1), nil, slices.Values(resources)))
		require.True(t, json.Valid(out.Bytes()))
		assert.Contains(t, out.String(), `"warnings":[]`)
		assert.Contains(t, out.String(), `?page=1&per_page=50&users=a%26b"`, "can be copied")
		assert.True(t, strings.HasSuffix(out.String(), `"resources":`+want+"\n"), out.String())
	}
}

// full is a connection that takes so many bytes.
type full struct{ left int }

func (f *full) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errors.New("full")
	}
	return len(p), nil
}

func TestHalfAPageIsAnError(t *testing.T) {
	q, err := parse("")
	require.NoError(t, err)
	var whole bytes.Buffer
	endless := func(made *int) iter.Seq[string] {
		return func(yield func(string) bool) {
			for *made = range 1000 {
				if !yield("resource") {
					return
				}
			}
		}
	}
	var made int
	require.NoError(t, list.Write(&whole, q.Pagination(target, 1000), nil, endless(&made)))
	for n := range 500 {
		require.Error(t, list.Write(&full{n}, q.Pagination(target, 1000), nil, endless(&made)), n)
		require.Less(t, made, 100, "nobody reads the rest")
	}
	require.NoError(t, list.Write(&full{whole.Len()}, q.Pagination(target, 1000), nil, endless(&made)))
	require.Error(t, list.Write(&bytes.Buffer{}, q.Pagination(target, 1), nil, slices.Values([]any{func() {}})), "no JSON")
}

// What is accepted leads on to queries that ask the same of the other pages.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "guids=a,b&page=2", "users=%22%27&order_by=-created_at", "since=2026-05-04T10:15:00%2B02:00", "a;b", "page=%zz"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		first, err := parse(raw)
		if err != nil {
			return
		}
		require.LessOrEqual(t, len(first.guids), 100)
		require.LessOrEqual(t, first.Number*first.Size, 5_000_000_000)
		u, err := url.Parse(first.Pagination(target, 1_000_000).Last.Href)
		require.NoError(t, err)
		require.Equal(t, target, "https://"+u.Host+u.Path)
		last, err := parse(u.RawQuery)
		require.NoError(t, err)
		require.Equal(t, []any{first.guids, first.kinds, first.users, first.since, first.Size, first.Descending},
			[]any{last.guids, last.kinds, last.users, last.since, last.Size, last.Descending})
	})
}
