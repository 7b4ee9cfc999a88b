package acceptance_test

import (
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/capi"
	town "github.com/mtls-authz/mtls-authz/playground/cloud"
	"github.com/mtls-authz/mtls-authz/playground/controller"
)

// city is a foundation whose Cloud Controller a cf command can log in to.
type city struct {
	*world
	cloud  *town.Cloud
	server *httptest.Server
	env    []string // of commands
}

// newCity has the backend's route, not bound, in a space of which alice is a
// developer.
func newCity(t *testing.T) *city {
	t.Helper()
	n := &city{}
	n.cloud = town.New(town.Config{
		Domain: playground.Domain, Broker: func(user string) *controller.Client {
			client := *n.Controller
			client.User = user
			return &client
		}, Router: func() town.Router { return n.Router },
	})
	n.cloud.AddClient("gateway", "secret-of-the-client")
	for _, app := range []playground.App{playground.Backend, playground.Frontend, playground.Monitoring, playground.Intruder} {
		id := app.Identity()
		n.cloud.Put(capi.Orgs, capi.Entity{GUID: id.Org, Name: app.Org})
		n.cloud.Put(capi.Spaces, capi.Entity{GUID: id.Space, Name: app.Space, Parent: id.Org})
		n.cloud.Put(capi.Apps, capi.Entity{GUID: id.App, Name: app.Name, Parent: id.Space})
	}
	backend := playground.Backend.Identity()
	n.cloud.AddUser("alice", "wonderland", playground.GUID("user alice"), backend.Org)
	n.cloud.AddRoute("backend", "", backend.Space)
	n.server = httptest.NewTLSServer(n.cloud)
	t.Cleanup(n.server.Close)
	n.world = start(t, setup{env: askedBy(n.server, time.Hour)})
	n.addSecrets("secret-of-the-client", "wonderland")
	require.NoError(t, n.cloud.CreateBroker(t.Context()))
	require.NoError(t, n.Router.Register("backend."+playground.Domain, newApp(t, nil).url))
	return n
}

// run runs a command as alice would.
func (n *city) run(t *testing.T, program string, args ...string) (out string, exit int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, program, args...)
	command.Env = n.env
	text, err := command.CombinedOutput()
	if ended := (*exec.ExitError)(nil); err != nil {
		require.ErrorAs(t, err, &ended, string(text))
	}
	return string(text), command.ProcessState.ExitCode()
}

// What the README and the guide for developers tell a developer to type, with the
// real cf: CF_BIN names it.
func TestTheRealCf(t *testing.T) {
	t.Parallel()
	cf := os.Getenv("CF_BIN")
	if cf == "" {
		t.Skip("CF_BIN names no cf command, version 8 or newer")
	}
	n := newCity(t)
	home := t.TempDir()
	require.NoError(t, os.Symlink(cf, filepath.Join(home, "cf")))
	n.env = []string{"PATH=" + home + ":/usr/bin:/bin", "HOME=" + home, "CF_HOME=" + home, "CF_COLOR=false"}
	for _, step := range []struct {
		command string
		exit    int
		says    []string
	}{
		{"cf api " + n.server.URL + " --skip-ssl-validation", 0, []string{"OK"}},
		{"cf auth alice wrong", 1, []string{"FAILED"}},
		{"cf auth alice wonderland", 0, []string{"OK"}},
		{"cf target -o acme -s shop", 0, []string{"shop"}},
		{"cf create-service mtls-authz org my-authz -c {\"mode\":\"report\"}", 0, []string{"Service instance my-authz created.", "OK"}},
		{"cf create-service mtls-authz org bad -c {\"no\":1}", 1, []string{"unknown parameter"}},
		{"cf bind-route-service apps.identity my-authz --hostname backend", 0, []string{"OK"}},
		{"cf service my-authz --params", 0, []string{`"mode": "report"`, `"route": "backend.apps.identity"`}},
		{"mtls-authz grant add apps.identity --hostname backend --source-app frontend -y", 0, []string{"allow_add", "OK"}},
		{"mtls-authz grant add apps.identity --hostname backend --source-app scraper -y", 1, []string{"not found"}},
		{"mtls-authz grant add apps.identity --hostname backend --source app:observability/monitoring -y", 0, []string{"OK"}},
		{"cf update-service my-authz -c {\"mode\":\"enforce\"}", 0, []string{"OK"}},
		{"mtls-authz grant list apps.identity --hostname backend", 0, []string{"frontend", "app:observability/monitoring"}},
		{"mtls-authz grant remove apps.identity --hostname backend --source-app frontend -y", 0, []string{"OK"}},
		{"cf oauth-token", 0, []string{"bearer "}},
		{"cf unbind-route-service apps.identity my-authz --hostname backend -f", 0, []string{"OK"}},
		{"cf delete-service my-authz -f", 0, []string{"OK"}},
	} {
		args := strings.Split(step.command, " ")
		program := filepath.Join(home, "cf")
		if args[0] == "mtls-authz" {
			program = binary
		}
		out, exit := n.run(t, program, args[1:]...)
		require.Equal(t, step.exit, exit, "%s\n%s", step.command, out)
		for _, text := range step.says {
			assert.Contains(t, out, text, step.command)
		}
	}
}
