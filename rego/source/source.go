// Package source brings the operator's bundle from where it lies, now and
// whenever it changes: a directory, a .tar.gz file, or a server by https.
//
// It trusts no source: what it brings are bytes within bounds, which package
// bundle verifies and package gate judges. It fails towards what was there: a
// source that is away, slow, or gives something else is reported, and nothing is
// brought. The token for a server is shown to that server alone.
package source

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// Config configures [Open].
type Config struct {
	// Location is a directory, a .tar.gz file or an https URL. Required.
	Location string
	// Token is sent to the server of Location as a bearer token; "": none. It
	// follows no redirect to another host.
	Token string
	// Roots verify the server; nil: the system's.
	Roots *x509.CertPool
	// Poll is how often the source is looked at, give or take a fifth for
	// servers; 0 means DefaultPoll. Files are also watched.
	Poll time.Duration
}

// DefaultPoll is how often a source is looked at.
const DefaultPoll = 30 * time.Second

// An Event is what a source has to say.
type Event struct {
	// Archive is the bundle, a .tar.gz; nil if Err is set, or if all that is
	// known is that the source answers and has nothing new.
	Archive []byte
	// Err is why the source could not be read. It holds no secret.
	Err error
}

// A Source is where the operator's bundle comes from.
type Source struct {
	follow func(ctx context.Context, tell func(Event))
	name   string
}

// Open checks the configuration; it does not look at the source yet.
func Open(cfg Config) (*Source, error) {
	if cfg.Poll == 0 {
		cfg.Poll = DefaultPoll
	}
	if cfg.Poll < 0 {
		return nil, fmt.Errorf("poll interval %v: expected more than nothing", cfg.Poll)
	}
	if !strings.Contains(cfg.Location, "://") {
		if cfg.Location == "" {
			return nil, errors.New("expected a directory, a .tar.gz file or an https URL")
		}
		if cfg.Token != "" {
			return nil, errors.New("a token is for an https URL; the bundle is a file or a directory")
		}
		path, err := filepath.Abs(cfg.Location)
		if err != nil {
			return nil, err
		}
		return &Source{follow: (&files{path, cfg.Poll}).follow, name: cfg.Location}, nil
	}
	location, err := parseLocation(cfg.Location)
	if err != nil {
		return nil, err
	}
	server, err := newServer(cfg, location)
	if err != nil {
		return nil, err
	}
	return &Source{follow: server.follow, name: "https://" + location.Host + location.EscapedPath()}, nil
}

func parseLocation(text string) (*url.URL, error) {
	location, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("expected an https URL; this cannot be parsed") // it may hold a secret
	case location.Scheme != "https":
		return nil, fmt.Errorf("scheme %q: expected https; a policy must not be changed on its way", location.Scheme)
	case location.Host == "" || location.User != nil || location.Fragment != "":
		return nil, errors.New("expected https://host/path, without user, password or fragment; a token goes into POLICY_BUNDLE_TOKEN")
	case strings.Trim(location.Path, "/") == "" || strings.HasSuffix(location.Path, "/"):
		return nil, errors.New("expected the URL of a bundle, https://host/path/bundle.tar.gz")
	}
	return location, nil
}

// String is where the bundle comes from, without what could be a secret.
func (s *Source) String() string { return s.name }

// Follow tells of each new content and of each failure until ctx ends. It tells
// one event at a time, and waits for tell to return.
func (s *Source) Follow(ctx context.Context, tell func(Event)) { s.follow(ctx, tell) }

// news tells contents that differ from the last one.
type news struct{ last [sha256.Size]byte }

func (n *news) isNew(archive []byte) bool {
	sum := sha256.Sum256(archive)
	if sum == n.last {
		return false
	}
	n.last = sum
	return true
}
