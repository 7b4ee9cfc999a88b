package router

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"slices"
	"strings"
	"time"
)

// ForwardedClientCert is what happens to X-Forwarded-Client-Cert on requests
// without a valid route service signature; gorouter's
// router.forwarded_client_cert.
type ForwardedClientCert string

const (
	// SanitizeSet drops the client's header and sets the certificate that the
	// client presented, if any. Only this one is safe.
	SanitizeSet ForwardedClientCert = "sanitize_set"
	// Forward keeps the client's header if the client presented some
	// certificate, and drops it on leg 3.
	Forward ForwardedClientCert = "forward"
	// AlwaysForward keeps the client's header.
	AlwaysForward ForwardedClientCert = "always_forward"
)

// XFCCFormat is how SanitizeSet writes the header.
type XFCCFormat string

const (
	// Raw is the leaf's DER as one line of standard base64.
	Raw XFCCFormat = "raw"
	// Envoy is Hash=<SHA-256 of the DER, hex>;Subject="CN=…,OU=…,OU=…".
	Envoy XFCCFormat = "envoy"
)

// Config is what New needs to know.
type Config struct {
	// Port to listen on, on 127.0.0.1. Default: one that is free.
	Port int
	// Certificate the router presents to clients. Required.
	Certificate tls.Certificate
	// ClientCAs verify client certificates, which are optional unless a domain
	// requires one. Default: the system's roots.
	ClientCAs *x509.CertPool
	// RouteServiceCAs verify route services that are not routes of this
	// router. Default: the system's roots.
	RouteServiceCAs *x509.CertPool
	// ForwardedClientCert for all domains that do not say otherwise. Default:
	// SanitizeSet; gorouter's own default is AlwaysForward.
	ForwardedClientCert ForwardedClientCert
	// Domains with settings of their own; the first whose pattern matches
	// counts. Default: none.
	Domains []Domain
	// SanitizeForwardedProto replaces the client's X-Forwarded-Proto where no
	// valid signature is present. Default: it is set only where it is missing.
	SanitizeForwardedProto bool
	// Secret protects signatures; gorouter's route_services_secret. Default:
	// a random key.
	Secret string
	// SignatureLifetime is how long after leg 1 a signature is accepted;
	// gorouter's route_services_timeout. Default: 60 s.
	SignatureLifetime time.Duration
	// StrictSignatureValidation refuses bad signatures on unbound routes with
	// 400. Default: they are ignored.
	StrictSignatureValidation bool
	// FullDuplex lets a backend answer while the request body still flows;
	// gorouter's enable_http1_concurrent_read_write. Default: off.
	FullDuplex bool
	// Firewall, as there may be one in front of a router, reports which requests are
	// answered 403 without the router. Default: nobody refuses any.
	Firewall func(*http.Request) bool
	// ErrorLog receives broken handshakes and connections; never headers, paths
	// or signatures. Default: they are dropped.
	ErrorLog *log.Logger
}

// Domain is how the router treats the hosts that Pattern matches.
type Domain struct {
	// Pattern is a host, or "*." and a domain: one label below it. Lower case.
	Pattern string
	// ForwardedClientCert of this domain. Default: the router's.
	ForwardedClientCert ForwardedClientCert
	// XFCCFormat of this domain. Default: Raw.
	XFCCFormat XFCCFormat
	// RequireCertificate demands a client certificate in the handshake, and
	// answers 421 unless SNI and Host are of this same domain. Default: off.
	RequireCertificate bool
}

// complete fills in defaults, the last domain among them: all other hosts. It
// reports everything that is wrong at once.
func (c Config) complete() (Config, error) {
	if c.ForwardedClientCert == "" {
		c.ForwardedClientCert = SanitizeSet
	}
	if c.SignatureLifetime == 0 {
		c.SignatureLifetime = time.Minute
	}
	if c.ErrorLog == nil {
		c.ErrorLog = log.New(io.Discard, "", 0)
	}
	var wrong []error
	if len(c.Certificate.Certificate) == 0 {
		wrong = append(wrong, errors.New("router: Certificate is missing: give a server certificate for the routes' hosts"))
	}
	c.Domains = append(slices.Clone(c.Domains), Domain{Pattern: everyHost})
	for i := range c.Domains {
		d := &c.Domains[i]
		d.ForwardedClientCert = cmp.Or(d.ForwardedClientCert, c.ForwardedClientCert)
		d.XFCCFormat = cmp.Or(d.XFCCFormat, Raw)
		if !slices.Contains([]ForwardedClientCert{SanitizeSet, Forward, AlwaysForward}, d.ForwardedClientCert) {
			wrong = append(wrong, fmt.Errorf("router: ForwardedClientCert %q of %q: expected sanitize_set, forward or always_forward",
				d.ForwardedClientCert, d.Pattern))
		}
		if d.XFCCFormat != Raw && d.XFCCFormat != Envoy {
			wrong = append(wrong, fmt.Errorf("router: XFCCFormat %q of %q: expected raw or envoy", d.XFCCFormat, d.Pattern))
		}
	}
	return c, errors.Join(wrong...)
}

// everyHost is the pattern of the default domain.
const everyHost = "*"

// domain is the first domain whose pattern matches host.
func (c *Config) domain(host string) *Domain {
	host = strings.ToLower(host)
	at := slices.IndexFunc(c.Domains, func(d Domain) bool { return d.matches(host) })
	return &c.Domains[at]
}

func (d Domain) matches(host string) bool {
	if d.Pattern == everyHost {
		return true
	}
	if suffix, wildcard := strings.CutPrefix(d.Pattern, "*"); wildcard {
		label, found := strings.CutSuffix(host, suffix)
		return found && label != "" && !strings.Contains(label, ".")
	}
	return host == d.Pattern
}
