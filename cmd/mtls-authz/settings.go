package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mtls-authz/mtls-authz/gateway"
	"github.com/mtls-authz/mtls-authz/identity"
)

// settings are what serve runs with.
type settings struct {
	Port                                           int
	GatewayURL                                     string
	BrokerUsername, BrokerPassword, BrokerPrevious string
	BrokerHost                                     string
	ReadUsername, ReadPassword                     string
	StoreURL, DataDir                              string
	AllowEphemeral                                 bool
	RedisURL                                       string
	CallerCAs                                      []identity.File
	InstanceCert, InstanceKey                      identity.File
	FoundationName                                 string
	XFCCFormat                                     gateway.ByHost[identity.Format]
	RouterAddress                                  gateway.ByHost[string]
	RouterCAs, ExtraCAs                            []identity.File
	SystemCertPath                                 string
	AssumeRouterTrust                              bool
	ReportAllowed, AllowWildcards                  bool
	PolicyBundle                                   string
	PolicyTimeout                                  time.Duration
	PolicyZone                                     *time.Location
	CacheEntries                                   int
	CacheTTL, CacheDenyTTL                         time.Duration
	CacheMACKey                                    string
	MaxInFlight, MaxInFlightPerRoute               int
	UpstreamHeaderTimeout, MaxStream, DrainTimeout time.Duration
	LogLevel                                       slog.Level

	// values are for --print-config, in the order of the definitions.
	values []settingValue
}

// settingValue is a setting with where its value came from.
type settingValue struct{ name, value, source string }

// definition is one setting. set parses the value into the settings; an empty
// value without default is not set at all.
type definition struct {
	name, fallback string
	secret         bool
	set            func(*settings, string) error
}

var definitions = []definition{
	{name: "PORT", fallback: "8080", set: number(1, 65535, func(s *settings) *int { return &s.Port })},
	{name: "GATEWAY_URL", set: (*settings).setGatewayURL},
	{name: "BROKER_USERNAME", set: text(func(s *settings) *string { return &s.BrokerUsername })},
	{name: "BROKER_PASSWORD", secret: true, set: password(func(s *settings) *string { return &s.BrokerPassword })},
	{name: "BROKER_PASSWORD_PREVIOUS", secret: true, set: text(func(s *settings) *string { return &s.BrokerPrevious })},
	{name: "BROKER_HOST", set: text(func(s *settings) *string { return &s.BrokerHost })},
	{name: "READ_USERNAME", set: text(func(s *settings) *string { return &s.ReadUsername })},
	{name: "READ_PASSWORD", secret: true, set: text(func(s *settings) *string { return &s.ReadPassword })},
	{name: "DATA_DIR", fallback: "./data", set: text(func(s *settings) *string { return &s.DataDir })},
	{name: "STORE_URL", secret: true, set: (*settings).setStoreURL},
	{name: "ALLOW_EPHEMERAL_STATE", fallback: "false", set: boolean(func(s *settings) *bool { return &s.AllowEphemeral })},
	{name: "REDIS_URL", secret: true, set: (*settings).setRedisURL},
	{name: "CF_INSTANCE_CERT", set: file(func(s *settings) *identity.File { return &s.InstanceCert })},
	{name: "CF_INSTANCE_KEY", secret: true, set: file(func(s *settings) *identity.File { return &s.InstanceKey })},
	{name: "CALLER_CA_FILES", set: files(func(s *settings) *[]identity.File { return &s.CallerCAs })},
	{name: "FOUNDATION_NAME", fallback: "local", set: text(func(s *settings) *string { return &s.FoundationName })},
	{name: "XFCC_FORMAT", fallback: "raw", set: (*settings).setXFCCFormat},
	{name: "ROUTER_ADDRESS", set: (*settings).setRouterAddress},
	{name: "ROUTER_CA_FILES", set: files(func(s *settings) *[]identity.File { return &s.RouterCAs })},
	{name: "CF_SYSTEM_CERT_PATH", set: text(func(s *settings) *string { return &s.SystemCertPath })},
	{name: "ROUTER_TRUST", fallback: "probe", set: choice("probe", "assume", func(s *settings) *bool { return &s.AssumeRouterTrust })},
	{name: "REPORT_MODE", fallback: "allow", set: choice("deny", "allow", func(s *settings) *bool { return &s.ReportAllowed })},
	{name: "ALLOW_WILDCARD_ROUTES", fallback: "false", set: boolean(func(s *settings) *bool { return &s.AllowWildcards })},
	{name: "CA_FILES", set: files(func(s *settings) *[]identity.File { return &s.ExtraCAs })},
	{name: "POLICY_BUNDLE", set: (*settings).setPolicyBundle},
	{name: "POLICY_TIMEOUT", fallback: "50ms", set: duration(func(s *settings) *time.Duration { return &s.PolicyTimeout })},
	{name: "POLICY_TIME_ZONE", fallback: "UTC", set: (*settings).setPolicyZone},
	{name: "CACHE_ENTRIES", fallback: "100000", set: number(1, 100_000_000, func(s *settings) *int { return &s.CacheEntries })},
	{name: "CACHE_TTL", fallback: "60s", set: duration(func(s *settings) *time.Duration { return &s.CacheTTL })},
	{name: "CACHE_DENY_TTL", fallback: "5s", set: duration(func(s *settings) *time.Duration { return &s.CacheDenyTTL })},
	{name: "CACHE_MAC_KEY", secret: true, set: password(func(s *settings) *string { return &s.CacheMACKey })},
	{name: "MAX_IN_FLIGHT", fallback: "4096", set: number(1, 1_000_000, func(s *settings) *int { return &s.MaxInFlight })},
	{name: "MAX_IN_FLIGHT_PER_ROUTE", set: number(1, 1_000_000, func(s *settings) *int { return &s.MaxInFlightPerRoute })},
	{name: "UPSTREAM_HEADER_TIMEOUT", fallback: "55s", set: duration(func(s *settings) *time.Duration { return &s.UpstreamHeaderTimeout })},
	{name: "MAX_STREAM", fallback: "1h", set: duration(func(s *settings) *time.Duration { return &s.MaxStream })},
	{name: "DRAIN_TIMEOUT", fallback: "8s", set: duration(func(s *settings) *time.Duration { return &s.DrainTimeout })},
	{name: "LOG_LEVEL", fallback: "info", set: func(s *settings, v string) error {
		if err := s.LogLevel.UnmarshalText([]byte(v)); err != nil {
			return fmt.Errorf("%q: expected debug, info, warn or error", v)
		}
		return nil
	}},
}

// loadSettings reads every setting from the environment, then from bound
// services, then from its default, and reports everything that is wrong at
// once.
func loadSettings(env *environment) (*settings, error) {
	s := &settings{}
	var problems []error
	for _, d := range definitions {
		value, source := env.lookup(d.name)
		if value == "" && d.fallback != "" {
			value, source = d.fallback, "default"
		}
		if value != "" {
			if err := d.set(s, value); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", d.name, hide(err, d, value)))
			}
		}
		s.values = append(s.values, settingValue{d.name, shown(d, value), source})
	}
	problems = append(problems, s.complete(env)...)
	if len(problems) > 0 {
		return nil, fmt.Errorf("%d settings are wrong:\n%w", len(problems), indented(problems))
	}
	return s, nil
}

func indented(problems []error) error {
	lines := make([]error, len(problems))
	for i, problem := range problems {
		lines[i] = fmt.Errorf("  %w", problem)
	}
	return errors.Join(lines...)
}

// hide keeps a secret value out of the error about it.
func hide(err error, d definition, value string) error {
	if d.secret && strings.Contains(err.Error(), value) {
		return errors.New("malformed")
	}
	return err
}

func shown(d definition, value string) string {
	switch {
	case value == "" || !d.secret && !strings.Contains(value, "-----BEGIN "):
		return value
	case strings.Contains(value, "://"):
		if u, err := url.Parse(value); err == nil {
			return u.Redacted()
		}
	}
	return "(hidden)"
}

// printConfig writes every setting, its value and where it came from.
func (s *settings) printConfig(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "SETTING\tVALUE\tFROM")
	for _, v := range s.values {
		fmt.Fprintf(table, "%s\t%s\t%s\n", v.name, v.value, v.source)
	}
	return table.Flush()
}

func text(field func(*settings) *string) func(*settings, string) error {
	return func(s *settings, v string) error { *field(s) = v; return nil }
}

const minPassword = 16

func password(field func(*settings) *string) func(*settings, string) error {
	return func(s *settings, v string) error {
		if len(v) < minPassword {
			return fmt.Errorf("has %d characters; use at least %d, such as from: openssl rand -hex 16", len(v), minPassword)
		}
		*field(s) = v
		return nil
	}
}

func number(least, most int, field func(*settings) *int) func(*settings, string) error {
	return func(s *settings, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < least || n > most {
			return fmt.Errorf("%q: expected a number between %d and %d", v, least, most)
		}
		*field(s) = n
		return nil
	}
}

func boolean(field func(*settings) *bool) func(*settings, string) error {
	return choice("false", "true", field)
}

// choice is a setting with two words, the second of which means true.
func choice(no, yes string, field func(*settings) *bool) func(*settings, string) error {
	return func(s *settings, v string) error {
		if v != no && v != yes {
			return fmt.Errorf("%q: expected %s or %s", v, no, yes)
		}
		*field(s) = v == yes
		return nil
	}
}

func duration(field func(*settings) *time.Duration) func(*settings, string) error {
	return func(s *settings, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 {
			return fmt.Errorf("%q: expected a duration such as 30s or 5m", v)
		}
		*field(s) = d
		return nil
	}
}

func file(field func(*settings) *identity.File) func(*settings, string) error {
	return func(s *settings, v string) error {
		*field(s) = identity.File(v)
		_, err := identity.File(v).Read()
		return err
	}
}

func files(field func(*settings) *[]identity.File) func(*settings, string) error {
	return func(s *settings, v string) error {
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

func (s *settings) setGatewayURL(v string) error {
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("%q: expected https://host without a path or a slash at the end", v)
	}
	s.GatewayURL = strings.ToLower(v)
	return nil
}

func (s *settings) setStoreURL(v string) error {
	if !strings.HasPrefix(v, "sqlite://") {
		return errors.New("expected sqlite:///path/to/file; this version keeps its state in SQLite only")
	}
	s.StoreURL = v
	return nil
}

func (s *settings) setRedisURL(v string) error {
	u, err := url.Parse(v)
	if err != nil || (u.Scheme != "redis" && u.Scheme != "rediss") || u.Host == "" {
		return errors.New("expected redis://[user:password@]host:port or rediss://")
	}
	s.RedisURL = v
	return nil
}

func (s *settings) setXFCCFormat(v string) (err error) {
	s.XFCCFormat, err = gateway.ParseByHost(v, identity.Raw, identity.ParseFormat)
	return err
}

func (s *settings) setRouterAddress(v string) (err error) {
	s.RouterAddress, err = gateway.ParseByHost(v, "", gateway.ParseAddress)
	return err
}

func (s *settings) setPolicyBundle(v string) error {
	if strings.Contains(v, "://") {
		return fmt.Errorf("%q: expected a directory or a .tar.gz file; this version does not download bundles", v)
	}
	if _, err := os.Stat(v); err != nil {
		return err
	}
	s.PolicyBundle = v
	return nil
}

func (s *settings) setPolicyZone(v string) error {
	zone, err := time.LoadLocation(v)
	if err != nil {
		return fmt.Errorf("%q: expected a time zone such as Europe/Berlin or UTC", v)
	}
	s.PolicyZone = zone
	return nil
}

// complete fills what depends on other settings, and finds contradictions.
func (s *settings) complete(env *environment) []error {
	var problems []error
	refuse := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if s.GatewayURL == "" {
		refuse("GATEWAY_URL: expected the https URL under which gorouter reaches this gateway; on Cloud Foundry it is found when the app has exactly one HTTP route, here it has %d", len(env.publicURIs()))
	}
	if s.BrokerUsername == "" {
		refuse("BROKER_USERNAME: required; the name that Cloud Controller uses with this broker")
	}
	if value, _ := env.lookup("BROKER_PASSWORD"); value == "" {
		refuse("BROKER_PASSWORD: required, at least %d characters; make one with: openssl rand -hex 16", minPassword)
	}
	if s.BrokerPassword != "" && s.BrokerPassword == s.BrokerPrevious {
		refuse("BROKER_PASSWORD_PREVIOUS: the same as BROKER_PASSWORD; unset it")
	}
	if (s.ReadUsername == "") != (s.ReadPassword == "") {
		refuse("READ_USERNAME and READ_PASSWORD: set both or neither")
	}
	if (s.InstanceCert == "") != (s.InstanceKey == "") {
		refuse("CF_INSTANCE_CERT and CF_INSTANCE_KEY: set both or neither")
	}
	if value, _ := env.lookup("CALLER_CA_FILES"); value == "" && s.InstanceCert == "" {
		refuse("CALLER_CA_FILES: required where there is no CF_INSTANCE_CERT; the CA that issues instance certificates, ((diego_instance_identity_ca.certificate)) in CredHub")
	}
	if s.StoreURL == "" {
		s.StoreURL = "sqlite://" + filepath.Join(s.DataDir, "mtls-authz.db")
	}
	if env.app != nil {
		problems = append(problems, s.checkEphemeral(env)...)
	}
	if s.MaxInFlightPerRoute == 0 {
		s.MaxInFlightPerRoute = max(1, s.MaxInFlight/2)
	}
	if s.MaxInFlightPerRoute > s.MaxInFlight {
		refuse("MAX_IN_FLIGHT_PER_ROUTE: %d is more than MAX_IN_FLIGHT, which is %d", s.MaxInFlightPerRoute, s.MaxInFlight)
	}
	if s.GatewayURL != "" && s.RouterAddress.For("") == "" {
		s.RouterAddress = s.RouterAddress.WithDefault(s.gatewayHost() + ":443")
	}
	return problems
}

// checkEphemeral: the disk of an app instance does not survive a restart and
// is not shared.
func (s *settings) checkEphemeral(env *environment) []error {
	if !s.AllowEphemeral {
		return []error{errors.New("STORE_URL: on Cloud Foundry the disk is lost with every restart, and with it who may call whom; set ALLOW_EPHEMERAL_STATE=true if that is wanted")}
	}
	if index := env.vars["CF_INSTANCE_INDEX"]; index != "" && index != "0" {
		return []error{fmt.Errorf("STORE_URL: SQLite is for one instance, and this is instance %s; scale the app to one", index)}
	}
	return nil
}

func (s *settings) gatewayHost() string {
	u, err := url.Parse(s.GatewayURL)
	if err != nil {
		return ""
	}
	return u.Hostname()
}
