package cache

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// lanes is how many batches of reads are under way at once; it is also how
	// many connections reading takes.
	lanes = 4
	// maxValue is more than any entry takes: a longer value in Redis is not ours
	// and must not be fetched whole.
	maxValue = 32 << 10
)

// reader asks Redis for entries. A read that finds a free lane goes out at
// once; those that come while all are busy go out together.
type reader struct {
	client redis.UniversalClient
	// note takes what each batch came to.
	note func(took time.Duration, err error)

	mu      sync.Mutex
	waiting []*read
	busy    int
	failed  string // the name of the read that failed last
}

// read is one entry asked for. Its result is there when done is closed.
type read struct {
	name string
	done chan struct{}
	// value is "" where there is nothing; foreign tells that there is something
	// that no gateway wrote.
	value   string
	foreign bool
}

// ask starts a read.
func (r *reader) ask(name string) *read {
	one := &read{name: name, done: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(r.waiting, one)
	if r.busy < lanes {
		r.busy++
		go r.drive()
	}
	return one
}

// drive sends batches until nothing waits. Each ends within redisWait, so it
// does, soon after the last request.
func (r *reader) drive() {
	for {
		r.mu.Lock()
		n := min(len(r.waiting), maxBatch)
		batch := r.waiting[:n:n]
		r.waiting = r.waiting[n:]
		if n == 0 {
			r.waiting, r.busy = nil, r.busy-1
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		r.send(batch)
	}
}

func (r *reader) send(batch []*read) {
	ctx, cancel := context.WithTimeout(context.Background(), redisWait)
	defer cancel()
	results, start := make([]*redis.StringCmd, len(batch)), time.Now()
	get := func(to redis.Cmdable, i int) { results[i] = to.GetRange(ctx, batch[i].name, 0, maxValue-1) }
	if len(batch) == 1 {
		get(r.client, 0)
	} else {
		// Each result has its own error.
		_, _ = r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i := range batch {
				get(p, i)
			}
			return nil
		})
	}
	took := time.Since(start)
	var failure error
	for i, one := range batch {
		value, err := results[i].Result()
		switch {
		case err == nil:
			one.value = value
		case redis.HasErrorPrefix(err, "WRONGTYPE"):
			one.foreign = true
		default:
			failure = err
			r.mu.Lock()
			r.failed = one.name
			r.mu.Unlock()
		}
		close(one.done)
	}
	r.note(took, failure)
}

// failedLast is the name of the read that failed last.
func (r *reader) failedLast() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == "" {
		return keyPrefix
	}
	return r.failed
}
