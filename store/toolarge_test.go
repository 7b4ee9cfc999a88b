package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/store"
)

// Whoever may read must not be able to fill the memory.
func TestPagesThatHoldTooMuchAreRefused(t *testing.T) {
	onEach(t, func(t *testing.T, fresh database) {
		url := fresh(t)
		s := open(t, url)
		create(t, s, "i", "{}")
		bind(t, s, "i", "b", "{}")
		const n = 3
		for i := range n {
			create(t, s, fmt.Sprintf("large%d", i), "{}")
			bind(t, s, fmt.Sprintf("large%d", i), fmt.Sprintf("b%d", i), "{}")
		}
		// Larger than parameters can be, so that few make a page too large.
		sqlOn(t, url, `UPDATE instances SET parameters = $1 WHERE id LIKE 'large%'`, `{"annotations":{"a":"`+strings.Repeat("x", 12<<20)+`"}}`)
		_, _, err := s.Instances(ctx, store.InstanceFilter{}, store.Page{})
		require.ErrorIs(t, err, store.ErrTooLarge)
		require.ErrorContains(t, err, "36 MiB, at most 32")
		_, _, err = s.AllBindings(ctx, store.BindingFilter{}, store.Page{})
		require.ErrorIs(t, err, store.ErrTooLarge)
		small, total, err := s.Instances(ctx, store.InstanceFilter{}, store.Page{Number: 1, Size: 1})
		require.NoError(t, err)
		require.Len(t, small, 1)
		require.Equal(t, n+1, total)

		var long []string
		for i := range 3000 {
			long = append(long, fmt.Sprintf(`{"source":"cf:app:d76446a1-f429-4444-8797-%012x","reason":%q}`, i, strings.Repeat("r", 255)))
		}
		create(t, s, "long", `{"allow":[`+strings.Join(long, ",")+`]}`)
		bind(t, s, "long", "long", "{}")
		sqlOn(t, url, `INSERT INTO bindings (id, instance_id, route, parameters, url, revision, created_at, created_by)
			WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 49)
			SELECT id || x, instance_id, route, parameters, url, revision, created_at, created_by FROM bindings, n WHERE id = $1`, "long")
		of := store.BindingFilter{InstanceIDs: []string{"long"}}
		found, total, err := s.AllBindings(ctx, of, store.Page{Number: 1, Size: 50})
		require.NoError(t, err, "however many routes it has, an instance is read once")
		require.Len(t, found, 50)
		require.Equal(t, 50, total)
		ids, total, err := s.BindingIDs(ctx, store.BindingFilter{}, store.Page{Number: 1, Size: 5000})
		require.NoError(t, err, "ids are small, whatever the parameters")
		require.Len(t, ids, 1+n+50)
		require.Equal(t, len(ids), total)
		require.Equal(t, store.BoundID{ID: "b", InstanceID: "i", Route: "b.apps.identity/path"}, ids[0])
	})
}
