// Package doctor is the command line of "mtls-authz doctor": the settings of serve
// become the configuration of the packages below doctor, which do the looking. It
// decides nothing and changes nothing: no table, no key, no file but a temporary
// one. What cannot be opened is an item that says so, and does not end the command.
package doctor

import (
	"context"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/mtls-authz/mtls-authz/cache/server"
	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/settings"
	"github.com/mtls-authz/mtls-authz/doctor"
	"github.com/mtls-authz/mtls-authz/doctor/backing"
	"github.com/mtls-authz/mtls-authz/doctor/bound"
	"github.com/mtls-authz/mtls-authz/doctor/certificates"
	"github.com/mtls-authz/mtls-authz/doctor/credentials"
	"github.com/mtls-authz/mtls-authz/doctor/edge"
	"github.com/mtls-authz/mtls-authz/doctor/state"
)

// Environ is the process's environment.
type Environ []string

func (e Environ) value(name string) string {
	for _, entry := range slices.Backward(e) { // of two of a name, the last counts
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}

// Command examines foundation and configuration.
type Command struct {
	JSON      bool `help:"Write JSON."`
	Strict    bool `help:"Warnings count: exit status 1."`
	Reconcile bool `help:"Compare what is bound with Cloud Controller's /v3/service_route_bindings."`
}

// Help is shown by doctor --help.
func (Command) Help() string {
	return "It reads the environment that serve reads, and changes nothing anywhere. Exit status 1 if an item fails. See docs/doctor.md.\n\n" +
		`    cf run-task mtls-authz --command "./mtls-authz doctor" --name doctor; cf logs mtls-authz --recent`
}

// Run looks at every item and writes the report.
func (c Command) Run(ctx context.Context, k *kong.Context, environ Environ) error {
	report := c.examine(ctx, environ, progress(k.Stderr))
	var err error
	if c.JSON {
		err = report.WriteJSON(k.Stdout)
	} else {
		err = report.WriteText(k.Stdout, width(k.Stdout))
	}
	if err != nil {
		return err
	}
	return report.Err(c.Strict)
}

func (c Command) examine(ctx context.Context, environ Environ, begin func(checks int) (looked func(item string))) *doctor.Report {
	server.Quiet() // settings make a client already
	s, err := settings.Load(environ)
	if err != nil {
		return doctor.Run(ctx, []doctor.Check{{Item: "settings", Look: func(context.Context) []doctor.Finding {
			return unreadable(err)
		}}}, nil, nil)
	}
	p := open(ctx, s)
	defer p.close()
	checks := c.checks(ctx, p, environ)
	return doctor.Run(ctx, checks, secrets(s), begin(len(checks)))
}

// checks are all, in the order of the report.
func (c Command) checks(ctx context.Context, p *patient, environ Environ) []doctor.Check {
	s := p.Settings
	onCF := environ.value("VCAP_APPLICATION") != ""
	checks := []doctor.Check{{Item: "settings", Look: func(context.Context) []doctor.Finding { return doubtful(s) }}}
	return slices.Concat(checks,
		certificates.Checks(certificates.Config{
			CallerCAs: s.CallerCAs, Certificate: s.InstanceCert, Key: s.InstanceKey, Siblings: p.siblings(), Foundation: s.FoundationName, App: s.OwnApp,
		}),
		credentials.Checks(credentials.Config{
			Username: s.BrokerUsername, Password: s.BrokerPassword, Previous: s.BrokerPrevious,
			ReadUsername: s.ReadUsername, ReadPassword: s.ReadPassword, MACKey: s.CacheMACKey,
		}),
		edge.Checks(p.edge(ctx)),
		backing.Checks(backing.Config{
			Store: p.server, StoreHost: hostOf(s.StoreURL), Newest: newest, OnCF: onCF, Redis: p.shared(),
			Bundle: p.bundle(s.PolicyBundle), Candidate: p.bundle(s.PolicyCandidate), Collector: p.collector(),
		}),
		bound.Checks(bound.Config{
			Bindings: p.bindings, BindingsErr: p.bindingsErr, GatewayURL: s.GatewayURL, Seen: p.seen(),
			Cloud: p.cloud(), NoCloud: "there is no client of Cloud Controller: CF_CLIENT_ID and CF_CLIENT_SECRET are not set", Reconcile: c.Reconcile,
		}),
	)
}

// patient is what was opened for the checks.
type patient struct {
	*settings.Settings
	roots roots
	state *state.State
	// stateErr is why there is no state; bindings are those in it.
	stateErr    error
	bindings    []state.Binding
	bindingsErr error
	closers     []func() error
}

// openTime bounds reading what is bound, before anything is looked at.
const openTime = 30 * time.Second

func open(ctx context.Context, s *settings.Settings) *patient {
	p := &patient{Settings: s, roots: readRoots(s)}
	ca, err := p.roots.store()
	if err == nil {
		p.state, err = state.Open(state.Config{URL: s.StoreURL, CA: ca})
	}
	if err != nil {
		p.stateErr, p.bindingsErr = err, err
		return p
	}
	p.closers = append(p.closers, p.state.Close)
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	p.bindings, p.bindingsErr = p.state.Bindings(ctx)
	return p
}

func (p *patient) close() {
	for _, closer := range p.closers {
		_ = closer() // only read
	}
}

func (p *patient) server(ctx context.Context) (state.Server, error) {
	if p.stateErr != nil {
		return state.Server{}, p.stateErr
	}
	return p.state.Server(ctx)
}

// hostOf is the host of a URL, "" if it has none.
func hostOf(location string) string {
	u, err := url.Parse(location)
	if err != nil || u.Scheme == "sqlite" {
		return ""
	}
	return u.Hostname()
}

// quiet is for what would log.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
