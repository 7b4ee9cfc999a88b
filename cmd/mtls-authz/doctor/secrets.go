package doctor

import (
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/settings"
)

// secrets are what no finding may repeat: passwords, tokens and keys, alone or
// in a URL.
func secrets(s *settings.Settings) []string {
	all := []string{s.BrokerPassword, s.BrokerPrevious, s.ReadPassword, s.CacheMACKey, s.PolicyBundleToken, s.CFClientSecret}
	all = slices.AppendSeq(all, maps.Values(s.TraceHeaders))
	for _, location := range []string{s.StoreURL, s.RedisURL, s.PolicyBundle, s.PolicyCandidate, s.TraceEndpoint} {
		all = append(all, ofURL(location)...)
	}
	return all
}

// ofURL are the secrets in a URL: user, password, and what is asked for.
func ofURL(location string) (all []string) {
	u, err := url.Parse(location)
	if err != nil {
		return []string{location}
	}
	if password, has := u.User.Password(); has {
		all = append(all, password)
	} else if u.User != nil {
		all = append(all, u.User.Username()) // a token
	}
	for name, values := range u.Query() {
		if strings.Contains(strings.ToLower(name), "pass") || strings.Contains(u.Scheme, "http") {
			all = append(all, values...)
		}
	}
	return all
}
