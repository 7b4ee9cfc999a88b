package authorities

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mtls-authz/mtls-authz/identity"
)

// authority is a CA that may issue the certificates of callers, as it is shown to
// operators.
type authority struct {
	// Fingerprint is the SHA-256 of the certificate, in hexadecimal.
	Fingerprint string    `json:"fingerprint"`
	Subject     string    `json:"subject"`
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	// Origin is the setting that names it, or "sibling".
	Origin string `json:"origin"`
	// Instance is the gateway's instance that it was found on; "" where a file
	// names it. Since is when it was found.
	Instance string    `json:"instance,omitempty"`
	Since    time.Time `json:"since"`

	certificate *x509.Certificate
	// leaf is the certificate of a gateway that it has issued, holder whom that
	// names; nil and nobody if there is no such proof.
	leaf   *x509.Certificate
	holder identity.Caller
}

func newAuthority(ca *x509.Certificate, since time.Time) authority {
	digest := sha256.Sum256(ca.Raw)
	return authority{
		Fingerprint: hex.EncodeToString(digest[:]), Subject: ca.Subject.String(), NotBefore: ca.NotBefore.UTC(), NotAfter: ca.NotAfter.UTC(),
		Since: since.UTC(), certificate: ca,
	}
}

// prove checks that the second certificate of a chain issues certificates of
// callers: as of its beginning, the first is verified as a caller's by it alone.
// The first may have ended since: instances get a new one every day.
func prove(chain []*x509.Certificate) (authority, error) {
	if len(chain) < 2 {
		return authority{}, fmt.Errorf("expected the leaf and then its issuer, found %d certificates", len(chain))
	}
	leaf, issuer := chain[0], chain[1]
	verifier, err := identity.NewVerifier(identity.Config{
		Foundation: "any", CAs: []*x509.Certificate{issuer}, Remember: 1, Now: func() time.Time { return leaf.NotBefore },
	})
	if err != nil {
		return authority{}, err
	}
	holder, err := verifier.Verify([]string{base64.StdEncoding.EncodeToString(leaf.Raw)}, identity.Raw)
	if err != nil {
		return authority{}, err
	}
	one := newAuthority(issuer, leaf.NotBefore)
	one.leaf, one.holder, one.Instance = leaf, holder, holder.Instance
	return one, nil
}

// change changes what the set of caller CAs is made of, and puts that in force.
// If it cannot be, nothing changes.
func (a *Authorities) change(edit func()) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	given, shared, former := a.given, a.shared, a.former
	edit()
	// What the files name is judged by its dates at each request. What siblings
	// and former certificates have named ends by itself.
	ended := func(one authority) bool { return a.cfg.Now().After(one.NotAfter) }
	a.shared = slices.DeleteFunc(slices.Clone(a.shared), ended)
	a.former = slices.DeleteFunc(slices.Clone(a.former), ended)
	next := union(union(a.given, a.shared), a.former)
	if len(next) == len(a.trusted) && len(union(next, a.trusted)) == len(next) {
		a.trusted = next // of other origin, perhaps
		return nil
	}
	// This forgets what the former set has verified.
	if err := a.verifier.SetCAs(certificates(next)); err != nil {
		a.given, a.shared, a.former = given, shared, former
		return err
	}
	a.announce(next)
	a.trusted = next
	return nil
}

// announce says what the next set brings and what it lacks.
func (a *Authorities) announce(next []authority) {
	for _, one := range next {
		if !contains(a.trusted, one) {
			a.cfg.Log.Info("caller CA trusted", one.attributes()...)
			a.metric.WithLabelValues(one.Fingerprint).Set(float64(one.NotAfter.Unix()))
		}
	}
	for _, one := range a.trusted {
		if !contains(next, one) {
			a.cfg.Log.Info("caller CA not trusted any more", one.attributes()...)
			a.metric.DeleteLabelValues(one.Fingerprint)
		}
	}
}

func (one authority) attributes() []any {
	return []any{
		slog.String("fingerprint", one.Fingerprint), slog.String("subject", one.Subject), slog.Time("not_after", one.NotAfter),
		slog.String("origin", one.Origin), slog.String("instance", one.Instance),
	}
}

// Report is what operators see.
func (a *Authorities) Report() any {
	a.mu.Lock()
	defer a.mu.Unlock()
	return map[string]any{"callers": slices.Clone(a.trusted), "shared": a.board != nil}
}

func newMetric(registry prometheus.Registerer) *prometheus.GaugeVec {
	metric := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "mtls_authz_caller_authority_not_after_timestamp_seconds", Help: "When each trusted caller CA ends, in Unix time.",
	}, []string{"fingerprint"})
	registry.MustRegister(metric)
	return metric
}

func same(one, other authority) bool { return one.Fingerprint == other.Fingerprint }

func contains(all []authority, one authority) bool {
	return slices.ContainsFunc(all, func(other authority) bool { return same(one, other) })
}

// union is the first set and what only the second has, as a new slice.
func union(first, second []authority) []authority {
	all := slices.Clone(first)
	for _, one := range second {
		if !contains(all, one) {
			all = append(all, one)
		}
	}
	return all
}

func certificates(of []authority) []*x509.Certificate {
	all := make([]*x509.Certificate, len(of))
	for i, one := range of {
		all[i] = one.certificate
	}
	return all
}

// CallerCAs are those in force.
func (a *Authorities) CallerCAs() []*x509.Certificate {
	a.mu.Lock()
	defer a.mu.Unlock()
	return certificates(a.trusted)
}
