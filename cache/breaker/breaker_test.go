package breaker_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/mtls-authz/mtls-authz/cache/breaker"
)

func TestABreaker(t *testing.T) {
	var log bytes.Buffer
	now := time.Date(2026, 5, 4, 10, 15, 42, 0, time.UTC)
	b := breaker.New(breaker.Config{Opened: "it is gone", Closed: "it is back", Log: slog.New(slog.NewTextHandler(&log, nil)), Now: func() time.Time { return now }})
	lines := func(text string) int { return strings.Count(log.String(), text) }
	failure := errors.New("refused")

	b.Note(nil)
	assert.True(t, b.Closed())
	assert.Empty(t, b.Reason())
	assert.False(t, b.Due())
	assert.Zero(t, log.Len())

	for range 3 { // one line, however many notice
		b.Note(failure)
	}
	assert.False(t, b.Closed())
	assert.Equal(t, "refused", b.Reason())
	assert.Equal(t, 1, lines("it is gone"))
	assert.False(t, b.Due(), "left alone for a second")
	now = now.Add(time.Second)
	assert.True(t, b.Due())
	b.Note(errors.New("slow"))
	assert.False(t, b.Due(), "the trial failed")
	assert.Equal(t, "slow", b.Reason())
	now = now.Add(time.Second)
	b.Note(nil)
	assert.True(t, b.Closed())
	assert.Equal(t, 1, lines("it is back"))

	// What fails again soon is left alone for longer, up to a bound.
	for _, pause := range []time.Duration{2, 4, 8, 16, 16} {
		b.Note(failure)
		now = now.Add(pause*time.Second - 1)
		assert.False(t, b.Due(), pause)
		now = now.Add(1)
		assert.True(t, b.Due(), pause)
		b.Note(nil)
	}
	now = now.Add(time.Minute)
	b.Note(failure)
	now = now.Add(time.Second)
	assert.True(t, b.Due(), "after it went well for long, the pause is short again")
	assert.Equal(t, 7, lines("it is gone"))
}
