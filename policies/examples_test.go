package policies_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/bundle"
	"github.com/mtls-authz/mtls-authz/rego/gate"
)

// Each example is a bundle that passes the whole gate, with tests of both
// answers that reach every line.
func TestExamples(t *testing.T) {
	entries, err := os.ReadDir("examples")
	require.NoError(t, err)
	require.Len(t, entries, 6)
	for _, entry := range entries {
		t.Run(entry.Name(), func(t *testing.T) {
			path := filepath.Join("examples", entry.Name())
			policy, err := rego.Compile(t.Context(), rego.Config{Bundle: path, Timeout: 10 * time.Second})
			require.NoError(t, err)
			assert.NotEmpty(t, policy.Revision())

			archive, err := bundle.ReadArchive(path)
			require.NoError(t, err)
			read, err := bundle.Read(archive, nil)
			require.NoError(t, err)
			compiled, err := gate.Compile(t.Context(), read)
			require.NoError(t, err)
			report, err := compiled.Test(t.Context(), gate.TestConfig{Coverage: true})
			require.NoError(t, err)
			assert.GreaterOrEqual(t, len(report.Results), 3)
			for _, result := range report.Results {
				assert.Equal(t, gate.Passed, result.Outcome, result.Name)
			}
			for name, file := range report.Coverage {
				assert.Empty(t, file.NotCovered, "%s: no test covers these lines", name)
			}
			assert.Len(t, report.Coverage, len(read.Modules))
			readme, err := os.ReadFile(filepath.Join(path, "README.md"))
			require.NoError(t, err)
			assert.Greater(t, len(readme), 200)
			for _, module := range read.Modules {
				require.NotEmpty(t, module.Annotations)
				assert.NotEmpty(t, module.Annotations[0].Title)
				assert.NotEmpty(t, module.Annotations[0].Description)
			}
		})
	}
}
