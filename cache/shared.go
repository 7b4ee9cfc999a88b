package cache

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/mtls-authz/mtls-authz/rego"
)

const (
	// redisWait is the most that one request waits for Redis.
	redisWait = 20 * time.Millisecond
	// breakerPause is how long Redis is left alone after a failure.
	breakerPause = 2 * time.Second
	// maxPending bounds the writes waiting for Redis; more are dropped.
	maxPending = 1024
	// maxValue is more than any entry takes: a longer value in Redis is not ours
	// and must not be fetched whole.
	maxValue  = 32 << 10
	keyPrefix = "mtls-authz:1:"
)

// Shared is the tier in Redis. The nil Shared remembers nothing.
type Shared struct {
	client  redis.UniversalClient
	macKey  []byte
	log     *slog.Logger
	pending chan write
	// openUntil is when the breaker closes again, in Unix nanoseconds; 0 while
	// it is closed.
	openUntil atomic.Int64
	badMACs   prometheus.Counter
}

type write struct {
	name  string
	value []byte
	ttl   time.Duration
}

// SharedConfig configures [NewShared]. All fields are required.
type SharedConfig struct {
	// Client must respect the deadlines of its contexts (ContextTimeoutEnabled)
	// and not retry (MaxRetries: -1): a request waits once.
	Client redis.UniversalClient
	// MACKey binds entries to their keys; all instances have the same.
	MACKey  []byte
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// NewShared returns the tier in Redis. [Shared.Run] must run for it to write.
// It panics without a MAC key: anybody could make entries then.
func NewShared(cfg SharedConfig) *Shared {
	if len(cfg.MACKey) == 0 {
		panic("cache: SharedConfig.MACKey is required")
	}
	s := &Shared{
		client: cfg.Client, macKey: cfg.MACKey, log: cfg.Log, pending: make(chan write, maxPending),
		badMACs: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mtls_authz_cache_bad_macs_total", Help: "Entries in Redis that were not written by this gateway, or not for their key.",
		}),
	}
	cfg.Metrics.MustRegister(s.badMACs)
	return s
}

// Run writes entries until ctx ends.
func (s *Shared) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case w := <-s.pending:
			if s.closed() {
				limited, cancel := context.WithTimeout(ctx, redisWait)
				err := s.client.Set(limited, w.name, w.value, w.ttl).Err()
				cancel()
				if ctx.Err() == nil { // else the gateway ends, not Redis
					s.note(err)
				}
			}
		}
	}
}

// Available reports whether Redis is in use, for people; nothing depends on it.
func (s *Shared) Available() bool { return s.openUntil.Load() == 0 }

// closed reports whether the breaker lets a call through. After the pause one
// caller tries, and the pause starts again for the others.
func (s *Shared) closed() bool {
	until := s.openUntil.Load()
	if until == 0 {
		return true
	}
	now := time.Now()
	return now.UnixNano() >= until && s.openUntil.CompareAndSwap(until, now.Add(breakerPause).UnixNano())
}

// note opens the breaker on the first failure and closes it on a success.
func (s *Shared) note(err error) {
	if err == nil {
		if s.openUntil.Load() != 0 && s.openUntil.Swap(0) != 0 {
			s.log.Info("redis is back; decisions are shared again")
		}
		return
	}
	if s.openUntil.Swap(time.Now().Add(breakerPause).UnixNano()) == 0 {
		s.log.Warn("redis does not answer; decisions are not shared until it does", slog.String("error", err.Error()))
	}
}

func (s *Shared) get(ctx context.Context, k key, now time.Time) (entry, bool) {
	if s == nil || !s.closed() {
		return entry{}, false
	}
	limited, cancel := context.WithTimeout(ctx, redisWait)
	defer cancel()
	value, err := s.client.GetRange(limited, name(k), 0, maxValue-1).Result()
	if ctx.Err() != nil {
		return entry{}, false // the client of the gateway left; that says nothing of Redis
	}
	if redis.HasErrorPrefix(err, "WRONGTYPE") { // somebody else's value at our key
		s.badMACs.Inc()
		err = nil
	}
	s.note(err)
	if err != nil || value == "" { // GETRANGE says "" where there is nothing
		return entry{}, false
	}
	found, ok := s.open(k, []byte(value))
	if !ok {
		s.badMACs.Inc()
	}
	return found, ok && now.Before(found.notAfter)
}

func (s *Shared) put(k key, e entry, now time.Time) {
	if s == nil {
		return
	}
	ttl := e.notAfter.Sub(now)
	if ttl < time.Millisecond { // Redis counts in milliseconds, and 0 means for ever
		return
	}
	select {
	case s.pending <- write{name(k), s.seal(k, e), ttl}:
	default: // a slow Redis costs the entry, not memory
	}
}

func name(k key) string { return keyPrefix + base64.RawURLEncoding.EncodeToString(k[:]) }

// seal writes MAC, end and decision; the MAC covers the key too.
func (s *Shared) seal(k key, e entry) []byte {
	e.decision.Cache = rego.NotCached
	decision, _ := json.Marshal(e.decision) // strings and a bool cannot fail
	body := binary.BigEndian.AppendUint64(nil, uint64(e.notAfter.UnixNano()))
	body = append(body, decision...)
	return append(s.mac(k, body), body...)
}

// open reads what seal wrote for this key, and nothing else.
func (s *Shared) open(k key, value []byte) (entry, bool) {
	if len(value) < sha256.Size+8 {
		return entry{}, false
	}
	mac, body := value[:sha256.Size], value[sha256.Size:]
	if !hmac.Equal(mac, s.mac(k, body)) {
		return entry{}, false
	}
	e := entry{notAfter: time.Unix(0, int64(binary.BigEndian.Uint64(body)))}
	return e, json.Unmarshal(body[8:], &e.decision) == nil
}

func (s *Shared) mac(k key, body []byte) []byte {
	mac := hmac.New(sha256.New, s.macKey)
	mac.Write(k[:])
	mac.Write(body)
	return mac.Sum(nil)
}
