package identity

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// The refusals of this package. Every error that a [Verifier] returns is one
// of these by [errors.Is].
var (
	// ErrNoCertificate: the request carries no client certificate.
	ErrNoCertificate = errors.New("no client certificate")
	// ErrUntrustedCertificate: there is a certificate, or something in its
	// place, but it is not one verified certificate of a caller CA.
	ErrUntrustedCertificate = errors.New("untrusted client certificate")
	// ErrIdentityExtraction: the certificate is verified but does not name
	// exactly one app, one space and one organization.
	ErrIdentityExtraction = errors.New("no app identity in the client certificate")
)

// A Refusal says why a header did not become a [Caller].
type Refusal struct {
	// Kind is one of the sentinels of this package.
	Kind error
	// Detail says what was wrong, for the operator's log. It holds no more of
	// the certificate than names and dates.
	Detail string
	// IssuerKeyID is the authority key id of an untrusted certificate, in
	// hexadecimal; "" where there is none, or where it is not of a length that
	// CAs use. It tells which CA is missing.
	IssuerKeyID string
}

// Error implements error.
func (r *Refusal) Error() string { return r.Kind.Error() + ": " + r.Detail }

// Unwrap returns the sentinel.
func (r *Refusal) Unwrap() error { return r.Kind }

func untrusted(format string, args ...any) *Refusal {
	return &Refusal{Kind: ErrUntrustedCertificate, Detail: plain(fmt.Sprintf(format, args...))}
}

func noIdentity(format string, args ...any) *Refusal {
	return &Refusal{Kind: ErrIdentityExtraction, Detail: plain(fmt.Sprintf(format, args...))}
}

// plain bounds a detail and keeps it to one printable line: errors of
// crypto/x509 quote names of the certificate, which its holder chose.
func plain(detail string) string {
	const most = 256
	if len(detail) > most {
		detail = detail[:most] + "..."
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, detail)
}

// Caller is who presented a verified certificate: an app instance, or a task,
// a staging container or a "cf ssh" session of that app, which carry the same
// identity. It is comparable; the zero Caller is nobody.
type Caller struct {
	// Foundation is the operator's name for the Cloud Foundry that the
	// caller CAs belong to.
	Foundation string
	// App, Space and Org come from the certificate's OUs.
	App, Space, Org GUID
	// Instance is the certificate's CN, the guid of the app instance or task;
	// "" where the CN is not of that shape. Nothing is decided by it alone.
	Instance string
}

// IsZero reports whether the caller is nobody.
func (c Caller) IsZero() bool { return c.App.IsZero() || c.Space.IsZero() || c.Org.IsZero() }

var (
	oidOrganizationalUnit = asn1.ObjectIdentifier{2, 5, 4, 11}
	oidCommonName         = asn1.ObjectIdentifier{2, 5, 4, 3}
)

// callerOf reads the identity out of a verified leaf. Diego writes the three
// OUs as one multi-valued RDN, whose order DER decides, so they are told apart
// by prefix.
func callerOf(leaf *x509.Certificate) (Caller, error) {
	var units, names []string
	for _, attribute := range leaf.Subject.Names {
		// crypto/x509 refuses values that are not text; a failed assertion
		// would leave "", which is no unit's value.
		value, _ := attribute.Value.(string)
		switch {
		case attribute.Type.Equal(oidOrganizationalUnit):
			units = append(units, value)
		case attribute.Type.Equal(oidCommonName):
			names = append(names, value)
		}
	}
	if len(names) > 1 {
		return Caller{}, noIdentity("expected at most one CN, found %d", len(names))
	}
	var caller Caller
	if len(names) == 1 {
		caller.Instance = instanceOf(names[0])
	}
	if err := caller.setUnits(units); err != nil {
		return Caller{}, err
	}
	return caller, nil
}

// setUnits fills App, Space and Org from exactly one OU each; any other OU,
// and any repetition, is refused.
func (c *Caller) setUnits(units []string) error {
	for _, unit := range units {
		prefix, value, _ := strings.Cut(unit, ":")
		var field *GUID
		switch prefix {
		case "app":
			field = &c.App
		case "space":
			field = &c.Space
		case "organization":
			field = &c.Org
		default:
			return noIdentity("unexpected OU %q", clip(unit))
		}
		if !field.IsZero() {
			return noIdentity("more than one OU %q", prefix+":")
		}
		id, err := ParseGUID(value)
		if err != nil {
			return noIdentity("OU %q: %v", prefix+":", err)
		}
		*field = id
	}
	if c.IsZero() {
		return noIdentity("expected one OU each of app:, space: and organization:, found %d OUs", len(units))
	}
	return nil
}

// instanceOf accepts the guids of instances (28 characters in Diego) and of
// tasks (UUIDs) and drops anything that does not look like one.
func instanceOf(commonName string) string {
	if len(commonName) > 64 {
		return ""
	}
	for _, c := range []byte(commonName) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_' && c != '.' {
			return ""
		}
	}
	return commonName
}
