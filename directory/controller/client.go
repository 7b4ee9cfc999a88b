// Package controller asks Cloud Controller's v3 API, and UAA for the token that
// it takes to ask. It only reads.
//
// It trusts the server that CF_API_URL's certificate names, and what that says
// of UAA's address; no redirect is followed, so a token goes nowhere else.
// Answers are bounded. It fails with an error and never with half a list. Tokens
// and secrets are in no error and no log.
package controller

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

var (
	// ErrUnavailable: Cloud Controller or UAA did not answer, not in time, or not
	// as they should. What is known stays.
	ErrUnavailable = errors.New("Cloud Controller is not available") //nolint:staticcheck // a name
	// ErrUnauthorized: the token is not, or no more, accepted.
	ErrUnauthorized = errors.New("the token is not accepted")
	// ErrForbidden: the token is accepted, and may not ask this.
	ErrForbidden = errors.New("the token may not ask this")
	// ErrRefused: Cloud Controller does not answer this question, or at such length
	// that nobody should read it. It answers others.
	ErrRefused = errors.New("Cloud Controller refuses the question") //nolint:staticcheck // a name
	// ErrNotFound: there is no such thing, or the token may not see it.
	ErrNotFound = errors.New("not found")
)

const (
	// maxAnswer bounds a page of a list: 5,000 apps take about 8 MiB.
	maxAnswer = 32 << 20
	// maxSmall bounds other answers.
	maxSmall = 1 << 20
)

// Config configures [New].
type Config struct {
	// URL is that of Cloud Controller: https, no path. Required.
	URL string
	// Roots verify its certificate and UAA's. Required.
	Roots *x509.CertPool
	// Timeout bounds each call. Default: 10 s.
	Timeout time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Client calls Cloud Controller. It is safe for concurrent use.
type Client struct {
	cfg  Config
	http *http.Client
}

// New returns a client; it connects when it is used.
func New(cfg Config) *Client {
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Client{cfg, &http.Client{
		Timeout: cfg.Timeout,
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: cfg.Timeout, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 4, MaxConnsPerHost: 32,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Get asks for a path of Cloud Controller with somebody's token and reads the
// JSON that comes into answer. The token is of the user's or the client's and is
// not kept.
func (c *Client) Get(ctx context.Context, token, path string, answer any) error {
	return c.get(ctx, token, path, maxSmall, answer)
}

func (c *Client) get(ctx context.Context, token, path string, most int64, answer any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.cfg.URL+path, http.NoBody)
	if err != nil {
		return fmt.Errorf("%w: a path that is none", ErrUnavailable)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return c.do(r, most, answer)
}

// refusals are what is answered to a question that is wrong or too long.
var refusals = []int{http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong, http.StatusUnprocessableEntity, http.StatusRequestHeaderFieldsTooLarge}

// do sends a request. Its errors name the server and the status, and nothing of
// what was sent or came.
func (c *Client) do(r *http.Request, most int64, answer any) error {
	r.Header.Set("Accept", "application/json")
	res, err := c.http.Do(r) //nolint:gosec // to CF_API_URL and the UAA that it names, and ids are checked before
	if err != nil {
		var dialled *url.Error
		if errors.As(err, &dialled) { // whose text has the query
			err = dialled.Err
		}
		return fmt.Errorf("%w: %s: %w", ErrUnavailable, r.URL.Host, err)
	}
	defer func() { _ = res.Body.Close() }() // only read
	body, err := io.ReadAll(io.LimitReader(res.Body, most+1))
	failure := &statusError{host: r.URL.Host, status: res.StatusCode, wait: waitOf(res.Header, c.cfg.Now())}
	switch {
	case res.StatusCode == http.StatusUnauthorized:
		failure.kind = ErrUnauthorized
		return failure
	case res.StatusCode == http.StatusForbidden:
		failure.kind = ErrForbidden
		return failure
	case res.StatusCode == http.StatusNotFound:
		failure.kind = ErrNotFound
		return failure
	case slices.Contains(refusals, res.StatusCode):
		failure.kind = ErrRefused
		return failure
	case res.StatusCode != http.StatusOK:
		failure.kind = ErrUnavailable
		return failure
	case err != nil:
		return fmt.Errorf("%w: %s: the answer broke off", ErrUnavailable, r.URL.Host)
	case int64(len(body)) > most:
		return fmt.Errorf("%w: %s: an answer of more than %d bytes", ErrRefused, r.URL.Host, most)
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("%w: %s: an answer that is not the JSON it should be", ErrUnavailable, r.URL.Host)
	}
	return nil
}

// statusError is an answer that is none.
type statusError struct {
	kind   error
	host   string
	status int
	wait   time.Duration
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s: %s answered %d %s", e.kind, e.host, e.status, http.StatusText(e.status))
}

func (e *statusError) Unwrap() error { return e.kind }

// links is what GET / answers.
type links struct {
	Links map[string]*struct {
		Href string `json:"href"`
	} `json:"links"`
}

// uaa is where tokens come from.
func (c *Client) uaa(ctx context.Context) (string, error) {
	var root links
	if err := c.get(ctx, "", "/", maxSmall, &root); err != nil {
		return "", err
	}
	for _, name := range []string{"uaa", "login"} {
		if link := root.Links[name]; link != nil && link.Href != "" {
			u, err := url.Parse(link.Href)
			if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
				return "", fmt.Errorf("%w: its link %q is not an https URL", ErrUnavailable, name)
			}
			return strings.TrimSuffix(link.Href, "/"), nil
		}
	}
	return "", fmt.Errorf("%w: it names no UAA", ErrUnavailable)
}
