package sightings

import (
	"context"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mtls-authz/mtls-authz/store/database"
)

// Outcomes of requests, as the decision line names them.
const (
	Allowed     = "allowed"
	Denied      = "denied"
	NotEnforced = "not_enforced"
)

// Bounds in memory, between two writes.
const (
	shards = 16
	// maxCallers bounds the callers of all bindings, with an outcome each;
	// maxOfBinding those of one.
	maxCallers, maxOfBinding = 10_000, 100
	// maxDistinct bounds the refusals of a caller that differ, and those that are
	// kept to be explained; maxDenials the latter in all.
	maxDistinct, maxDenials = 20, 5000
	// farewell bounds the last write, when the process ends.
	farewell = 2 * time.Second
)

// A Decision is what became of a request.
type Decision struct {
	DecisionID string    `json:"-"`
	At         time.Time `json:"-"`
	// Binding is "" where the request named none rightly.
	Binding string `json:"-"`
	// Owner is whose route it is, and who shares the bounds with other owners; "":
	// nobody's.
	Owner string `json:"-"`
	Route string `json:"route"`
	Mode  string `json:"mode"`
	// Outcome is one of the constants; Policy, Reason and Detail are those of the
	// decision line.
	Outcome string `json:"outcome"`
	Policy  string `json:"policy"`
	Reason  string `json:"reason"`
	Detail  string `json:"detail"`
	// App, Space and Org are guids of a verified caller, else "".
	App    string `json:"-"`
	Space  string `json:"space"`
	Org    string `json:"org"`
	Method string `json:"method"`
	Host   string `json:"host"`
	// Path as it came; Cut tells that it was too long to be kept whole.
	Path string `json:"path"`
	Cut  bool   `json:"cut"`
	// PolicyRevision and Revision, which is the binding's, tell whether what it
	// was decided by is still in force.
	PolicyRevision string `json:"policy_revision"`
	Revision       int64  `json:"revision"`
	// Names is a digest of what the route's sources by name stood for; "": it has
	// none.
	Names string `json:"names,omitempty"`
}

// Config configures [New]. All of it is required.
type Config struct {
	// Timeout bounds every call, Interval is how often is written what was noted.
	Timeout, Interval time.Duration
	// Turn holds one transaction at a time of all that write in this process.
	Turn chan struct{}
}

// Sightings are safe for concurrent use.
type Sightings struct {
	cfg  Config
	db   *database.Database
	seed maphash.Seed
	// noted since the last write, by binding.
	noted           [shards]shard
	callers, denied room
	dropped         atomic.Int64
	// writing holds one [Sightings.Write] at a time, which owns unwritten: what an
	// earlier one could not write.
	writing   chan struct{}
	unwritten batch
}

type shard struct {
	mu       sync.Mutex
	bindings map[string]map[key]*caller
}

// key is a caller with an outcome.
type key struct{ app, outcome string }

// caller is what was noted of one, of one binding.
type caller struct {
	owner, space, org string
	count
	distinct []refusal
	// denials are those to be explained, the newest; next is the oldest of them.
	denials []Decision
	next    int
}

// count is how often something was seen, and when first and last, in Unix
// milliseconds.
type count struct{ times, first, last int64 }

func (c *count) add(at int64) {
	if c.times == 0 {
		c.first = at
	}
	c.times, c.first, c.last = c.times+1, min(c.first, at), max(c.last, at)
}

// refusal is a kind of refusals that people do not tell apart.
type refusal struct {
	reason, method, path string
	// decision is the newest of them.
	decision string
	count
}

// New returns sightings of which none is noted yet; see [Sightings.Run].
func New(db *database.Database, cfg Config) *Sightings {
	return &Sightings{
		cfg: cfg, db: db, seed: maphash.MakeSeed(), writing: make(chan struct{}, 1), callers: room{most: maxCallers}, denied: room{most: maxDenials},
	}
}

// Dropped is how many decisions could not be noted, because too much came between
// two writes.
func (s *Sightings) Dropped() int64 { return s.dropped.Load() }

// Note notes a decision. It never waits for the database, and copies what it
// keeps.
func (s *Sightings) Note(d *Decision) {
	shard := &s.noted[maphash.String(s.seed, plain(d.Binding, maxID))%shards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	c := s.caller(shard, d)
	if c == nil {
		s.dropped.Add(1)
		return
	}
	c.add(d.At.UnixMilli())
	if d.Outcome == Allowed {
		return
	}
	c.refuse(d)
	s.keep(c, d)
}

// caller finds or makes the place of a decision's caller; nil if there is no more
// room.
func (s *Sightings) caller(shard *shard, d *Decision) *caller {
	binding, who := plain(d.Binding, maxID), key{plain(d.App, maxID), plain(d.Outcome, maxID)} // as they are kept
	callers := shard.bindings[binding]
	if found := callers[who]; found != nil {
		return found
	}
	owner := text(d.Owner, maxID)
	if len(callers) >= maxOfBinding || !s.callers.take(owner) {
		return nil
	}
	if callers == nil {
		callers = map[key]*caller{}
		if shard.bindings == nil {
			shard.bindings = map[string]map[key]*caller{}
		}
		shard.bindings[strings.Clone(binding)] = callers
	}
	fresh := &caller{owner: owner, space: text(d.Space, maxID), org: text(d.Org, maxID)}
	callers[key{strings.Clone(who.app), strings.Clone(who.outcome)}] = fresh
	return fresh
}

// refuse counts a refusal; one that is new takes the place of the oldest.
func (c *caller) refuse(d *Decision) {
	if d.Reason == "" {
		return
	}
	fresh := refusal{reason: text(d.Reason, maxField), method: text(d.Method, maxField), path: text(d.Path, maxPath), decision: text(d.DecisionID, maxID)}
	oldest := 0
	for i := range c.distinct {
		r := &c.distinct[i]
		if r.reason == fresh.reason && r.method == fresh.method && r.path == fresh.path {
			r.add(d.At.UnixMilli())
			r.decision = fresh.decision
			return
		}
		if r.last < c.distinct[oldest].last {
			oldest = i
		}
	}
	fresh.add(d.At.UnixMilli())
	if len(c.distinct) < maxDistinct {
		c.distinct = append(c.distinct, fresh)
		return
	}
	c.distinct[oldest] = fresh
}

// keep keeps a refusal to be explained.
func (s *Sightings) keep(c *caller, d *Decision) {
	switch {
	case len(c.denials) == maxDistinct:
		c.denials[c.next] = d.copy()
		c.next = (c.next + 1) % maxDistinct
	case !s.denied.take(c.owner):
		s.dropped.Add(1)
	default:
		c.denials = append(c.denials, d.copy())
	}
}

// Run writes every Interval, and once more when its context ends.
func (s *Sightings) Run(ctx context.Context) {
	ticker := time.NewTicker(s.cfg.Interval)
	defer ticker.Stop()
	for {
		// What fails is kept; that the database is away, the view tells.
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
			defer cancel()
			_ = s.Write(last)
			return
		case <-ticker.C:
			_ = s.Write(ctx)
		}
	}
}
