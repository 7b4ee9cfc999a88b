package store_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/store"
)

// openedElsewhere is set to the URL of a store in a process that opens it, tells
// what that took, and ends.
const openedElsewhere = "MTLS_AUTHZ_TEST_OPEN"

// opened is what the process tells.
type opened struct {
	Took    time.Duration
	PeakKiB int
}

// otherProcess returns one that opens a store; see [openElsewhere].
func otherProcess(t testing.TB, url string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), openedElsewhere+"="+url)
	return cmd
}

func openElsewhere(url string) {
	started := time.Now()
	s, err := store.Open(ctx, store.Config{URL: url})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(opened{time.Since(started), peakKiB()})
	_ = s.Close()
	os.Exit(0)
}

// peakKiB is the most memory that this process ever had; 0 where Linux does not
// tell.
func peakKiB() (peak int) {
	status, _ := os.ReadFile("/proc/self/status")
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	_, _ = fmt.Sscan(after, &peak)
	return peak
}

// A process that is killed in the midst of a migration leaves the schema as it
// was, and the next one migrates.
func TestMigrationKilled(t *testing.T) {
	onEach(t, func(t *testing.T, fresh database) {
		for range 5 { // on a busy machine, the signal may come too late
			if killedInTime(t, fresh(t)) {
				return
			}
		}
		t.Fatal("the process was always faster")
	})
}

// large is the migration that rewrites the audit, and so takes its time.
const large = 3

func killedInTime(t *testing.T, url string) bool {
	migrate(t, url, migrations, large-1)
	writtenBefore(t, url, 2)
	const rows = 4000
	sqlOn(t, url, `INSERT INTO audit (part, revision, made_at, action, kind, id, instance_id, made_by, request_id, request_identity, content_before, content_after)
		WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < `+fmt.Sprint(rows)+`)
		SELECT 2, 0 - x, x, 'update', 'instance', 'old', 'old', x || $1, '', '', '{}', '{}' FROM n`, strings.Repeat("@", 1000))
	var begun func() bool
	release := func() {}
	if file, ok := strings.CutPrefix(url, "sqlite://"); ok {
		// What does not fit in its memory is written before the commit.
		begun = func() bool {
			log, err := os.Stat(file + "-wal")
			return err == nil && log.Size() > 1<<19
		}
	} else {
		begun, release = heldUp(t, url)
	}
	version := func() (version int) {
		db := connect(t, url)
		defer func() { require.NoError(t, db.Close()) }()
		require.NoError(t, db.QueryRow(`SELECT MAX(version_id) FROM goose_db_version`).Scan(&version))
		return version
	}
	process := otherProcess(t, url)
	require.NoError(t, process.Start())
	for end := time.Now().Add(patience); !begun(); time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(end), "it does not begin")
	}
	require.NoError(t, process.Process.Kill())
	require.ErrorContains(t, process.Wait(), "killed")
	release()
	inTime := version() == large-1
	if inTime { // and nothing is half done
		db := connect(t, url)
		_, err := db.Exec(`SELECT 1 FROM last_used`)
		require.Error(t, err)
		require.NoError(t, db.Close())
	}
	s := open(t, url)
	require.Equal(t, latest, version())
	require.NotNil(t, s.View().Access("b-old"))
	_, total, err := s.Audit(ctx, store.AuditFilter{}, store.Page{})
	require.NoError(t, err)
	require.Equal(t, rows, total)
	bind(t, s, "old", "new", "{}")
	return inTime
}

// heldUp stops a migration of PostgreSQL in its midst, by a lock on a table that
// it changes after others.
func heldUp(t *testing.T, url string) (begun func() bool, release func()) {
	db := connect(t, url)
	t.Cleanup(func() { _ = db.Close() })
	tx, err := db.Begin()
	require.NoError(t, err)
	_, err = tx.Exec(`LOCK TABLE audit IN ACCESS SHARE MODE`)
	require.NoError(t, err)
	return func() (waits bool) {
			require.NoError(t, tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'audit'::regclass)`).Scan(&waits))
			return waits
		}, func() {
			require.NoError(t, tx.Rollback())
			require.NoError(t, db.Close())
		}
}
