package authorities

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/store/board"
)

const (
	// kind is that of the notes, of which one is named by the CA's fingerprint
	// and holds what proves it: CF_INSTANCE_CERT, leaf and issuer.
	kind = "caller-authority"
	// maxShared bounds how many of the siblings' CAs are trusted, the newest.
	// Rotations leave one each until its NotAfter.
	maxShared = 20
	// maxNotes bounds how many are looked at, maxProblems how many of those that
	// are refused are named in the log.
	maxNotes, maxProblems = 100, 3
)

// Board is where sibling instances tell one another what they have found;
// [board.Board] is one.
type Board interface {
	Post(ctx context.Context, kind string, notes ...board.Note) error
	// Read returns the newest note first.
	Read(ctx context.Context, kind string) ([]board.Note, error)
}

// Share begins to share the caller CAs with siblings, and looks once what there
// is. It is to be called before Run and before anything is verified. It does
// nothing where CALLER_CA_FILES says who is trusted, or where the gateway's own
// certificate names no app whose siblings could be told from others.
func (a *Authorities) Share(ctx context.Context, b Board) {
	if len(a.cfg.Settings.CallerCAs) > 0 || a.given[0].holder.IsZero() {
		return
	}
	a.board = b
	a.look(ctx)
}

// follow looks at the board at intervals.
func (a *Authorities) follow(ctx context.Context) {
	ticker := time.NewTicker(a.cfg.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			a.look(ctx)
		}
	}
}

// look takes over what is on the board and posts what is missing there. Without
// the board, what is known stays until it ends.
func (a *Authorities) look(ctx context.Context) {
	notes, err := a.board.Read(ctx, kind)
	if err != nil {
		a.complain(errors.Join(err, a.change(func() {})))
		return
	}
	found, problem := a.judge(notes)
	err = a.change(func() { a.shared = found })
	a.complain(errors.Join(problem, err, a.tell(ctx, found)))
}

// judge returns the CAs that notes prove, the newest first, and what is wrong with
// the others.
func (a *Authorities) judge(notes []board.Note) (found []authority, problem error) {
	a.mu.Lock()
	own := a.given[0].holder
	a.mu.Unlock()
	var problems []error
	for _, note := range notes[:min(len(notes), maxNotes)] {
		one, err := read(note, own)
		switch {
		case err != nil:
			problems = append(problems, fmt.Errorf("caller CA %.64q of a sibling: %w", note.Name, err))
		case len(found) == maxShared:
			problems = append(problems, fmt.Errorf("caller CA %q of a sibling: there are more than %d; remove the oldest", note.Name, maxShared))
		default:
			found = append(found, one)
		}
	}
	return found, errors.Join(problems[:min(len(problems), maxProblems)]...)
}

// read takes a CA from a note. Whoever can write on the board could say anything:
// what counts is a certificate that this CA has issued to a gateway of the same
// space. That keeps out a CA that issues no instance certificates, and those of
// another foundation that came here with its database.
func read(note board.Note, own identity.Caller) (authority, error) {
	chain, err := identity.ParseCertificates([]byte(note.Value))
	if err != nil {
		return authority{}, err
	}
	one, err := prove(chain)
	switch {
	case err != nil:
		return authority{}, err
	case len(chain) != 2:
		return authority{}, fmt.Errorf("expected two certificates, found %d", len(chain))
	case one.Fingerprint != note.Name:
		return authority{}, fmt.Errorf("the fingerprint is %s", one.Fingerprint)
	case one.holder.Space != own.Space || one.holder.Org != own.Org:
		return authority{}, errors.New("the certificate that proves it is not of the gateway's space")
	}
	one.Origin, one.Since = "sibling", note.At
	return one, nil
}

// tell posts the issuers of own certificates that were not found on the board. As
// the newest notes they are not among those that are left out.
func (a *Authorities) tell(ctx context.Context, found []authority) error {
	now := a.cfg.Now()
	a.mu.Lock()
	former := a.former
	own := union(a.given, former)
	a.mu.Unlock()
	var news []board.Note
	for _, one := range own {
		if !contains(found, one) && one.leaf != nil && now.Before(one.NotAfter) {
			news = append(news, board.Note{Name: one.Fingerprint, Value: one.proof(), At: now, Until: one.NotAfter})
		}
	}
	if len(news) > 0 {
		if err := a.board.Post(ctx, kind, news...); err != nil {
			return err
		}
	}
	// From now on the board says how long these are trusted.
	return a.change(func() {
		a.shared = union(a.shared, former)
		a.former = slices.DeleteFunc(slices.Clone(a.former), func(one authority) bool { return contains(former, one) })
	})
}

// proof is what read takes a CA from.
func (one authority) proof() string {
	var text strings.Builder
	for _, certificate := range []*x509.Certificate{one.leaf, one.certificate} {
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}) // a Builder takes everything
	}
	return text.String()
}

// complain says what is wrong with the board, once.
func (a *Authorities) complain(err error) {
	said := ""
	if err != nil {
		said = err.Error()
	}
	a.mu.Lock()
	news := said != a.complaint
	a.complaint = said
	a.mu.Unlock()
	if news && err != nil {
		a.cfg.Log.Warn("caller CAs of siblings", slog.String("error", said))
	}
}
