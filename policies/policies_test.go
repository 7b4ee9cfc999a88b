package policies_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/format"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/policies"
)

// sources are the .rego files below a folder, shipped and tests, by path.
func sources(t *testing.T, root string) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".rego" {
			return err
		}
		found[filepath.ToSlash(path)], err = os.ReadFile(path)
		return err
	})
	require.NoError(t, err)
	return found
}

func TestTheRegoTestsPassAndCoverEveryLine(t *testing.T) {
	modules := map[string]*ast.Module{}
	for path, source := range sources(t, "mtls") {
		module, err := ast.ParseModuleWithOpts(path, string(source), ast.ParserOptions{RegoVersion: ast.RegoV1, ProcessAnnotation: true})
		require.NoError(t, err)
		modules[path] = module
	}
	coverage := cover.New()
	results, err := tester.NewRunner().SetCompiler(ast.NewCompiler().WithStrict(true)).SetCoverageQueryTracer(coverage).
		RaiseBuiltinErrors(true).SetModules(modules).RunTests(t.Context(), nil)
	require.NoError(t, err)
	ran := 0
	for result := range results {
		ran++
		assert.True(t, result.Pass(), "%s: %s", result.Location, result)
	}
	assert.GreaterOrEqual(t, ran, 15, "tests were not found")

	report := coverage.Report(modules)
	for path := range modules {
		if strings.HasSuffix(path, "_test.rego") {
			continue
		}
		file := report.Files[path]
		require.NotNil(t, file, path)
		assert.Empty(t, file.NotCovered, "%s: no test covers these lines", path)
		// A file whose rules are all constants has nothing to cover.
		if path != policies.SiteModule {
			assert.NotEmpty(t, file.Covered, path)
		}
	}
}

func TestFormattingIsCanonical(t *testing.T) {
	for path, source := range sources(t, ".") {
		formatted, err := format.SourceWithOpts(path, source, format.Opts{RegoVersion: ast.RegoV1})
		require.NoError(t, err)
		assert.True(t, bytes.Equal(formatted, source), "%s: not in canonical form; run opa fmt -w policies", path)
	}
}

func TestEveryPolicyShipsAndNoTestDoes(t *testing.T) {
	var shipped, expected []string
	err := fs.WalkDir(policies.Files, ".", func(path string, entry fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".rego") {
			shipped = append(shipped, path)
		}
		return err
	})
	require.NoError(t, err)
	for path := range sources(t, "mtls") {
		if !strings.HasSuffix(path, "_test.rego") {
			expected = append(expected, path)
		}
	}
	slices.Sort(expected)
	assert.Equal(t, expected, shipped)
	assert.Contains(t, shipped, policies.SiteModule)
}
