package usage

import (
	"context"
	"fmt"
	"strings"

	"github.com/mtls-authz/mtls-authz/store/database"
)

// maxBatch is how many rows are locked at once.
const maxBatch = 1000

// upsert takes rows for its %. Both databases name the columns of VALUES column1
// and column2.
const upsert = `INSERT INTO last_used (binding_id, used_at)
	SELECT column1, column2 FROM (VALUES %) AS uses
	WHERE EXISTS (SELECT 1 FROM bindings WHERE id = column1) ORDER BY column1
	ON CONFLICT (binding_id) DO UPDATE SET used_at = excluded.used_at WHERE last_used.used_at < excluded.used_at`

// row is a use on its way to the database.
type row struct {
	id  string
	at  int64
	use *use
}

// write never makes a change wait for long: it gives way, and it takes the rows
// in one order, so that gateways that write at once do not stop each other.
// Bindings that are not there any more have no row.
func write(ctx context.Context, db *database.Database, batch []row) error {
	tx, err := db.BeginYielding(ctx)
	if err != nil {
		return database.Unavailable(err)
	}
	defer func() { _ = tx.Rollback() }() // no effect after a commit
	values, args := make([]string, len(batch)), make([]any, 0, 2*len(batch))
	for i, row := range batch {
		values[i] = fmt.Sprintf(`(CAST($%d AS TEXT), CAST($%d AS BIGINT))`, 2*i+1, 2*i+2)
		args = append(args, row.id, row.at*1000)
	}
	query := strings.Replace(upsert, `%`, strings.Join(values, `, `), 1)
	if _, err := tx.ExecContext(ctx, query, args...); err != nil {
		return database.Unavailable(err)
	}
	if err := tx.Commit(); err != nil {
		return database.Unavailable(err)
	}
	return nil
}
