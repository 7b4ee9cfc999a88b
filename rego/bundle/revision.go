package bundle

import (
	"cmp"
	"strconv"
	"time"
)

// A Mark is the newest signed bundle that was ever in force. A signature does
// not expire, so without it whoever can serve bundles could serve an old one.
// The zero Mark is none.
type Mark struct {
	// Revision is that of .manifest, Digest that of the bundle.
	Revision string   `json:"revision"`
	Digest   [32]byte `json:"digest"`
}

// Mark returns what to remember of b.
func (b *Bundle) Mark() Mark { return Mark{b.Revision, b.Digest} }

// Follows refuses a signed bundle that is older than the mark, or another one
// of the same revision. Revisions are integers, or times of RFC 3339, in
// .manifest; which of both must stay the same.
func (b *Bundle) Follows(m Mark) error {
	number, when, err := parseRevision(b.Revision)
	if err != nil {
		return err
	}
	if m == (Mark{}) {
		return nil
	}
	oldNumber, oldWhen, err := parseRevision(m.Revision)
	if err != nil {
		return err
	}
	if when.IsZero() != oldWhen.IsZero() {
		return Refuse(StepSignature, nil, "revision %q is of another kind than %q, the last one in force", b.Revision, m.Revision).
			WithFix("stay with integers, or with times")
	}
	switch order := cmp.Or(cmp.Compare(number, oldNumber), when.Compare(oldWhen)); {
	case order < 0:
		return Refuse(StepSignature, nil, "revision %q is older than %q, which was in force", b.Revision, m.Revision).
			WithFix("to go back, sign the old content anew with a higher revision")
	case order == 0 && b.Digest != m.Digest:
		return Refuse(StepSignature, nil, "revision %q was in force with another content", b.Revision).
			WithFix("give each content a revision of its own")
	}
	return nil
}

func parseRevision(text string) (number uint64, when time.Time, err error) {
	if number, err = strconv.ParseUint(text, 10, 64); err == nil {
		return number, when, nil
	}
	if when, err = time.Parse(time.RFC3339, text); err == nil && !when.IsZero() {
		return 0, when, nil
	}
	return 0, when, Refuse(StepSignature, nil, "revision %q of .manifest: a signed bundle needs an integer or a time such as 2026-05-04T10:15:00Z", text)
}
