package recording

import (
	"iter"
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/replay"
)

// Defaults of [Config].
const (
	DefaultEntries = 10_000
	DefaultBytes   = 64 << 20
)

const (
	// maxPath is how long a path may be to be recorded, in bytes.
	maxPath = 8 << 10
	// maxKeptText is how much memory, in bytes, a place keeps for its next entry.
	maxKeptText = 256
)

// Config configures [New].
type Config struct {
	// Entries bounds the decisions kept; 0 means DefaultEntries. About 300 bytes
	// for each are taken at once, and as much again when it is first used.
	Entries int
	// Bytes bounds what the decisions keep in memory, the grants of their routes
	// included, which they share with each other and mostly with the gateway's
	// state; 0 means DefaultBytes.
	Bytes int
}

// A Recording keeps the last decisions. It is safe for concurrent use.
type Recording struct {
	mu sync.Mutex
	// ring holds the last kept entries before next, of total.
	ring        []entry
	total       uint64
	next, kept  int
	bytes, most int
	// routes are those of the entries kept.
	routes map[routeKey]*boundRoute
}

// entry is one decision. It does not hold the request, with which it would keep
// policies and request lines in memory.
type entry struct {
	id string
	// at is in Unix nanoseconds.
	at              int64
	zone            *time.Location
	revision        [16]byte
	foundation      string
	app, space, org identity.GUID
	route           *boundRoute
	policy          string
	// text is a copy of method, host, path, instance and reason, which end at
	// ends, and then the headers, each name and each value on a line. What the
	// request has are parts of its lines and headers, which are much longer. The
	// memory is used again by the next entry in this place.
	text []byte
	ends [5]uint32
	size uint32

	allow, longPath bool
	tier            rego.Tier
}

// New returns an empty recording.
func New(cfg Config) *Recording {
	if cfg.Entries <= 0 {
		cfg.Entries = DefaultEntries
	}
	if cfg.Bytes <= 0 {
		cfg.Bytes = DefaultBytes
	}
	return &Recording{
		ring: make([]entry, cfg.Entries), most: cfg.Bytes,
		routes: make(map[routeKey]*boundRoute, cfg.Entries), // it never grows
	}
}

// Observe records a decision as [rego.Confirm] left it. It copies what it keeps.
func (r *Recording) Observe(id string, q *rego.Request, d rego.Decision) {
	length := lengthOf(q, &d)
	size := int(unsafe.Sizeof(entry{})) + len(id) + len(d.Policy) + length
	r.mu.Lock()
	route := r.route(q.Live)
	if size+route.size > r.most { // it shall not push out all others
		r.mu.Unlock()
		return
	}
	e := r.slot(route, size)
	e.copyText(q, &d, length)
	e.id, e.at, e.zone, e.size = id, q.Now.UnixNano(), q.Policy.Zone(), uint32(size)
	digest := q.Policy.Digest()
	copy(e.revision[:], digest[:])
	e.foundation, e.app, e.space, e.org = q.Caller.Foundation, q.Caller.App, q.Caller.Space, q.Caller.Org
	e.route, e.policy, e.allow, e.tier, e.longPath = route, d.Policy, d.Allow, d.Cache, len(q.Path) > maxPath
	r.mu.Unlock()
}

// route returns what entries about these grants share. It looks at each grant
// once, and lets others go on meanwhile.
func (r *Recording) route(live *grants.Live) *boundRoute {
	key := keyOf(live)
	if found := r.routes[key]; found != nil {
		return found
	}
	r.mu.Unlock()
	fresh := newRoute(live, key)
	r.mu.Lock()
	if found := r.routes[key]; found != nil {
		return found
	}
	return fresh
}

// slot makes room for an entry of this size and returns its place.
func (r *Recording) slot(route *boundRoute, size int) *entry {
	if route.entries == 0 {
		r.bytes += route.size
		r.routes[route.key] = route
	}
	route.entries++
	r.bytes += size
	for r.kept == len(r.ring) || r.bytes > r.most {
		r.forget()
	}
	e := &r.ring[r.next]
	if r.next++; r.next == len(r.ring) {
		r.next = 0
	}
	r.kept++
	r.total++
	return e
}

// forget drops the oldest entry, and its route with the last entry about it.
func (r *Recording) forget() {
	at := r.next - r.kept
	if at < 0 {
		at += len(r.ring)
	}
	oldest := &r.ring[at]
	r.kept--
	r.bytes -= int(oldest.size)
	if oldest.route.entries--; oldest.route.entries == 0 {
		r.bytes -= oldest.route.size
		delete(r.routes, oldest.route.key)
	}
	oldest.id, oldest.policy, oldest.zone, oldest.route = "", "", nil, nil
	if cap(oldest.text) > maxKeptText {
		oldest.text = nil
	}
}

func recordedPath(q *rego.Request) string {
	if len(q.Path) > maxPath {
		return ""
	}
	return q.Path
}

func lengthOf(q *rego.Request, d *rego.Decision) int {
	length := len(q.Method) + len(q.Host) + len(recordedPath(q)) + len(q.Caller.Instance) + len(d.Reason)
	for i := range d.Headers {
		length += len(d.Headers[i].Name) + len(d.Headers[i].Value) + 2
	}
	return length
}

func (e *entry) copyText(q *rego.Request, d *rego.Decision, length int) {
	text := slices.Grow(e.text[:0], length)
	for i, part := range [...]string{q.Method, q.Host, recordedPath(q), q.Caller.Instance, d.Reason} {
		text = append(text, part...)
		e.ends[i] = uint32(len(text))
	}
	for i := range d.Headers {
		text = append(text, d.Headers[i].Name...)
		text = append(text, '\n')
		text = append(text, d.Headers[i].Value...)
		text = append(text, '\n')
	}
	e.text = text
}

// A Filter chooses decisions. The zero Filter chooses all.
type Filter struct {
	// Route is the bound route, as bound: a wildcard is not a pattern here.
	Route route.Route
	// Binding is a binding's guid.
	Binding string
	// Since leaves out requests that came before.
	Since time.Time
	// Limit is how many decisions to give at most; 0: all.
	Limit int
}

func (f *Filter) chooses(e *entry) bool {
	return (f.Route == route.Route{} || f.Route == e.route.access.Route) &&
		(f.Binding == "" || f.Binding == e.route.access.Binding) && !time.Unix(0, e.at).Before(f.Since)
}

// All gives the decisions kept when it is called, the newest first. Requests go
// on meanwhile, so that the oldest may be gone before they are reached.
func (r *Recording) All(f Filter) iter.Seq[replay.Recorded] {
	return func(yield func(replay.Recorded) bool) {
		given := 0
		batch, before := r.batch(nil, ^uint64(0))
		for ; len(batch) > 0; batch, before = r.batch(batch[:0], before) {
			for i := range batch {
				if !f.chooses(&batch[i]) {
					continue
				}
				if !yield(batch[i].recorded()) {
					return
				}
				if given++; given == f.Limit {
					return
				}
			}
		}
	}
}

// batchSize bounds how many entries are copied at a time, while requests wait.
const batchSize = 32

// batch appends entries before a number, the newest first, and returns the
// number of the last.
func (r *Recording) batch(batch []entry, before uint64) ([]entry, uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for before = min(before, r.total); len(batch) < batchSize; {
		back := r.total - before + 1 // from next
		if back > uint64(r.kept) {
			break
		}
		before--
		e := r.ring[(r.next+len(r.ring)-int(back))%len(r.ring)]
		e.text = slices.Clone(e.text)
		batch = append(batch, e)
	}
	return batch, before
}
