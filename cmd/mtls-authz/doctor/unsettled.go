package doctor

import (
	"slices"
	"strings"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/settings"
	"github.com/mtls-authz/mtls-authz/doctor"
	"github.com/mtls-authz/mtls-authz/identity"
)

// unreadable has a finding for each setting that is wrong; nothing else can be
// looked at, and the gateway does not start.
func unreadable(err error) (found []doctor.Finding) {
	for line := range strings.Lines(err.Error()) {
		if name, problem, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			what, fix := wayOut(problem)
			found = append(found, doctor.Bad(name, what, fix+" (docs/settings.md)"))
		}
	}
	if len(found) == 0 {
		found = append(found, doctor.Bad("", err.Error(), "docs/settings.md has every setting"))
	}
	return found
}

// wayOut parts what is wrong with a setting from what was expected, which errors
// about settings say after it.
func wayOut(problem string) (what, fix string) {
	if at := strings.Index(problem, "expected "); at >= 0 {
		what = strings.TrimRight(problem[:at], ":; ")
		if what == "" {
			what = "malformed"
		}
		return what, problem[at:]
	}
	if what, fix, ok := strings.Cut(problem, "; "); ok {
		return what, fix
	}
	return problem, "correct it"
}

// doubtful are settings that are right and weaken what the gateway proves.
func doubtful(s *settings.Settings) (found []doctor.Finding) {
	if slices.Contains(s.XFCCFormat.Values(), identity.Envoy) {
		found = append(found, doctor.Doubtful("XFCC_FORMAT", "envoy: the router's word for who calls has no certificate in it, so the gateway verifies nothing",
			"raw, wherever the router can send the certificate itself"))
	}
	if s.AllowWildcards {
		found = append(found, doctor.Doubtful("ALLOW_WILDCARD_ROUTES", "true: whoever can create a host under a bound wildcard goes around the gateway",
			"unset it, bind single hosts; where it must be, have the apps verify the caller assertion"))
	}
	if len(found) == 0 {
		found = append(found, doctor.Good("", "complete and without contradictions; mtls-authz serve --print-config shows them"))
	}
	return found
}
