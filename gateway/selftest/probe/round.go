// Package probe makes one round through a router to a bound route of ours: without
// a certificate and with the gateway's own, with a sentinel in the place of a
// certificate; and it answers such requests, by saying what has arrived.
//
// It trusts answers under its own MAC and nothing else. It fails by an error that
// says which of the others has answered, and what to do about it.
package probe

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/mtls-authz/mtls-authz/gateway/leg3"
	"github.com/mtls-authz/mtls-authz/gateway/selftest/nonce"
	"github.com/mtls-authz/mtls-authz/gateway/selftest/place"
	"github.com/mtls-authz/mtls-authz/identity"
)

// Config configures [New]. All of it is required.
type Config struct {
	// Key makes the MACs of probes; any instance with it can answer.
	Key []byte
	// Router is the way through the routers. Probes that come without a certificate
	// leave out the gateway's own; where it has none, nothing can be proven.
	Router leg3.Config
	// Format is the form of the certificate header, by host.
	Format func(host string) identity.Format
	Now    func() time.Time
}

// Prober sends probes and answers them. It is safe for concurrent use.
type Prober struct {
	Config
	nonces *nonce.Nonces
}

// New returns a Prober.
func New(cfg Config) (*Prober, error) {
	nonces, err := nonce.New(cfg.Key, cfg.Now)
	return &Prober{cfg, nonces}, err
}

const (
	// A probe that a busy gateway sheds is sent again.
	busyTries = 10
	busyPause = 100 * time.Millisecond
	maxAnswer = 4 << 10
)

// Own is the gateway's own certificate, nil if it has none.
func (p *Prober) Own() *x509.Certificate {
	if p.Router.Certificate == nil {
		return nil
	}
	if own := p.Router.Certificate(); own != nil {
		return own.Leaf
	}
	return nil
}

// way is to one router, by a connection of its own: what it proves is true now.
func (p *Prober) way(router string, withCertificate bool) *leg3.Router {
	to := p.Router
	to.Address = func(string) string { return router }
	if !withCertificate {
		to.Certificate = nil
	}
	return leg3.NewOneShot(to)
}

// Round is one complete round through the router at an address to a route, without
// a certificate and with the gateway's own. Where the router takes no connection
// without one, nobody comes without one. Its errors are those of this package.
func (p *Prober) Round(ctx context.Context, router string, target place.Target) error {
	own := p.Own()
	if own == nil {
		return ErrNoCertificate
	}
	bare, err := p.patient(ctx, router, target, false)
	switch {
	case demandsCertificate(err):
	case err != nil:
		return err
	case bare != seenNothing:
		return fmt.Errorf("%w: without a certificate the gateway saw %s instead of nothing", ErrMismatch, bare)
	}
	mine, err := p.patient(ctx, router, target, true)
	if err != nil {
		return err
	}
	if mine != sightOf(own.Raw) {
		return fmt.Errorf("%w: it saw %s; the router must request client certificates and set the header (router.client_cert_validation, sanitize_set), in the form that XFCC_FORMAT says (%s)",
			ErrMismatch, mine, p.Format(target.Host))
	}
	return nil
}

// patient probes again where the gateway was too busy to answer.
func (p *Prober) patient(ctx context.Context, router string, target place.Target, withCertificate bool) (seen string, err error) {
	for range busyTries {
		if seen, err = p.probe(ctx, router, target, withCertificate); !errors.Is(err, ErrBusy) {
			return seen, err
		}
		select {
		case <-ctx.Done():
			return seen, err
		case <-time.After(busyPause):
		}
	}
	return seen, err
}

// probe sends one request and returns what arrived in the certificate header.
func (p *Prober) probe(ctx context.Context, router string, target place.Target, withCertificate bool) (string, error) {
	path := target.Path + Path
	word := p.nonces.Make(nonce.Purpose{Binding: target.Binding, Host: target.Host, Path: path})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+target.Host+path+"?"+word, nil)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	request.Header.Set(identity.Header, p.nonces.Sentinel(word))
	res, err := p.way(router, withCertificate).RoundTrip(request)
	if err != nil {
		return "", transportError(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return "", transportError(err)
	}
	var answer sight
	if res.StatusCode != http.StatusOK || json.Unmarshal(body, &answer) != nil || !p.nonces.Sealed(word, answer.Seen, answer.MAC) {
		return "", foreign(target, res, body)
	}
	if answer.Seen == seenSentinel {
		return "", ErrSentinel
	}
	return answer.Seen, nil
}
