package cache

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mtls-authz/mtls-authz/rego"
)

// Defaults of [Config].
const (
	DefaultEntries = 100_000
	DefaultTTL     = 60 * time.Second
	DefaultDenyTTL = 5 * time.Second
)

// Config configures [New].
type Config struct {
	// Entries bounds the tier in memory; 0 means DefaultEntries.
	Entries int
	// TTL and DenyTTL bound how long an allow and a denial are remembered; 0
	// means the defaults.
	TTL, DenyTTL time.Duration
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
	local *otter.Cache[key, entry]
	// lookups are by rego.Tier.
	lookups [rego.Shared + 1]prometheus.Counter
}

// key is the digest of everything that a decision depends on.
type key [sha256.Size]byte

// entry is a remembered decision and when it ends.
type entry struct {
	decision rego.Decision
	notAfter time.Time
}

// New returns a Cache.
func New(cfg Config) (*Cache, error) {
	if cfg.Entries == 0 {
		cfg.Entries = DefaultEntries
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
	local, err := otter.New(&otter.Options[key, entry]{MaximumSize: cfg.Entries})
	if err != nil {
		return nil, err
	}
	c := &Cache{cfg: cfg, local: local}
	lookups := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mtls_authz_cache_lookups_total", Help: "Decisions by where they came from: local, shared or miss.",
	}, []string{"tier"})
	cfg.Metrics.MustRegister(lookups)
	for _, tier := range []rego.Tier{rego.Miss, rego.Local, rego.Shared} {
		c.lookups[tier] = lookups.WithLabelValues(tier.String())
	}
	return c, nil
}

// Decide returns the remembered decision, or asks the request's policy and
// remembers what it says. Errors are not remembered. The headers of a decision
// are shared with other requests and must not be changed.
func (c *Cache) Decide(ctx context.Context, r *rego.Request) (rego.Decision, error) {
	now := c.cfg.Now()
	k := keyOf(r)
	if found, ok := c.local.GetIfPresent(k); ok && now.Before(found.notAfter) {
		return c.from(rego.Local, found.decision), nil
	}
	if found, ok := c.cfg.Shared.get(ctx, k, now); ok {
		// Another instance may have another clock, or remember for longer.
		if end := c.notAfter(r, found.decision, now); end.Before(found.notAfter) {
			found.notAfter = end
		}
		c.remember(k, found, now)
		return c.from(rego.Shared, found.decision), nil
	}
	decision, err := r.Policy.Decide(ctx, r)
	if err != nil {
		return rego.Decision{}, err
	}
	fresh := entry{decision, c.notAfter(r, decision, now)}
	if c.remember(k, fresh, now) {
		c.cfg.Shared.put(k, fresh, now)
	}
	return c.from(rego.Miss, decision), nil
}

// remember keeps an entry in memory, unless it has ended already.
func (c *Cache) remember(k key, e entry, now time.Time) bool {
	if !now.Before(e.notAfter) {
		return false
	}
	c.local.Set(k, e)
	return true
}

func (c *Cache) from(tier rego.Tier, d rego.Decision) rego.Decision {
	c.lookups[tier].Inc()
	d.Cache = tier
	return d
}

// notAfter ends an entry with its time to live, with the next grant of the
// route that expires, and with the minute where a check reads the time.
func (c *Cache) notAfter(r *rego.Request, d rego.Decision, now time.Time) time.Time {
	end := now.Add(c.cfg.TTL)
	if !d.Allow {
		end = now.Add(c.cfg.DenyTTL)
	}
	if until := r.Live.Until; !until.IsZero() && until.Before(end) {
		end = until
	}
	if minute := r.Now.Truncate(time.Minute).Add(time.Minute); r.Policy.Reads().Now && minute.Before(end) {
		end = minute
	}
	return end
}

// formatVersion changes when the meaning of keys or entries does.
const formatVersion = 1

// keyOf digests the policy, the binding's revision with its set of unexpired
// grants (which the next expiry identifies within a revision), and the whole
// request, every part with its length.
func keyOf(r *rego.Request) key {
	b := make([]byte, 0, 1<<10) // on the stack unless the request is longer
	digest := r.Policy.Digest()
	b = append(b, formatVersion)
	b = append(b, digest[:]...)
	b = text(b, r.Live.Binding)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Live.Revision))
	b = binary.BigEndian.AppendUint64(b, nanos(r.Live.Until))
	b = text(b, r.Caller.Foundation)
	b = append(b, r.Caller.App[:]...)
	b = append(b, r.Caller.Space[:]...)
	b = append(b, r.Caller.Org[:]...)
	b = text(b, r.Caller.Instance)
	b = text(b, r.Method)
	b = text(b, r.Host)
	b = text(b, r.Path)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Segments)))
	for _, segment := range r.Segments {
		b = text(b, segment)
	}
	if r.Policy.Reads().Now {
		b = minute(b, r.Now.In(r.Policy.Zone()))
	}
	return sha256.Sum256(b)
}

// minute is what input.now says, which the time zone decides: instances with
// different ones do not share it.
func minute(b []byte, now time.Time) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(now.Year()))
	b = binary.BigEndian.AppendUint16(b, uint16(now.YearDay()))
	return binary.BigEndian.AppendUint16(b, uint16(now.Hour()*60+now.Minute()))
}

// nanos is 0 for a grant set that never expires.
func nanos(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixNano())
}

func text(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}
