// Package rival is what one would build without the gateway: nginx asks an OPA
// server about each request (auth_request) and sends it back through the router.
// OPA has the gateway's own policy and the same grants as data.
//
// There are three of it: OPA verifies the client certificate; the same, and nginx
// remembers its answers; OPA believes a header. All keep values that a client
// wrote from breaking out of the question. None checks what else the gateway
// checks (docs/benchmarks.md lists it), so it is for comparing speeds and protects
// nobody. It fails by an error that says what nginx or OPA said.
package rival

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"text/template"

	"github.com/mtls-authz/mtls-authz/acceptance/peers/process"
	"github.com/mtls-authz/mtls-authz/policies"
)

// Config configures [Start]. All of it is required.
type Config struct {
	// Nginx and OPA are the programs.
	Nginx, OPA string
	// Dir is an empty directory for configuration and logs.
	Dir string
	// Router is the router's host:port, RouterCAFile verifies it.
	Router, RouterCAFile string
	// CA has issued the callers' certificates, in PEM.
	CA []byte
	// Route, Owner and Grants are those parts of the policy's input.
	Route, Owner, Grants any
}

// Rival is a running one.
type Rival struct {
	// Verifying, Remembering and Believing are the host:port of nginx's servers.
	Verifying, Remembering, Believing string
	nginx, opa                        *process.Process
}

//go:embed nginx.conf rival.rego
var files embed.FS

// Start starts OPA and nginx. Stop them with [Rival.Stop], also after an error.
func Start(ctx context.Context, cfg Config) (*Rival, error) {
	r := &Rival{}
	var addresses [4]string
	for i := range addresses {
		var err error
		if addresses[i], err = process.FreeAddress(); err != nil {
			return r, err
		}
	}
	opa := addresses[0]
	r.Verifying, r.Remembering, r.Believing = addresses[1], addresses[2], addresses[3]
	if err := cfg.writePolicy(); err != nil {
		return r, err
	}
	if err := cfg.writeNginx(opa, r); err != nil {
		return r, err
	}
	var err error
	if r.opa, err = process.Start(cfg.OPA, "run", "--server", "--addr", opa, "--log-level", "error", "--skip-version-check", cfg.policyDir()); err != nil {
		return r, fmt.Errorf("OPA: %w", err)
	}
	if r.nginx, err = process.Start(cfg.Nginx, "-e", "stderr", "-p", cfg.Dir, "-c", cfg.nginxFile()); err != nil {
		return r, fmt.Errorf("nginx: %w", err)
	}
	return r, errors.Join(r.opa.Listens(ctx, opa), r.nginx.Listens(ctx, r.Verifying))
}

// PIDs are the processes; nginx's workers are children of its.
func (r *Rival) PIDs() []int { return []int{r.nginx.PID(), r.opa.PID()} }

// Stop stops both.
func (r *Rival) Stop() error {
	var problems []error
	for _, p := range []*process.Process{r.nginx, r.opa} {
		if p != nil {
			problems = append(problems, p.Stop())
		}
	}
	return errors.Join(problems...)
}

func (c Config) policyDir() string { return filepath.Join(c.Dir, "policy") }
func (c Config) nginxFile() string { return filepath.Join(c.Dir, "nginx.conf") }

// writePolicy writes the gateway's policy, what is asked of it here, and the data.
func (c Config) writePolicy() error {
	data, err := json.Marshal(map[string]any{"rival_config": map[string]any{
		"ca": string(c.CA), "route": c.Route, "owner": c.Owner, "grants": c.Grants,
	}})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.policyDir(), 0o700); err != nil {
		return err
	}
	texts := map[string][]byte{"data.json": data}
	for name, source := range map[string]fs.FS{"mtls/authz.rego": policies.Files, policies.SiteModule: policies.Files, "rival.rego": files} {
		if texts[filepath.Base(name)], err = fs.ReadFile(source, name); err != nil {
			return err
		}
	}
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(c.policyDir(), name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (c Config) writeNginx(opa string, r *Rival) error {
	parsed, err := template.ParseFS(files, "nginx.conf")
	if err != nil {
		return err
	}
	type server struct {
		Listen, Rule string
		Remembers    bool
	}
	var text bytes.Buffer
	err = parsed.Execute(&text, map[string]any{
		"Dir": c.Dir, "Root": os.Geteuid() == 0, "Workers": runtime.NumCPU(), "OPA": opa, "Router": c.Router, "RouterCAFile": c.RouterCAFile,
		"Servers": []server{{r.Verifying, "verified", false}, {r.Remembering, "verified", true}, {r.Believing, "told", false}},
	})
	if err != nil {
		return err
	}
	return os.WriteFile(c.nginxFile(), text.Bytes(), 0o600)
}
