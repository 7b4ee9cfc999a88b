package assertion

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mtls-authz/mtls-authz/callerassertion"
	"github.com/mtls-authz/mtls-authz/identity"
)

var (
	// ErrNoKey: the key of the present period is not known, because the store has
	// not been reached since before it. The gateway is not ready.
	ErrNoKey = errors.New("no key for caller assertions")
	// ErrRequest: what was to be signed is no whole request of a verified caller,
	// or too long.
	ErrRequest = errors.New("request cannot be asserted")
)

// Config configures [New].
type Config struct {
	// Issuer is the gateway's URL, which apps configure: https, no path. Required.
	Issuer string
	// Seed returns 32 random bytes that are made once under a name, kept, and the
	// same for every gateway that shares the store. Required.
	Seed func(ctx context.Context, name string) ([]byte, error)
	// Log is told when seeds cannot be read. Required.
	Log *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// A Signer signs assertions and publishes the keys. It is safe for concurrent
// use. Create it with [New]; it has no keys before [Signer.Load].
type Signer struct {
	cfg Config
	// keys are those known, by period; replaced as a whole.
	keys atomic.Pointer[map[period]*key]
	// loading holds one Load at a time.
	loading sync.Mutex
}

// New returns a Signer without keys.
func New(cfg Config) *Signer {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Signer{cfg: cfg}
	s.keys.Store(&map[period]*key{})
	return s
}

// Request is what an assertion says of a request. Every field but Allowed and
// the caller's instance is required.
type Request struct {
	DecisionID string
	// Allowed tells that the gateway allowed the request; otherwise it goes on
	// because its route is in report mode only.
	Allowed bool
	// Method, Host and Target are those of leg 3: Target is the raw path and
	// query, byte for byte as in the request line.
	Method, Host, Target string
	// Route is the binding's, host[/path].
	Route  string
	Caller identity.Caller
}

func (r *Request) check() error {
	c := r.Caller
	if c.App.IsZero() || c.Space.IsZero() || c.Org.IsZero() {
		return fmt.Errorf("%w: no verified caller", ErrRequest)
	}
	if r.DecisionID == "" || r.Method == "" || r.Host == "" || r.Route == "" || !strings.HasPrefix(r.Target, "/") {
		return fmt.Errorf("%w: decision id, method, host, route and a target that begins with / are required", ErrRequest)
	}
	return nil
}

// Sign returns the assertion of a request, valid from now for
// [callerassertion.Life], or an [ErrNoKey] or [ErrRequest].
func (s *Signer) Sign(r Request) (string, error) {
	if err := r.check(); err != nil {
		return "", err
	}
	now := s.cfg.Now()
	signing := (*s.keys.Load())[periodOf(now)]
	if signing == nil {
		return "", fmt.Errorf("%w: %s", ErrNoKey, periodOf(now).name())
	}
	decision := callerassertion.NotEnforced
	if r.Allowed {
		decision = callerassertion.Allowed
	}
	payload, err := json.Marshal(callerassertion.Claims{
		Issuer: s.cfg.Issuer, Audience: r.Host,
		IssuedAt: now.Unix(), NotBefore: now.Unix(), Expires: now.Add(callerassertion.Life).Unix(),
		DecisionID: r.DecisionID, Decision: decision,
		Method: r.Method, TargetSHA256: callerassertion.TargetHash(r.Target), Route: r.Route,
		CallerApp: r.Caller.App.String(), CallerSpace: r.Caller.Space.String(), CallerOrg: r.Caller.Org.String(),
		CallerInstance: r.Caller.Instance,
	})
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrRequest, err)
	}
	return signing.sign(payload)
}

// sign makes the compact serialisation (RFC 7515, section 7.1).
func (k *key) sign(payload []byte) (string, error) {
	encoding := base64.RawURLEncoding
	length := len(k.header) + 1 + encoding.EncodedLen(len(payload)) + 1 + encoding.EncodedLen(ed25519.SignatureSize)
	if length > callerassertion.MaxLength {
		return "", fmt.Errorf("%w: the assertion would have %d bytes, at most %d are sent", ErrRequest, length, callerassertion.MaxLength)
	}
	token := make([]byte, 0, length)
	token = append(append(token, k.header...), '.')
	token = encoding.AppendEncode(token, payload)
	signature := ed25519.Sign(k.private, token)
	token = encoding.AppendEncode(append(token, '.'), signature)
	return string(token), nil
}
