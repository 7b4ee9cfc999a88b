package demo

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/capi"
)

// follow is how long a name may take to be looked up.
const follow = 30 * time.Second

// soon plays a row until it goes as expected, while names are looked up.
func (d *demo) soon(ctx context.Context, caller, url, expected string) (row Result) {
	ctx, cancel := context.WithTimeout(ctx, follow)
	defer cancel()
	for {
		row = d.call(ctx, caller, "GET", url, nil, expected)
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return row
		}
		if row.OK {
			return row
		}
	}
}

// swap allows an app by its name, which another app then takes over: what a
// blue-green deployment does.
func (d *demo) swap(ctx context.Context) []Result {
	url := namedRoute + "/hello"
	frontend, other := playground.Frontend.Identity().App, green.Identity().App
	return []Result{
		step(`cf create-service mtls-authz org named-authz -c '{"allow":["app:frontend"]}'`, "ok", func() error {
			service, err := d.createService(ctx, "named-authz", `{"allow":["app:frontend"]}`)
			if err == nil {
				_, _, err = d.cloud.BindRoute(ctx, d.user, service, namedRoute, "")
			}
			return err
		}),
		d.soon(ctx, "frontend", url, "200"),
		d.call(ctx, green.Name, "GET", url, nil, "403 no_matching_grant"),
		step("cf rename frontend frontend-old, and frontend-green to frontend", "ok", func() error {
			d.cloud.Rename(capi.Apps, map[string]string{frontend: "frontend-old", other: "frontend"})
			return nil
		}),
		d.soon(ctx, green.Name, url, "200"),
		d.call(ctx, "frontend", "GET", url, nil, "200"), // in its time of grace
		step("cf delete frontend-old", "ok", func() error { d.cloud.Delete(capi.Apps, frontend); return nil }),
		d.soon(ctx, "frontend", url, "403 no_matching_grant"),
	}
}

// audit asks who can reach the route, and why somebody cannot.
func (d *demo) audit(ctx context.Context) []Result {
	caller := playground.Monitoring.Identity()
	denied := d.call(ctx, "monitoring", "GET", backendRoute+"/orders", nil, "403 no_matching_grant")
	ask := []string{backendRoute, "--app", caller.App, "--space", caller.Space, "--org", caller.Org, "--url-path"}
	return []Result{
		d.access(ctx, 0, "WHO MAY CALL", backendRoute),
		d.access(ctx, 0, "outcome   allowed", append(ask, "/metrics")...),
		d.access(ctx, 3, "outcome   denied no_matching_grant", append(ask, "/orders")...),
		d.access(ctx, 0, "path", "--decision", denied.Decision),
	}
}

// access runs mtls-authz access as an auditor does.
func (d *demo) access(ctx context.Context, exit int, says string, args ...string) Result {
	command := exec.CommandContext(ctx, d.Executable, append([]string{"access"}, args...)...) //nolint:gosec // itself
	command.Env = []string{"MTLS_AUTHZ_URL=" + d.Controller.URL, "READ_USERNAME=" + readUsername, "READ_PASSWORD=" + d.readPassword}
	out, _ := command.CombinedOutput() // the exit status tells
	row := Result{
		Caller: "auditor", Request: "mtls-authz access " + shortened(args), Expected: fmt.Sprintf("exit %d", exit),
		Got: fmt.Sprintf("exit %d", command.ProcessState.ExitCode()), Reason: says,
	}
	if row.OK = row.Got == row.Expected && strings.Contains(string(out), says); !row.OK {
		row.Reason = strings.TrimSpace(string(out))
	}
	return row
}

// shortened leaves of guids what fits into a table.
func shortened(args []string) string {
	var all []string
	for _, arg := range args {
		if len(arg) == len("00000000-0000-0000-0000-000000000000") && strings.Count(arg, "-") == 4 {
			arg = "..."
		}
		all = append(all, arg)
	}
	return strings.Join(all, " ")
}
