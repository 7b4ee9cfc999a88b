package status

import (
	"slices"
	"time"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/display"
)

// warnNames tells of names that stand for nobody, once for all routes.
func (s *Status) warnNames(access *grants.Access, now time.Time) {
	for _, naming := range access.Namings() {
		if text := naming.Warning(now); text != "" && !slices.Contains(s.Warnings, text) {
			s.warn("%s", text)
		}
	}
}

// warnGone tells of the sources that were deleted, once for all routes.
func (s *Status) warnGone(live *grants.Live, labels display.Labels) {
	for _, rule := range live.Rules[:min(len(live.Rules), maxGrantsShown)] {
		if text := labels.Gone(rule); text != "" && !slices.Contains(s.Warnings, text) {
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
