// Package backing examines the services behind the gateway: the store, Redis, and
// where bundles come from.
//
// It asks each who it is and changes nothing there. What cannot be asked is
// skipped, and what answers wrongly fails.
package backing

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/mtls-authz/mtls-authz/doctor"
	"github.com/mtls-authz/mtls-authz/doctor/state"
)

// Config configures [Checks]. Fields without a default are required.
type Config struct {
	// Store asks the database who it is.
	Store func(context.Context) (state.Server, error)
	// StoreHost is the database's, "" for a file.
	StoreHost string
	// Newest is the newest migration that this release brings; nil: nobody says.
	Newest func(context.Context) (int64, error)
	// OnCF: this runs on Cloud Foundry, where disks are lost with each restart.
	OnCF bool
	// Redis is the shared cache; nil: there is none.
	Redis *Redis
	// Bundle takes the operator's bundle through the gate and returns its
	// revision; nil: there is none. Candidate does so for POLICY_CANDIDATE.
	Bundle, Candidate func(context.Context) (revision string, err error)
	// Collector exports no span and returns the status of the answer; nil: there is
	// none.
	Collector func(context.Context) (status int, err error)
}

// bundleTime is for reading, compiling and testing a bundle.
const bundleTime = time.Minute

// Checks are those of this package.
func Checks(cfg Config) []doctor.Check {
	return []doctor.Check{
		{Item: "store", Look: cfg.store},
		{Item: "redis", Look: cfg.Redis.look},
		{Item: "bundle", Timeout: bundleTime, Look: func(ctx context.Context) []doctor.Finding {
			return gate(ctx, "POLICY_BUNDLE", cfg.Bundle, "not set: the built-in policy alone decides")
		}},
		{Item: "candidate", Timeout: bundleTime, Look: func(ctx context.Context) []doctor.Finding {
			return gate(ctx, "POLICY_CANDIDATE", cfg.Candidate, "not set: nothing is tried beside the policy in force")
		}},
		{Item: "collector", Look: cfg.collector},
	}
}

const (
	// slowStore is what the view is followed in: a slower database is late with
	// every change.
	slowStore = 250 * time.Millisecond
	// oldestPostgres is still maintained.
	oldestPostgres = 14
)

func (cfg Config) store(ctx context.Context) []doctor.Finding {
	server, err := cfg.Store(ctx)
	switch {
	case errors.Is(err, state.ErrNone), errors.Is(err, state.ErrEmpty):
		return []doctor.Finding{doctor.Unknown("", "SQLite: "+err.Error(), "run it where the gateway runs: cf ssh mtls-authz, or set STORE_URL to PostgreSQL")}
	case err != nil && cfg.StoreHost == "":
		return []doctor.Finding{doctor.Bad("", err.Error(), "STORE_URL or DATA_DIR must lead to the SQLite database that a gateway has made, and this user must be able to read it; else restore it from a backup")}
	case err != nil:
		return []doctor.Finding{doctor.Bad("", err.Error(), "check STORE_URL or the bound service, the security group, and the server's log")}
	}
	found := []doctor.Finding{cfg.server(server), cfg.schema(ctx, server)}
	if server.Kind == postgres {
		found = append(found, doctor.Skew("clock", server.Ahead))
	}
	return found
}

const postgres = "PostgreSQL"

func (cfg Config) server(s state.Server) doctor.Finding {
	found := fmt.Sprintf("%s %s, a round trip takes %s", s.Kind, s.Version, s.Latency.Round(time.Microsecond))
	remote := !isLoopback(cfg.StoreHost)
	switch {
	case s.Standby:
		return doctor.Bad("server", found+"; it is a standby, which takes no changes", "STORE_URL must lead to the primary server")
	case s.Kind != postgres && cfg.OnCF:
		return doctor.Doubtful("server", found+"; the disk is lost with every restart, and with it who may call whom", "bind PostgreSQL, or set STORE_URL")
	case s.Kind == postgres && s.Major < oldestPostgres:
		return doctor.Doubtful("server", found+"; its makers maintain it no more", fmt.Sprintf("upgrade to PostgreSQL %d or newer", oldestPostgres))
	case s.Kind == postgres && remote && !s.TLS:
		return doctor.Doubtful("server", found+"; without TLS: keys and passwords go over the network in clear", "sslmode=verify-full in STORE_URL, and the server's CA as ca in the credentials or in CA_FILES")
	case s.Latency > slowStore:
		return doctor.Doubtful("server", found+", which is slow: changes come late", "put the database near the gateway")
	}
	return doctor.Good("server", found)
}

// schema: a release runs on its own schema and on newer ones.
func (cfg Config) schema(ctx context.Context, s state.Server) doctor.Finding {
	const about = "schema"
	if s.Schema == 0 {
		return doctor.Doubtful(about, state.ErrEmpty.Error(), "start the gateway: it makes its tables; if it runs already, STORE_URL is not the one that it has")
	}
	version := fmt.Sprintf("version %d", s.Schema)
	if cfg.Newest == nil {
		return doctor.Good(about, version)
	}
	newest, err := cfg.Newest(ctx)
	switch {
	case err != nil:
		return doctor.Unknown(about, version+"; which one this release has is not known: "+err.Error(), "run it with a temporary directory that it can write to")
	case s.Schema < newest:
		return doctor.Doubtful(about, fmt.Sprintf("%s; %d migrations to come", version, newest-s.Schema), "restart the gateway with this release: it migrates at its start; back up first")
	case s.Schema > newest:
		return doctor.Good(about, fmt.Sprintf("%s, of a newer release (this one has %d)", version, newest))
	}
	return doctor.Good(about, version+", as this release has it")
}

// gate says whether a bundle would be in force.
func gate(ctx context.Context, setting string, look func(context.Context) (string, error), none string) []doctor.Finding {
	if look == nil {
		return []doctor.Finding{doctor.Unknown(setting, none, "")}
	}
	revision, err := look(ctx)
	if err != nil {
		return []doctor.Finding{doctor.Bad(setting, err.Error(), "mtls-authz policy check says all that is wrong with a bundle; look at the setting if it cannot be read")}
	}
	return []doctor.Finding{doctor.Good(setting, "loads and passes the gate; policy revision "+revision)}
}

// collector: what it does not take is dropped, and no request waits for it.
func (cfg Config) collector(ctx context.Context) []doctor.Finding {
	if cfg.Collector == nil {
		return []doctor.Finding{doctor.Unknown("", "OTEL_EXPORTER_OTLP_ENDPOINT is not set: no request is followed", "")}
	}
	status, err := cfg.Collector(ctx)
	found := fmt.Sprintf("it answers %d %s; spans are dropped", status, http.StatusText(status))
	switch {
	case err != nil:
		return []doctor.Finding{doctor.Bad("", "it cannot be told anything: "+err.Error()+"; spans are dropped", "check OTEL_EXPORTER_OTLP_ENDPOINT, CA_FILES for its certificate, and security group above")}
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return []doctor.Finding{doctor.Bad("", found, "OTEL_EXPORTER_OTLP_HEADERS must have what the collector asks for, such as Authorization=Bearer%20TOKEN")}
	case status >= http.StatusMultipleChoices:
		return []doctor.Finding{doctor.Bad("", found, "OTEL_EXPORTER_OTLP_ENDPOINT must be the URL below which v1/traces takes OTLP over HTTP in protobuf")}
	}
	return []doctor.Finding{doctor.Good("", "takes spans")}
}

// isLoopback reports whether a host is this machine; "" is a file.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || host == "localhost" || ip != nil && ip.IsLoopback()
}
