package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

// Header is the canonical name of the header that carries the client
// certificate from gorouter.
const Header = "X-Forwarded-Client-Cert"

// Format is the form of the X-Forwarded-Client-Cert value. The zero value is
// [Raw].
type Format int

const (
	// Raw is gorouter's form: the leaf's DER in one line of standard base64.
	Raw Format = iota
	// Envoy is Envoy's form, Hash=...;Subject="..."[;URI=...], which newer
	// routers can be told to send. It holds no certificate, so nothing in it
	// can be verified: the caller is whoever the router says.
	Envoy
)

// ParseFormat reads "raw" or "envoy".
func ParseFormat(s string) (Format, error) {
	switch s {
	case "raw":
		return Raw, nil
	case "envoy":
		return Envoy, nil
	}
	return Raw, fmt.Errorf("format %q: expected raw or envoy", clip(s))
}

// String returns the name that [ParseFormat] reads.
func (f Format) String() string {
	if f == Envoy {
		return "envoy"
	}
	return "raw"
}

// maxHeader bounds the header value in bytes; a leaf takes about 1500.
const maxHeader = 16 << 10

// parseRaw decodes exactly one certificate. Line breaks, spaces, the URL
// alphabet, missing padding, a second certificate and trailing bytes are
// refused.
func parseRaw(value string) (*x509.Certificate, error) {
	der, err := base64.StdEncoding.Strict().DecodeString(value)
	if err != nil || strings.ContainsAny(value, "\r\n") {
		return nil, untrusted("the header is not one line of standard base64")
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, untrusted("the header holds no single certificate: %v", err)
	}
	return leaf, nil
}

// parseEnvoy reads one element of Envoy's form into the caller that it names.
// The grammar is narrower than Envoy's: the keys By, Hash, Subject, URI and
// DNS, each at most once; Hash and a quoted Subject required; no quote inside a
// quoted value; no second element; visible ASCII and spaces, no backslash. A
// certificate (Cert, Chain) is refused rather than ignored.
func parseEnvoy(value string) (Caller, error) {
	if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' || r == '\\' }) {
		return Caller{}, untrusted("a backslash, or characters outside visible ASCII, in Envoy's form")
	}
	fields, err := envoyFields(value)
	if err != nil {
		return Caller{}, err
	}
	if !isSHA256(fields["Hash"]) {
		return Caller{}, untrusted("Hash is not a SHA-256 in hexadecimal")
	}
	subject, found := fields["Subject"]
	if !found {
		return Caller{}, untrusted("no Subject in Envoy's form")
	}
	return subjectCaller(subject)
}

func envoyFields(rest string) (map[string]string, error) {
	fields := make(map[string]string, 3)
	for {
		key, after, found := strings.Cut(rest, "=")
		if !found {
			return nil, untrusted("expected Key=value in Envoy's form")
		}
		switch key {
		case "By", "Hash", "Subject", "URI", "DNS":
		default:
			return nil, untrusted("unexpected key in Envoy's form") // not quoted: it may be a whole certificate
		}
		if _, repeated := fields[key]; repeated {
			return nil, untrusted("%s given twice in Envoy's form", key)
		}
		if key == "Subject" && !strings.HasPrefix(after, `"`) {
			return nil, untrusted("Subject is not quoted in Envoy's form")
		}
		value, tail, err := envoyValue(after)
		if err != nil {
			return nil, err
		}
		fields[key] = value
		if tail == "" {
			return fields, nil
		}
		if tail[0] != ';' {
			return nil, untrusted("more than one element, or text after the value of %s, in Envoy's form", key)
		}
		rest = tail[1:]
	}
}

// envoyValue splits a value, quoted or bare, from what follows it.
func envoyValue(s string) (value, tail string, err error) {
	if quoted, ok := strings.CutPrefix(s, `"`); ok {
		value, tail, found := strings.Cut(quoted, `"`)
		if !found {
			return "", "", untrusted("unclosed quotes in Envoy's form")
		}
		return value, tail, nil
	}
	end := strings.IndexAny(s, `;,"`)
	if end < 0 {
		end = len(s)
	}
	if end == 0 {
		return "", "", untrusted("empty value in Envoy's form")
	}
	return s[:end], s[end:], nil
}

func isSHA256(s string) bool {
	digest, err := hex.DecodeString(s)
	return err == nil && len(digest) == sha256.Size
}

// subjectCaller reads a distinguished name in the form of RFC 4514, as Go and
// Envoy write it: RDNs joined by ',', attributes of one RDN by '+'. Only CN and
// OU occur in an instance certificate; escapes never do, and are refused
// because they are how a name smuggles in another attribute.
func subjectCaller(subject string) (Caller, error) {
	var caller Caller
	var units []string
	names := 0
	for attribute := range strings.SplitSeq(strings.ReplaceAll(subject, "+", ","), ",") {
		kind, value, found := strings.Cut(attribute, "=")
		switch {
		case !found || strings.ContainsAny(value, `\#"=<>; `) || value == "":
			return Caller{}, noIdentity("attribute %q of the subject is not of an instance certificate", clip(attribute))
		case kind == "OU":
			units = append(units, value)
		case kind == "CN" && names == 0:
			caller.Instance = instanceOf(value)
			names++
		default:
			return Caller{}, noIdentity("attribute %q of the subject is not of an instance certificate", clip(attribute))
		}
	}
	if err := caller.setUnits(units); err != nil {
		return Caller{}, err
	}
	return caller, nil
}
