package envelope

import (
	"context"
	"errors"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/api/viewer"
)

type userKey struct{}

// UserOf returns the user by whose token a request was let in; false: it was by a
// password.
func UserOf(r *http.Request) (viewer.May, bool) {
	user, ok := r.Context().Value(userKey{}).(viewer.May)
	return user, ok
}

// Open lets users, by their tokens, do this to a service instance, beside what
// [Envelope.Handle] lets readers and operators do: the pattern has its guid as
// {guid}. GET and questions take Read, all else takes Manage. What is not opened
// refuses tokens.
func (a *Envelope) Open(pattern string, m Methods) {
	a.users.Handle(pattern, a.answering(func(w http.ResponseWriter, r *http.Request) error {
		may, err := a.permits(w, r)
		if err != nil {
			return err
		}
		if a.isChange(r) && !may.Manage {
			return Refuse(http.StatusForbidden, "the user may read this service instance and not manage it")
		}
		// Only now, so that nobody without a right can take all turns; and whoever has
		// one, one. The user's own first: who waits for that holds up nobody. Changes do
		// not wait for those who read: they may revoke.
		instance := "instance " + r.PathValue("guid")
		if a.isChange(r) {
			instance = "change of " + instance
		}
		for _, name := range []string{may.User, instance} {
			if name == "" { // nobody knows who it is
				continue
			}
			leave, ok := a.fair.take(r.Context(), name, a.MaxWait)
			if !ok {
				return tooMany(w)
			}
			defer leave()
		}
		if !takeTurn(r.Context(), a.userTurns, a.MaxWait) {
			return tooMany(w)
		}
		defer a.userTurns.Release(1)
		// What Cloud Controller took to answer does not count.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)) // a test's recorder has none
		return m.do(w, r.WithContext(context.WithValue(r.Context(), userKey{}, may)))
	}))
}

// permits is what the user may do; whoever may nothing hears the same of every
// instance, whether it is there or not.
func (a *Envelope) permits(w http.ResponseWriter, r *http.Request) (viewer.May, error) {
	may, err := a.Permits(r.Context(), r, r.PathValue("guid"))
	switch {
	case errors.Is(err, viewer.ErrNoToken):
		w.Header().Set("WWW-Authenticate", `Bearer realm="mtls-authz", error="invalid_token"`)
		return may, Refuse(http.StatusUnauthorized, "the token is not accepted; expected one such as cf oauth-token prints")
	case err != nil: // ErrUnavailable, whose text may name the platform's hosts
		w.Header().Set("Retry-After", "5")
		return may, Refuse(http.StatusServiceUnavailable, "%w", viewer.ErrUnavailable)
	case !may.Read:
		return may, Refuse(http.StatusForbidden, "there is no such service instance, or the user may not read it")
	}
	if out, ok := w.(*answer); ok {
		out.by = by(may)
	}
	return may, nil
}

// admitUser refuses, cheap first, what does not come to an open endpoint.
func (a *Envelope) admitUser(w http.ResponseWriter, r *http.Request) error {
	if !isSafe(r) && fromBrowser(r) {
		return errBrowser
	}
	if path.Clean(r.URL.Path) != r.URL.Path {
		return errClosed // ServeMux would redirect
	}
	connection := http.NewResponseController(w)
	_ = connection.SetWriteDeadline(time.Now().Add(writeTimeout))
	defer func() { _ = connection.SetWriteDeadline(time.Time{}) }()
	a.users.ServeHTTP(w, r)
	return nil
}

var (
	errClosed  = Refuse(http.StatusForbidden, "a user's token opens /v1/instances/GUID and what is below it, and nothing else")
	errBrowser = Refuse(http.StatusForbidden, "a request with the headers of a browser changes nothing here: another site may have sent it")
)

// hasToken reports whether any of a request's credentials is a token; then none of
// them counts as a password.
func hasToken(r *http.Request) bool {
	for _, value := range r.Header.Values("Authorization") {
		if scheme, _, _ := strings.Cut(strings.TrimSpace(value), " "); strings.EqualFold(scheme, "bearer") {
			return true
		}
	}
	return false
}

// by names a user for log and audit.
func by(user viewer.May) string {
	if user.User == "" {
		return "a user's token"
	}
	return user.User
}
