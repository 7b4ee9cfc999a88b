package cache

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/mtls-authz/mtls-authz/cache/breaker"
	"github.com/mtls-authz/mtls-authz/cache/entry"
	"github.com/mtls-authz/mtls-authz/cache/tally"
)

const (
	// redisWait is the most that one request waits for Redis.
	redisWait = 20 * time.Millisecond
	// patience bounds what no request waits for: writes, and the first
	// connection of a trial.
	patience = 500 * time.Millisecond
	// maxPending bounds the writes waiting for Redis; more are dropped.
	maxPending = 1024
	// maxBatch bounds the commands sent at once.
	maxBatch = 64
	// maxFree is the most text of a client in keys of the shared tier, in bytes.
	maxFree   = 1 << 10
	keyPrefix = "mtls-authz:2:"
)

// Shared is the tier in Redis. The nil Shared remembers nothing.
type Shared struct {
	cfg     SharedConfig
	seal    *entry.Seal
	reader  *reader
	pending chan write
	// reads and writes fail apart: a full Redis and a replica still answer.
	reads, writes *breaker.Breaker
	roundTrip     tally.Estimate
	metrics       sharedMetrics
	// refused is the write that failed last; only Run uses it.
	refused string
}

type write struct {
	name  string
	value []byte
	ttl   time.Duration
}

// SharedConfig configures [NewShared]. All fields but Use are required.
type SharedConfig struct {
	// Client must respect the deadlines of its contexts (ContextTimeoutEnabled)
	// and not retry (MaxRetries: -1): a request waits once.
	Client redis.UniversalClient
	// MACKey binds entries to their keys; all instances have the same.
	MACKey []byte
	// Use tells when Redis is asked; the zero value is Auto.
	Use     Use
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// NewShared returns the tier in Redis. [Shared.Run] must run for it to write,
// to know what Redis costs and to notice that Redis is back. It panics without
// a MAC key: anybody could make entries then.
func NewShared(cfg SharedConfig) *Shared {
	if len(cfg.MACKey) == 0 {
		panic("cache: SharedConfig.MACKey is required")
	}
	s := &Shared{
		cfg: cfg, seal: entry.NewSeal(cfg.MACKey), pending: make(chan write, maxPending),
		reads: breaker.New(breaker.Config{
			Opened: "redis does not answer; decisions are not shared until it does", Closed: "redis is back; decisions are shared again", Log: cfg.Log, Now: time.Now,
		}),
		writes: breaker.New(breaker.Config{
			Opened: "redis takes no entries; new decisions are not shared until it does", Closed: "redis takes entries again", Log: cfg.Log, Now: time.Now,
		}),
	}
	s.reader = &reader{client: cfg.Client, note: s.noteRead}
	s.metrics = newSharedMetrics(s, cfg.Metrics)
	return s
}

// Available reports whether Redis is in use, for people; nothing depends on it.
func (s *Shared) Available() bool { return s.reads.Closed() && s.writes.Closed() }

// Reason says why Redis is not in use, "" while it is. It holds no secret, but
// the address of a server: it is for people with credentials.
func (s *Shared) Reason() string {
	var reasons []string
	if reason := s.reads.Reason(); reason != "" {
		reasons = append(reasons, "it does not answer: "+reason)
	}
	if reason := s.writes.Reason(); reason != "" {
		reasons = append(reasons, "it takes no entries: "+reason)
	}
	return strings.Join(reasons, "; ")
}

var errSlow = errors.New("no answer within " + redisWait.String())

// get waits for Redis at most redisWait.
func (s *Shared) get(k entry.Key, now time.Time) (entry.Entry, bool) {
	timer := time.NewTimer(redisWait)
	defer timer.Stop()
	asked := s.reader.ask(name(k))
	select {
	case <-asked.done:
	case <-timer.C:
		s.reads.Note(errSlow)
		return entry.Entry{}, false
	}
	if asked.foreign { // somebody else's value at our key
		s.metrics.badMACs.Inc()
	}
	if asked.value == "" {
		return entry.Entry{}, false
	}
	found, ok := s.seal.Read(k, []byte(asked.value))
	if !ok {
		s.metrics.badMACs.Inc()
	}
	return found, ok && now.Before(found.NotAfter)
}

// noteRead takes what a batch of reads came to.
func (s *Shared) noteRead(took time.Duration, err error) {
	if err == nil {
		s.roundTrip.Add(took)
		return // only a trial closes the breaker
	}
	s.reads.Note(err)
}

func (s *Shared) put(k entry.Key, e entry.Entry, now time.Time) {
	ttl := e.NotAfter.Sub(now)
	if ttl < time.Millisecond || !s.writes.Closed() { // Redis counts in milliseconds, and 0 means for ever
		return
	}
	select {
	case s.pending <- write{name(k), s.seal.Write(k, e), ttl}:
	default: // a slow Redis costs the entry.Entry, not memory
		s.metrics.dropped.Inc()
	}
}

func name(k entry.Key) string { return keyPrefix + base64.RawURLEncoding.EncodeToString(k[:]) }

// Run writes entries, measures what Redis costs and tries it again after
// failures, until ctx ends.
func (s *Shared) Run(ctx context.Context) {
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	var measured time.Time
	for {
		if s.reads.Due() || s.reads.Closed() && time.Since(measured) > 5*time.Second {
			s.try(ctx)
			measured = time.Now()
		}
		if s.writes.Due() {
			s.write(ctx, []write{{s.refused, nil, time.Second}}) // an empty value is no entry
		}
		pending := s.pending
		if !s.Available() {
			pending = nil // they wait, or are dropped
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case first := <-pending:
			s.write(ctx, s.batch(first))
		}
	}
}

// try reads as a request would, and repeats the read that failed last: another
// node of a Cluster may answer all the same. The first read may take longer,
// because it connects.
func (s *Shared) try(ctx context.Context) {
	failed := s.reader.failedLast()
	err := s.trip(ctx, failed, patience)
	if err == nil {
		start := time.Now()
		if err = s.trip(ctx, failed, redisWait); err == nil {
			s.roundTrip.Add(time.Since(start))
		}
	}
	if ctx.Err() == nil { // else the gateway ends, not Redis
		s.reads.Note(err)
	}
}

func (s *Shared) trip(ctx context.Context, name string, wait time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	err := s.cfg.Client.GetRange(limited, name, 0, 0).Err()
	if redis.HasErrorPrefix(err, "WRONGTYPE") {
		return nil
	}
	return err
}

// batch takes what else is pending.
func (s *Shared) batch(first write) []write {
	list := []write{first}
	for len(list) < maxBatch {
		select {
		case next := <-s.pending:
			list = append(list, next)
		default:
			return list
		}
	}
	return list
}

func (s *Shared) write(ctx context.Context, list []write) {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	results, err := s.cfg.Client.Pipelined(limited, func(p redis.Pipeliner) error {
		for _, w := range list {
			p.Set(limited, w.name, w.value, w.ttl)
		}
		return nil
	})
	if ctx.Err() != nil {
		return
	}
	for i, result := range results {
		if result.Err() != nil {
			s.refused = list[i].name
			err = result.Err()
			break
		}
	}
	s.writes.Note(err)
}
