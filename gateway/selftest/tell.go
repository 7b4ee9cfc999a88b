package selftest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/mtls-authz/mtls-authz/gateway/selftest/place"
	"github.com/mtls-authz/mtls-authz/gateway/selftest/probe"
	"github.com/mtls-authz/mtls-authz/gateway/selftest/shared"
)

// untold is a word that is not on the board yet.
type untold struct {
	shared.Word
	proof bool
}

// mode is what a proof of this instance holds for besides the place: the form of
// the header, and who issued the certificate that came back. Without a certificate
// nothing can be proven, nor believed.
func (t *SelfTest) mode(p place.Place) (string, bool) {
	own := t.prober.Own()
	if own == nil {
		return "", false
	}
	issuer := sha256.Sum256(append(append([]byte{}, own.RawIssuer...), own.AuthorityKeyId...))
	return t.Format("any."+p.Domain).String() + " " + hex.EncodeToString(issuer[:8]), true
}

// adopt takes a proof of another instance where there is no verdict.
func (t *SelfTest) adopt(ctx context.Context, s *state) bool {
	mode, can := t.mode(s.place)
	if !can || t.stands(t.verdictOf(s)) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, boardTimeout)
	defer cancel()
	at, proven := t.words.Proof(ctx, s.place, mode)
	if !proven {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	former := s.verdict
	if t.stands(former) {
		return false
	}
	s.verdict = verdict{at: at, trusted: true}
	t.logTurn(s, former)
	return true
}

func (t *SelfTest) verdictOf(s *state) verdict {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return s.verdict
}

// tell has the other instances know: of an alarm at once, of a proof soon.
func (t *SelfTest) tell(s *state, proof bool) {
	mode, _ := t.mode(s.place)
	if !proof {
		mode = ""
	}
	word := shared.Word{Place: s.place, Mode: mode, At: t.Now().UTC().Truncate(time.Millisecond)}
	t.mu.Lock()
	t.untold[s.place] = untold{word, proof}
	if !proof {
		s.heard = word.At
	}
	t.mu.Unlock()
	if !proof {
		ctx, cancel := context.WithTimeout(context.Background(), boardTimeout)
		defer cancel()
		t.flush(ctx)
	}
}

// flush posts what is untold; what cannot be posted stays.
func (t *SelfTest) flush(ctx context.Context) {
	t.mu.Lock()
	words := t.untold
	t.untold = map[place.Place]untold{}
	t.mu.Unlock()
	var proofs, alarms []shared.Word
	for _, word := range words {
		if word.proof {
			proofs = append(proofs, word.Word)
		} else {
			alarms = append(alarms, word.Word)
		}
	}
	err := errors.Join(t.words.PostAlarms(ctx, alarms), t.words.PostProofs(ctx, proofs))
	if err == nil {
		return
	}
	t.Log.Debug("router self-test: other instances could not be told", slog.String("error", err.Error()))
	t.mu.Lock()
	defer t.mu.Unlock()
	for p, word := range words {
		if _, newer := t.untold[p]; !newer && t.Now().Sub(word.At) < shared.ProofLife {
			t.untold[p] = word
		}
	}
}

// listen hears the alarms of other instances, each once: whose clock says what
// does not matter. An instance that starts does not believe an alarm that somebody
// has disproven since.
func (t *SelfTest) listen(ctx context.Context, starting bool) {
	alarms, err := t.words.Alarms(ctx)
	if err != nil {
		return // the database is away, which others say; this instance's own probes go on
	}
	for _, alarm := range alarms {
		disproven := false
		if mode, can := t.mode(alarm.Place); starting && can {
			at, proven := t.words.Proof(ctx, alarm.Place, mode)
			disproven = proven && at.After(alarm.At)
		}
		t.hear(alarm, disproven)
	}
}

func (t *SelfTest) hear(alarm shared.Word, disproven bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.states[alarm.Place]
	if s == nil {
		if s, _ = t.deep.Peek(alarm.Place); s == nil {
			s = &state{place: alarm.Place}
			t.states[alarm.Place] = s
		}
	}
	if alarm.At.Equal(s.heard) {
		return
	}
	s.heard = alarm.At
	if former := s.verdict; !disproven && !errors.Is(former.reason, probe.ErrSentinel) {
		s.verdict = verdict{at: t.Now(), reason: fmt.Errorf("%w (another instance has seen it)", probe.ErrSentinel)}
		s.routine.next = t.soon()
		t.logTurn(s, former)
	}
}
