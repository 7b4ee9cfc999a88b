package status

import (
	"slices"
	"time"

	"github.com/mtls-authz/mtls-authz/grants"
)

// warnNames tells of names that stand for nobody, once for all routes.
func (s *Status) warnNames(access *grants.Access, now time.Time) {
	for _, naming := range access.Namings() {
		if text := naming.Warning(now); text != "" && !slices.Contains(s.Warnings, text) {
			s.warn("%s", text)
		}
	}
}

// standsFor is the source that a name stands for; "" where there is no name.
func standsFor(rule grants.Rule) string {
	if rule.Written().Source.Kind != grants.Named {
		return ""
	}
	return rule.Source.String()
}
