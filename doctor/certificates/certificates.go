// Package certificates examines by which authorities callers are verified, and the
// certificate that the gateway itself shows.
//
// It trusts the files that the settings name as little as the gateway does, and
// verifies with the same code. It never shows a key.
package certificates

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/mtls-authz/mtls-authz/doctor"
	"github.com/mtls-authz/mtls-authz/identity"
)

// Config configures [Checks]. Fields without a default are required.
type Config struct {
	// CallerCAs are those of CALLER_CA_FILES. Default: the issuer in Certificate.
	CallerCAs []identity.File
	// Certificate and Key are CF_INSTANCE_CERT and CF_INSTANCE_KEY. Default: none.
	Certificate, Key identity.File
	// Siblings are the caller CAs that other instances have found; nil: nobody
	// shares them.
	Siblings func(context.Context) ([]*x509.Certificate, error)
	// Foundation is FOUNDATION_NAME.
	Foundation string
	// App is the gateway's, as VCAP_APPLICATION has it. Default: nobody says.
	App identity.GUID
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Checks are those of this package.
func Checks(cfg Config) []doctor.Check {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return []doctor.Check{
		{Item: "caller CAs", Look: cfg.callers},
		{Item: "own certificate", Look: cfg.own},
	}
}

// soon is when the end of an authority should be prepared for: it is rotated by
// two deployments.
const soon = 30 * 24 * time.Hour

const (
	callerFix = "CALLER_CA_FILES must hold the CA that issues instance certificates, ((diego_instance_identity_ca.certificate)) in CredHub; while it is rotated, the old and the new one"
	ownFix    = "Diego renews CF_INSTANCE_CERT every day: restart the app; if that does not help, look at the rep's log on its cell"
)

// read returns the authorities of the settings, and of which setting they are.
func (cfg Config) read() (cas []*x509.Certificate, setting string, err error) {
	if len(cfg.CallerCAs) > 0 {
		cas, err = identity.ReadCAs(cfg.CallerCAs...)
		return cas, "CALLER_CA_FILES", err
	}
	cas, err = identity.ReadIssuer(cfg.Certificate)
	return cas, "CF_INSTANCE_CERT", err
}

// all are the authorities of settings and siblings.
func (cfg Config) all(ctx context.Context) (cas []*x509.Certificate, err error) {
	if cas, _, err = cfg.read(); err != nil || cfg.Siblings == nil {
		return cas, err
	}
	shared, err := cfg.Siblings(ctx)
	return append(cas, shared...), err
}

func (cfg Config) callers(ctx context.Context) (found []doctor.Finding) {
	cas, setting, err := cfg.read()
	if err != nil {
		return []doctor.Finding{doctor.Bad(setting, err.Error(), callerFix)}
	}
	seen := map[string]bool{}
	for _, ca := range cas {
		seen[string(ca.Raw)] = true
		found = append(found, cfg.authority(setting, ca))
	}
	if cfg.Siblings == nil {
		return found
	}
	shared, err := cfg.Siblings(ctx)
	if err != nil {
		return append(found, doctor.Unknown("other instances", err.Error(), "the store must be reached: see store below"))
	}
	for _, ca := range shared {
		if !seen[string(ca.Raw)] {
			seen[string(ca.Raw)] = true
			found = append(found, cfg.authority("other instances", ca))
		}
	}
	return found
}

// authority judges a certificate that callers' are verified by.
func (cfg Config) authority(about string, ca *x509.Certificate) doctor.Finding {
	fingerprint := sha256.Sum256(ca.Raw)
	found := fmt.Sprintf("%q (SHA-256 %s…) until %s", ca.Subject.String(), hex.EncodeToString(fingerprint[:4]), ca.NotAfter.UTC().Format(time.RFC3339))
	left := ca.NotAfter.Sub(cfg.Now())
	switch {
	case !ca.BasicConstraintsValid || !ca.IsCA:
		return doctor.Bad(about, found+" is not a CA", callerFix)
	case left <= 0:
		return doctor.Bad(about, found+" has ended: its callers are refused", callerFix)
	case ca.NotBefore.After(cfg.Now().Add(identity.Skew)):
		return doctor.Bad(about, found+" has not begun", callerFix+"; look at the clocks")
	case left < soon:
		return doctor.Doubtful(about, found+" ends soon", "rotate it: "+callerFix)
	}
	return doctor.Good(about, found)
}

// almost is less than Diego lets remain: it renews half an hour before the end.
const almost = 20 * time.Minute

func (cfg Config) own(ctx context.Context) []doctor.Finding {
	one := func(f doctor.Finding) []doctor.Finding { return []doctor.Finding{f} }
	if cfg.Certificate == "" {
		return one(doctor.Unknown("", "CF_INSTANCE_CERT is not set: this is no app instance", `run it as the gateway's app: cf run-task mtls-authz --command "./mtls-authz doctor"`))
	}
	pair, err := identity.NewKeyPair(cfg.Certificate, cfg.Key)
	if err != nil {
		return one(doctor.Bad("", "CF_INSTANCE_CERT and CF_INSTANCE_KEY are no pair: "+err.Error(), ownFix))
	}
	leaf := leafOf(pair.Certificate())
	ends := leaf.NotAfter.UTC().Format(time.RFC3339)
	switch left := leaf.NotAfter.Sub(cfg.Now()); {
	case left <= 0:
		return one(doctor.Bad("", "it has expired at "+ends+": routers that ask for it refuse the gateway, and no domain is proven", ownFix))
	case left < almost:
		return one(doctor.Doubtful("", "it expires at "+ends+", and nobody has renewed it", ownFix))
	}
	cas, err := cfg.all(ctx)
	if err != nil {
		return one(doctor.Unknown("", "until "+ends+"; whether callers like it are verified is not known: "+err.Error(), "see caller CAs above"))
	}
	verifier, err := identity.NewVerifier(identity.Config{Foundation: cfg.Foundation, CAs: cas, Now: cfg.Now})
	if err != nil {
		return one(doctor.Bad("", "nobody can be verified: "+err.Error(), callerFix))
	}
	// The gateway's own certificate is one like every caller's.
	caller, err := verifier.Verify([]string{base64.StdEncoding.EncodeToString(leaf.Raw)}, identity.Raw)
	if err != nil {
		return one(doctor.Bad("", "a caller with a certificate like it would be refused: "+err.Error(), callerFix))
	}
	if !cfg.App.IsZero() && caller.App != cfg.App {
		return one(doctor.Bad("", fmt.Sprintf("it is of app %s, and VCAP_APPLICATION says that this is app %s", caller.App, cfg.App),
			"CF_INSTANCE_CERT and CF_INSTANCE_KEY must be those that Diego gives to this app: unset them in its environment and in bound services"))
	}
	return one(doctor.Good("", fmt.Sprintf("until %s, verified as app %s by the caller CAs", ends, caller.App)))
}

// leafOf is the certificate itself, which a pair that was read has parsed.
func leafOf(pair *tls.Certificate) *x509.Certificate { return pair.Leaf }
