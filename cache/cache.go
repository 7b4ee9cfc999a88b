package cache

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"

	"github.com/mtls-authz/mtls-authz/cache/entry"
	"github.com/mtls-authz/mtls-authz/cache/tally"
	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/reads"
)

// Defaults of [Config].
const (
	DefaultEntries = 100_000
	DefaultBytes   = 64 << 20
	DefaultTTL     = 60 * time.Second
	DefaultDenyTTL = 5 * time.Second
)

// Config configures [New].
type Config struct {
	// Entries and Bytes bound the tier in memory; 0 means the defaults.
	Entries, Bytes int
	// TTL and DenyTTL bound how long an allow and a denial are remembered; 0
	// means the defaults.
	TTL, DenyTTL time.Duration
	// Off has every request evaluated, and nothing remembered.
	Off bool
	// Version is the gateway's: another version may make another input of the
	// same request, so they share nothing.
	Version string
	// Shared is the tier in Redis; nil: none.
	Shared *Shared
	// Metrics gets the cache's collectors. Required.
	Metrics prometheus.Registerer
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Cache remembers decisions. It is safe for concurrent use.
type Cache struct {
	cfg   Config
	local *otter.Cache[entry.Key, entry.Entry]
	// flights are by the first byte of the key, so that misses do not wait for
	// one lock.
	flights [64]singleflight.Group
	counts  tally.Tallies
	metrics metrics
}

// New returns a Cache.
func New(cfg Config) (*Cache, error) {
	if cfg.Entries == 0 {
		cfg.Entries = DefaultEntries
	}
	if cfg.Bytes == 0 {
		cfg.Bytes = DefaultBytes
	}
	if cfg.TTL == 0 {
		cfg.TTL = DefaultTTL
	}
	if cfg.DenyTTL == 0 {
		cfg.DenyTTL = DefaultDenyTTL
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Entries < 0 || cfg.Bytes < cfg.Entries {
		return nil, fmt.Errorf("cache of %d entries in %d bytes: expected at least one byte for each entry", cfg.Entries, cfg.Bytes)
	}
	c := &Cache{cfg: cfg}
	c.metrics = newMetrics(c, cfg.Metrics)
	// An entry weighs its bytes, but no less than its part of the whole: so one
	// bound holds for both.
	least := uint32(min(cfg.Bytes/cfg.Entries, math.MaxUint32))
	var err error
	c.local, err = otter.New(&otter.Options[entry.Key, entry.Entry]{
		MaximumWeight: uint64(cfg.Entries) * uint64(least),
		Weigher:       func(_ entry.Key, e entry.Entry) uint32 { return max(e.Size(), least) },
		OnAtomicDeletion: func(e otter.DeletionEvent[entry.Key, entry.Entry]) {
			if e.WasEvicted() {
				c.metrics.evictions.Inc()
			}
		},
	})
	return c, err
}

// Decide returns the remembered decision, or asks the request's policy and
// remembers what it says. Requests that miss at once with one key share one
// evaluation, which goes on without the client that caused it; each waits no
// longer than its own ctx. Errors are not remembered. The request and the
// headers of a decision may be in use by others and must not be changed.
func (c *Cache) Decide(ctx context.Context, r *rego.Request) (rego.Decision, error) {
	if c.cfg.Off {
		return r.Policy.Decide(ctx, r)
	}
	needed := r.Key()
	count := c.counts.Of(r.Policy.Digest(), needed)
	if needed.Clock != "" {
		c.metrics.bypassed.Inc()
		return r.Policy.Decide(ctx, r)
	}
	now := c.cfg.Now()
	k, free := c.keyOf(r, needed)
	if found, ok := c.remembered(k, now); ok {
		return c.from(count, rego.Local, found.Decision), nil
	}
	return c.join(ctx, miss{r: r, needed: needed, count: count, key: k, free: free, now: now})
}

// miss is a request that memory does not answer.
type miss struct {
	r      *rego.Request
	needed *reads.Key
	count  *tally.Tally
	key    entry.Key
	// free is how many bytes of the key the client chose.
	free int
	now  time.Time
}

func (c *Cache) remembered(k entry.Key, now time.Time) (entry.Entry, bool) {
	found, ok := c.local.GetIfPresent(k)
	return found, ok && now.Before(found.NotAfter)
}

// join waits for the one flight of a key.
func (c *Cache) join(ctx context.Context, m miss) (rego.Decision, error) {
	flights := &c.flights[m.key[0]%byte(len(c.flights))]
	landed := flights.DoChan(string(m.key[:]), func() (any, error) { return c.load(context.WithoutCancel(ctx), m) })
	select {
	case result := <-landed:
		if result.Err != nil {
			return rego.Decision{}, result.Err
		}
		decision := result.Val.(rego.Decision)
		return c.from(m.count, decision.Cache, decision), nil
	case <-ctx.Done():
		return rego.Decision{}, fmt.Errorf("waiting for the decision: %w", ctx.Err())
	}
}

// load asks the shared tier, where that pays, and then the policy.
func (c *Cache) load(ctx context.Context, m miss) (rego.Decision, error) {
	if found, ok := c.remembered(m.key, m.now); ok { // another flight has just landed
		return tagged(found.Decision, rego.Local), nil
	}
	shares := c.cfg.Shared.use(m)
	if shares.reads {
		if found, ok := c.cfg.Shared.get(m.key, m.now); ok {
			// Another instance may have another clock, or remember for longer.
			if end := c.notAfter(m, found.Decision); end.Before(found.NotAfter) {
				found.NotAfter = end
			}
			c.remember(m, found)
			return tagged(found.Decision, rego.Shared), nil
		}
	}
	start := time.Now()
	decision, err := m.r.Policy.Decide(ctx, m.r)
	if err != nil {
		return rego.Decision{}, err
	}
	m.count.Evaluation.Add(time.Since(start))
	fresh := entry.Entry{Decision: decision, NotAfter: c.notAfter(m, decision)}
	if c.remember(m, fresh) && shares.writes {
		c.cfg.Shared.put(m.key, fresh, m.now)
	}
	return tagged(decision, rego.Miss), nil
}

// remember keeps an entry in memory, unless it has ended already.
func (c *Cache) remember(m miss, e entry.Entry) bool {
	if !m.now.Before(e.NotAfter) {
		return false
	}
	c.local.Set(m.key, e)
	return true
}

func tagged(d rego.Decision, tier rego.Tier) rego.Decision {
	d.Cache = tier
	return d
}

func (c *Cache) from(count *tally.Tally, tier rego.Tier, d rego.Decision) rego.Decision {
	c.metrics.lookups[tier].Inc()
	count.Count(tier)
	return tagged(d, tier)
}

// notAfter ends an entry with its time to live, with the next grant of the
// route that expires, and with the minute where the time is in the key.
func (c *Cache) notAfter(m miss, d rego.Decision) time.Time {
	end := m.now.Add(c.cfg.TTL)
	if !d.Allow {
		end = m.now.Add(c.cfg.DenyTTL)
	}
	if until := m.r.Live.Until; !until.IsZero() && until.Before(end) {
		end = until
	}
	if minute := m.r.Now.Truncate(time.Minute).Add(time.Minute); m.needed.Paths.Now() && minute.Before(end) {
		end = minute
	}
	return end
}
