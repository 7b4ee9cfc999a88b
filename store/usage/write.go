package usage

import (
	"context"
	"database/sql"
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

// write takes the rows in one order, so that gateways that write at once do not
// stop each other. Bindings that are not there any more have no row.
func write(ctx context.Context, tx *sql.Tx, batch []row) error {
	var q database.Query
	values := make([]string, len(batch))
	for i, row := range batch {
		values[i] = "(" + q.Row("TEXT", row.id) + ", " + q.Row("BIGINT", row.at*1000) + ")"
	}
	_, err := tx.ExecContext(ctx, strings.Replace(upsert, `%`, strings.Join(values, `, `), 1), q.Args...)
	return err
}
