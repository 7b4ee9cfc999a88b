package database

import (
	"context"
	"embed"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Of processes that start at once on PostgreSQL, one migrates and the others
// look once a second for a minute whether it is done.
const (
	lockPeriod = 1 // s
	lockTries  = 60
)

// Migrate brings the schema up to date. A schema that is newer than this
// release stays as it is. Any number of processes may do it at once.
func (d *Database) Migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	dialect, options := goose.DialectSQLite3, []goose.ProviderOption(nil)
	if d.postgres != nil {
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(lockPeriod, lockTries))
		if err != nil {
			return err
		}
		dialect, options = goose.DialectPostgres, append(options, goose.WithSessionLocker(locker))
	}
	provider, err := goose.NewProvider(dialect, d.DB, files, options...)
	if err != nil {
		return err
	}
	if err := migrate(ctx, provider); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// migrate tries again as long as the schema advances: of two processes that
// start at once on SQLite, where nothing locks the whole of it, the slower one
// fails at each migration that the other has just committed.
func migrate(ctx context.Context, provider *goose.Provider) error {
	for before := int64(-1); ; {
		_, err := provider.Up(ctx)
		if err == nil {
			return nil
		}
		now, versionErr := provider.GetDBVersion(ctx)
		if versionErr != nil || now <= before {
			return err
		}
		before = now
	}
}
