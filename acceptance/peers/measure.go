package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/mtls-authz/mtls-authz/acceptance/peers/load"
	"github.com/mtls-authz/mtls-authz/acceptance/peers/process"
	"github.com/mtls-authz/mtls-authz/acceptance/peers/report"
)

// plan says how long and how fast.
type plan struct {
	rounds, callers, rate int
	flood, pace           time.Duration
}

// turn is what one subject did in one round.
type turn struct {
	perSecond, cpu, rest float64 // requests; microseconds for a request
	p50, p99             float64 // milliseconds
}

// measure lets the subjects take their turns. One round more, the first, makes
// connections and fills caches, and does not count.
func (p plan) measure(ctx context.Context, subjects []subject, progress io.Writer) ([]report.Row, error) {
	turns := make([][]turn, len(subjects))
	order := make([]int, len(subjects))
	for i := range order {
		order[i] = i
	}
	for round := range p.rounds + 1 {
		began := time.Now()
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] }) //nolint:gosec // only to be fair
		for _, i := range order {
			t, err := p.turn(ctx, subjects[i])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", subjects[i].name, err)
			}
			if round > 0 {
				turns[i] = append(turns[i], t)
			}
		}
		left := time.Duration(p.rounds-round) * time.Since(began)
		fmt.Fprintf(progress, "round %d of %d, %s left\n", round, p.rounds, left.Round(time.Second))
	}
	return rows(subjects, turns), nil
}

// turn is full speed first, for throughput and processor time, then the rate, for
// latencies: at full speed they would only say how many callers there are.
func (p plan) turn(ctx context.Context, s subject) (turn, error) {
	proxies, rest, err := s.used()
	if err != nil {
		return turn{}, err
	}
	flood, err := load.Run(ctx, s.callers, 0, p.flood)
	if err != nil {
		return turn{}, err
	}
	if flood.Requests == 0 {
		return turn{}, fmt.Errorf("no request was answered within %s", p.flood)
	}
	proxiesAfter, restAfter, err := s.used()
	if err != nil {
		return turn{}, err
	}
	paced, err := load.Run(ctx, s.callers, p.rate, p.pace)
	if err != nil {
		return turn{}, err
	}
	each := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(flood.Requests) }
	return turn{
		perSecond: flood.PerSecond(), cpu: each(proxiesAfter - proxies), rest: each(restAfter - rest),
		p50: milliseconds(paced.Quantile(0.5)), p99: milliseconds(paced.Quantile(0.99)),
	}, nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// used is the processor time of the subject's processes, and of this one, in
// which router, app and callers are.
func (s subject) used() (proxies, rest time.Duration, err error) {
	if len(s.pids) > 0 {
		if proxies, err = process.CPU(s.pids...); err != nil {
			return 0, 0, err
		}
	}
	rest, err = process.Own()
	return proxies, rest, err
}

// rows turn rounds into medians. Ratios are of turns of the same round: what
// changes slowly is the same for both.
func rows(subjects []subject, turns [][]turn) []report.Row {
	var all []report.Row
	for i, s := range subjects {
		spread := func(value func(turn) float64) report.Spread {
			var values []float64
			for _, t := range turns[i] {
				values = append(values, value(t))
			}
			return report.SpreadOf(values)
		}
		ratio := func(name string) report.Spread {
			to := slices.IndexFunc(subjects, func(s subject) bool { return s.name == name })
			var values []float64
			for round, t := range turns[i] {
				values = append(values, t.perSecond/turns[to][round].perSecond)
			}
			return report.SpreadOf(values)
		}
		all = append(all, report.Row{
			Name:       s.name,
			Throughput: spread(func(t turn) float64 { return t.perSecond }),
			P50:        spread(func(t turn) float64 { return t.p50 }), P99: spread(func(t turn) float64 { return t.p99 }),
			CPU: spread(func(t turn) float64 { return t.cpu }), Rest: spread(func(t turn) float64 { return t.rest }),
			Bare: ratio(bareName), OPA: ratio(verifyingName),
		})
	}
	return all
}
