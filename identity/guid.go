package identity

import (
	"bytes"
	"encoding/hex"
	"fmt"
)

// GUID is a Cloud Foundry guid of an app, a space or an org: a UUID (RFC 9562)
// in 16 bytes. It is comparable; the zero value names nothing and cannot be
// parsed into.
type GUID [16]byte

// guidLayout marks with 'x' the places of the hexadecimal digits.
const guidLayout = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"

// ParseGUID reads a lower-case UUID such as
// "d76446a1-f429-4444-8797-be2f78b75b08". Upper case, braces, a "urn:uuid:"
// prefix and the nil UUID are refused: there is one spelling of an identity.
func ParseGUID(s string) (GUID, error) {
	var id GUID
	if len(s) != len(guidLayout) {
		return GUID{}, fmt.Errorf("guid %q: expected 36 characters like %s", clip(s), guidLayout)
	}
	digits := 0
	for i := range len(s) {
		if guidLayout[i] == '-' {
			if s[i] != '-' {
				return GUID{}, fmt.Errorf("guid %q: expected %q at position %d", s, '-', i+1)
			}
			continue
		}
		nibble, ok := lowerHex(s[i])
		if !ok {
			return GUID{}, fmt.Errorf("guid %q: expected a lower-case hexadecimal digit at position %d", s, i+1)
		}
		id[digits/2] = id[digits/2]<<4 | nibble
		digits++
	}
	if id.IsZero() {
		return GUID{}, fmt.Errorf("guid %q: the nil UUID names nothing", s)
	}
	return id, nil
}

// IsZero reports whether the GUID names nothing.
func (g GUID) IsZero() bool { return g == GUID{} }

// Compare orders guids as their texts are ordered.
func (g GUID) Compare(other GUID) int { return bytes.Compare(g[:], other[:]) }

// String returns the lower-case UUID, or "" for the zero GUID.
func (g GUID) String() string {
	if g.IsZero() {
		return ""
	}
	var out [36]byte
	hex.Encode(out[0:8], g[0:4])
	hex.Encode(out[9:13], g[4:6])
	hex.Encode(out[14:18], g[6:8])
	hex.Encode(out[19:23], g[8:10])
	hex.Encode(out[24:36], g[10:16])
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return string(out[:])
}

// MarshalText implements [encoding.TextMarshaler].
func (g GUID) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler] with the grammar of
// [ParseGUID].
func (g *GUID) UnmarshalText(text []byte) error {
	id, err := ParseGUID(string(text))
	if err != nil {
		return err
	}
	*g = id
	return nil
}

func lowerHex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}

// clip bounds outside input that is quoted in an error.
func clip(s string) string {
	const most = 64
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
