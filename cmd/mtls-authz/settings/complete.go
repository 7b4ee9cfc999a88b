package settings

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
)

// complete fills what depends on other settings, and finds contradictions.
func (s *Settings) complete(env *environment) []error {
	var problems []error
	refuse := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if value, _ := env.lookup("GATEWAY_URL"); value == "" {
		refuse("GATEWAY_URL: required; expected the https URL under which gorouter reaches this gateway; on Cloud Foundry it is found when the app has exactly one HTTP route, here it has %d", len(env.publicURIs()))
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
	problems = append(problems, s.checkCloud()...)
	s.StoreCA = env.storeCA()
	if s.StoreURL == "" {
		s.StoreURL = "sqlite://" + filepath.Join(s.DataDir, "mtls-authz.db")
		s.settle("STORE_URL", s.StoreURL)
	}
	s.OwnHosts, s.IgnoredDatabaseURL, s.InstancePorts = env.ownHosts(s.GatewayHost()), env.vars["DATABASE_URL"] != "", env.vars["CF_INSTANCE_PORTS"]
	if env.app != nil {
		problems = append(problems, s.checkEphemeral(env)...)
		if err := s.OwnApp.UnmarshalText([]byte(env.app.AppID)); env.app.AppID != "" && err != nil {
			refuse("VCAP_APPLICATION: application_id: %w", err)
		}
	}
	if s.PolicyBundleToken != "" && !strings.HasPrefix(s.PolicyBundle, "https://") {
		refuse("POLICY_BUNDLE_TOKEN: only for a POLICY_BUNDLE that is an https URL")
	}
	if s.CacheBytes > 0 && s.CacheBytes < s.CacheEntries {
		refuse("CACHE_BYTES: %d is less than a byte for each of CACHE_ENTRIES, which is %d", s.CacheBytes, s.CacheEntries)
	}
	if s.MaxInFlightPerRoute == 0 {
		s.MaxInFlightPerRoute = max(1, s.MaxInFlight/2)
		s.settle("MAX_IN_FLIGHT_PER_ROUTE", strconv.Itoa(s.MaxInFlightPerRoute))
	}
	if s.MaxInFlightPerRoute > s.MaxInFlight {
		refuse("MAX_IN_FLIGHT_PER_ROUTE: %d is more than MAX_IN_FLIGHT, which is %d", s.MaxInFlightPerRoute, s.MaxInFlight)
	}
	if s.MaxURIBytes > s.MaxHeaderBytes {
		refuse("MAX_URI_BYTES: %d is more than MAX_HEADER_BYTES, of which a URL is a part, which is %d", s.MaxURIBytes, s.MaxHeaderBytes)
	}
	if s.GatewayURL != "" && s.RouterAddress.For("") == "" {
		s.RouterAddress = s.RouterAddress.WithDefault(s.GatewayHost() + ":443")
		s.settle("ROUTER_ADDRESS", s.GatewayHost()+":443")
	}
	return problems
}

// checkCloud: a client without its secret, or without a Cloud Controller to ask,
// would look nothing up.
func (s *Settings) checkCloud() (problems []error) {
	if (s.CFClientID == "") != (s.CFClientSecret == "") {
		problems = append(problems, errors.New("CF_CLIENT_ID and CF_CLIENT_SECRET: set both or neither"))
	}
	if s.CFClientID != "" && s.CFAPIURL == "" {
		problems = append(problems, errors.New("CF_API_URL: required with CF_CLIENT_ID; the https URL that cf api shows"))
	}
	return problems
}

// checkEphemeral: the disk of an app instance does not survive a restart and
// is not shared.
func (s *Settings) checkEphemeral(env *environment) []error {
	if !strings.HasPrefix(s.StoreURL, "sqlite://") {
		return nil
	}
	if !s.AllowEphemeral {
		return []error{errors.New("STORE_URL: on Cloud Foundry the disk is lost with every restart, and with it who may call whom; set ALLOW_EPHEMERAL_STATE=true if that is wanted")}
	}
	if index := env.vars["CF_INSTANCE_INDEX"]; index != "" && index != "0" {
		return []error{fmt.Errorf("STORE_URL: SQLite is for one instance, and this is instance %s; scale the app to one", index)}
	}
	return nil
}

// GatewayHost is the host of GATEWAY_URL.
func (s *Settings) GatewayHost() string {
	u, err := url.Parse(s.GatewayURL)
	if err != nil {
		return ""
	}
	return u.Hostname()
}
