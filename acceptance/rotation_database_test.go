package acceptance_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The guide rotates the database's password by a second role: what one has made, the
// tables too, the other works with.
func TestTheDatabasesPasswordIsRotatedByASecondRole(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("../docs/operators.md")
	require.NoError(t, err)
	var statements []string
	for _, b := range blocksOf(string(guide)) {
		if b.language == "sql" {
			b.text = strings.NewReplacer("mtls_authz", "gateway", "NEW", databasePassword).Replace(b.text)
			statements = append(statements, strings.Split(strings.TrimSpace(b.text), "\n")...)
		}
	}
	require.NotEmpty(t, statements)
	server, err := sharedPostgres()
	require.NoError(t, err)
	require.NoError(t, server.exec("postgres", statements...))
	name, err := server.newDatabase()
	require.NoError(t, err)
	second := "STORE_URL=" + server.urlOf("gateway_2", name)

	// The release that makes tables may run as either.
	w := start(t, setup{env: []string{second}})
	w.addSecrets(databasePassword)
	p := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	for _, role := range []string{"STORE_URL=" + server.url(name), second} {
		w.restart(t, role)
		p.call(t, "frontend", "GET", "/").expect(t, allowed)
		p.update(t, `{"allow_add":["cf:app:$monitoring"]}`)
		w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`}).call(t, "frontend", "GET", "/").expect(t, allowed)
	}
	conn, err := server.connect(name)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	var others int
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public' AND tableowner <> 'gateway'`).Scan(&others))
	assert.Zero(t, others, "all tables have one owner")
}
