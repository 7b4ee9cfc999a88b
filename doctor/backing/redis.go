package backing

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/doctor"
)

// Redis is the shared cache.
type Redis struct {
	// Host is that of REDIS_URL; Mode is how it leads to the server: standalone,
	// cluster or sentinel.
	Host, Mode string
	// TLS: the connection is encrypted.
	TLS bool
	// OwnKey: CACHE_MAC_KEY is set; else the key is in the store.
	OwnKey bool
	// Ping makes a round trip, Info asks for sections of INFO.
	Ping func(context.Context) error
	Info func(ctx context.Context, sections ...string) (string, error)
}

const (
	// slowRedis is what a request waits for it at most.
	slowRedis = 20 * time.Millisecond
	pings     = 10
)

// look asks the server who it is. nil is no Redis.
func (r *Redis) look(ctx context.Context) []doctor.Finding {
	if r == nil {
		return []doctor.Finding{doctor.Unknown("", "REDIS_URL is not set: each instance remembers decisions for itself", "")}
	}
	latency, err := r.latency(ctx)
	if err != nil {
		fix := "check REDIS_URL or the bound service, CA_FILES for its certificate, and the security group"
		if errors.Is(err, io.EOF) && !r.TLS {
			fix = "a server that takes TLS alone ends what is not: rediss:// in REDIS_URL, and CA_FILES for its certificate"
		}
		return []doctor.Finding{doctor.Bad("server", "it does not answer: "+err.Error()+"; the gateway serves without it", fix)}
	}
	facts, err := r.facts(ctx)
	if err != nil {
		return []doctor.Finding{r.server("", latency), r.key(), doctor.Unknown("eviction", "INFO is refused: "+err.Error(), "look at maxmemory and maxmemory-policy on the server, or permit +info to the ACL user")}
	}
	return []doctor.Finding{r.server(" "+facts["redis_version"], latency), eviction(facts), r.key()}
}

func (r *Redis) latency(ctx context.Context) (least time.Duration, err error) {
	for range pings {
		begun := time.Now()
		if err := r.Ping(ctx); err != nil {
			return 0, err
		}
		if took := time.Since(begun); least == 0 || took < least {
			least = took
		}
	}
	return least, nil
}

func (r *Redis) facts(ctx context.Context) (map[string]string, error) {
	text, err := r.Info(ctx, "server", "memory")
	if err != nil {
		return nil, err
	}
	facts := map[string]string{}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		if name, value, ok := strings.Cut(strings.TrimSpace(lines.Text()), ":"); ok {
			facts[name] = value
		}
	}
	return facts, nil
}

func (r *Redis) server(version string, latency time.Duration) doctor.Finding {
	found := fmt.Sprintf("Redis%s, %s, a round trip takes %s", version, r.Mode, latency.Round(time.Microsecond))
	switch {
	case !r.TLS && !isLoopback(r.Host):
		return doctor.Doubtful("server", found+"; without TLS: its password and who was allowed what go over the network in clear", "use rediss:// in REDIS_URL, and CA_FILES for the server's CA")
	case latency > slowRedis:
		return doctor.Doubtful("server", found+", longer than a request waits", "put Redis near the gateway, or do without it")
	}
	return doctor.Good("server", found)
}

// eviction: what is remembered has an end, so the server may forget anything, and
// should rather do that than refuse what is new, or take all of the memory.
func eviction(facts map[string]string) doctor.Finding {
	policy, limit := facts["maxmemory_policy"], facts["maxmemory"]
	found := fmt.Sprintf("maxmemory-policy %s, maxmemory %s", policy, limit)
	const fix = "set maxmemory, and maxmemory-policy allkeys-lru; in a Redis that keeps other data, volatile-lru"
	switch {
	case policy == "":
		return doctor.Unknown("eviction", "INFO does not tell maxmemory-policy", "look at maxmemory and maxmemory-policy on the server")
	case limit == "0":
		return doctor.Doubtful("eviction", found+": nothing bounds the memory that it takes", fix)
	case policy == "noeviction":
		return doctor.Doubtful("eviction", found+": when it is full, nothing new is remembered", fix)
	}
	return doctor.Good("eviction", found)
}

func (r *Redis) key() doctor.Finding {
	if r.OwnKey {
		return doctor.Good("key", "CACHE_MAC_KEY is set: every instance must have the same; mtls_authz_cache_bad_macs_total above 0 says that one has not")
	}
	return doctor.Good("key", "kept in the store: every instance on it has the same")
}
