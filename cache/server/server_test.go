package server_test

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/cache/server"
)

func TestAddresses(t *testing.T) {
	for address, check := range map[string]func(redis.UniversalClient){
		"redis://h": func(c redis.UniversalClient) {
			options := c.(*redis.Client).Options()
			assert.Equal(t, "h:6379", options.Addr)
			assert.Nil(t, options.TLSConfig)
			assert.Zero(t, options.MaxRetries)
			assert.True(t, options.ContextTimeoutEnabled)
		},
		"redis://user:p%2Fw@h:1/3": func(c redis.UniversalClient) {
			options := c.(*redis.Client).Options()
			assert.Equal(t, []any{"h:1", "user", "p/w", 3}, []any{options.Addr, options.Username, options.Password, options.DB})
		},
		"rediss://:pw@[::1]:2": func(c redis.UniversalClient) {
			options := c.(*redis.Client).Options()
			assert.Equal(t, []any{"[::1]:2", "", "pw"}, []any{options.Addr, options.Username, options.Password})
			require.NotNil(t, options.TLSConfig)
			assert.False(t, options.TLSConfig.InsecureSkipVerify)
		},
		"rediss://u:p@h?cluster=true&addr=i:1&addr=h:6379": func(c redis.UniversalClient) {
			options := c.(*redis.ClusterClient).Options()
			assert.Equal(t, []string{"h:6379", "i:1"}, options.Addrs)
			assert.Equal(t, []string{"u", "p"}, []string{options.Username, options.Password})
			assert.NotNil(t, options.TLSConfig)
			assert.True(t, options.ContextTimeoutEnabled)
		},
		"redis://h?cluster=false": func(c redis.UniversalClient) { assert.IsType(t, &redis.Client{}, c) },
		"redis://u:p@h/2?sentinel_master=m&addr=i&sentinel_password=s": func(c redis.UniversalClient) {
			options := c.(*redis.Client).Options()
			assert.Equal(t, []any{"FailoverClient", "u", "p", 2}, []any{options.Addr, options.Username, options.Password, options.DB})
		},
	} {
		client, err := server.Client(address, nil)
		require.NoError(t, err, address)
		check(client)
		require.NoError(t, client.Close())
	}
}

func TestAddressesThatAreRefused(t *testing.T) {
	for address, why := range map[string]string{
		"":                                      "expected redis://",
		"h:6379":                                "expected redis://",
		"http://u:secret@h":                     "expected redis://",
		"redis://":                              "expected redis://",
		"redis://u:secret@:6379":                "expected redis://",
		"redis://u:se/cret@h":                   "expected redis://",
		"redis://u:1/secret@h":                  "path",
		"redis://u:secret@h/one":                "path",
		"redis://u:secret@h/-1":                 "path",
		"redis://h#secret":                      "expected redis://",
		"rediss://h?skip_verify=true":           `"skip_verify" is unknown`,
		"redis://h?max_retries=3":               `"max_retries" is unknown`,
		"redis://h?cluster=secret":              "cluster",
		"redis://h?cluster=true&cluster=1":      "2 times",
		"redis://h/1?cluster=true":              "only database 0",
		"redis://h?sentinel_master=":            "empty",
		"redis://h?cluster=1&sentinel_master=m": "exclude",
		"redis://h?addr=i:1":                    "addr needs",
		"redis://h?cluster=1&addr=u:secret@i":   "host:port",
		"redis://h?cluster=1&addr=":             "host:port",
		"redis://h?sentinel_password=secret":    "need sentinel_master",
		"redis://h?a=%zz":                       "cannot be read",
	} {
		client, err := server.Client(address, nil)
		require.Error(t, err, address)
		assert.Nil(t, client)
		assert.Contains(t, err.Error(), why, address)
		if !strings.Contains(address, "cluster=secret") {
			assert.NotContains(t, err.Error(), "secret", address)
		}
	}
}
