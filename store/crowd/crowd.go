// Package crowd fills a database with as many instances and bindings as one likes,
// to measure what they cost. It is for measurements: it trusts its caller, writes
// past the store, and is no part of the program.
package crowd

import (
	"context"
	"fmt"
	"strings"

	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/store"
	"github.com/mtls-authz/mtls-authz/store/database"
)

// OfInstance is how many bindings an instance has.
const OfInstance = 10

// A Crowd is what is to be there. All of it is required.
type Crowd struct {
	Bindings int
	// Org and Space are the owner's of a binding's instance, by the number of the
	// binding.
	Org   identity.GUID
	Space func(n int) identity.GUID
	// Allow are the sources of a binding.
	Allow func(n int) []string
}

// Binding is the id of a binding by its number, Route its route.
func Binding(n int) string { return fmt.Sprintf("b%d", n) }

// Route is the route of a binding by its number.
func Route(n int) string { return fmt.Sprintf("r%d.apps.identity", n) }

// Fill fills a database, which it brings up to date before.
func (c Crowd) Fill(ctx context.Context, url string) error {
	made, err := store.Open(ctx, store.Config{URL: url})
	if err != nil {
		return err
	}
	if err := made.Close(); err != nil {
		return err
	}
	db, err := database.Open(database.Config{URL: url})
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // what is not written is an error before
	const rows = 1000
	for from := 0; from < c.Bindings; from += rows {
		if err := c.write(ctx, db, from, min(from+rows, c.Bindings)); err != nil {
			return err
		}
	}
	if !strings.HasPrefix(url, "sqlite:") {
		_, err = db.ExecContext(ctx, `ANALYZE`) // as PostgreSQL does by itself before long
	}
	return err
}

func (c Crowd) write(ctx context.Context, db *database.Database, from, to int) error {
	var instances, bound []string
	for n := from; n < to; n++ {
		if n%OfInstance == 0 {
			instances = append(instances, fmt.Sprintf(`('i%d','plan','any','%s','%s','{}',1,%d,'',0,'')`, n/OfInstance, c.Org, c.Space(n), n))
		}
		bound = append(bound, fmt.Sprintf(`('%s','i%d','%s','{"allow":["%s"]}','https://gateway.example/r/x',1,%d,'')`,
			Binding(n), n/OfInstance, Route(n), strings.Join(c.Allow(n), `","`), n))
	}
	if _, err := db.ExecContext(ctx, `INSERT INTO instances VALUES `+strings.Join(instances, ",")); err != nil {
		return err
	}
	_, err := db.ExecContext(ctx, `INSERT INTO bindings VALUES `+strings.Join(bound, ","))
	return err
}
