package broker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"code.cloudfoundry.org/brokerapi/v13/middlewares"
)

// maxBody is the most that a request to the broker may have, in bytes.
const maxBody = 1 << 20

const (
	headerVersion         = "X-Broker-Api-Version"
	headerRequestIdentity = "X-Broker-Api-Request-Identity"
	headerRequestID       = "X-Vcap-Request-Id"
)

// Credentials are the names and passwords that open a part of the gateway.
type Credentials struct {
	Username, Password string
	// Previous is a second password that is accepted while the first is being
	// rotated; "": none.
	Previous string
}

// Accept compares in constant time, whatever the lengths.
func (c Credentials) Accept(r *http.Request) bool {
	username, password, ok := r.BasicAuth()
	if !ok || c.Username == "" || c.Password == "" {
		return false
	}
	accepted := sameSecret(password, c.Password)
	if c.Previous != "" {
		accepted |= sameSecret(password, c.Previous)
	}
	return sameSecret(username, c.Username)&accepted == 1
}

func sameSecret(a, b string) int {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:])
}

// protect wraps brokerapi with what it leaves to its users: authentication that
// answers in JSON, a readable 412, bounded and well-formed bodies as 400 and
// not 422 (which would make Cloud Controller delete), the request identity on
// every answer, recovery, and one log line for each change.
func (b *broker) protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := b.Now()
		answer := &answerWriter{ResponseWriter: w}
		if id := r.Header.Get(headerRequestIdentity); id != "" {
			answer.Header().Set(headerRequestIdentity, id)
		}
		defer func() {
			if v := recover(); v != nil {
				b.Log.Error("broker panic", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
				if answer.status == 0 {
					describe(answer, http.StatusInternalServerError, "internal error of the gateway")
				}
			}
			b.record(r, answer.status, b.Now().Sub(started))
		}()
		if !b.Credentials.Accept(r) {
			answer.Header().Set("WWW-Authenticate", `Basic realm="mtls-authz"`)
			describe(answer, http.StatusUnauthorized, "wrong or missing credentials")
			return
		}
		if !supportedVersion(r.Header.Get(headerVersion)) {
			describe(answer, http.StatusPreconditionFailed, "the header X-Broker-API-Version is missing or not 2.x; this broker speaks 2.17")
			return
		}
		if err := checkBody(answer, r); err != nil {
			describe(answer, http.StatusBadRequest, err.Error())
			return
		}
		next.ServeHTTP(answer, r)
	})
}

// record logs every request that asks for a change, and every failure.
func (b *broker) record(r *http.Request, status int, took time.Duration) {
	if r.Method == http.MethodGet && status < http.StatusInternalServerError {
		return
	}
	b.Log.Info("broker",
		slog.String("method", r.Method), slog.String("path", clip(r.URL.Path)), slog.Int("status", status),
		slog.String("by", originatorOf(r.Header.Get("X-Broker-Api-Originating-Identity"))),
		slog.String("request_id", clip(r.Header.Get(headerRequestID))), slog.Int64("duration_us", took.Microseconds()))
}

func clip(s string) string {
	const most = 512
	if len(s) > most {
		return s[:most]
	}
	return s
}

func describe(w http.ResponseWriter, status int, description string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"description": description})
}

// supportedVersion accepts every 2.x: minor versions only add.
func supportedVersion(version string) bool {
	minor, ok := strings.CutPrefix(version, "2.")
	if !ok {
		return false
	}
	_, err := strconv.ParseUint(minor, 10, 16)
	return err == nil
}

// checkBody accepts a body that is one JSON object whose parameters, if any,
// are an object, and puts it back for brokerapi.
func checkBody(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodPut && r.Method != http.MethodPatch {
		return nil
	}
	if given := r.Header.Get("Content-Type"); given != "" {
		if media, _, err := mime.ParseMediaType(given); err != nil || media != "application/json" {
			return fmt.Errorf("content type %.64q: expected application/json", given)
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return fmt.Errorf("the body has more than %d bytes", maxBody)
	case err != nil:
		return errors.New("the body could not be read")
	}
	var members struct {
		Parameters json.RawMessage `json:"parameters"`
	}
	if first := bytes.TrimLeft(body, " \t\r\n"); len(first) == 0 || first[0] != '{' || json.Unmarshal(body, &members) != nil {
		return errors.New("the body is not one JSON object")
	}
	if p := members.Parameters; len(p) > 0 && p[0] != '{' && string(p) != "null" {
		return errors.New("parameters: expected a JSON object")
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

// originator is who caused the request: the user id that the platform sent, or
// "" (orphan mitigation names nobody).
func originator(ctx context.Context) string {
	header, _ := ctx.Value(middlewares.OriginatingIdentityKey).(string)
	return originatorOf(header)
}

func originatorOf(header string) string {
	_, encoded, _ := strings.Cut(header, " ")
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return ""
	}
	var identity struct {
		UserID string `json:"user_id"`
	}
	if json.Unmarshal(raw, &identity) != nil {
		return ""
	}
	return clip(identity.UserID)
}

// answerWriter remembers the status.
type answerWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *answerWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}
