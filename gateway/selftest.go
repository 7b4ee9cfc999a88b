package gateway

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"

	"github.com/mtls-authz/mtls-authz/identity"
)

// ProbePath is where the gateway answers its own probes.
const ProbePath = "/.well-known/mtls-authz-probe"

const (
	probeInterval = time.Minute
	probeTimeout  = 3 * time.Second
	nonceLife     = 30 * time.Second
	// retryInterval is how soon a request may cause another probe of a router
	// that is not proven.
	retryInterval = 2 * time.Second
	// verdictLife is how long the last verdict stands when probes fail.
	verdictLife = 5 * time.Minute
)

// SelfTestConfig configures [NewSelfTest]. Fields without a default are
// required.
type SelfTestConfig struct {
	// Host is the gateway's own route.
	Host string
	// Address is the routers' addresses, by host, as in RouterConfig.
	Address ByHost[string]
	// Key makes the MACs of probes; any instance with it can answer.
	Key []byte
	// Certificate is the gateway's own in the certificate header's form, ""
	// where it has none.
	Certificate func() string
	// Dial returns what sends a request to the router at an address, with or
	// without the gateway's own certificate.
	Dial func(address string, withCertificate bool) http.RoundTripper
	Log  *slog.Logger
	// Metrics gets the state of each router.
	Metrics prometheus.Registerer
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// A SelfTest proves that routers strip the certificate header that a client
// sets. It sends a sentinel through each router to the gateway's own route,
// without a certificate and with the gateway's own, and looks at what arrives.
// A router on which the sentinel arrives lets anybody be anybody.
type SelfTest struct {
	SelfTestConfig
	seen   *lru.Cache[string, time.Time]
	flight singleflight.Group
	state  *prometheus.GaugeVec

	mu       sync.Mutex
	verdicts map[string]verdict
}

// verdict is what is known of one router. The zero verdict is "nothing".
type verdict struct {
	at      time.Time
	trusted bool
	reason  error
}

// NewSelfTest returns a SelfTest that knows nothing yet.
func NewSelfTest(cfg SelfTestConfig) (*SelfTest, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	seen, err := lru.New[string, time.Time](10_000)
	if err != nil {
		return nil, err
	}
	state := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "mtls_authz_router_trusted", Help: "1: proven to strip forged certificates; 0: not.",
	}, []string{"router"})
	cfg.Metrics.MustRegister(state)
	return &SelfTest{SelfTestConfig: cfg, seen: seen, state: state, verdicts: map[string]verdict{}}, nil
}

// Run probes every router at once and then every minute until ctx ends.
func (t *SelfTest) Run(ctx context.Context) {
	ticker := time.NewTicker(probeInterval)
	defer ticker.Stop()
	for {
		for _, address := range t.Address.Values() {
			t.judge(ctx, address)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Trust returns why the router of a host is not proven, nil if it is. Without
// a fresh verdict it waits for a probe, at most three seconds.
func (t *SelfTest) Trust(ctx context.Context, host string) error {
	address := t.Address.For(host)
	v := t.verdict(address)
	if v.at.IsZero() || !v.trusted && t.Now().Sub(v.at) > retryInterval {
		v = t.judge(ctx, address)
	}
	if !v.trusted {
		return v.reason
	}
	if t.Now().Sub(v.at) > verdictLife {
		return fmt.Errorf("the last proof is from %s", v.at.UTC().Format(time.RFC3339))
	}
	return nil
}

// Findings are the routers that are not proven, by address.
func (t *SelfTest) Findings() map[string]error {
	findings := map[string]error{}
	for _, address := range t.Address.Values() {
		if v := t.verdict(address); v.at.IsZero() {
			findings[address] = errors.New("not probed yet")
		} else if !v.trusted {
			findings[address] = v.reason
		}
	}
	return findings
}

func (t *SelfTest) verdict(address string) verdict {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.verdicts[address]
}

// errSentinel: the router let a client set the certificate header.
var errSentinel = errors.New("the router passes on the client's own " + identity.Header + "; set router.forwarded_client_cert: sanitize_set")

// judge probes one router, once at a time, and keeps the verdict.
func (t *SelfTest) judge(ctx context.Context, address string) verdict {
	result, _, _ := t.flight.Do(address, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
		defer cancel()
		return t.conclude(address, t.round(ctx, address)), nil
	})
	return result.(verdict)
}

// conclude: a sentinel that arrived counts at once; a complete round is a
// proof; anything else leaves the last proof standing until it is too old.
func (t *SelfTest) conclude(address string, err error) verdict {
	t.mu.Lock()
	former := t.verdicts[address]
	next := verdict{at: t.Now(), trusted: err == nil, reason: err}
	if err != nil && !errors.Is(err, errSentinel) && former.trusted && t.Now().Sub(former.at) <= verdictLife {
		next = former
	}
	t.verdicts[address] = next
	t.mu.Unlock()
	t.state.WithLabelValues(address).Set(map[bool]float64{true: 1}[next.trusted])
	if former.trusted != next.trusted || former.at.IsZero() {
		t.Log.Info("router self-test", slog.String("router", address), slog.Bool("trusted", next.trusted), slog.Any("reason", next.reason))
	}
	return next
}

// round is one complete round through a router.
func (t *SelfTest) round(ctx context.Context, address string) error {
	bare, err := t.probe(ctx, address, false)
	if err != nil {
		return err
	}
	if bare != seenNothing {
		return fmt.Errorf("without a certificate the gateway saw %s instead of nothing", bare)
	}
	own := t.Certificate()
	if own == "" {
		return errors.New("the gateway has no certificate of its own to probe with (CF_INSTANCE_CERT, CF_INSTANCE_KEY); run it where it has, or set ROUTER_TRUST=assume if the routers are known to be on sanitize_set")
	}
	mine, err := t.probe(ctx, address, true)
	if err != nil {
		return err
	}
	if mine != seenCertificate(own) {
		return fmt.Errorf("the gateway's own certificate did not come back: it saw %s; the router must request client certificates and set the header (router.client_cert_validation, sanitize_set)", mine)
	}
	return nil
}

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
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+t.Host+ProbePath, nil)
	if err != nil {
		return "", err
	}
	request.Header.Set(headerProbe, nonce)
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
	nonce := r.Header.Get(headerProbe)
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
		io.WriteString(mac, part)
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
