package selftest

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

const (
	// A probe that a busy gateway sheds is sent again.
	busyTries = 10
	busyPause = 100 * time.Millisecond
	maxAnswer = 4 << 10
)

// own is the gateway's own certificate, nil if it has none.
func (t *SelfTest) own() *x509.Certificate {
	if t.Router.Certificate == nil {
		return nil
	}
	if own := t.Router.Certificate(); own != nil {
		return own.Leaf
	}
	return nil
}

// way is to one router, by a connection of its own: what it proves is true now.
func (t *SelfTest) way(p place.Place, withCertificate bool) *leg3.Router {
	to := t.Router
	to.Address = func(string) string { return p.Router }
	if !withCertificate {
		to.Certificate = nil
	}
	return leg3.NewOneShot(to)
}

// round is one complete round through a router to a route, without a certificate
// and with the gateway's own. Where the router takes no connection without one,
// nobody comes without one.
func (t *SelfTest) round(ctx context.Context, p place.Place, target place.Target) error {
	own := t.own()
	if own == nil {
		return errNoCertificate
	}
	bare, err := t.patient(ctx, p, target, false)
	switch {
	case demandsCertificate(err):
	case err != nil:
		return err
	case bare != seenNothing:
		return fmt.Errorf("%w: without a certificate the gateway saw %s instead of nothing", errMismatch, bare)
	}
	mine, err := t.patient(ctx, p, target, true)
	if err != nil {
		return err
	}
	if mine != sightOf(own.Raw) {
		return fmt.Errorf("%w: it saw %s; the router must request client certificates and set the header (router.client_cert_validation, sanitize_set), in the form that XFCC_FORMAT says (%s)",
			errMismatch, mine, t.Format(target.Host))
	}
	return nil
}

// patient probes again where the gateway was too busy to answer.
func (t *SelfTest) patient(ctx context.Context, p place.Place, target place.Target, withCertificate bool) (seen string, err error) {
	for range busyTries {
		if seen, err = t.probe(ctx, p, target, withCertificate); !errors.Is(err, errBusy) {
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
func (t *SelfTest) probe(ctx context.Context, p place.Place, target place.Target, withCertificate bool) (string, error) {
	path := target.Path + Path
	word := t.nonces.Make(nonce.Purpose{Binding: target.Binding, Host: target.Host, Path: path})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+target.Host+path+"?"+word, nil)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errUnreachable, err)
	}
	request.Header.Set(identity.Header, t.nonces.Sentinel(word))
	res, err := t.way(p, withCertificate).RoundTrip(request)
	if err != nil {
		return "", transportError(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return "", transportError(err)
	}
	var answer sight
	if res.StatusCode != http.StatusOK || json.Unmarshal(body, &answer) != nil || !t.nonces.Sealed(word, answer.Seen, answer.MAC) {
		return "", foreign(target, res, body)
	}
	if answer.Seen == seenSentinel {
		return "", errSentinel
	}
	return answer.Seen, nil
}
