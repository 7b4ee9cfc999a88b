package explain

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// again reads rules as their author wrote them, by their place, from what the
// compiler has left of them: their text and where it stood. With them comes the
// title of the check.
func again(frames []*frame, check string) (title string, written map[string]*ast.Rule) {
	written = map[string]*ast.Rule{}
	for _, f := range frames {
		at := f.rule.Location
		if f.rule.Module != nil && title == "" {
			title = titleIn(f.rule.Module, check)
		}
		if at == nil || at.Row < 2 || at.Col < 1 || written[place(at)] != nil {
			continue
		}
		// At its place, below a package: then its parts have theirs.
		text := "package p" + strings.Repeat("\n", at.Row-1) + strings.Repeat(" ", at.Col-1) + string(at.Text)
		module, err := ast.ParseModuleWithOpts(at.File, text, ast.ParserOptions{RegoVersion: ast.RegoV1})
		if err != nil {
			continue // such as an "else", which its rule brings
		}
		ast.WalkRules(module, func(rule *ast.Rule) bool {
			written[place(rule.Location)] = rule
			return false
		})
	}
	return title, written
}
