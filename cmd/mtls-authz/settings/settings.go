// Package settings is what serve runs with: the one table of environment
// variables, read from the environment, from bound services or from defaults,
// in this order. It trusts none of them and reports everything that is wrong at
// once; it never shows a secret.
package settings

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mtls-authz/mtls-authz/cache"
	"github.com/mtls-authz/mtls-authz/gateway/target"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego/bundle"
)

// Settings are what serve runs with; see docs/settings.md for each.
type Settings struct {
	Port                                           int
	ListenAddress                                  string
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
	XFCCFormat                                     target.ByHost[identity.Format]
	RouterAddress                                  target.ByHost[string]
	RouterCAs, ExtraCAs                            []identity.File
	SystemCertPath                                 string
	AssumeRouterTrust                              bool
	ReportAllowed, AllowWildcards                  bool
	PolicyBundle, PolicyBundleToken                string
	PolicyKey                                      *bundle.Key
	PolicyCandidate                                string
	PolicyCandidateShare                           float64
	PolicyPollInterval, PolicyTimeout              time.Duration
	PolicyZone                                     *time.Location
	CacheEntries, CacheBytes                       int
	CacheShared                                    cache.Use
	CacheTTL, CacheDenyTTL                         time.Duration
	CacheMACKey                                    string
	MaxInFlight, MaxInFlightPerRoute               int
	UpstreamHeaderTimeout, MaxStream, DrainTimeout time.Duration
	HeaderTimeout, IdleTimeout                     time.Duration
	MaxHeaderBytes, MaxConnections, MinBodyRate    int
	MaxURIBytes                                    int
	CFAPIURL, CFClientID, CFClientSecret           string
	NameGrace, NameInterval                        time.Duration
	LogLevel                                       slog.Level
	LogAllowedSample                               float64
	TraceEndpoint                                  string
	TraceHeaders                                   map[string]string
	TraceShare                                     float64

	// MaxStale is how long the state in memory may be decided by without the
	// database.
	MaxStale time.Duration
	// StoreCA is the CA that came with a bound database's credentials, in PEM.
	StoreCA string
	// OwnHosts are all hosts under which the gateway is reached.
	OwnHosts []string
	// OwnApp is the gateway's app guid; zero outside Cloud Foundry.
	OwnApp identity.GUID
	// InstancePorts is CF_INSTANCE_PORTS, "" outside Cloud Foundry.
	InstancePorts string
	// IgnoredDatabaseURL tells that Cloud Foundry injected a DATABASE_URL.
	IgnoredDatabaseURL bool

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
	// url is a secret of which host and path may be shown.
	url bool
	set func(*Settings, string) error
}

var definitions = []definition{
	{name: "PORT", fallback: "8080", set: number(65535, func(s *Settings) *int { return &s.Port })},
	{name: "LISTEN_ADDRESS", set: address(func(s *Settings) *string { return &s.ListenAddress })},
	{name: "GATEWAY_URL", set: (*Settings).setGatewayURL},
	{name: "BROKER_USERNAME", set: text(func(s *Settings) *string { return &s.BrokerUsername })},
	{name: "BROKER_PASSWORD", secret: true, set: password(func(s *Settings) *string { return &s.BrokerPassword })},
	{name: "BROKER_PASSWORD_PREVIOUS", secret: true, set: password(func(s *Settings) *string { return &s.BrokerPrevious })},
	{name: "BROKER_HOST", set: text(func(s *Settings) *string { return &s.BrokerHost })},
	{name: "READ_USERNAME", set: text(func(s *Settings) *string { return &s.ReadUsername })},
	{name: "READ_PASSWORD", secret: true, set: text(func(s *Settings) *string { return &s.ReadPassword })},
	{name: "DATA_DIR", fallback: "./data", set: text(func(s *Settings) *string { return &s.DataDir })},
	{name: "STORE_URL", secret: true, url: true, set: (*Settings).setStoreURL},
	{name: "ALLOW_EPHEMERAL_STATE", fallback: "false", set: boolean(func(s *Settings) *bool { return &s.AllowEphemeral })},
	{name: "STATE_MAX_STALE", fallback: "24h", set: duration(func(s *Settings) *time.Duration { return &s.MaxStale })},
	{name: "REDIS_URL", secret: true, url: true, set: (*Settings).setRedisURL},
	{name: "CF_INSTANCE_CERT", set: file(func(s *Settings) *identity.File { return &s.InstanceCert })},
	{name: "CF_INSTANCE_KEY", set: file(func(s *Settings) *identity.File { return &s.InstanceKey })},
	{name: "CALLER_CA_FILES", set: files(func(s *Settings) *[]identity.File { return &s.CallerCAs })},
	{name: "FOUNDATION_NAME", fallback: "local", set: text(func(s *Settings) *string { return &s.FoundationName })},
	{name: "XFCC_FORMAT", fallback: "raw", set: (*Settings).setXFCCFormat},
	{name: "ROUTER_ADDRESS", set: (*Settings).setRouterAddress},
	{name: "ROUTER_CA_FILES", set: files(func(s *Settings) *[]identity.File { return &s.RouterCAs })},
	{name: "CF_SYSTEM_CERT_PATH", set: text(func(s *Settings) *string { return &s.SystemCertPath })},
	{name: "ROUTER_TRUST", fallback: "probe", set: choice("probe", "assume", func(s *Settings) *bool { return &s.AssumeRouterTrust })},
	{name: "REPORT_MODE", fallback: "allow", set: choice("deny", "allow", func(s *Settings) *bool { return &s.ReportAllowed })},
	{name: "ALLOW_WILDCARD_ROUTES", fallback: "false", set: boolean(func(s *Settings) *bool { return &s.AllowWildcards })},
	{name: "CA_FILES", set: files(func(s *Settings) *[]identity.File { return &s.ExtraCAs })},
	{name: "POLICY_BUNDLE", secret: true, url: true, set: location(func(s *Settings) *string { return &s.PolicyBundle })},
	{name: "POLICY_BUNDLE_TOKEN", secret: true, set: text(func(s *Settings) *string { return &s.PolicyBundleToken })},
	{name: "POLICY_VERIFICATION_KEY_FILE", set: (*Settings).setPolicyKey},
	{name: "POLICY_CANDIDATE", secret: true, url: true, set: location(func(s *Settings) *string { return &s.PolicyCandidate })},
	{name: "POLICY_CANDIDATE_SHARE", fallback: "0.1", set: share(func(s *Settings) *float64 { return &s.PolicyCandidateShare })},
	{name: "POLICY_POLL_INTERVAL", fallback: "30s", set: duration(func(s *Settings) *time.Duration { return &s.PolicyPollInterval })},
	{name: "POLICY_TIMEOUT", fallback: "50ms", set: duration(func(s *Settings) *time.Duration { return &s.PolicyTimeout })},
	{name: "POLICY_TIME_ZONE", fallback: "UTC", set: (*Settings).setPolicyZone},
	{name: "CACHE_ENTRIES", fallback: "100000", set: numberFrom(0, 100_000_000, func(s *Settings) *int { return &s.CacheEntries })},
	{name: "CACHE_BYTES", fallback: "67108864", set: number(1<<40, func(s *Settings) *int { return &s.CacheBytes })},
	{name: "CACHE_SHARED", fallback: "auto", set: func(s *Settings, v string) (err error) {
		s.CacheShared, err = cache.ParseUse(v)
		return err
	}},
	{name: "CACHE_TTL", fallback: "60s", set: duration(func(s *Settings) *time.Duration { return &s.CacheTTL })},
	{name: "CACHE_DENY_TTL", fallback: "5s", set: duration(func(s *Settings) *time.Duration { return &s.CacheDenyTTL })},
	{name: "CACHE_MAC_KEY", secret: true, set: password(func(s *Settings) *string { return &s.CacheMACKey })},
	{name: "MAX_IN_FLIGHT", fallback: "4096", set: number(1_000_000, func(s *Settings) *int { return &s.MaxInFlight })},
	{name: "MAX_IN_FLIGHT_PER_ROUTE", set: number(1_000_000, func(s *Settings) *int { return &s.MaxInFlightPerRoute })},
	{name: "UPSTREAM_HEADER_TIMEOUT", fallback: "55s", set: duration(func(s *Settings) *time.Duration { return &s.UpstreamHeaderTimeout })},
	{name: "MAX_STREAM", fallback: "1h", set: duration(func(s *Settings) *time.Duration { return &s.MaxStream })},
	{name: "DRAIN_TIMEOUT", fallback: "8s", set: duration(func(s *Settings) *time.Duration { return &s.DrainTimeout })},
	{name: "HEADER_TIMEOUT", fallback: "10s", set: duration(func(s *Settings) *time.Duration { return &s.HeaderTimeout })},
	{name: "IDLE_TIMEOUT", fallback: "2m", set: duration(func(s *Settings) *time.Duration { return &s.IdleTimeout })},
	{name: "MAX_HEADER_BYTES", fallback: "131072", set: number(16<<20, func(s *Settings) *int { return &s.MaxHeaderBytes })},
	{name: "MAX_URI_BYTES", fallback: "16384", set: numberFrom(1024, 16<<20, func(s *Settings) *int { return &s.MaxURIBytes })},
	{name: "MAX_CONNECTIONS", fallback: "16384", set: number(1_000_000, func(s *Settings) *int { return &s.MaxConnections })},
	{name: "MIN_BODY_RATE", fallback: "16", set: numberFrom(0, 1<<30, func(s *Settings) *int { return &s.MinBodyRate })},
	{name: "CF_API_URL", set: (*Settings).setCFAPIURL},
	{name: "CF_CLIENT_ID", set: text(func(s *Settings) *string { return &s.CFClientID })},
	{name: "CF_CLIENT_SECRET", secret: true, set: text(func(s *Settings) *string { return &s.CFClientSecret })},
	{name: "NAME_GRACE", fallback: "10m", set: noneOrMore(func(s *Settings) *time.Duration { return &s.NameGrace })},
	{name: "NAME_INTERVAL", fallback: "30s", set: duration(func(s *Settings) *time.Duration { return &s.NameInterval })},
	{name: "LOG_LEVEL", fallback: "info", set: func(s *Settings, v string) error {
		if err := s.LogLevel.UnmarshalText([]byte(v)); err != nil {
			return fmt.Errorf("%q: expected debug, info, warn or error", v)
		}
		return nil
	}},
	{name: "LOG_ALLOWED_SAMPLE", fallback: "1", set: share(func(s *Settings) *float64 { return &s.LogAllowedSample })},
	{name: "OTEL_EXPORTER_OTLP_ENDPOINT", secret: true, url: true, set: (*Settings).setTraceEndpoint},
	{name: "OTEL_EXPORTER_OTLP_HEADERS", secret: true, set: (*Settings).setTraceHeaders},
	{name: "OTEL_TRACES_SAMPLER_ARG", fallback: "0.01", set: share(func(s *Settings) *float64 { return &s.TraceShare })},
}

// Load reads every setting from the environment, then from bound services, then
// from its default, and reports everything that is wrong at once.
func Load(environ []string) (*Settings, error) {
	env, err := readEnvironment(environ)
	if err != nil {
		return nil, err
	}
	s := &Settings{}
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

// settle shows a default that depends on other settings.
func (s *Settings) settle(name, value string) {
	for i := range s.values {
		if s.values[i].name == name && s.values[i].value == "" {
			s.values[i].value, s.values[i].source = value, "default"
		}
	}
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
	u, err := url.Parse(value)
	switch {
	case value == "" || !d.secret && !strings.Contains(value, "-----BEGIN "):
		return value
	case d.url && err == nil:
		shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
		if _, named := u.User.Password(); named {
			shown.User = url.UserPassword(u.User.Username(), "xxxxx")
		} else if u.User != nil {
			shown.User = url.User("xxxxx") // a token
		}
		return shown.String()
	}
	return "(hidden)"
}

// Print writes every setting, its value and where it came from.
func (s *Settings) Print(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "SETTING\tVALUE\tFROM")
	for _, v := range s.values {
		fmt.Fprintf(table, "%s\t%s\t%s\n", v.name, v.value, v.source)
	}
	return table.Flush()
}
