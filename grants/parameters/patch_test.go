package parameters_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mtls-authz/mtls-authz/grants/parameters"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// updated demands that an update is accepted and gives these parameters, and
// that it left the former ones alone.
func updated(t *testing.T, before parameters.Parameters, patch, want string) parameters.Parameters {
	t.Helper()
	was := string(before.JSON())
	after, err := before.Update([]byte(patch), now)
	require.NoError(t, err, patch)
	assert.JSONEq(t, want, string(after.JSON()), patch)
	assert.Equal(t, was, string(before.JSON()), "Update must not change its receiver")
	roundTrip(t, after)
	return after
}

// The appendix of RFC 7396, as far as parameters have its shapes.
func TestUpdateIsAJSONMergePatch(t *testing.T) {
	for _, c := range []struct{ original, patch, result string }{
		{`{"scope":"org"}`, `{"scope":"any"}`, `{"scope":"any"}`},
		{`{"scope":"org"}`, `{"mode":"report"}`, `{"scope":"org","mode":"report"}`},
		{`{"scope":"org"}`, `{"scope":null}`, `{}`},
		{`{"scope":"org","assert":true}`, `{"scope":null}`, `{"assert":true}`},
		{`{"allow":["cf:any"]}`, `{"allow":["` + app + `"]}`, `{"allow":["` + app + `"]}`},
		{`{"allow":["` + app + `","` + space + `"]}`, `{"allow":[]}`, `{"allow":[]}`},
		{`{"allow":["` + app + `"]}`, `{"allow":null}`, `{}`},
		{`{}`, `{"allow":null,"scope":null}`, `{}`},
		{`{"labels":{"a":"b","c":"d"}}`, `{"labels":{"a":"x","c":null}}`, `{"labels":{"a":"x"}}`},
		{`{"labels":{"a":"b"}}`, `{"labels":{"c":"d","e":null}}`, `{"labels":{"a":"b","c":"d"}}`},
		{`{"labels":{"a":"b"}}`, `{"labels":{}}`, `{"labels":{"a":"b"}}`},
		{`{"labels":{"a":"b"}}`, `{"labels":null}`, `{}`},
		{`{}`, `{"labels":{"a":"b","c":null}}`, `{"labels":{"a":"b"}}`},
		{`{"annotations":{"a":"b"}}`, `{"annotations":{"a":null}}`, `{"annotations":{}}`},
		{`{"report_routes":["a.b"]}`, `{"report_routes":["c.d"]}`, `{"report_routes":["c.d"]}`},
		{`{"mode":"report","assert":true}`, `{"mode":"enforce","assert":false}`, `{"mode":"enforce","assert":false}`},
	} {
		updated(t, given(t, c.original), c.patch, c.result)
	}
}

// Cloud Controller sends {} on every update, a rename included.
func TestEmptyUpdateChangesNothing(t *testing.T) {
	for _, original := range []string{`{}`, contractExample, `{"allow":[],"labels":{},"mode":"enforce"}`} {
		p := given(t, original)
		for _, patch := range []string{``, `{}`, `null`, ` { } `, `{"status":{"scope":"any"}}`, `{"status":null}`, `{"allow_add":[],"allow_remove":[]}`, `{"allow_add":null,"allow_remove":null}`} {
			after, err := p.Update([]byte(patch), now)
			require.NoError(t, err)
			assert.Equal(t, p, after, patch)
		}
	}
}

func TestStatusIsIgnored(t *testing.T) {
	// What cf service --params prints can be given back.
	shown := strings.Replace(contractExample, `{ "scope"`, `{ "status": {"effective":{"scope":"any"},"warnings":["x"]}, "scope"`, 1)
	assert.Equal(t, given(t, contractExample), given(t, shown))
	updated(t, given(t, `{}`), shown, string(given(t, contractExample).JSON()))
}

func TestRefusedUpdateChangesNothing(t *testing.T) {
	p := allowing(t, app)
	for _, patch := range []string{
		`[]`, `{`, `{"scope":"x"}`, `{"scope":{}}`, `{"allow":{}}`, `{"alow":[]}`, `{"labels":"x"}`, `{"labels":{"a":{"b":"c"}}}`,
		`{"allow_add":["cf:nobody"]}`, `{"allow_remove":["app:"]}`, `{"allow_add":"` + app + `"}`, `{"allow_remove":{}}`,
		`{"scope":"org","allow_add":["cf:any"]}`, `{"allow":["cf:any"],"allow_add":["` + app2 + `"]}`,
	} {
		after, err := p.Update([]byte(patch), now)
		refused(t, err)
		assert.Zero(t, after, patch)
		assert.JSONEq(t, `{"allow":["`+app+`"]}`, string(p.JSON()))
	}
}

func TestAllowAddAndRemove(t *testing.T) {
	get := `{"source":"` + app + `","methods":["GET"]}`
	put := `{"source":"` + app + `","methods":["PUT"]}`
	anyGet := `{"source":"cf:any","methods":["GET"]}`
	for name, c := range map[string]struct {
		before      []string
		patch       string
		after       []string
		notRepeated bool
	}{
		"add to nothing":                    {before: nil, patch: `{"allow_add":["` + app + `"]}`, after: []string{app}},
		"add keeps the order":               {before: []string{app2, space}, patch: `{"allow_add":["` + app + `"]}`, after: []string{app2, space, app}},
		"add what is there":                 {before: []string{app, space}, patch: `{"allow_add":["` + app + `"]}`, after: []string{app, space}},
		"add an entry":                      {before: []string{app2}, patch: `{"allow_add":[` + get + `]}`, after: []string{app2, get}},
		"add an entry that is there":        {before: []string{get, put}, patch: `{"allow_add":[` + get + `]}`, after: []string{get, put}},
		"add other conditions":              {before: []string{get}, patch: `{"allow_add":[` + put + `]}`, after: []string{get, put}},
		"add a reason":                      {before: []string{app, space}, patch: `{"allow_add":[{"source":"` + app + `","reason":"x"}]}`, after: []string{`{"source":"` + app + `","reason":"x"}`, space}},
		"adding without it keeps a reason":  {before: []string{`{"source":"` + app + `","reason":"x"}`}, patch: `{"allow_add":["` + app + `"]}`, after: []string{`{"source":"` + app + `","reason":"x"}`}},
		"remove by source":                  {before: []string{app, space}, patch: `{"allow_remove":["` + app + `"]}`, after: []string{space}},
		"remove all entries of a source":    {before: []string{get, space, put}, patch: `{"allow_remove":["` + app + `"]}`, after: []string{space}},
		"remove by entry":                   {before: []string{get, put}, patch: `{"allow_remove":[` + get + `]}`, after: []string{put}},
		"remove by entry, whatever reason":  {before: []string{`{"source":"` + app + `","methods":["GET"],"reason":"x"}`, put}, patch: `{"allow_remove":[` + get + `]}`, after: []string{put}},
		"remove an entry of another":        {before: []string{get}, patch: `{"allow_remove":[` + put + `]}`, after: []string{get}},
		"remove an entry, not the source":   {before: []string{app}, patch: `{"allow_remove":[` + get + `]}`, after: []string{app}},
		"remove only that kind":             {before: []string{app, "cf:space:" + frontend}, patch: `{"allow_remove":["cf:space:` + frontend + `"]}`, after: []string{app}},
		"remove what is not there":          {before: []string{app}, patch: `{"allow_remove":["` + space + `","` + org + `"]}`, after: []string{app}},
		"remove the last":                   {before: []string{app}, patch: `{"allow_remove":["` + app + `"]}`, after: []string{}, notRepeated: true},
		"remove, then add":                  {before: []string{app, space}, patch: `{"allow_add":["` + app + `"],"allow_remove":["` + app + `"]}`, after: []string{space, app}},
		"narrow a source":                   {before: []string{app, space}, patch: `{"allow_remove":["` + app + `"],"allow_add":[` + get + `]}`, after: []string{space, get}},
		"after the merge patch":             {before: []string{org}, patch: `{"allow":["` + app + `","` + space + `"],"allow_remove":["` + app + `"],"allow_add":["` + app2 + `"]}`, after: []string{space, app2}},
		"with the flat form":                {before: []string{org}, patch: `{"mtls_allowed_apps":"` + frontend + `","allow_add":["` + app2 + `"]}`, after: []string{app, app2}},
		"with null for allow":               {before: []string{org}, patch: `{"allow":null,"allow_add":["` + app + `"]}`, after: []string{app}},
		"any with conditions beside an app": {before: []string{app}, patch: `{"allow_add":[` + anyGet + `]}`, after: []string{app, anyGet}},
	} {
		t.Run(name, func(t *testing.T) {
			before := parameters.Parameters{}
			if c.before != nil {
				before = allowing(t, c.before...)
			}
			want := `{"allow":` + list(c.after...) + `}`
			after := updated(t, before, c.patch, want)
			updated(t, after, c.patch, want) // idempotent
			assert.NotContains(t, string(after.JSON()), "allow_", "never stored")
		})
	}
}

func TestAddingRefusesWhatContradictsTheList(t *testing.T) {
	get := `{"source":"` + app + `","methods":["GET"]}`
	for name, c := range map[string]struct {
		before, add string
		words       []string
	}{
		"conditions for a source without":  {app, get, []string{"allow[1]", app, "with and without"}},
		"a source without its conditions":  {get, app, []string{"allow[1]", app, "with and without"}},
		"any beside an app":                {app, "cf:any", []string{"allow[1]", "cf:any"}},
		"an app beside any":                {"cf:any", app, []string{"allow[0]", "cf:any"}},
		"an expired grant":                 {app2, `{"source":"` + app + `","expires":"2026-05-04T10:15:00Z"}`, []string{"allow_add[0]", app, "past"}},
		"an expired grant that is there":   {`{"source":"` + app + `","expires":"2026-05-04T10:00:00Z"}`, `{"source":"` + app + `","expires":"2026-05-04T10:00:00Z"}`, []string{"allow_add[0]", "past"}},
		"the same twice within allow_add":  {app2, app + `","` + app, []string{"allow_add[1]", "twice"}},
		"a reserved source in the request": {app2, "spiffe://x", []string{"allow_add[0]", "reserved"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := allowing(t, c.before).Update([]byte(`{"allow_add":`+list(c.add)+`}`), now)
			refused(t, err, c.words...)
		})
	}
}

// An expiry in the past is a mistake where it is set, and history afterwards.
func TestPastExpiryIsRefusedOnlyWhereThisRequestSetsIt(t *testing.T) {
	ending := func(at string) string { return `{"source":"` + app + `","expires":"` + at + `"}` }
	past, next := ending("2026-05-04T10:15:00Z"), ending("2026-05-04T10:15:01Z")

	p := allowing(t, past) // created when it was not yet past
	refused(t, parameters.RefuseExpired(p.Allow, now), "allow[0]", app, "2026-05-04T10:15:00Z", "past")
	require.NoError(t, parameters.RefuseExpired(p.Allow, now.Add(-time.Nanosecond)))
	require.NoError(t, parameters.RefuseExpired(allowing(t, next, app2).Allow, now))
	require.NoError(t, parameters.RefuseExpired(nil, now))

	for _, patch := range []string{`{}`, `{"scope":"org"}`, `{"allow_add":["` + app2 + `"]}`, `{"allow_remove":["` + space + `"]}`} {
		_, err := p.Update([]byte(patch), now)
		assert.NoError(t, err, patch)
	}
	for _, patch := range []string{`{"allow":[` + past + `]}`, `{"allow":["` + space + `",` + past + `]}`, `{"allow_add":[` + past + `]}`} {
		_, err := p.Update([]byte(patch), now)
		refused(t, err, app, "past")
	}
	updated(t, p, `{"allow":[`+next+`]}`, `{"allow":[`+next+`]}`)
	updated(t, p, `{"allow_remove":[`+past+`]}`, `{"allow":[]}`)
}

func TestAllowStaysBounded(t *testing.T) {
	full := given(t, `{"allow":[`+numbered(0, 10_000)+`]}`)
	_, err := full.Update([]byte(`{"allow_add":["`+app+`"]}`), now)
	refused(t, err, "10001 entries", "at most 10000")
	_, err = full.Update([]byte(`{"allow_remove":[`+numbered(0, 10_001)+`]}`), now)
	refused(t, err, "allow_remove", "10001 entries")
	swapped, err := full.Update([]byte(`{"allow_remove":[`+numbered(0, 1)+`],"allow_add":["`+app+`"]}`), now)
	require.NoError(t, err)
	assert.Len(t, swapped.Allow, 10_000)
}

// Small updates cannot pile up without end, but what is too large can always
// be made smaller.
func TestParametersStayBounded(t *testing.T) {
	entry := func(i int) string {
		return fmt.Sprintf(`{"source":"cf:space:d76446a1-f429-4444-8797-%012x","paths":[%s]}`, i+1, many(100, fmt.Sprintf(`"/%d/%%d/%s"`, i, strings.Repeat("a", 1000))))
	}
	var p parameters.Parameters
	var err error
	size := 0
	for i := 0; err == nil && i < 20; i++ {
		size = len(p.JSON())
		p, err = p.Update([]byte(`{"allow_add":[`+entry(i)+`]}`), now)
	}
	refused(t, err, "bytes, at most 1048576")
	assert.Greater(t, size, 900_000)

	large := given(t, `{"annotations":{"a":"x"},"allow":[`+entry(0)+`,`+numbered(0, 9_990)+`,`+entry(1)+`,`+entry(2)+`,`+entry(3)+`,`+entry(4)+`,`+entry(5)+`]}`)
	require.Greater(t, len(large.JSON()), 1<<20)
	_, err = large.Update([]byte(`{"annotations":{"a":"xy"}}`), now)
	refused(t, err, "bytes, at most")
	_, err = large.Update([]byte(`{"allow_remove":[`+entry(1)+`]}`), now)
	require.NoError(t, err)
	_, err = large.Update([]byte(`{}`), now)
	require.NoError(t, err)
}

// The largest update that fits a broker request must not keep the broker busy:
// with work for each pair of entries this would take minutes.
func TestLargestUpdateIsNotQuadratic(t *testing.T) {
	entries := make([]string, 10_000)
	for i := range entries {
		entries[i] = fmt.Sprintf(`{"source":"cf:app:d76446a1-f429-4444-8797-%012x","paths":["/%d"]}`, i/100, i)
	}
	all := "[" + strings.Join(entries, ",") + "]"
	p := given(t, `{"allow":`+all+`}`)
	same, err := p.Update([]byte(`{"allow_add":`+all+`}`), now)
	require.NoError(t, err)
	assert.Equal(t, string(p.JSON()), string(same.JSON()))
	none, err := p.Update([]byte(`{"allow_remove":`+all+`}`), now)
	require.NoError(t, err)
	assert.Empty(t, none.Allow)
}

// The policy looks at the entries of one source one after the other, so their
// number is bounded; that of sources hardly is.
func TestEntriesOfOneSourceAreBounded(t *testing.T) {
	narrowed := func(n int) string { return many(n, `{"source":"cf:any","paths":["/%d"]}`) }
	given(t, `{"allow":[`+narrowed(100)+`]}`)
	_, err := parameters.ParseInstance([]byte(`{"allow":[` + narrowed(101) + `]}`))
	refused(t, err, "allow[100]", "cf:any", "100")
	paths := many(60, `"/%d"`)
	_, err = parameters.ParseInstance([]byte(`{"allow":[{"source":"cf:any","methods":["GET"],"paths":[` + paths + `]},{"source":"cf:any","methods":["PUT"],"paths":[` + paths + `]}]}`))
	refused(t, err, "allow[1]", "cf:any")
}

// numbered are sources of apps from..to-1.
func numbered(from, to int) string {
	var out []string
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf(`"cf:app:d76446a1-f429-4444-8797-%012x"`, i))
	}
	return strings.Join(out, ",")
}

func TestUpdatesOfOneValueDoNotShare(t *testing.T) {
	p := given(t, `{"allow":`+list(app, space, org)+`,"labels":{"a":"b"}}`)
	first, err := p.Update([]byte(`{"allow_remove":["`+app+`"],"labels":{"a":"c"}}`), now)
	require.NoError(t, err)
	second, err := p.Update([]byte(`{"allow_add":[{"source":"`+app+`","reason":"x"},"`+app2+`"]}`), now)
	require.NoError(t, err)
	var doc struct {
		Allow  []json.RawMessage
		Labels map[string]string
	}
	require.NoError(t, json.Unmarshal(p.JSON(), &doc))
	assert.Len(t, doc.Allow, 3)
	assert.Equal(t, "b", doc.Labels["a"])
	assert.Len(t, first.Allow, 2)
	assert.Len(t, second.Allow, 4)
}
