package callerassertion

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// DefaultSkew is the default of [Config.Skew].
const DefaultSkew = 10 * time.Second

// DefaultRemember is the default of [Config.Remember]: 6,000 requests a second.
// It takes about 40 MB then, and less with fewer.
const DefaultRemember = 500_000

// Config configures [New].
type Config struct {
	// Gateway is the gateway's URL, https and without a path, such as
	// "https://mtls-authz.apps.example.com": the issuer of the assertions, whose
	// keys are fetched from [KeysPath] below it. Required.
	Gateway string
	// Hosts are the hosts of the app's routes that are bound to the gateway, in
	// lower case; "*.example.com" is every host below example.com. Required.
	Hosts []string
	// AcceptNotEnforced accepts requests that the gateway would have refused,
	// while their route is in report mode: look at [Claims.Decision] then.
	AcceptNotEnforced bool
	// Skew is how far the clocks of app and gateway may differ. Default:
	// [DefaultSkew].
	Skew time.Duration
	// Remember is how many assertions are accepted within the 60 s of their life
	// and twice the skew; they are remembered, so that none is accepted twice, and
	// more are refused. Default: [DefaultRemember]. Negative: no bound, nothing is
	// remembered, and an assertion is good for many requests in its life.
	Remember int
	// Transport fetches the keys, for instance with the platform's CA as root.
	// Default: TLS 1.2 or newer with the system's roots, through the proxy that
	// the environment names.
	Transport http.RoundTripper
	// Refused is told of each request that [Verifier.Middleware] refuses, and
	// why; the error shows nothing secret. Nil: nobody wants to know.
	Refused func(r *http.Request, err error)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Verifier verifies assertions. It is safe for concurrent use. Create it with
// [New].
type Verifier struct {
	cfg  Config
	keys *keySet
	// seen is nil where nothing is remembered.
	seen *memory
}

// New returns a Verifier, or what is wrong with the configuration. It fetches
// nothing: the first request does.
func New(cfg Config) (*Verifier, error) {
	gateway, err := url.Parse(cfg.Gateway)
	if err != nil || gateway.Scheme != "https" || gateway.Host == "" || cfg.Gateway != "https://"+gateway.Host {
		return nil, fmt.Errorf("gateway %q: expected https://host without a path, as the gateway's GATEWAY_URL", cfg.Gateway)
	}
	if len(cfg.Hosts) == 0 {
		return nil, errors.New("hosts: expected the hosts of the app's routes; without them, an assertion for any app would do")
	}
	for _, host := range cfg.Hosts {
		if name := strings.TrimPrefix(host, "*."); name == "" || name != strings.ToLower(name) || strings.ContainsAny(name, "*/: ") {
			return nil, fmt.Errorf("host %q: expected a host in lower case without port and path, or *. and a domain", host)
		}
	}
	if cfg.Skew < 0 {
		return nil, fmt.Errorf("skew %s: expected no negative duration", cfg.Skew)
	}
	cfg.setDefaults()
	v := &Verifier{cfg: cfg, keys: &keySet{url: cfg.Gateway + KeysPath, now: cfg.Now, failed: errNotFetched, client: &http.Client{
		Transport: cfg.Transport,
		// A redirect would let another host speak for the gateway.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}}
	if cfg.Remember > 0 {
		v.seen = &memory{keep: Life + 2*cfg.Skew, limit: cfg.Remember}
	}
	return v, nil
}

func (c *Config) setDefaults() {
	if c.Skew == 0 {
		c.Skew = DefaultSkew
	}
	if c.Remember == 0 {
		c.Remember = DefaultRemember
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Transport == nil {
		transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute}
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		c.Transport = transport
	}
}

// Middleware hands on requests with a good assertion and refuses all others: 403,
// or 503 while the gateway's keys cannot be fetched, with a problem+json body.
// The claims are in the context of the request (see [FromContext]). The assertion
// itself is taken off, so that it is not sent on to anybody by mistake.
func (v *Verifier) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, err := v.Verify(r)
		if err != nil {
			if v.cfg.Refused != nil {
				v.cfg.Refused(r, err)
			}
			refuse(w, err)
			return
		}
		verified := r.WithContext(context.WithValue(r.Context(), claimsKey{}, claims))
		verified.Header = r.Header.Clone()
		verified.Header.Del(Header)
		next.ServeHTTP(w, verified)
	})
}

// Verify verifies the assertion of a request that a net/http server received,
// once: for a second time it is an [ErrReplay]. It reads RequestURI, Method and
// Host as they came, so nothing may have changed them before.
func (v *Verifier) Verify(r *http.Request) (Claims, error) {
	values := r.Header[Header]
	switch len(values) {
	case 0:
		return Claims{}, ErrMissing
	case 1:
	default:
		return Claims{}, malformed("%d headers, expected one", len(values))
	}
	claims, err := v.authenticate(r.Context(), values[0])
	if err != nil {
		return Claims{}, err
	}
	now := v.cfg.Now()
	if err := v.check(claims, r, now); err != nil {
		return Claims{}, err
	}
	if v.seen != nil {
		if err := v.seen.add(claims.DecisionID, now); err != nil {
			return Claims{}, err
		}
	}
	return claims, nil
}

// authenticate returns claims that the gateway has signed.
func (v *Verifier) authenticate(ctx context.Context, text string) (Claims, error) {
	t, err := parse(text)
	if err != nil {
		return Claims{}, err
	}
	key, err := v.keys.find(ctx, t.keyID)
	if err != nil {
		return Claims{}, err
	}
	if !ed25519.Verify(key, t.signed, t.signature) {
		return Claims{}, ErrSignature
	}
	return parseClaims(t.payload)
}

// check compares what was signed with the request that is there.
func (v *Verifier) check(c Claims, r *http.Request, now time.Time) error {
	if c.Issuer != v.cfg.Gateway {
		return fmt.Errorf("%w: %q", ErrIssuer, c.Issuer)
	}
	if err := v.checkTime(c, now); err != nil {
		return err
	}
	if c.Audience != r.Host || !v.isOurs(c.Audience) {
		return fmt.Errorf("%w: it is for %q, the request for %q", ErrAudience, c.Audience, r.Host)
	}
	if c.Method != r.Method || c.TargetSHA256 != TargetHash(r.RequestURI) {
		return ErrRequest
	}
	switch c.Decision {
	case Allowed:
		return nil
	case NotEnforced:
		if v.cfg.AcceptNotEnforced {
			return nil
		}
		return ErrNotAllowed
	}
	return malformed("decision %q", c.Decision)
}

func (v *Verifier) checkTime(c Claims, now time.Time) error {
	earliest, latest := now.Add(-v.cfg.Skew).Unix(), now.Add(v.cfg.Skew).Unix()
	switch life := int64(Life / time.Second); {
	case c.IssuedAt <= 0, c.IssuedAt > latest, c.NotBefore > latest:
		return fmt.Errorf("%w: not valid yet", ErrTime)
	case c.NotBefore <= 0, c.Expires <= earliest:
		return fmt.Errorf("%w: expired", ErrTime)
	case c.Expires > c.IssuedAt+life:
		return fmt.Errorf("%w: valid for more than %s", ErrTime, Life)
	}
	return nil
}

// isOurs reports whether a host is one of the app's.
func (v *Verifier) isOurs(host string) bool {
	for _, ours := range v.cfg.Hosts {
		domain, wildcard := strings.CutPrefix(ours, "*")
		if host == ours && !wildcard || wildcard && len(host) > len(domain) && strings.HasSuffix(host, domain) {
			return true
		}
	}
	return false
}
