package gate_test

import (
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Data may hold 64 KiB of text at a time; what a builtin takes at once is twice
// as much.
func TestBuiltinsAreBounded(t *testing.T) {
	data := `{"text":"` + strings.Repeat("é", 32<<10-1) + `","many":[` + strings.Repeat(`"",`, 1000) + `""]}`
	for expression, within := range map[string]bool{
		`count(split(data.text, "")) > 0`:                                      true,
		`count(split(replace(data.text, "é", "ééé"), "")) > 0`:                 false,
		`concat(",", data.many) != ""`:                                         true,
		`concat(data.text, data.many) != ""`:                                   false,
		`concat(substring(data.text, 0, 100), data.many) != ""`:                false,
		`sprintf("%5d %s of 999999 [*] 100%%", [1, "a"]) != ""`:                true,
		`sprintf("%s", [data.text]) != ""`:                                     true,
		`sprintf("%s", [[data.text, data.text, data.text]]) != ""`:             false,
		`sprintf("%[1]s%[1]s", [data.text]) != ""`:                             false,
		`sprintf("%999999d", [1]) != ""`:                                       false,
		`sprintf("%.999999d", [1]) != ""`:                                      false,
		`sprintf("%*d", [999999, 1]) != ""`:                                    false,
		`sprintf("%60000d%60000d", [1, 1]) != ""`:                              false,
		`sprintf("%s%s", [data.text, data.text]) != ""`:                        false,
		`trim(data.text, "a") != ""`:                                           true,
		`trim(data.text, data.text) == ""`:                                     false,
		`trim_left(data.text, data.text) == ""`:                                false,
		`trim_right(data.text, data.text) == ""`:                               false,
		`to_number(replace("1111", "1", substring(data.text, 0, 20000))) == 1`: false,
	} {
		loaded := load(t, directory(t, files{"data.json": data, "policy.rego": "package site.check.one\n\nallow if " + expression + "\n"}))
		query, err := rego.New(rego.Compiler(loaded.Compiler), rego.Query("data.site.check.one.allow"), rego.Store(inmem.NewFromObject(loaded.Bundle.Data))).PrepareForEval(t.Context())
		require.NoError(t, err)
		result, err := query.Eval(t.Context())
		if within {
			assert.NoError(t, err, expression)
			assert.True(t, result.Allowed(), expression)
		} else {
			assert.ErrorContains(t, err, "131072 bytes", expression)
		}
	}
}
