// Package shared is what gateways tell one another about routers: that one was
// proven, which saves a new instance from refusing, and that one lets forged
// certificates pass, which must stop all.
//
// It trusts the database as much as the grants are trusted that lie there, but no
// clock: a proof from the future ends when one from now would, and one that is not
// for this router, domain and kind of certificate is none. It fails by knowing
// nothing.
package shared

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/mtls-authz/mtls-authz/gateway/selftest/place"
	"github.com/mtls-authz/mtls-authz/store/board"
)

const (
	proofKind = "router-proof"
	alarmKind = "router-alarm"
	// ProofLife is how old a proof of another may be.
	ProofLife = 2 * time.Minute
	// alarmLife is how long an alarm can be heard.
	alarmLife = 5 * time.Minute
	// maxSkew is how far ahead another's clock may be.
	maxSkew = 10 * time.Second
	// readEvery is how often proofs are read at most.
	readEvery = time.Second
)

// Board is where it is told.
type Board interface {
	Post(ctx context.Context, kind string, notes ...board.Note) error
	Read(ctx context.Context, kind string) ([]board.Note, error)
}

// A Word is what is told of a place at a time; an alarm is about those of every space.
type Word struct {
	Place place.Place
	// Mode is what a proof holds for besides the place: the form of the header, and
	// who issued the certificate that came back. An alarm has none.
	Mode string
	At   time.Time
}

// Words posts and reads them. It is safe for concurrent use. Create it with [New].
type Words struct {
	board Board
	now   func() time.Time

	mu     sync.Mutex
	read   time.Time
	proofs map[string]time.Time
}

// New returns the words of a board.
func New(b Board, now func() time.Time) *Words { return &Words{board: b, now: now} }

// PostProofs tells that places were proven.
func (w *Words) PostProofs(ctx context.Context, words []Word) error {
	return w.post(ctx, proofKind, ProofLife, words)
}

// PostAlarms tells that forged certificates pass at places.
func (w *Words) PostAlarms(ctx context.Context, words []Word) error {
	return w.post(ctx, alarmKind, alarmLife, words)
}

func (w *Words) post(ctx context.Context, kind string, life time.Duration, words []Word) error {
	if len(words) == 0 {
		return nil
	}
	notes := make([]board.Note, 0, len(words))
	for _, word := range words {
		notes = append(notes, board.Note{Name: word.name(), At: word.At, Until: word.At.Add(life)})
	}
	return w.board.Post(ctx, kind, notes...)
}

func (w Word) name() string {
	parts := []string{w.Place.Domain, w.Place.Router}
	if !w.Place.Space.IsZero() {
		parts = append(parts, w.Place.Space.String())
	}
	return strings.TrimSpace(strings.Join(parts, " ") + " " + w.Mode)
}

// Proof returns when others have proven a place last, if that is not too long
// ago. It reads the board once a second at most, whoever asks.
func (w *Words) Proof(ctx context.Context, p place.Place, mode string) (time.Time, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if since := w.now().Sub(w.read); since < 0 || since >= readEvery {
		w.read = w.now() // also if it fails: the next to ask does not wait as well
		if notes, err := w.board.Read(ctx, proofKind); err == nil {
			w.proofs = make(map[string]time.Time, len(notes))
			for _, note := range notes {
				w.proofs[note.Name] = note.At
			}
		}
	}
	at, known := w.proofs[Word{Place: p, Mode: mode}.name()]
	at, fresh := w.fresh(at, ProofLife)
	return at, known && fresh
}

// Alarms returns the alarms that can still be heard.
func (w *Words) Alarms(ctx context.Context) ([]Word, error) {
	notes, err := w.board.Read(ctx, alarmKind)
	if err != nil {
		return nil, err
	}
	var words []Word
	for _, note := range notes {
		domain, router, ok := strings.Cut(note.Name, " ")
		if ok {
			words = append(words, Word{Place: place.Place{Domain: domain, Router: router}, At: note.At})
		}
	}
	return words, nil
}

// fresh reports whether something of that time is not older than life, and not
// from further ahead than clocks differ. What is from ahead counts as from now.
func (w *Words) fresh(at time.Time, life time.Duration) (time.Time, bool) {
	now := w.now()
	if age := now.Sub(at); age >= life || age < -maxSkew {
		return at, false
	}
	if at.After(now) {
		at = now
	}
	return at, true
}
