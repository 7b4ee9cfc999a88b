package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	opaversion "github.com/open-policy-agent/opa/v1/version"
)

// Set by the release build with -ldflags -X.
var (
	version = "dev"
	commit  = ""
)

type versionCommand struct{}

// Run prints the versions that matter in a bug report.
func (versionCommand) Run(p program) error {
	_, err := fmt.Fprintf(p.stdout, "mtls-authz %s\ncommit     %s\ngo         %s\nopa        %s\n", version, commitOf(), runtime.Version(), opaversion.Version)
	return err
}

func commitOf() string {
	if commit != "" {
		return commit
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				return setting.Value
			}
		}
	}
	return "unknown"
}
