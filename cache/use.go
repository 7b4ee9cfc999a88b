package cache

import (
	"fmt"

	"github.com/mtls-authz/mtls-authz/cache/tally"
)

// Use tells when the shared tier is asked.
type Use uint8

// Auto asks Redis where that takes less time than evaluating the policy.
const (
	Auto Use = iota
	Always
	Never
)

var useWords = []string{"auto", "always", "never"}

// ParseUse reads "auto", "always" or "never".
func ParseUse(s string) (Use, error) {
	for use, word := range useWords {
		if s == word {
			return Use(use), nil
		}
	}
	return Auto, fmt.Errorf("%q: expected auto, always or never", s)
}

// String returns the word that [ParseUse] reads.
func (u Use) String() string { return useWords[u%Use(len(useWords))] }

// access is what one miss does with the shared tier.
type access struct{ reads, writes bool }

// Samples of evaluations before the estimate counts, and how often one is taken
// afterwards where Redis answers instead.
const (
	fewSamples  = 8
	sampleEvery = 64
)

func (s *Shared) use(m miss) access {
	if s == nil {
		return access{}
	}
	skip := ""
	switch {
	case s.cfg.Use == Never:
		skip = "never"
	case m.needed.LocalOnly || m.free > maxFree:
		skip = "request"
	case s.cfg.Use == Auto && !s.pays(m.count):
		skip = "cheap"
	case !s.reads.Closed():
		skip = "unavailable"
	}
	if skip != "" {
		s.metrics.skipped.WithLabelValues(skip).Inc()
		return access{}
	}
	sample := s.cfg.Use == Auto && m.count.Asked()%sampleEvery == 0
	return access{reads: !sample, writes: true}
}

// pays reports whether asking Redis takes less time than the policy.
func (s *Shared) pays(t *tally.Tally) bool {
	trip := s.roundTrip.Value()
	return trip > 0 && t.Evaluation.Samples() >= fewSamples && t.Evaluation.Value() > trip
}
