package callerassertion

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// token is a compact JWS, decoded and not verified.
type token struct {
	keyID string
	// signed is what the signature is over.
	signed    []byte
	payload   []byte
	signature []byte
}

// parse reads the form alone: no key is fetched and no claim is read for what is
// not an assertion of ours.
func parse(text string) (token, error) {
	if len(text) > MaxLength {
		return token{}, malformed("%d bytes, at most %d are accepted", len(text), MaxLength)
	}
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return token{}, malformed("%d parts, expected 3", len(parts))
	}
	var decoded [3][]byte
	for i, part := range parts {
		var err error
		if decoded[i], err = decode(part); err != nil {
			return token{}, malformed("part %d: expected base64url without padding", i+1)
		}
	}
	if len(decoded[2]) != ed25519.SignatureSize {
		return token{}, malformed("signature of %d bytes, expected %d", len(decoded[2]), ed25519.SignatureSize)
	}
	keyID, err := parseHeader(decoded[0])
	return token{keyID: keyID, signed: []byte(text[:len(parts[0])+1+len(parts[1])]), payload: decoded[1], signature: decoded[2]}, err
}

// decode is strict: one text for the same bytes, and no line breaks, which
// encoding/base64 steps over.
func decode(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, errors.New("line break")
	}
	return base64.RawURLEncoding.Strict().DecodeString(text)
}

// parseHeader returns the key's name. Only typ, alg and kid have a meaning: keys
// that a token brings along (jwk, jku, x5u, x5c) are never looked at.
func parseHeader(text []byte) (keyID string, err error) {
	var h struct {
		Type      string          `json:"typ"`
		Algorithm string          `json:"alg"`
		KeyID     string          `json:"kid"`
		Critical  json.RawMessage `json:"crit"`
	}
	switch err := unmarshal(text, &h); {
	case err != nil:
		return "", malformed("header: %v", err)
	case h.Type != Type:
		return "", malformed("typ: expected %q", Type)
	case h.Algorithm != Algorithm:
		return "", malformed("alg: expected %q", Algorithm)
	case h.Critical != nil:
		return "", malformed("crit: no extension is understood")
	case h.KeyID == "":
		return "", malformed("no kid")
	}
	return h.KeyID, nil
}

// parseClaims reads what has been verified to be the gateway's.
func parseClaims(text []byte) (c Claims, err error) {
	if err := unmarshal(text, &c); err != nil {
		return Claims{}, malformed("claims: %v", err)
	}
	for _, required := range []string{c.DecisionID, c.Route, c.CallerApp, c.CallerSpace, c.CallerOrg} {
		if required == "" {
			return Claims{}, malformed("a claim is missing")
		}
	}
	return c, nil
}

// unmarshal reads a JSON object into a struct. Unlike encoding/json it refuses
// a member that is there twice and takes names only exactly as they are spelled:
// two readers of one token must not read two things (RFC 8725, section 2.4).
func unmarshal(text []byte, into any) error {
	fields := map[string]any{}
	target := reflect.ValueOf(into).Elem()
	for i := range target.NumField() {
		name, _, _ := strings.Cut(target.Type().Field(i).Tag.Get("json"), ",")
		fields[name] = target.Field(i).Addr().Interface()
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return errors.New("expected a JSON object")
	}
	seen := map[string]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return errors.New("not JSON")
		}
		name, _ := token.(string) // in an object, names are all that can come
		if seen[name] {
			return errors.New("a member twice")
		}
		seen[name] = true
		field, known := fields[name]
		if !known {
			field = new(json.RawMessage)
		}
		if err := decoder.Decode(field); err != nil {
			return errors.New("a member of another type, or not JSON")
		}
	}
	if _, err := decoder.Token(); err != nil {
		return errors.New("not JSON")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something after the object")
	}
	return nil
}
