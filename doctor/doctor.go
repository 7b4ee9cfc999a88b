// Package doctor examines a foundation and a configuration, and says item by item
// what is safe and what is not, with the fix. Packages below it know what to look
// at; this one has them look, and writes what they found.
//
// It trusts no check: one that hangs or panics becomes a finding of its own, and
// known secrets are taken out of every text before anybody reads it. It fails
// closed: a finding without a status is a fail, and so is a check without findings.
package doctor

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Status is how an item was found. The zero Status is Fail.
type Status int

const (
	// Fail: requests are refused, or are not as safe as they look.
	Fail Status = iota
	// Warn: it works, and something about it wants a person.
	Warn
	// Skipped: it could not be looked at from here; the finding says why.
	Skipped
	// OK: as it should be.
	OK
)

var statusNames = map[Status]string{Fail: "fail", Warn: "warn", Skipped: "skipped", OK: "ok"}

// String is the word for the status in tables and in JSON.
func (s Status) String() string {
	if name, known := statusNames[s]; known {
		return name
	}
	return statusNames[Fail]
}

// MarshalText makes the status a word in JSON.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A Finding is what a check has to say about one thing.
type Finding struct {
	// Item is what was examined; it is the check's.
	Item string `json:"item"`
	// About is which of several: a domain, an address, a setting; "": there is one.
	About  string `json:"about,omitempty"`
	Status Status `json:"status"`
	// Found is what is the case, or for Skipped why nobody knows.
	Found string `json:"found"`
	// Fix is what to do about it; "" where there is nothing to do.
	Fix string `json:"fix,omitempty"`
}

// Good is what is as it should be.
func Good(about, found string) Finding { return Finding{About: about, Status: OK, Found: found} }

// Doubtful works, and wants a person.
func Doubtful(about, found, fix string) Finding {
	return Finding{About: about, Status: Warn, Found: found, Fix: fix}
}

// Bad fails.
func Bad(about, found, fix string) Finding {
	return Finding{About: about, Status: Fail, Found: found, Fix: fix}
}

// Unknown is what was skipped; fix says what would make it known, or where to look.
func Unknown(about, why, fix string) Finding {
	return Finding{About: about, Status: Skipped, Found: why, Fix: fix}
}

// A Check looks at one item.
type Check struct {
	Item string
	// Timeout bounds the look. Default: 15 s.
	Timeout time.Duration
	// Look changes nothing anywhere, and ends with its context.
	Look func(ctx context.Context) []Finding
}

const (
	defaultTimeout = 15 * time.Second
	// grace is for a check to say what it has waited for.
	grace = time.Second
	// atOnce is how many checks look at one time.
	atOnce = 8
)

// Run has all checks look, several at one time. The findings are in the order of
// the checks. Secrets are replaced wherever a finding repeats one. Each check that
// has looked is told to looked, if that is not nil, one at a time.
func Run(ctx context.Context, checks []Check, secrets []string, looked func(item string)) *Report {
	var one sync.Mutex
	all := Each(ctx, checks, func(ctx context.Context, c Check) []Finding {
		found := c.run(ctx)
		if looked != nil {
			one.Lock()
			defer one.Unlock()
			looked(c.Item)
		}
		return found
	})
	clean := cleaner(secrets)
	for i := range all {
		f := &all[i]
		f.About, f.Found, f.Fix = clean(f.About), clean(f.Found), clean(f.Fix)
	}
	return &Report{Findings: all}
}

// Each looks at several things of one item at one time; the findings are in the
// order of the things.
func Each[T any](ctx context.Context, things []T, look func(context.Context, T) []Finding) (all []Finding) {
	found := make([][]Finding, len(things))
	turns := make(chan struct{}, atOnce)
	var running sync.WaitGroup
	for i, thing := range things {
		turns <- struct{}{}
		running.Go(func() {
			defer func() { <-turns }()
			found[i] = guarded(func() []Finding { return look(ctx, thing) })
		})
	}
	running.Wait()
	for _, part := range found {
		all = append(all, part...)
	}
	return all
}

// run waits for a check no longer than it may take. One that does not end with its
// context is left behind, until the process ends.
func (c Check) run(ctx context.Context) []Finding {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	done := make(chan []Finding, 1)
	go func() { done <- guarded(func() []Finding { return c.Look(ctx) }) }()
	var found []Finding
	select {
	case found = <-done:
	case <-ctx.Done():
		select {
		case found = <-done:
		case <-time.After(grace):
			found = []Finding{Bad("", fmt.Sprintf("no answer within %s", timeout), "run it again; if it stays so, what this item looks at hangs")}
		}
	}
	if len(found) == 0 {
		found = []Finding{Bad("", "the check found nothing, not even that all is well", "report this as a bug of this release")}
	}
	for i := range found {
		found[i].Item = c.Item
	}
	return found
}

// guarded turns a panic into a finding. Its text is not shown: nobody knows what
// is in it.
func guarded(look func() []Finding) (found []Finding) {
	defer func() {
		if v := recover(); v != nil {
			found = []Finding{Bad("", fmt.Sprintf("the check itself broke (%T)", v), "report this as a bug of this release")}
		}
	}()
	return look()
}
