package settings

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/mtls-authz/mtls-authz/cache/server"
	"github.com/mtls-authz/mtls-authz/gateway/leg3"
	"github.com/mtls-authz/mtls-authz/gateway/target"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego/bundle"
	"github.com/mtls-authz/mtls-authz/rego/source"
)

func text(field func(*Settings) *string) func(*Settings, string) error {
	return func(s *Settings, v string) error { *field(s) = v; return nil }
}

// address is an IP address of this machine.
func address(field func(*Settings) *string) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		if _, err := netip.ParseAddr(v); err != nil {
			return fmt.Errorf("%q: expected an IP address to listen on, such as 127.0.0.1; unset, it is every address", v)
		}
		*field(s) = v
		return nil
	}
}

const minPassword = 16

func password(field func(*Settings) *string) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		if len(v) < minPassword {
			return fmt.Errorf("has %d characters; use at least %d, such as from: openssl rand -hex 16", len(v), minPassword)
		}
		*field(s) = v
		return nil
	}
}

func number(most int, field func(*Settings) *int) func(*Settings, string) error {
	return numberFrom(1, most, field)
}

func numberFrom(least, most int, field func(*Settings) *int) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < least || n > most {
			return fmt.Errorf("%q: expected a number between %d and %d", v, least, most)
		}
		*field(s) = n
		return nil
	}
}

func boolean(field func(*Settings) *bool) func(*Settings, string) error {
	return choice("false", "true", field)
}

// choice is a setting with two words, the second of which means true.
func choice(no, yes string, field func(*Settings) *bool) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		if v != no && v != yes {
			return fmt.Errorf("%q: expected %s or %s", v, no, yes)
		}
		*field(s) = v == yes
		return nil
	}
}

func duration(field func(*Settings) *time.Duration) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 {
			return fmt.Errorf("%q: expected a duration such as 30s or 5m", v)
		}
		*field(s) = d
		return nil
	}
}

// noneOrMore is a duration that may be none.
func noneOrMore(field func(*Settings) *time.Duration) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		if d, err := time.ParseDuration(v); err == nil && d == 0 {
			*field(s) = 0
			return nil
		}
		return duration(field)(s, v)
	}
}

// share is a part of a whole.
func share(field func(*Settings) *float64) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		f, err := strconv.ParseFloat(v, 64)
		if err != nil || !(f > 0 && f <= 1) { // which NaN is not
			return fmt.Errorf("%q: expected a number above 0 and at most 1, such as 0.1", v)
		}
		*field(s) = f
		return nil
	}
}

// location is where a bundle comes from; it may be away at the start.
func location(field func(*Settings) *string) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		*field(s) = v
		_, err := source.Open(source.Config{Location: v})
		return err
	}
}

func file(field func(*Settings) *identity.File) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		*field(s) = identity.File(v)
		_, err := identity.File(v).Read()
		return err
	}
}

func files(field func(*Settings) *[]identity.File) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		if strings.Contains(v, "-----BEGIN ") {
			*field(s) = []identity.File{identity.File(v)}
		} else {
			for path := range strings.SplitSeq(v, ",") {
				*field(s) = append(*field(s), identity.File(strings.TrimSpace(path)))
			}
		}
		_, err := identity.ReadCAs(*field(s)...)
		return err
	}
}

func (s *Settings) setGatewayURL(v string) error {
	if err := checkOrigin(v, "https://mtls-authz.apps.example.com"); err != nil {
		return err
	}
	s.GatewayURL = strings.ToLower(v)
	return nil
}

// checkOrigin takes a URL that is a scheme and a host.
func checkOrigin(v, example string) error {
	u, err := url.Parse(v)
	if err == nil && u.Scheme == "https" && v == "https://"+u.Host && isHost(u.Hostname()) {
		return nil
	}
	const expected = "expected https://host without a path, a query or a slash at the end, such as "
	if err != nil || u.User != nil || u.RawQuery != "" { // which may be secrets
		return errors.New(expected + example)
	}
	return fmt.Errorf("%q: %s", v, expected+example)
}

func (s *Settings) setCFAPIURL(v string) error {
	if err := checkOrigin(v, "https://api.example.com"); err != nil {
		return err
	}
	s.CFAPIURL = strings.ToLower(v)
	return nil
}

func isHost(host string) bool {
	return route.CheckHost(strings.ToLower(host)) == nil || net.ParseIP(host) != nil
}

func (s *Settings) setStoreURL(v string) error {
	for _, scheme := range []string{"sqlite://", "postgres://", "postgresql://"} {
		if strings.HasPrefix(v, scheme) {
			s.StoreURL = v
			return nil
		}
	}
	return errors.New("expected postgres://user:password@host:port/database or sqlite:///path/to/file")
}

func (s *Settings) setRedisURL(v string) error {
	s.RedisURL = v
	return server.Check(v)
}

// setTraceEndpoint takes what OpenTelemetry takes: the URL below which v1/traces
// is.
func (s *Settings) setTraceEndpoint(v string) error {
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("expected the URL of a collector that takes OTLP over HTTP, such as https://collector.example.com")
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "http" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		// Spans tell who calls whom, and the headers are secrets.
		return fmt.Errorf("http to %q would go over the network in clear; expected https, or http to a collector on localhost", u.Host)
	}
	s.TraceEndpoint = u.JoinPath("v1/traces").String()
	return nil
}

// setTraceHeaders takes what OpenTelemetry takes: name=value, with commas between
// and the values escaped as in URLs.
func (s *Settings) setTraceHeaders(v string) error {
	s.TraceHeaders = map[string]string{}
	for _, pair := range strings.Split(v, ",") {
		name, escaped, found := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(escaped))
		if name = strings.TrimSpace(name); !found || err != nil || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return errors.New("malformed; expected name=value,name=value, as in Authorization=Bearer%20TOKEN")
		}
		s.TraceHeaders[name] = value
	}
	return nil
}

func (s *Settings) setXFCCFormat(v string) (err error) {
	s.XFCCFormat, err = target.ParseByHost(v, identity.Raw, identity.ParseFormat)
	return err
}

func (s *Settings) setRouterAddress(v string) (err error) {
	s.RouterAddress, err = target.ParseByHost(v, "", leg3.ParseAddress)
	return err
}

func (s *Settings) setPolicyKey(v string) error {
	pem, err := identity.File(v).Read()
	if err != nil {
		return err
	}
	s.PolicyKey, err = bundle.ParseKey(string(pem))
	return err
}

func (s *Settings) setPolicyZone(v string) error {
	zone, err := time.LoadLocation(v)
	if err != nil {
		return fmt.Errorf("%q: expected a time zone such as Europe/Berlin or UTC", v)
	}
	s.PolicyZone = zone
	return nil
}
