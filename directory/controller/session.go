package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

// Back-off after a failure: it doubles, and is spread so that gateways do not
// come back together.
const (
	firstPause = time.Second
	longest    = 2 * time.Minute
	// longestAsked is the longest pause that a server is believed to want.
	longestAsked = 10 * time.Minute
	// expiresSoon is how long before its end a token is renewed.
	expiresSoon = 30 * time.Second
	// pageSize is how much is asked for at once: less than Cloud Controller's 5,000,
	// as apps may have long annotations. Operators can allow less; smallPage is what
	// each allows.
	pageSize  = 1000
	smallPage = 50
	maxPages  = 1000
)

// A Session asks as a UAA client. It is safe for concurrent use.
type Session struct {
	*Client
	id, secret string

	renewals singleflight.Group
	mu       sync.Mutex
	token    string
	ends     time.Time
	// until is when it may ask again, failures how often it failed since it last
	// did not.
	until    time.Time
	failures int
	// scope is what the token permits; small is whether pages must be.
	scope string
	small atomic.Bool
}

// Session returns a session of a client of UAA that may read.
func (c *Client) Session(id, secret string) *Session {
	return &Session{Client: c, id: id, secret: secret}
}

// errChanged: a list is not the same on all its pages.
var errChanged = fmt.Errorf("%w: the list changes while it is read", ErrRefused)

// List reads all pages of a list, such as /v3/apps, and gives each to page. A list
// that changes meanwhile may lack what has not changed: it is read once more, so that
// page may hear of some twice.
func (s *Session) List(ctx context.Context, path string, query url.Values, page func(raw json.RawMessage) error) error {
	size := pageSize
	if s.small.Load() {
		size = smallPage
	}
	err := s.list(ctx, path, query, size, page)
	if errors.Is(err, errChanged) {
		return s.list(ctx, path, query, size, page)
	}
	if size == pageSize && errors.Is(err, ErrRefused) {
		if err = s.list(ctx, path, query, smallPage, page); err == nil {
			s.small.Store(true)
		}
	}
	return err
}

func (s *Session) list(ctx context.Context, path string, query url.Values, size int, page func(raw json.RawMessage) error) error {
	query.Set("per_page", strconv.Itoa(size))
	total := 0
	for number, pages := 1, 1; number <= pages; number++ {
		var answer struct {
			Pagination struct {
				Pages int `json:"total_pages"`
				Total int `json:"total_results"`
			} `json:"pagination"`
			raw json.RawMessage
		}
		query.Set("page", strconv.Itoa(number))
		// The pages are counted here: their links could lead anywhere.
		if err := s.Ask(ctx, path+"?"+query.Encode(), &answer.raw); err != nil {
			return err
		}
		err := json.Unmarshal(answer.raw, &answer)
		switch {
		case err != nil || answer.Pagination.Pages < 1:
			return fmt.Errorf("%w: a list without pages", ErrUnavailable)
		case answer.Pagination.Pages > maxPages:
			return fmt.Errorf("%w: a list of more than %d pages", ErrRefused, maxPages)
		case number > 1 && answer.Pagination.Total != total:
			return errChanged
		}
		pages, total = answer.Pagination.Pages, answer.Pagination.Total
		if err := page(answer.raw); err != nil {
			return fmt.Errorf("%w: a list that is not what it should be", ErrUnavailable)
		}
	}
	return nil
}

// SeesAll reports whether the client may see every org, as UAA said with the last
// token.
func (s *Session) SeesAll() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(strings.Fields(s.scope), func(one string) bool { return slices.Contains(readers, one) })
}

// readers are the scopes with which Cloud Controller shows every org.
var readers = []string{"cloud_controller.admin", "cloud_controller.admin_read_only", "cloud_controller.global_auditor"}

// Ask is [Client.Get] with the session's own token, which it renews. After a
// failure it does not ask for a while: then every call fails at once.
func (s *Session) Ask(ctx context.Context, path string, answer any) error {
	if wait := s.pausing(); wait > 0 {
		return fmt.Errorf("%w: it failed, and is asked again in %s", ErrUnavailable, wait.Round(time.Second))
	}
	err := s.ask(ctx, path, answer)
	s.note(err)
	return err
}

func (s *Session) ask(ctx context.Context, path string, answer any) error {
	token, err := s.renewed(ctx, "")
	if err != nil {
		return err
	}
	err = s.get(ctx, token, path, maxAnswer, answer)
	if !errors.Is(err, ErrUnauthorized) {
		return err
	}
	// It was revoked, or the keys of UAA have changed.
	if token, err = s.renewed(ctx, token); err != nil {
		return err
	}
	return s.get(ctx, token, path, maxAnswer, answer)
}

func (s *Session) pausing() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.until.Sub(s.cfg.Now())
}

// note judges how a call went.
func (s *Session) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, ErrRefused) || errors.Is(err, context.Canceled) {
		s.failures = 0
		return
	}
	pause := min(longest, firstPause<<min(s.failures, 10))
	s.failures++
	pause = pause/2 + rand.N(pause/2+1) //nolint:gosec // spreads load, guards nothing
	var answered *statusError
	if errors.As(err, &answered) && answered.wait > pause {
		pause = answered.wait + rand.N(firstPause) //nolint:gosec // as above
	}
	s.until = s.cfg.Now().Add(pause)
}

// waitOf is how long a server wants to be left alone: Retry-After, or until the
// rate limit starts anew.
func waitOf(header http.Header, now time.Time) time.Duration {
	var wait time.Duration
	if seconds, err := strconv.ParseInt(header.Get("Retry-After"), 10, 32); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(header.Get("Retry-After")); err == nil {
		wait = at.Sub(now)
	} else if reset, err := strconv.ParseInt(header.Get("X-RateLimit-Reset"), 10, 64); err == nil && header.Get("X-RateLimit-Remaining") == "0" {
		wait = time.Unix(reset, 0).Sub(now)
	}
	return max(0, min(wait, longestAsked))
}

// renewed returns a token that is not the refused one. All that need a new one
// wait for one renewal.
func (s *Session) renewed(ctx context.Context, refused string) (string, error) {
	if token := s.held(); token != "" && token != refused {
		return token, nil
	}
	landed := s.renewals.DoChan("token", func() (any, error) {
		if token := s.held(); token != "" && token != refused {
			return token, nil
		}
		return s.fetch(context.WithoutCancel(ctx)) // the client bounds it
	})
	select {
	case result := <-landed:
		if result.Err != nil {
			return "", result.Err
		}
		return result.Val.(string), nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (s *Session) held() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.Now().Before(s.ends) {
		return s.token
	}
	return ""
}

// fetch is the client credentials grant (RFC 6749, section 4.4).
func (s *Session) fetch(ctx context.Context) (string, error) {
	uaa, err := s.uaa(ctx)
	if err != nil {
		return "", err
	}
	// In the body, where there is one way to encode them; UAA's Basic has two.
	form := strings.NewReader(url.Values{
		"grant_type": {"client_credentials"}, "response_type": {"token"}, "client_id": {s.id}, "client_secret": {s.secret},
	}.Encode())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, uaa+"/oauth/token", form)
	if err != nil {
		return "", fmt.Errorf("%w: the address of UAA", ErrUnavailable)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var answer struct {
		Token   string `json:"access_token"`
		Type    string `json:"token_type"`
		Seconds int64  `json:"expires_in"`
		Scope   string `json:"scope"`
	}
	if err := s.do(r, maxSmall, &answer); err != nil {
		if errors.Is(err, ErrUnauthorized) {
			return "", fmt.Errorf("CF_CLIENT_ID and CF_CLIENT_SECRET: %w", err)
		}
		return "", err
	}
	if answer.Token == "" || !strings.EqualFold(answer.Type, "bearer") || answer.Seconds <= 0 {
		return "", fmt.Errorf("%w: UAA gave no token", ErrUnavailable)
	}
	life := time.Duration(min(answer.Seconds, 86_400)) * time.Second
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scope = answer.Scope
	s.token, s.ends = answer.Token, s.cfg.Now().Add(life-min(expiresSoon, life/2))
	return s.token, nil
}
