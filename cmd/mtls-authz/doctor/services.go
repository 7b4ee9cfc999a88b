package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/mtls-authz/mtls-authz/cache/server"
	"github.com/mtls-authz/mtls-authz/doctor/backing"
	"github.com/mtls-authz/mtls-authz/doctor/state"
	"github.com/mtls-authz/mtls-authz/gateway/trace"
	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/bundle"
	"github.com/mtls-authz/mtls-authz/rego/source"
	"github.com/mtls-authz/mtls-authz/store/database"
)

// shared is Redis; nil: there is none.
func (p *patient) shared() *backing.Redis {
	if p.RedisURL == "" {
		return nil
	}
	u, err := url.Parse(p.RedisURL)
	if err != nil {
		u = &url.URL{} // settings have refused it
	}
	r := &backing.Redis{Host: u.Hostname(), Mode: "standalone", TLS: u.Scheme == "rediss", OwnKey: p.CacheMACKey != ""}
	switch {
	case u.Query().Get("cluster") == "true":
		r.Mode = "cluster"
	case u.Query().Has("sentinel_master"):
		r.Mode = "sentinel"
	}
	fail := func(err error) *backing.Redis {
		r.Ping = func(context.Context) error { return err }
		return r
	}
	roots, err := p.roots.extra()
	if err != nil {
		return fail(err)
	}
	client, err := server.Client(p.RedisURL, roots)
	if err != nil {
		return fail(err)
	}
	p.closers = append(p.closers, client.Close)
	r.Ping = func(ctx context.Context) error { return client.Ping(ctx).Err() }
	r.Info = func(ctx context.Context, sections ...string) (string, error) {
		return client.Info(ctx, sections...).Result()
	}
	return r
}

// collector takes spans; nil: there is none.
func (p *patient) collector() func(context.Context) (int, error) {
	if p.TraceEndpoint == "" {
		return nil
	}
	return func(ctx context.Context) (int, error) {
		roots, err := p.roots.extra()
		if err != nil {
			return 0, err
		}
		return trace.Ask(ctx, trace.Config{Endpoint: p.TraceEndpoint, Headers: p.TraceHeaders, Roots: roots})
	}
}

// bundle takes what is at a location through the whole gate; nil: there is none.
func (p *patient) bundle(location string) func(context.Context) (string, error) {
	if location == "" {
		return nil
	}
	return func(ctx context.Context) (string, error) {
		archive, err := p.fetch(ctx, location)
		if err != nil {
			return "", err
		}
		read, err := bundle.Read(archive, p.PolicyKey)
		if err != nil {
			return "", err
		}
		policy, err := rego.CompileBundle(ctx, read, rego.Config{Timeout: p.PolicyTimeout, Zone: p.PolicyZone})
		if err != nil {
			return "", err
		}
		return policy.Revision(), nil
	}
}

// fetch waits for the first that a source has to say.
func (p *patient) fetch(ctx context.Context, location string) ([]byte, error) {
	roots, err := p.roots.extra()
	if err != nil {
		return nil, err
	}
	token := p.PolicyBundleToken
	if location != p.PolicyBundle && !sameServer(p.PolicyBundle, location) {
		token = "" // it is for the other one
	}
	from, err := source.Open(source.Config{Location: location, Token: token, Roots: roots})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err = errors.New("the source has nothing")
	var archive []byte
	from.Follow(ctx, func(event source.Event) {
		if ctx.Err() == nil {
			archive, err = event.Archive, event.Err
		}
		cancel()
	})
	if err == nil && archive == nil {
		err = errors.New("the source has nothing")
	}
	return archive, err
}

// sameServer reports whether two locations are on one server.
func sameServer(one, other string) bool {
	a, err := url.Parse(one)
	b, otherErr := url.Parse(other)
	return err == nil && otherErr == nil && a.Scheme == "https" && b.Scheme == a.Scheme && strings.EqualFold(a.Host, b.Host)
}

// newest is the migration that this release ends with: an empty database shows it.
func newest(ctx context.Context) (version int64, err error) {
	dir, err := os.MkdirTemp("", "mtls-authz-doctor-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	location := "sqlite://" + filepath.Join(dir, "empty.db")
	db, err := database.Open(database.Config{URL: location})
	if err != nil {
		return 0, err
	}
	err = errors.Join(db.Migrate(ctx), db.Close())
	if err != nil {
		return 0, fmt.Errorf("an empty database: %w", err)
	}
	empty, err := state.Open(state.Config{URL: location})
	if err != nil {
		return 0, err
	}
	asked, err := empty.Server(ctx)
	return asked.Schema, errors.Join(err, empty.Close())
}
