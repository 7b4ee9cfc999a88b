package selftest

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/identity"
)

// What a probe saw in the certificate header.
const seenNothing = "nothing"

func seenCertificate(value string) string {
	digest := sha256.Sum256([]byte(value))
	return "certificate " + base64.RawURLEncoding.EncodeToString(digest[:])
}

// sight is the answer to a probe.
type sight struct {
	Seen string `json:"seen"`
	MAC  string `json:"mac"`
}

func (t *SelfTest) probe(ctx context.Context, address string, withCertificate bool) (string, error) {
	nonce := t.newNonce()
	sentinel := base64.StdEncoding.EncodeToString([]byte("mtls-authz sentinel " + nonce))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+t.Host+Path, nil)
	if err != nil {
		return "", err
	}
	request.Header.Set(header, nonce)
	request.Header.Set(identity.Header, sentinel)
	res, err := t.Dial(address, withCertificate).RoundTrip(request)
	if err != nil {
		return "", fmt.Errorf("probe through the router: %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 4<<10))
	if err != nil {
		return "", fmt.Errorf("probe through the router: %w", err)
	}
	var answer sight
	if res.StatusCode != http.StatusOK || json.Unmarshal(body, &answer) != nil || !hmac.Equal([]byte(answer.MAC), []byte(t.mac("answer", nonce, answer.Seen))) {
		return "", fmt.Errorf("probe through the router: status %d and no answer of the gateway; is its route %q mapped?", res.StatusCode, t.Host)
	}
	if answer.Seen == seenCertificate(sentinel) {
		return "", errSentinel
	}
	return answer.Seen, nil
}

// ServeHTTP answers probes: it says, under MAC, what arrived in the certificate
// header. Without a fresh nonce of its own it says nothing.
func (t *SelfTest) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	nonce := r.Header.Get(header)
	if !t.fresh(nonce) {
		http.NotFound(w, r)
		return
	}
	seen := seenNothing
	if values := r.Header[identity.Header]; len(values) > 0 {
		seen = seenCertificate(strings.Join(values, ","))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(sight{seen, t.mac("answer", nonce, seen)})
}

func (t *SelfTest) mac(parts ...string) string {
	mac := hmac.New(sha256.New, t.Key)
	for _, part := range parts {
		_ = binary.Write(mac, binary.BigEndian, uint32(len(part)))
		mac.Write([]byte(part))
	}
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// newNonce is time, random and MAC.
func (t *SelfTest) newNonce() string {
	raw := make([]byte, 24)
	binary.BigEndian.PutUint64(raw, uint64(t.Now().UnixMilli()))
	rand.Read(raw[8:]) // never fails
	text := base64.RawURLEncoding.EncodeToString(raw)
	return text + "." + t.mac("probe", text)
}

// fresh accepts a nonce of ours once and for 30 seconds.
func (t *SelfTest) fresh(nonce string) bool {
	text, mac, ok := strings.Cut(nonce, ".")
	if !ok || !hmac.Equal([]byte(mac), []byte(t.mac("probe", text))) {
		return false
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) != 24 {
		return false
	}
	age := t.Now().Sub(time.UnixMilli(int64(binary.BigEndian.Uint64(raw))))
	if age < -nonceLife || age > nonceLife {
		return false
	}
	used, _ := t.seen.ContainsOrAdd(text, t.Now())
	return !used
}
