package doctor

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"net/url"
	"slices"

	"github.com/mtls-authz/mtls-authz/directory/controller"
	"github.com/mtls-authz/mtls-authz/doctor/bound"
	"github.com/mtls-authz/mtls-authz/doctor/cloud"
)

// siblings reads the caller CAs that other instances have found; nil: nobody
// shares them, or there is no store to share them in.
func (p *patient) siblings() func(context.Context) ([]*x509.Certificate, error) {
	if len(p.CallerCAs) > 0 || p.stateErr != nil {
		return nil
	}
	return func(ctx context.Context) ([]*x509.Certificate, error) {
		shared := readRoots(p.Settings)
		if shared.err != nil {
			return nil, shared.err
		}
		shared.read.Share(ctx, p.state.Board())
		return shared.read.CallerCAs(), nil
	}
}

// What refusals say of callers that were not verified.
const withoutCertificate = "no_certificate"

var withCertificate = []string{"untrusted_certificate", "identity_extraction"}

// Callers of so many bindings are read in one query, and refusals at most.
const (
	atOnce      = 500
	maxRefusals = 50_000
)

// seen counts requests with and without a client certificate.
func (p *patient) seen() func(context.Context, []string) (map[string]bound.Seen, error) {
	if p.stateErr != nil {
		return nil
	}
	return func(ctx context.Context, bindings []string) (map[string]bound.Seen, error) {
		all, sightings := map[string]bound.Seen{}, p.state.Sightings()
		add := func(binding string, with, without int64) {
			sum := all[binding]
			all[binding] = bound.Seen{With: sum.With + with, Without: sum.Without + without}
		}
		for part := range slices.Chunk(bindings, atOnce) {
			callers, err := sightings.Callers(ctx, part...)
			if err != nil {
				return nil, err
			}
			for _, one := range callers {
				// The gateway's own certificate is doctor's: it took another way.
				if one.App != "" && one.App != p.OwnApp.String() {
					add(one.Binding, one.Times, 0)
				}
			}
			refusals, err := sightings.Refusals(ctx, maxRefusals, part...)
			if err != nil {
				return nil, err
			}
			for _, one := range refusals {
				switch {
				case one.App != "": // counted above
				case one.Reason == withoutCertificate:
					add(one.Binding, 0, one.Times)
				case slices.Contains(withCertificate, one.Reason):
					add(one.Binding, one.Times, 0)
				}
			}
		}
		return all, nil
	}
}

// cloud is Cloud Controller; nil: there is no client of its.
func (p *patient) cloud() bound.CloudController {
	if p.CFClientID == "" {
		return nil
	}
	roots, err := p.roots.extra()
	if err != nil {
		roots = x509.NewCertPool() // its item says that the certificate is not trusted
	}
	client := controller.New(controller.Config{URL: p.CFAPIURL, Roots: roots})
	return cloud.Controller{Lister: anew{func() *controller.Session { return client.Session(p.CFClientID, p.CFClientSecret) }}}
}

// anew asks for each list in a session of its own: one that has failed would say to
// the next that it pauses, and not why.
type anew struct{ session func() *controller.Session }

func (a anew) List(ctx context.Context, path string, query url.Values, page func(json.RawMessage) error) error {
	return a.session().List(ctx, path, query, page)
}
