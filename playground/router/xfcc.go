package router

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strings"
)

const xfccHeader = "X-Forwarded-Client-Cert"

// setClientCert applies the domain's mode. A valid signature skips it: leg 2
// and leg 3 carry what leg 1 found, and so does a forgery that holds any
// valid signature. Forward drops the header before the app on leg 3.
func (r *Router) setClientCert(req *http.Request, host string, v visit) {
	domain := r.config.domain(host)
	presented := req.TLS.PeerCertificates
	if !v.signed {
		switch domain.ForwardedClientCert {
		case SanitizeSet:
			req.Header.Del(xfccHeader)
			if len(presented) > 0 {
				req.Header.Set(xfccHeader, domain.XFCCFormat.value(presented[0]))
			}
		case Forward:
			if len(presented) == 0 {
				req.Header.Del(xfccHeader)
			}
		case AlwaysForward: // as it came
		}
	}
	if v.returned && r.config.ForwardedClientCert == Forward {
		req.Header.Del(xfccHeader)
	}
}

// value is the header's value for a leaf certificate.
func (f XFCCFormat) value(leaf *x509.Certificate) string {
	if f != Envoy {
		return base64.StdEncoding.EncodeToString(leaf.Raw)
	}
	hash := sha256.Sum256(leaf.Raw)
	return "Hash=" + hex.EncodeToString(hash[:]) + `;Subject="` + subject(leaf) + `"`
}

// subject is the DN as newer gorouters write it: the common name, then units
// and organizations one by one, neither escaped nor joined by plus signs.
// (Those also write L, ST and C, which instance certificates never have.)
func subject(leaf *x509.Certificate) string {
	parts := []string{"CN=" + leaf.Subject.CommonName}
	for _, unit := range leaf.Subject.OrganizationalUnit {
		parts = append(parts, "OU="+unit)
	}
	for _, organization := range leaf.Subject.Organization {
		parts = append(parts, "O="+organization)
	}
	return strings.Join(parts, ",")
}
