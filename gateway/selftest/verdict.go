package selftest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/mtls-authz/mtls-authz/gateway/selftest/place"
	"github.com/mtls-authz/mtls-authz/gateway/selftest/probe"
)

var (
	errUnprobed = errors.New("not probed yet")
	errProbing  = errors.New("it is being probed")
	// errBeside and errElsewhere are sentinels that arrived for others: whose route
	// it was is not for everybody to read.
	errBeside    = fmt.Errorf("%w (seen on a route of another space)", probe.ErrSentinel)
	errElsewhere = fmt.Errorf("%w (another instance has seen it)", probe.ErrSentinel)
)

// verdict is what is known of a place. The zero verdict is "nothing".
type verdict struct {
	at      time.Time
	trusted bool
	reason  error
}

// state is a place and what is known of it; [SelfTest.mu] guards it.
type state struct {
	place place.Place
	verdict
	// last is where the last proof came by; suspect is where the sentinel arrived,
	// and no other route proves the place before this one does.
	last, suspect *place.Target
	// onDemand and routine are when requests and the routine may probe again.
	onDemand, routine pace
}

// pace is when something may be tried again.
type pace struct {
	next time.Time
	gap  time.Duration
}

const (
	shortestGap = 2 * time.Second
	longestGap  = time.Minute
)

// failed makes the gap twice as long.
func (p *pace) failed(now time.Time) {
	p.gap = min(max(2*p.gap, shortestGap), longestGap)
	p.next = now.Add(p.gap)
}

// stands reports whether there is a verdict and it is not too old.
func (t *SelfTest) stands(v verdict) bool {
	return !v.at.IsZero() && t.Now().Sub(v.at) <= verdictLife && v.at.Sub(t.Now()) <= verdictLife
}

// refusal is why a verdict is no proof, nil if it is one.
func (t *SelfTest) refusal(v verdict) error {
	switch {
	case v.trusted && t.stands(v):
		return nil
	case v.trusted:
		return fmt.Errorf("the last proof is from %s", v.at.UTC().Format(time.RFC3339))
	case v.reason == nil:
		return errUnprobed
	}
	return v.reason
}

// request is why a place is judged; the zero request is the routine.
type request struct {
	// target is where the request came by.
	target *place.Target
	below  bool
}

// judge comes to a verdict on a place. It goes on when its first asker has gone,
// and ends by itself.
func (t *SelfTest) judge(running context.Context, s *state, asked request) {
	ctx, cancel := context.WithTimeout(running, probeTimeout)
	defer cancel()
	if t.adopt(ctx, s) && asked.target != nil {
		return
	}
	if asked.target != nil {
		turns := t.asked
		if asked.below {
			turns = t.below
		}
		select {
		case turns <- struct{}{}:
			defer func() { <-turns }()
		case <-ctx.Done():
			return
		}
	}
	target, err := t.visit(ctx, s, asked)
	if running.Err() != nil {
		return // the gateway ends
	}
	t.rounds.WithLabelValues(probe.Result(err)).Inc()
	t.conclude(s, target, err, asked)
	if err == nil || errors.Is(err, probe.ErrSentinel) {
		t.tell(s, err == nil)
	}
	if asked.target == nil {
		t.lookAgain(ctx, s, target)
	}
}

// lookAgain looks whether a route is still not bound in the router. That is for
// people to know: the verdict is made, but for a sentinel.
func (t *SelfTest) lookAgain(ctx context.Context, s *state, visited place.Target) {
	target := t.unbound.At(s.place)
	if target == nil || *target == visited {
		return
	}
	err := t.prober.Round(ctx, s.place.Router, *target)
	t.found(s.place, *target, err)
	if errors.Is(err, probe.ErrSentinel) {
		t.conclude(s, *target, err, request{})
		t.tell(s, false)
	}
}

// visit makes a round by one target, and by another where the target is at fault.
// A place under suspicion is proven where the suspicion arose, if that is there
// still: whoever owns another route must not be able to lift it.
func (t *SelfTest) visit(ctx context.Context, s *state, asked request) (target place.Target, err error) {
	t.mu.RLock()
	suspect := s.suspect
	t.mu.RUnlock()
	err = errUnprobed
	for _, target = range t.targets(s, asked) {
		err = t.prober.Round(ctx, s.place.Router, target)
		t.found(s.place, target, err)
		suspected := suspect != nil && target == *suspect && errors.Is(err, probe.ErrRefused) // by a gateway: it is bound still
		if !probe.IsOfRoute(err) || suspected {
			return target, err
		}
	}
	return target, err
}

// drawn is how many routes of a place are drawn for one round.
const drawn = 3

// targets are where to go, each once: the first that answers counts.
func (t *SelfTest) targets(s *state, asked request) []place.Target {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var targets []place.Target
	known := map[place.Target]bool{}
	add := func(target *place.Target) {
		if target != nil && !known[*target] {
			known[*target] = true
			targets = append(targets, *target)
		}
	}
	add(s.suspect)
	add(asked.target)
	for _, target := range t.index.Some(s.place, drawn) {
		add(&target)
	}
	add(s.last)
	return targets
}

// conclude: a sentinel that arrived counts at once; a complete round is a
// proof; anything else leaves the last verdict standing until it is too old.
func (t *SelfTest) conclude(s *state, target place.Target, err error, asked request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now, former := t.Now(), s.verdict
	switch {
	case err == nil:
		s.verdict = verdict{at: now, trusted: true}
		s.last, s.suspect, s.onDemand = &target, nil, pace{}
		s.routine = pace{next: now.Add(time.Minute)}
	case errors.Is(err, probe.ErrSentinel):
		s.verdict = verdict{at: now, reason: fmt.Errorf("%w (seen on %s)", err, target.String())}
		s.suspect = &target
		t.suspect(s.place, errBeside, time.Time{})
	case !t.stands(former):
		s.verdict = verdict{reason: err} // no verdict: the next request may ask again
	}
	if err != nil {
		s.routine.failed(now)
		if asked.target != nil || errors.Is(err, probe.ErrSentinel) {
			s.onDemand.failed(now)
		}
	}
	t.logTurn(s, former)
}

// suspect has no space's routes trusted at a place, until its own prove the router.
// Unless since is zero, that is an alarm of before this instance started: those with
// a later proof stay, and those without a verdict, for which adopt weighs it.
func (t *SelfTest) suspect(p place.Place, reason error, since time.Time) {
	states := t.deep.Values()
	for _, s := range t.states {
		states = append(states, s)
	}
	for _, s := range states {
		former := s.verdict
		weighed := !since.IsZero() && (!t.stands(former) || former.trusted && former.at.After(since))
		if s.place.OfAll() == p.OfAll() && !weighed && !errors.Is(former.reason, probe.ErrSentinel) {
			s.verdict = verdict{at: t.Now(), reason: reason}
			s.routine.next = t.soon()
			t.logTurn(s, former)
		}
	}
}

// logTurn writes a line where a verdict has turned.
func (t *SelfTest) logTurn(s *state, former verdict) {
	before, now := t.refusal(former), t.refusal(s.verdict)
	attributes := []any{slog.String("domain", s.place.Domain), slog.String("router", s.place.Router)}
	if !s.place.Space.IsZero() {
		attributes = append(attributes, slog.String("space", s.place.Space.String()))
	}
	switch {
	case now == nil && before != nil:
		t.Log.Info("router self-test: the domain is trusted", attributes...)
	case now != nil && (before == nil || probe.Result(before) != probe.Result(now)):
		t.Log.Warn("router self-test: the domain is not trusted", append(attributes, slog.String("reason", now.Error()))...)
	}
}
