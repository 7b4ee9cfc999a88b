package settings

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"strings"

	cfenv "github.com/cloudfoundry-community/go-cfenv"
)

// configTag marks the bound service that holds settings.
const configTag = "mtls-authz-config"

// environment is where settings come from: the process's environment, then
// what Cloud Foundry bound to the app.
type environment struct {
	vars map[string]string
	// app is nil outside Cloud Foundry.
	app *cfenv.App
}

func readEnvironment(environ []string) (*environment, error) {
	env := &environment{vars: cfenv.Env(environ)}
	if env.vars["VCAP_APPLICATION"] == "" {
		return env, nil
	}
	app, err := cfenv.New(withDefaults(env.vars))
	if err != nil {
		return nil, fmt.Errorf("VCAP_APPLICATION and VCAP_SERVICES: %w", err)
	}
	env.app = app
	return env, nil
}

// withDefaults gives go-cfenv what it insists on and nothing here needs.
func withDefaults(vars map[string]string) map[string]string {
	vars = maps.Clone(vars)
	if vars["VCAP_SERVICES"] == "" {
		vars["VCAP_SERVICES"] = "{}"
	}
	if vars["PORT"] == "" {
		vars["PORT"] = "8080"
	}
	return vars
}

// lookup returns a setting's value and where it came from, "" if nowhere.
func (e *environment) lookup(name string) (value, source string) {
	if value := e.vars[name]; value != "" {
		return value, "environment"
	}
	if value, service := e.bound(name); value != "" {
		return value, fmt.Sprintf("bound service %q", service)
	}
	switch name {
	case "GATEWAY_URL":
		if uris := e.publicURIs(); len(uris) == 1 {
			return "https://" + uris[0], "VCAP_APPLICATION"
		}
	case "CF_API_URL":
		// Nobody chose it: where it is of no use, it must not stop the start.
		if e.app != nil && new(Settings).setCFAPIURL(e.app.CFAPI) == nil {
			return e.app.CFAPI, "VCAP_APPLICATION"
		}
	case "STORE_URL":
		if service := e.tagged("postgres.*"); service != nil {
			return credentialURL(service, "postgres", "postgres"), fmt.Sprintf("bound service %q", service.Name)
		}
	case "REDIS_URL":
		if service := e.tagged("redis.*"); service != nil {
			return credentialURL(service, "redis", "rediss"), fmt.Sprintf("bound service %q", service.Name)
		}
	}
	return "", ""
}

// bound looks a setting up in services tagged mtls-authz-config.
func (e *environment) bound(name string) (value, service string) {
	if e.app == nil {
		return "", ""
	}
	services, err := e.app.Services.WithTag(configTag)
	if err != nil { // there is none
		return "", ""
	}
	for _, s := range services {
		for key, credential := range s.Credentials {
			if strings.EqualFold(key, name) {
				return plain(credential), s.Name
			}
		}
	}
	return "", ""
}

// plain writes a credential as a setting's text.
func plain(credential any) string {
	switch v := credential.(type) {
	case string:
		return v
	case nil:
		return ""
	}
	raw, err := json.Marshal(credential)
	if err != nil {
		return ""
	}
	return string(raw)
}

// storeCA is the CA in the credentials of the database that STORE_URL comes
// from.
func (e *environment) storeCA() string {
	if service := e.tagged("postgres.*"); service != nil && e.vars["STORE_URL"] == "" {
		for _, name := range []string{"ca", "sslrootcert", "ca_cert", "tls_ca"} {
			if ca := plain(service.Credentials[name]); strings.Contains(ca, "-----BEGIN ") {
				return ca
			}
		}
	}
	return ""
}

func (e *environment) tagged(pattern string) *cfenv.Service {
	if e.app == nil {
		return nil
	}
	services, err := e.app.Services.WithTagUsingPattern(pattern)
	if err != nil || len(services) == 0 {
		return nil
	}
	return &services[0]
}

// credentialURL reads the URL that service brokers give in one of several ways.
func credentialURL(service *cfenv.Service, scheme, tlsScheme string) string {
	get := func(names ...string) string {
		for _, name := range names {
			if value, ok := service.Credentials[name]; ok {
				return plain(value)
			}
		}
		return ""
	}
	if uri := get("uri", "url"); uri != "" {
		return uri
	}
	host, port := get("hostname", "host"), get("tls_port", "port")
	if host == "" || port == "" {
		return ""
	}
	u := url.URL{Scheme: scheme, Host: host + ":" + port, Path: get("database", "name")}
	if get("tls_port") != "" || get("tls_enabled", "tls", "ssl") == "true" {
		u.Scheme = tlsScheme
	}
	if password := get("password"); password != "" {
		u.User = url.UserPassword(get("username", "user"), password)
	}
	return u.String()
}

// publicURIs are the app's HTTP routes without a path that are not internal.
func (e *environment) publicURIs() []string {
	if e.app == nil {
		return nil
	}
	var uris []string
	for _, uri := range e.app.ApplicationURIs {
		if !strings.HasSuffix(uri, ".apps.internal") && !strings.ContainsAny(uri, "/:*") {
			uris = append(uris, uri)
		}
	}
	return uris
}

// ownHosts are all hosts under which the gateway is reached.
func (e *environment) ownHosts(gatewayHost string) []string {
	hosts := []string{gatewayHost}
	if e.app != nil {
		for _, uri := range e.app.ApplicationURIs {
			host, _, _ := strings.Cut(strings.ToLower(uri), "/")
			host, _, _ = strings.Cut(host, ":") // a TCP route
			hosts = append(hosts, host)
		}
	}
	return hosts
}
