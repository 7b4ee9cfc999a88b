package probe

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/mtls-authz/mtls-authz/gateway/selftest/nonce"
	"github.com/mtls-authz/mtls-authz/identity"
)

// Path is where probes go, below a route's own path.
const Path = "/.well-known/mtls-authz-probe"

// What a probe saw in the certificate header; a certificate is seen with its
// digest.
const (
	seenNothing     = "nothing"
	seenSentinel    = "sentinel"
	seenOther       = "something else"
	seenCertificate = "certificate "
)

// sight is the answer to a probe: what was seen, under MAC.
type sight struct {
	Seen string `json:"seen"`
	MAC  string `json:"mac"`
}

// Answer returns what answers a request for a URL of a binding's route, if that is
// a probe: a GET of the probe's path with a fresh nonce for just this binding, host
// and path. It spends the nonce. Nil: the request is like any other.
func (p *Prober) Answer(binding string, r *http.Request, to *url.URL) http.Handler {
	word := to.RawQuery
	purpose := nonce.Purpose{Binding: binding, Host: to.Host, Path: to.EscapedPath()}
	if r.Method != http.MethodGet || !strings.HasSuffix(purpose.Path, Path) || !p.nonces.Spend(word, purpose) {
		return nil
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := see(r.Header[identity.Header], p.nonces.Sentinel(word), p.Format(to.Host))
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(sight{seen, p.nonces.Seal(word, seen)}) // the prober may be gone
	})
}

// see says what is in the certificate header: the sentinel if it is anywhere in
// it, also beside a certificate.
func see(values []string, sentinel string, format identity.Format) string {
	if len(values) == 0 {
		return seenNothing
	}
	if strings.Contains(strings.Join(values, ","), sentinel) {
		return seenSentinel
	}
	if len(values) > 1 {
		return seenOther
	}
	if format == identity.Envoy {
		if rest, ok := strings.CutPrefix(values[0], "Hash="); ok {
			hash, _, _ := strings.Cut(rest, ";")
			if digest, err := hex.DecodeString(hash); err == nil && len(digest) == sha256.Size {
				return seenCertificate + hex.EncodeToString(digest)
			}
		}
		return seenOther
	}
	der, err := base64.StdEncoding.Strict().DecodeString(values[0])
	if err != nil || strings.ContainsAny(values[0], "\r\n") {
		return seenOther
	}
	return sightOf(der)
}

// sightOf is how a certificate is seen.
func sightOf(der []byte) string {
	digest := sha256.Sum256(der)
	return seenCertificate + hex.EncodeToString(digest[:])
}
