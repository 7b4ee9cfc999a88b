package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// Skew is how far outside its dates a certificate is still accepted: Diego
// does not back-date NotBefore, and clocks differ.
const Skew = 60 * time.Second

// DefaultRemember is the default number of remembered certificates.
const DefaultRemember = 20_000

// Config configures a [Verifier].
type Config struct {
	// Foundation is put into every Caller. Required.
	Foundation string
	// CAs are the only CAs that may issue caller certificates, intermediates
	// included: each is a trust anchor. Required, at least one.
	CAs []*x509.Certificate
	// Remember bounds how many verified certificates are remembered; 0 means
	// DefaultRemember. One takes about 300 bytes.
	Remember int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// A Verifier turns X-Forwarded-Client-Cert values into Callers. It is safe for
// concurrent use. Create it with [NewVerifier].
type Verifier struct {
	foundation string
	remember   int
	now        func() time.Time
	trust      atomic.Pointer[trust]
}

// trust is what one set of CAs has verified: replaced whole, so that nothing
// verified by a withdrawn CA outlives it.
type trust struct {
	roots *x509.CertPool
	known *lru.Cache[[sha256.Size]byte, verified]
}

// verified is a caller and the time, but for the skew, in which every
// certificate of its chain is valid.
type verified struct {
	caller              Caller
	notBefore, notAfter time.Time
}

// NewVerifier checks the configuration and returns a Verifier.
func NewVerifier(cfg Config) (*Verifier, error) {
	v := &Verifier{foundation: cfg.Foundation, remember: cfg.Remember, now: cfg.Now}
	if v.remember == 0 {
		v.remember = DefaultRemember
	}
	if v.now == nil {
		v.now = time.Now
	}
	if v.foundation == "" {
		return nil, fmt.Errorf("foundation name is empty")
	}
	if err := v.SetCAs(cfg.CAs); err != nil {
		return nil, err
	}
	return v, nil
}

// SetCAs replaces the caller CAs, at once and for all: what other CAs had
// verified is forgotten. It refuses an empty set and certificates that are not
// CAs, and keeps the former set then.
func (v *Verifier) SetCAs(cas []*x509.Certificate) error {
	if len(cas) == 0 {
		return fmt.Errorf("no caller CA: nobody could be verified")
	}
	next := &trust{roots: x509.NewCertPool()}
	for _, ca := range cas {
		if !ca.BasicConstraintsValid || !ca.IsCA {
			return fmt.Errorf("certificate %q is not a CA", clip(ca.Subject.String()))
		}
		next.roots.AddCert(ca)
	}
	known, err := lru.New[[sha256.Size]byte, verified](v.remember)
	if err != nil {
		return fmt.Errorf("remember %d certificates: %w", v.remember, err)
	}
	next.known = known
	v.trust.Store(next)
	return nil
}

// Verify turns the values of a request's X-Forwarded-Client-Cert header into
// its Caller. Every error is a *[Refusal].
func (v *Verifier) Verify(values []string, format Format) (Caller, error) {
	switch {
	case len(values) == 0 || (len(values) == 1 && values[0] == ""):
		return Caller{}, &Refusal{Kind: ErrNoCertificate, Detail: "the request has no " + Header}
	case len(values) > 1:
		return Caller{}, untrusted("%d %s headers", len(values), Header)
	case len(values[0]) > maxHeader:
		return Caller{}, untrusted("%s of %d bytes, at most %d are read", Header, len(values[0]), maxHeader)
	}
	if format == Envoy {
		caller, err := parseEnvoy(values[0])
		if err != nil {
			return Caller{}, err
		}
		caller.Foundation = v.foundation
		return caller, nil
	}
	return v.verifyRaw(values[0])
}

// verifyRaw remembers by digest of the header, and checks the dates of a
// remembered certificate every time.
func (v *Verifier) verifyRaw(value string) (Caller, error) {
	now, trust := v.now(), v.trust.Load()
	var onStack [3 << 10]byte // a header fits, so that it is not copied to the heap
	digest := sha256.Sum256(append(onStack[:0], value...))
	if known, ok := trust.known.Get(digest); ok {
		if known.checkDates(now) == nil {
			return known.caller, nil
		}
		// Outside its dates the certificate is judged anew: another CA
		// certificate of the same key may still vouch for it.
		trust.known.Remove(digest)
	}
	leaf, err := parseRaw(value)
	if err != nil {
		return Caller{}, err
	}
	entry, refusal := trust.verify(leaf, now)
	if refusal != nil {
		refusal.IssuerKeyID = issuerKeyID(leaf)
		return Caller{}, refusal
	}
	if entry.caller, err = callerOf(leaf); err != nil {
		return Caller{}, err
	}
	entry.caller.Foundation = v.foundation
	trust.known.Add(digest, entry)
	return entry.caller, nil
}

// verify checks cheap things first and the signature last.
func (t *trust) verify(leaf *x509.Certificate, now time.Time) (verified, *Refusal) {
	entry := verified{notBefore: leaf.NotBefore, notAfter: leaf.NotAfter}
	if leaf.IsCA {
		return verified{}, untrusted("a CA certificate is not a caller")
	}
	// crypto/x509 reads an absent extended key usage as "any"; Diego always
	// writes clientAuth, so its absence is refused.
	if !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return verified{}, untrusted("the certificate is not for client authentication")
	}
	if refusal := entry.checkDates(now); refusal != nil {
		return verified{}, refusal
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots:         t.roots,
		Intermediates: x509.NewCertPool(),
		CurrentTime:   clamp(now, leaf.NotBefore, leaf.NotAfter),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return verified{}, untrusted("%v", err)
	}
	for _, ca := range chains[0][1:] {
		entry.notBefore = latest(entry.notBefore, ca.NotBefore)
		// The skew is the leaf's: Verify has held the CA to its exact end.
		entry.notAfter = earliest(entry.notAfter, ca.NotAfter.Add(-Skew))
	}
	return entry, nil
}

// issuerKeyID is for the log; the certificate is untrusted, so is its length.
func issuerKeyID(leaf *x509.Certificate) string {
	if len(leaf.AuthorityKeyId) > sha256.Size {
		return ""
	}
	return hex.EncodeToString(leaf.AuthorityKeyId)
}

func (e verified) checkDates(now time.Time) *Refusal {
	if now.Before(e.notBefore.Add(-Skew)) {
		return untrusted("the certificate is not valid before %s", e.notBefore.UTC().Format(time.RFC3339))
	}
	if now.After(e.notAfter.Add(Skew)) {
		return untrusted("the certificate expired at %s", e.notAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

func clamp(t, low, high time.Time) time.Time { return earliest(latest(t, low), high) }

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
