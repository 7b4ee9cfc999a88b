// Package architecture_test holds the project to its own rules: which package
// may import which, one package comment each, and sizes that make a reader look
// for a missing noun. The rules are explained in CONTRIBUTING.md.
package architecture_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/mtls-authz/mtls-authz/"

// mayImport lists, for each folder, the folders of ours that it may import. A
// folder that is not listed may not exist.
var mayImport = map[string][]string{
	"identity":                       {},
	"grants":                         {"grants/mistake", "identity", "grants/route", "grants/names", "grants/source", "grants/terms"},
	"grants/names":                   {"identity"},
	"grants/mistake":                 {},
	"grants/source":                  {"grants/names", "identity"},
	"grants/terms":                   {"grants/route"},
	"grants/route":                   {},
	"grants/parameters":              {"grants/mistake", "grants", "grants/route", "identity", "grants/names", "grants/terms"},
	"grants/admission":               {"grants", "grants/names", "grants/parameters", "grants/route"},
	"grants/display":                 {"grants", "grants/route", "identity"},
	"grants/effective":               {"grants", "grants/route", "identity", "grants/display"},
	"policies":                       {},
	"rego":                           {"grants", "identity", "rego/bundle", "rego/gate", "rego/gate/guard", "rego/reads"},
	"rego/activation":                {"grants", "rego", "rego/bundle", "rego/source"},
	"rego/candidate":                 {"rego", "grants"},
	"rego/recording":                 {"rego", "rego/replay", "grants", "grants/route", "identity"},
	"rego/replay":                    {"rego", "grants", "grants/route", "identity"},
	"rego/author":                    {"rego", "rego/author/changes", "rego/author/page", "rego/author/release", "rego/author/summary", "rego/bundle", "rego/explain", "rego/gate", "rego/replay", "grants"},
	"rego/author/page":               {},
	"rego/author/summary":            {"rego", "rego/author/page", "rego/explain", "rego/gate", "rego/reads"},
	"rego/author/changes":            {"rego", "rego/replay"},
	"rego/author/release":            {"rego/bundle"},
	"rego/explain":                   {"grants", "grants/display", "grants/route", "rego", "rego/gate"},
	"rego/bundle":                    {"grants", "grants/parameters"},
	"rego/reads":                     {"grants"},
	"rego/gate":                      {"policies", "rego/bundle", "rego/gate/bounds", "rego/gate/names"},
	"rego/gate/bounds":               {"rego/bundle"},
	"rego/gate/guard":                {"rego/bundle"},
	"rego/gate/names":                {"rego/bundle", "rego/gate/names/keys"},
	"rego/gate/names/keys":           {},
	"rego/source":                    {"rego/bundle"},
	"cache":                          {"rego", "rego/reads", "cache/breaker", "cache/entry", "cache/tally"},
	"cache/entry":                    {"rego"},
	"cache/tally":                    {"rego", "rego/reads"},
	"cache/breaker":                  {},
	"cache/server":                   {},
	"store/resolution":               {"grants/names", "identity", "store/database"},
	"store":                          {"grants/parameters", "store/database", "store/list", "store/record", "store/view", "store/usage", "store/board", "store/resolution", "store/sightings"},
	"store/crowd":                    {"identity", "store", "store/database"},
	"store/list":                     {"store/database", "store/record"},
	"store/database":                 {},
	"store/record":                   {"grants", "grants/parameters", "grants/route", "store/database"},
	"store/usage":                    {"store/database"},
	"store/board":                    {"store/database"},
	"store/sightings":                {"store/database"},
	"store/report":                   {"grants", "grants/display", "grants/effective", "grants/route", "store", "store/sightings"},
	"store/view":                     {"grants", "grants/parameters", "store/database", "store/record", "grants/names"},
	"broker":                         {"grants", "grants/parameters", "grants/route", "store", "broker/osb", "grants/admission", "grants/display", "broker/status"},
	"broker/status":                  {"grants/display", "grants", "grants/effective", "grants/parameters", "grants/route", "store", "store/report"},
	"broker/osb":                     {},
	"api":                            {"grants/mistake", "grants", "grants/route", "store", "api/list", "rego/recording", "api/envelope", "grants/admission", "grants/parameters", "api/viewer", "grants/display", "grants/effective"},
	"api/access":                     {"grants/mistake", "api/access/explanation", "api/envelope", "api/list", "gateway", "gateway/target", "grants", "grants/effective", "grants/names", "grants/parameters", "grants/route", "identity", "rego", "rego/replay", "store", "store/report", "store/sightings", "grants/display"},
	"api/access/explanation":         {"gateway/refusal", "grants/display", "rego", "rego/explain", "store"},
	"api/envelope":                   {"api/list", "grants/route", "store", "api/viewer"},
	"api/list":                       {},
	"api/own":                        {"api/access", "api/envelope", "api/list", "grants/display", "grants/effective", "store", "store/report"},
	"api/viewer":                     {"directory/controller", "identity"},
	"directory/census":               {"directory/controller", "identity"},
	"directory":                      {"directory/census", "directory/controller", "grants", "grants/display", "grants/names", "identity", "store/resolution"},
	"directory/controller":           {},
	"gateway":                        {"identity", "grants", "rego", "store", "gateway/target", "gateway/headers", "gateway/leg3", "gateway/line", "gateway/load", "gateway/front", "gateway/streams", "gateway/request", "gateway/assertion", "callerassertion", "gateway/refusal", "gateway/trace"},
	"gateway/refusal":                {"gateway/line", "identity", "rego", "gateway/front", "gateway/leg3", "gateway/request", "gateway/target"},
	"gateway/assertion":              {"identity", "callerassertion"},
	"gateway/headers":                {"identity"},
	"gateway/line":                   {"identity", "rego", "gateway/headers", "gateway/trace"},
	"gateway/load":                   {},
	"gateway/ports":                  {},
	"gateway/leg3":                   {},
	"gateway/request":                {"gateway/headers", "grants"},
	"gateway/streams":                {},
	"gateway/trace":                  {},
	"gateway/front":                  {},
	"gateway/target":                 {"grants/route"},
	"gateway/selftest":               {"identity", "grants", "gateway/leg3", "gateway/selftest/place", "gateway/selftest/probe", "gateway/selftest/shared", "gateway/selftest/unbound"},
	"gateway/selftest/nonce":         {},
	"gateway/selftest/place":         {"grants", "identity"},
	"gateway/selftest/probe":         {"identity", "gateway/leg3", "gateway/headers", "gateway/selftest/nonce", "gateway/selftest/place"},
	"gateway/selftest/unbound":       {"gateway/selftest/place"},
	"gateway/selftest/shared":        {"gateway/selftest/place", "store/board"},
	"callerassertion":                {},
	"acceptance":                     {"playground", "playground/ca", "playground/router", "playground/controller", "playground/controller/faults", "playground/capi"},
	"acceptance/peers":               {"acceptance/peers/load", "acceptance/peers/process", "acceptance/peers/report", "acceptance/peers/rival", "playground"},
	"acceptance/peers/bare":          {},
	"acceptance/peers/load":          {},
	"acceptance/peers/process":       {},
	"acceptance/peers/report":        {},
	"acceptance/peers/rival":         {"acceptance/peers/process", "policies"},
	"playground":                     {"playground/ca", "playground/router", "playground/controller"},
	"playground/ca":                  {},
	"playground/router":              {"playground/router/relay", "playground/router/routes", "playground/router/signature"},
	"playground/router/relay":        {"playground/router/routes"},
	"playground/router/routes":       {},
	"playground/router/signature":    {},
	"playground/controller":          {},
	"playground/controller/faults":   {},
	"playground/capi":                {},
	"playground/cloud":               {"playground/capi", "playground/cloud/shape", "playground/controller"},
	"playground/cloud/shape":         {},
	"playground/demo":                {"playground/capi", "playground/cloud", "playground", "playground/ca", "playground/router", "playground/controller"},
	"doctor":                         {},
	"doctor/backing":                 {"doctor", "doctor/state"},
	"doctor/bound":                   {"directory/controller", "doctor", "doctor/state", "gateway/selftest/place"},
	"doctor/certificates":            {"doctor", "identity"},
	"doctor/cloud":                   {"doctor/bound", "doctor/state"},
	"doctor/credentials":             {"doctor"},
	"doctor/edge":                    {"doctor", "gateway/ports", "gateway/selftest/place", "gateway/selftest/probe"},
	"doctor/state":                   {"doctor", "store/database", "store/board", "store/sightings"},
	"cmd/mtls-authz/doctor":          {"cache/server", "cmd/mtls-authz/settings", "doctor", "doctor/backing", "doctor/bound", "doctor/certificates", "doctor/credentials", "doctor/edge", "doctor/state", "gateway/leg3", "gateway/trace", "identity", "rego", "rego/bundle", "rego/source", "store/database", "cmd/mtls-authz/authorities", "directory/controller", "doctor/cloud", "gateway/selftest/place", "gateway/selftest/probe"},
	"cmd/mtls-authz/access/client":   {"cmd/mtls-authz/cf", "identity"},
	"cmd/mtls-authz/access":          {"cmd/mtls-authz/access/client", "cmd/mtls-authz/access/native", "cmd/mtls-authz/cf", "grants", "grants/route", "identity"},
	"cmd/mtls-authz/access/native":   {"grants/mistake", "cmd/mtls-authz/cf", "grants", "grants/route"},
	"cmd/mtls-authz/cf":              {"grants", "grants/route", "identity"},
	"cmd/mtls-authz/cf/cftest":       {"grants", "grants/names", "grants/parameters", "grants/route", "identity"},
	"cmd/mtls-authz/grant":           {"cmd/mtls-authz/cf", "cmd/mtls-authz/grant/flags", "cmd/mtls-authz/grant/inforce", "grants", "grants/names", "grants/route", "identity"},
	"cmd/mtls-authz/grant/flags":     {"cmd/mtls-authz/cf", "grants"},
	"cmd/mtls-authz/grant/inforce":   {"grants/mistake", "cmd/mtls-authz/cf", "grants", "grants/names", "grants/parameters", "grants/route"},
	"cmd/mtls-authz/policy":          {"cmd/mtls-authz/policy/question", "rego", "rego/author", "rego/author/release", "rego/bundle", "rego/replay"},
	"cmd/mtls-authz/policy/question": {"grants/mistake", "gateway/target", "grants", "grants/parameters", "grants/route", "identity", "rego", "rego/author"},
	"cmd/mtls-authz/authorities":     {"identity", "cmd/mtls-authz/settings", "store/board"},
	"cmd/mtls-authz/readiness":       {"gateway/ports", "rego/activation"},
	"cmd/mtls-authz/settings":        {"identity", "grants/route", "gateway/target", "gateway/leg3", "cache", "cache/server", "rego/bundle", "rego/source"},
	"cmd/mtls-authz/memory":          {},
	"cmd/mtls-authz/cloud":           {"api/viewer", "cmd/mtls-authz/settings", "directory", "directory/controller", "store", "grants/display"},
	"cmd/mtls-authz":                 {"identity", "grants", "rego", "cache", "store", "broker", "api", "gateway", "gateway/assertion", "gateway/front", "gateway/headers", "gateway/leg3", "gateway/selftest", "gateway/trace", "callerassertion", "playground/demo", "playground/router", "cmd/mtls-authz/authorities", "cmd/mtls-authz/settings", "rego/activation", "rego/candidate", "rego/recording", "cache/server", "cmd/mtls-authz/readiness", "cmd/mtls-authz/policy", "cmd/mtls-authz/cloud", "api/access", "api/envelope", "gateway/line", "rego/replay", "store/sightings", "cmd/mtls-authz/grant", "cmd/mtls-authz/access", "cmd/mtls-authz/doctor", "api/own", "cmd/mtls-authz/memory"},
}

// onlyHome names the folders in which a library may be used at all.
var onlyHome = map[string][]string{
	"github.com/open-policy-agent/opa":           {"rego", "rego/bundle", "cmd/mtls-authz", "rego/gate", "rego/gate/bounds", "rego/gate/guard", "rego/gate/names", "rego/gate/names/keys", "rego/source", "rego/reads", "rego/author", "rego/author/release", "rego/explain"},
	"github.com/redis/go-redis":                  {"cache", "cmd/mtls-authz", "cache/server"},
	"code.cloudfoundry.org/brokerapi":            {"broker", "broker/osb"},
	"database/sql":                               {"store", "store/board", "store/database", "store/list", "store/record", "store/view", "store/resolution", "store/sightings", "store/usage"},
	"modernc.org/sqlite":                         {"store/database"},
	"github.com/pressly/goose":                   {"store/database"},
	"github.com/jackc/pgx":                       {"store/database"},
	"net/http/httputil":                          {"acceptance/peers/bare", "gateway", "playground/router", "playground/router/relay"},
	"github.com/cloudfoundry-community/go-cfenv": {"cmd/mtls-authz/settings"},
	"github.com/alecthomas/kong":                 {"cmd/mtls-authz", "cmd/mtls-authz/policy", "cmd/mtls-authz/access", "cmd/mtls-authz/grant", "cmd/mtls-authz/grant/flags", "cmd/mtls-authz/doctor"},
	"github.com/labstack/echo":                   {"cmd/mtls-authz", "gateway"},
	"go.opentelemetry.io":                        {"gateway/trace"},
}

const (
	maxFileLines    = 300
	maxPackageLines = 700 // of code: comments and blank lines are free
	maxFuncLines    = 60
)

// source is one Go file that is not a test.
type source struct {
	path   string
	lines  int
	code   int
	syntax *ast.File
	set    *token.FileSet
}

// packages returns the files of each folder that has Go code.
func packages(t *testing.T) map[string][]source {
	found := map[string][]source{}
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != "." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata") {
			return fs.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		syntax, err := parser.ParseFile(set, path, text, parser.ParseComments)
		if err != nil {
			return err
		}
		folder := filepath.ToSlash(filepath.Dir(path))
		found[folder] = append(found[folder], source{path, bytes.Count(text, []byte("\n")), codeLines(text), syntax, set})
		return nil
	})
	require.NoError(t, err)
	require.NotEmpty(t, found)
	return found
}

// codeLines counts lines that are neither blank nor comments.
func codeLines(text []byte) int {
	count := 0
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && !bytes.HasPrefix(line, []byte("//")) {
			count++
		}
	}
	return count
}

func TestImportsRunOneWay(t *testing.T) {
	for folder, files := range packages(t) {
		allowed, known := mayImport[folder]
		if !assert.True(t, known, "folder %q is not in the import table", folder) {
			continue
		}
		for _, file := range files {
			for _, spec := range file.syntax.Imports {
				path, err := strconv.Unquote(spec.Path.Value)
				require.NoError(t, err)
				if ours, ok := strings.CutPrefix(path, module); ok {
					assert.Contains(t, allowed, ours, "%s must not import %s", file.path, ours)
				}
				for library, homes := range onlyHome {
					if path == library || strings.HasPrefix(path, library+"/") {
						assert.Contains(t, homes, folder, "%s must not import %s, whose home is %v", file.path, path, homes)
					}
				}
			}
		}
	}
}

func TestEveryFolderOfTheTableExists(t *testing.T) {
	found := packages(t)
	for _, folder := range slices.Sorted(maps.Keys(mayImport)) {
		assert.Contains(t, found, folder)
	}
}

func TestOnePackageCommentEach(t *testing.T) {
	for folder, files := range packages(t) {
		comments := 0
		for _, file := range files {
			if file.syntax.Doc != nil {
				comments++
			}
		}
		assert.Equal(t, 1, comments, "package %s: expected exactly one package comment", folder)
	}
}

func TestSizes(t *testing.T) {
	for folder, files := range packages(t) {
		total := 0
		for _, file := range files {
			total += file.code
			assert.LessOrEqual(t, file.lines, maxFileLines, "%s: look for the missing noun", file.path)
			for _, declaration := range file.syntax.Decls {
				if f, ok := declaration.(*ast.FuncDecl); ok {
					lines := file.set.Position(f.End()).Line - file.set.Position(f.Pos()).Line + 1
					assert.LessOrEqual(t, lines, maxFuncLines, "%s: func %s", file.path, f.Name.Name)
				}
			}
		}
		if !slices.Contains(larger, folder) {
			assert.LessOrEqual(t, total, maxPackageLines, "package %s: look for the missing noun", folder)
		}
	}
}

// larger are packages whose one noun takes more than maxPackageLines; each is
// named with its reason in CONTRIBUTING.md.
var larger = []string{}
