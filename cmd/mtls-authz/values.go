package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/gateway"
	"github.com/mtls-authz/mtls-authz/identity"
)

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
