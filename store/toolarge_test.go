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
	})
}
