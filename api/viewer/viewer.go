// Package viewer tells what a user of Cloud Foundry may do with a service
// instance, by asking Cloud Controller with the user's own token.
//
// It trusts Cloud Controller's word, for a minute, and nothing in the token before:
// that it is one, Cloud Controller finds out, which verifies UAA's signature. Only
// then is it read who the user is, for the audit. The token is not kept, not even its
// plain digest. It fails closed: without an answer nobody may anything, and
// whether an instance exists is not told to who may not read it.
package viewer

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/mtls-authz/mtls-authz/directory/controller"
	"github.com/mtls-authz/mtls-authz/identity"
)

var (
	// ErrNoToken: the request has no bearer token, or none that is accepted: 401.
	ErrNoToken = errors.New("expected a token, such as cf oauth-token prints")
	// ErrUnavailable: Cloud Controller does not say what the user may do, or not soon
	// enough, or too many ask: 503.
	ErrUnavailable = errors.New("Cloud Controller does not say what the user may do; try again later") //nolint:staticcheck // a name
)

const (
	// life is how long an answer is remembered, denialLife how long one that
	// permits nothing: a role that was just given should work.
	life       = time.Minute
	denialLife = 5 * time.Second
	maxAnswers = 10_000
	maxToken   = 16 << 10
	// maxWait bounds what a question waits for its turn, maxAsk what Cloud Controller
	// may take for an answer, maxWaiting how many questions wait.
	maxWait    = 2 * time.Second
	maxAsk     = 3 * time.Second
	maxWaiting = 64
	// skew is what clocks may differ by.
	skew = time.Minute
)

// Asker asks Cloud Controller with a token; [controller.Client] is one.
type Asker interface {
	Get(ctx context.Context, token, path string, answer any) error
}

// Config configures [New].
type Config struct {
	// Asker asks. Required.
	Asker Asker
	// MaxInFlight bounds the questions that are on their way: so many of tokens that
	// Cloud Controller has accepted before, and so many of others, so that whoever
	// makes up tokens does not keep users waiting. Default: 8.
	MaxInFlight int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Viewers judges requests. It is safe for concurrent use.
type Viewers struct {
	cfg     Config
	key     [32]byte
	answers *lru.Cache[[32]byte, answer]
	// accepted are tokens that Cloud Controller has accepted.
	accepted       *lru.Cache[[32]byte, struct{}]
	known, strange turns
}

// turns are places among the questions on their way, and among those that wait.
type turns struct{ taken, waiting chan struct{} }

func newTurns(most int) turns {
	return turns{make(chan struct{}, most), make(chan struct{}, maxWaiting)}
}

// May is what a user may do with a service instance.
type May struct {
	// Read and Manage are Cloud Controller's word; Manage takes Read, too.
	Read, Manage bool
	// User is the user's id in UAA; "": the token does not tell, or permits nothing.
	User string
}

type answer struct {
	May
	until time.Time
}

// New returns viewers; nothing is remembered yet.
func New(cfg Config) *Viewers {
	if cfg.MaxInFlight == 0 {
		cfg.MaxInFlight = 8
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	v := &Viewers{
		cfg: cfg, known: newTurns(cfg.MaxInFlight), strange: newTurns(cfg.MaxInFlight),
	}
	v.answers, _ = lru.New[[32]byte, answer](maxAnswers) // its only error is a size below one
	v.accepted, _ = lru.New[[32]byte, struct{}](maxAnswers)
	rand.Read(v.key[:]) // never fails
	return v
}

// Permits tells what the user whose token the request has may do with the service
// instance. With an instance that does not exist nobody may do anything. The errors
// are [ErrNoToken] and [ErrUnavailable].
func (v *Viewers) Permits(ctx context.Context, r *http.Request, instanceID string) (May, error) {
	token, ok := tokenOf(r)
	if !ok {
		return May{}, ErrNoToken
	}
	if _, err := identity.ParseGUID(instanceID); err != nil {
		return May{}, nil // not one of Cloud Controller's
	}
	key, now := v.digest(token, instanceID), v.cfg.Now()
	if found, ok := v.answers.Get(key); ok && now.Before(found.until) && found.until.Sub(now) <= life {
		return found.May, nil
	}
	if claimsOf(token).ended(now) { // cheaper than asking
		return May{}, ErrNoToken
	}
	release, err := v.turn(ctx, v.digest(token, ""))
	if err != nil {
		return May{}, err
	}
	defer release()
	found, err := v.ask(ctx, token, instanceID)
	if err != nil {
		return May{}, err
	}
	v.accepted.Add(v.digest(token, ""), struct{}{})
	found.until = now.Add(denialLife)
	if found.Read {
		found.until = now.Add(life)
	}
	v.answers.Add(key, found)
	return found.May, nil
}

// turn waits, not for long, for a place among the questions on their way.
func (v *Viewers) turn(ctx context.Context, token [32]byte) (release func(), err error) {
	among := v.strange
	if v.accepted.Contains(token) {
		among = v.known
	}
	release = func() { <-among.taken }
	select {
	case among.taken <- struct{}{}:
		return release, nil
	default:
	}
	select {
	case among.waiting <- struct{}{}:
		defer func() { <-among.waiting }()
	default:
		return nil, fmt.Errorf("%w: too many tokens at once", ErrUnavailable)
	}
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	select {
	case among.taken <- struct{}{}:
		return release, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
}

func (v *Viewers) ask(ctx context.Context, token, instanceID string) (answer, error) {
	var permissions struct {
		Read   bool `json:"read"`
		Manage bool `json:"manage"`
	}
	ctx, cancel := context.WithTimeout(ctx, maxAsk)
	defer cancel()
	err := v.cfg.Asker.Get(ctx, token, "/v3/service_instances/"+instanceID+"/permissions", &permissions)
	switch {
	case err == nil:
		if !permissions.Read {
			return answer{}, nil
		}
		return answer{May: May{Read: true, Manage: permissions.Manage, User: claimsOf(token).user()}}, nil
	case errors.Is(err, controller.ErrNotFound), errors.Is(err, controller.ErrForbidden):
		return answer{}, nil
	case errors.Is(err, controller.ErrUnauthorized):
		return answer{}, ErrNoToken
	}
	return answer{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// userID is a user's id of UAA, or a name that a foundation gives instead.
var userID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._~@-]{0,127}$`)

// claims are what a token says of itself. Only of a token that Cloud Controller has
// accepted is it true.
type claims struct {
	UserID string `json:"user_id"`
	Expiry int64  `json:"exp"`
	parsed bool
}

// claimsOf reads a token that looks like a JWT (RFC 7519).
func claimsOf(token string) (c claims) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || parts[0] == "" || parts[2] == "" {
		return claims{}
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(raw, &c) != nil {
		return claims{}
	}
	c.parsed = true
	return c
}

// ended reports whether a token cannot be accepted any more, or never could.
func (c claims) ended(now time.Time) bool {
	return !c.parsed || c.Expiry != 0 && now.Unix() >= c.Expiry+int64(skew.Seconds())
}

// user is the user_id, "" if there is none.
func (c claims) user() string {
	if !userID.MatchString(c.UserID) {
		return ""
	}
	return c.UserID
}

// digest is what an answer is remembered by. The key is this process's own: what
// is in memory finds no token.
func (v *Viewers) digest(token, instanceID string) (digest [32]byte) {
	mac := hmac.New(sha256.New, v.key[:])
	fmt.Fprintf(mac, "%d:%s%s", len(token), token, instanceID)
	mac.Sum(digest[:0])
	return digest
}

// tokenOf is the one bearer token of a request (RFC 6750, section 2.1).
func tokenOf(r *http.Request) (string, bool) {
	headers := r.Header.Values("Authorization")
	if len(headers) != 1 {
		return "", false
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	if !strings.EqualFold(scheme, "bearer") || token == "" || len(token) > maxToken {
		return "", false
	}
	outside := func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-._~+/=", c)
	}
	return token, !strings.ContainsFunc(token, outside)
}
