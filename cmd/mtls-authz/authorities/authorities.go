// Package authorities holds which certificate the process shows, and which
// certificate authorities it believes: those of callers, those of routers, those
// of the servers beside it. None of them vouches for the purpose of another.
//
// It trusts the files that the settings name and, without CALLER_CA_FILES, what
// sibling instances put on the store's board, after checking each piece of it. It
// fails closed: what cannot be read, or proves too little, is not believed, and
// what was believed before stays until it ends.
package authorities

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/settings"
	"github.com/mtls-authz/mtls-authz/identity"
)

// Config configures [New]. All of it is required, unless it says otherwise.
type Config struct {
	// Settings name the files.
	Settings *settings.Settings
	// Log says from when to when a caller CA is trusted, and why one is not.
	Log *slog.Logger
	// Metrics gets the end of each trusted caller CA.
	Metrics prometheus.Registerer
	// Interval is how often siblings are asked for their CAs. Default: 3 s.
	Interval time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Authorities are those of one process, safe for concurrent use. Create them with
// [New].
type Authorities struct {
	cfg      Config
	own      *identity.KeyPair
	verifier *identity.Verifier
	metric   *prometheus.GaugeVec
	// board is where siblings are; nil: the caller CAs are not shared.
	board Board

	mu sync.Mutex
	// given are the caller CAs of the files, shared what is on the board, former
	// the issuers of own certificates that siblings are yet to be told of.
	given, shared, former []authority
	// trusted are the caller CAs in force: all of these.
	trusted []authority
	// complaint is what was last said about the board.
	complaint string
}

// New reads the files that the settings name. Its errors name the setting.
func New(cfg Config) (*Authorities, error) {
	if cfg.Interval == 0 {
		cfg.Interval = 3 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	a := &Authorities{cfg: cfg, metric: newMetric(cfg.Metrics)}
	if s := cfg.Settings; s.InstanceCert != "" {
		own, err := identity.NewKeyPair(s.InstanceCert, s.InstanceKey)
		if err != nil {
			return nil, fmt.Errorf("CF_INSTANCE_CERT and CF_INSTANCE_KEY: %w", err)
		}
		a.own = own
	}
	given, err := a.readGiven()
	if err != nil {
		return nil, err
	}
	a.verifier, err = identity.NewVerifier(identity.Config{Foundation: cfg.Settings.FoundationName, CAs: certificates(given), Now: cfg.Now})
	if err != nil {
		return nil, fmt.Errorf("CALLER_CA_FILES: %w", err)
	}
	return a, a.change(func() { a.given = given })
}

// Own is the gateway's own key pair, which Run keeps up to date; nil: it has none.
func (a *Authorities) Own() *identity.KeyPair { return a.own }

// Verifier verifies callers by the caller CAs in force.
func (a *Authorities) Verifier() *identity.Verifier { return a.verifier }

// Run follows files and siblings until ctx ends.
func (a *Authorities) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	if a.own != nil {
		running.Go(func() { a.watch(ctx, "the gateway's own certificate", a.own.Files(), a.own.Reload) })
	}
	files := a.cfg.Settings.CallerCAs
	if len(files) == 0 {
		files = []identity.File{a.cfg.Settings.InstanceCert}
	}
	running.Go(func() { a.watch(ctx, "the caller CAs", files, a.reload) })
	if a.board != nil {
		running.Go(func() { a.follow(ctx) })
	}
}

// watch re-reads files in the background and says so. The first look, right at
// the start, catches what changed since the files were read; it is not news.
func (a *Authorities) watch(ctx context.Context, what string, files []identity.File, reload func() error) {
	looked := false
	changed := func() error {
		err := reload()
		if err == nil && looked {
			a.cfg.Log.Info("read again: " + what)
		}
		looked = true
		return err
	}
	failed := func(err error) {
		a.cfg.Log.Warn("could not read "+what+" again; the former stays", slog.String("error", err.Error()))
	}
	identity.Watch(ctx, files, changed, failed)
}

// readGiven reads the caller CAs of the files.
func (a *Authorities) readGiven() ([]authority, error) {
	if files := a.cfg.Settings.CallerCAs; len(files) > 0 {
		cas, err := identity.ReadCAs(files...)
		if err != nil {
			return nil, fmt.Errorf("CALLER_CA_FILES: %w", err)
		}
		given := make([]authority, len(cas))
		for i, ca := range cas {
			given[i] = newAuthority(ca, a.cfg.Now())
			given[i].Origin = "CALLER_CA_FILES"
		}
		return given, nil
	}
	one, err := a.readIssuer()
	if err != nil {
		return nil, fmt.Errorf("CF_INSTANCE_CERT: %w", err)
	}
	return []authority{one}, nil
}

// readIssuer reads the issuer of the gateway's own certificate. It is trusted if
// it issued that certificate; siblings are told of it if that is a caller's.
func (a *Authorities) readIssuer() (authority, error) {
	file := a.cfg.Settings.InstanceCert
	issuers, err := identity.ReadIssuer(file)
	if err != nil {
		return authority{}, err
	}
	chain, err := identity.ReadCAs(file)
	if err != nil {
		return authority{}, err
	}
	one, err := prove(chain)
	if err != nil || !one.certificate.Equal(issuers[0]) {
		a.cfg.Log.Warn("the issuer of CF_INSTANCE_CERT is not shared with other instances", slog.Any("error", err))
		one = newAuthority(issuers[0], a.cfg.Now())
	}
	one.Origin, one.Since = "CF_INSTANCE_CERT", a.cfg.Now()
	return one, nil
}

// reload reads the caller CAs again. A former issuer of the gateway's own
// certificate stays, since callers of it are still there.
func (a *Authorities) reload() error {
	given, err := a.readGiven()
	if err != nil {
		return err
	}
	return a.change(func() {
		if len(a.cfg.Settings.CallerCAs) == 0 {
			a.former = union(a.former, a.given)
			if same(given[0], a.given[0]) {
				given[0].Since = a.given[0].Since
			}
		}
		a.given = given
	})
}
