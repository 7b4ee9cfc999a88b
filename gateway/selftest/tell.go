package selftest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"time"

	"github.com/mtls-authz/mtls-authz/gateway/selftest/place"
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

// adopt takes a proof of another instance where there is no verdict, unless an
// alarm is the later word: that it takes.
func (t *SelfTest) adopt(ctx context.Context, s *state) bool {
	mode, can := t.mode(s.place)
	if !can || t.stands(t.verdictOf(s)) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, boardTimeout)
	defer cancel()
	at, proven := t.words.Proof(ctx, s.place, mode)
	t.mu.Lock()
	defer t.mu.Unlock()
	former := s.verdict
	alarm, alarmed := t.alarms[s.place.OfAll()]
	disproven := proven && at.After(alarm)
	switch {
	case t.stands(former) || !proven && !alarmed:
		return false
	case disproven:
		s.verdict = verdict{at: at, trusted: true}
	default:
		s.verdict = verdict{at: t.Now(), reason: errElsewhere}
	}
	t.logTurn(s, former)
	return disproven
}

func (t *SelfTest) verdictOf(s *state) verdict {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return s.verdict
}

// tell has the other instances know: of an alarm at once, of a proof soon.
func (t *SelfTest) tell(s *state, proof bool) {
	mode, _ := t.mode(s.place)
	word := shared.Word{Place: s.place, Mode: mode, At: t.Now().UTC().Truncate(time.Millisecond)}
	t.mu.Lock()
	if !proof {
		word.Place, word.Mode = s.place.OfAll(), ""
		t.alarms[word.Place] = word.At
	}
	t.untold[word.Place] = untold{word, proof}
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
	words, err := t.words.Alarms(ctx)
	if err != nil {
		return // the database is away, which others say; this instance's own probes go on
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	former := t.alarms
	t.alarms = make(map[place.Place]time.Time, len(words))
	for _, alarm := range words {
		t.alarms[alarm.Place] = alarm.At
		if alarm.At.Equal(former[alarm.Place]) {
			continue
		}
		since := time.Time{}
		if starting {
			since = alarm.At
		}
		t.suspect(alarm.Place, errElsewhere, since)
	}
}
