package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/store"
	"github.com/mtls-authz/mtls-authz/store/board"
)

// What one gateway tells, the others read, as long as it is worth something.
func TestBoard(t *testing.T) { onEach(t, testBoard) }

func testBoard(t *testing.T, fresh database) {
	url, clock := fresh(t), newClock()
	here, there := openWith(t, store.Config{URL: url, Now: clock.Now}).Board(), openWith(t, store.Config{URL: url, Now: clock.Now}).Board()
	note := func(name, value string, at, until time.Duration) board.Note {
		return board.Note{Name: name, Value: value, At: start.Add(at), Until: start.Add(until)}
	}
	read := func(kind string) []board.Note {
		t.Helper()
		notes, err := there.Read(ctx, kind)
		require.NoError(t, err)
		return notes
	}
	require.Empty(t, read("proof"))
	a, b := note("a", "1", 0, time.Minute), note("b", "2", time.Second, time.Hour)
	require.NoError(t, here.Post(ctx, "proof", a, b))
	require.Equal(t, []board.Note{b, a}, read("proof"), "the newest first")
	require.Empty(t, read("authority"), "a kind is a kind")

	require.NoError(t, there.Post(ctx, "proof", note("b", "late", 0, 2*time.Hour)))
	require.Equal(t, []board.Note{b, a}, read("proof"), "an older word does not replace a newer one")
	b = note("b", "3", 2*time.Second, time.Hour)
	require.NoError(t, there.Post(ctx, "proof", b))
	require.Equal(t, []board.Note{b, a}, read("proof"))

	clock.add(time.Minute)
	require.Equal(t, []board.Note{b}, read("proof"), "ended")
	require.NoError(t, here.Post(ctx, "other", note("x", "", 0, 2*time.Hour)))
	clock.add(-time.Minute)
	require.Equal(t, []board.Note{b}, read("proof"), "and removed with the next post")

	require.ErrorContains(t, here.Post(ctx, "proof", note("c", "", 0, time.Hour), note("big", strings.Repeat("x", 64<<10+1), 0, time.Hour)), `"big"`)
	require.Len(t, read("proof"), 1, "all or none")
}

func TestBoardWithoutTheDatabase(t *testing.T) {
	s := open(t, "sqlite://"+newFile(t))
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Board().Post(ctx, "proof", board.Note{Name: "a"}), store.ErrUnavailable)
	_, err := s.Board().Read(ctx, "proof")
	require.ErrorIs(t, err, store.ErrUnavailable)
}
