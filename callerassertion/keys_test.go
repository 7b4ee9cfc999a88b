package callerassertion_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/callerassertion"
)

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

func TestKeysAreFetchedOnceAndRefreshedWithoutWaiting(t *testing.T) {
	w := newWorld(t)
	v := w.verifier()
	require.Zero(t, w.fetched(), "nothing is fetched before a request needs it")
	for range 20 {
		require.NoError(t, w.verify(v, w.token()))
	}
	require.Equal(t, 1, w.fetched())

	release := make(chan struct{})
	w.serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		<-release
		w.signer.ServeHTTP(rw, r)
	}))
	w.pass(5 * time.Minute)
	impatient, leave := context.WithCancel(t.Context())
	leave()
	for range 20 {
		r := presented{http.MethodGet, host, target, []string{w.token()}}.request()
		_, err := v.Verify(r.WithContext(impatient))
		require.NoError(t, err, "the gateway does not answer, and nobody waits")
	}
	close(release)
	require.Eventually(t, func() bool { return w.fetched() == 2 }, 5*time.Second, time.Millisecond)
}

func TestUnknownKeysCauseFewFetches(t *testing.T) {
	w := newWorld(t)
	v := w.verifier()
	unknown := forge(w.key(), with(w.header(), "kid", "unknown"), w.claims())
	for range 50 {
		require.ErrorIs(t, w.verify(v, unknown), callerassertion.ErrUnknownKey)
	}
	require.Equal(t, 1, w.fetched())
	require.NoError(t, w.verify(v, w.token()), "others are not disturbed")
	w.pass(10 * time.Second)
	for range 50 {
		require.ErrorIs(t, w.verify(v, unknown), callerassertion.ErrUnknownKey)
	}
	require.Equal(t, 2, w.fetched())
}

func TestManyRequestsShareOneFetch(t *testing.T) {
	w := newWorld(t)
	v := w.verifier()
	arrived, release := make(chan struct{}, 1), make(chan struct{})
	w.serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
		w.signer.ServeHTTP(rw, r)
	}))
	gone, leave := context.WithCancel(t.Context())
	tokens := make([]string, 20)
	for i := range tokens {
		tokens[i] = w.token()
	}
	var requests sync.WaitGroup
	errs := make([]error, len(tokens))
	for i := range tokens {
		requests.Go(func() { errs[i] = w.verify(v, tokens[i]) })
	}
	<-arrived
	leave()
	r := presented{http.MethodGet, host, target, []string{w.token()}}.request().WithContext(gone)
	_, err := v.Verify(r)
	require.ErrorIs(t, err, callerassertion.ErrUnavailable, "who has gone does not wait")
	close(release)
	requests.Wait()
	for _, err := range errs {
		assert.NoError(t, err)
	}
	assert.Equal(t, 1, w.fetched())
}

func TestRotationIsNotNoticed(t *testing.T) {
	w := newWorld(t)
	v := w.verifier()
	require.NoError(t, w.verify(v, w.token()))
	first := w.keyID()
	w.serve(answer(http.StatusServiceUnavailable, ""))
	w.pass(23*time.Hour + 59*time.Minute)
	require.NotEqual(t, first, w.keyID(), "the key has changed")
	require.NoError(t, w.verify(v, w.token()), "and was known a day before, though it cannot be fetched now")
}

func TestKeysAreUsedForADayWithoutTheGateway(t *testing.T) {
	w := newWorld(t)
	v := w.verifier()
	require.NoError(t, w.verify(v, w.token()))
	w.serve(answer(http.StatusServiceUnavailable, ""))
	w.pass(24 * time.Hour)
	require.ErrorIs(t, w.verify(v, w.token()), callerassertion.ErrUnavailable)
	w.serve(w.signer)
	w.pass(time.Second)
	require.NoError(t, w.verify(v, w.token()), "and at once when it is back")
}

func TestRemovedKeysAreForgotten(t *testing.T) {
	w := newWorld(t)
	v := w.verifier()
	old := w.key()
	header := w.header()
	require.NoError(t, w.verify(v, forge(old, header, w.claims())))
	w.pass(24*time.Hour + 10*time.Minute)
	require.NoError(t, w.verify(v, w.token()), "waits for the new keys, since the old ones are too old to use")
	require.ErrorIs(t, w.verify(v, forge(old, header, w.claims())), callerassertion.ErrUnknownKey, "a key stolen after its time is worth nothing")
}

func TestAnswersThatAreNoKeys(t *testing.T) {
	w := newWorld(t)
	genuine := httptest.NewRecorder()
	w.signer.ServeHTTP(genuine, httptest.NewRequest(http.MethodGet, "/", nil))
	elsewhere := httptest.NewTLSServer(w.signer)
	defer elsewhere.Close()
	for name, keys := range map[string]http.Handler{
		"an error":                          answer(http.StatusInternalServerError, genuine.Body.String()),
		"not JSON":                          answer(http.StatusOK, "<html>"),
		"no keys":                           answer(http.StatusOK, `{"keys":[]}`),
		"a key that is too short":           answer(http.StatusOK, `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}`),
		"keys of other kinds":               answer(http.StatusOK, `{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"oct","k":"AAAA"},{"kty":"OKP","crv":"X25519","x":"AAAA"}]}`),
		"an endless body":                   answer(http.StatusOK, `{"keys":[`+strings.Repeat(" ", 1<<20)+strings.TrimPrefix(genuine.Body.String(), `{"keys":[`)),
		"more after the keys":               answer(http.StatusOK, genuine.Body.String()+strings.Repeat(" ", 1<<20)),
		"a redirect to another host":        http.RedirectHandler(elsewhere.URL+callerassertion.KeysPath, http.StatusFound),
		"a redirect to itself, without TLS": http.RedirectHandler("http://"+strings.TrimPrefix(w.server.URL, "https://"), http.StatusMovedPermanently),
	} {
		t.Run(name, func(t *testing.T) {
			w.serve(keys)
			require.ErrorIs(t, w.verify(w.verifier(), w.token()), callerassertion.ErrUnavailable)
		})
	}
	t.Run("a certificate of nobody we trust", func(t *testing.T) {
		w.serve(w.signer)
		v := w.verifier(func(c *callerassertion.Config) { c.Transport = nil })
		require.ErrorIs(t, w.verify(v, w.token()), callerassertion.ErrUnavailable)
	})
}

func TestAKeyCannotTakeTheNameOfAnother(t *testing.T) {
	w := newWorld(t)
	stranger := seed("stranger")
	w.serve(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(rw).Encode(map[string]any{"keys": []any{map[string]string{
			"kty": "OKP", "crv": "Ed25519", "x": base64.RawURLEncoding.EncodeToString(stranger), "kid": w.keyID(),
		}}})
	}))
	require.ErrorIs(t, w.verify(w.verifier(), w.token()), callerassertion.ErrUnknownKey, "names are computed, never read")
}
