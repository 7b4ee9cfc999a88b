// Package server knows where the shared cache is: it turns REDIS_URL into a
// client of one Redis, of a master that Sentinel names, or of a Cluster.
//
// It trusts nothing in the URL that it does not know, refuses what would weaken
// TLS, and makes clients that never wait longer than their caller: no retries,
// and deadlines that hold.
package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	redisPort    = "6379"
	sentinelPort = "26379"
	// connectWithin bounds one attempt to connect, which no request waits for.
	connectWithin = time.Second
	// idle is how many connections are kept: a TLS handshake may take longer
	// than a request may wait.
	idle = 4
	// reload is how often a client asks a Cluster where its slots are.
	reload = 5 * time.Second
)

// Client returns a client of the Redis at the address:
//
//	redis://[[user:]password@]host[:port][/db]          one server; rediss:// over TLS
//	redis://…?cluster=true[&addr=host:port…]            a Cluster, found from any of its nodes
//	redis://…?sentinel_master=NAME[&addr=host:port…]    the master that these Sentinels name
//
// Sentinels that demand a login get sentinel_username and sentinel_password.
// roots verify TLS servers by the name or IP address that they are dialled at,
// which Cluster and Sentinel tell; nil means the system's. Errors do not show
// the password.
func Client(address string, roots *x509.CertPool) (redis.UniversalClient, error) {
	options, err := parse(address, roots)
	if err != nil {
		return nil, err
	}
	if !options.IsClusterMode {
		return redis.NewUniversalClient(options), nil
	}
	cluster := options.Cluster()
	// A node that died does not say where its slots went.
	cluster.ClusterStateReloadInterval, cluster.DisableRoutingPolicies = reload, true
	return redis.NewClusterClient(cluster), nil
}

// Check returns what [Client] would say of an address, and connects to nothing:
// a client begins to connect when it is made.
func Check(address string) error {
	_, err := parse(address, nil)
	return err
}

func parse(address string, roots *x509.CertPool) (*redis.UniversalOptions, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "redis" && u.Scheme != "rediss" || u.Hostname() == "" || u.Opaque != "" || u.Fragment != "" {
		return nil, errors.New("expected redis://[user:password@]host:port or rediss://")
	}
	options, err := kindOf(u)
	if err != nil {
		return nil, err
	}
	if u.User != nil {
		options.Username = u.User.Username()
		options.Password, _ = u.User.Password()
	}
	if u.Scheme == "rediss" {
		// The name to verify stays open: it is that of each address dialled.
		options.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	}
	if options.DB, err = database(u.Path, options.IsClusterMode); err != nil {
		return nil, err
	}
	options.MaxRetries, options.ContextTimeoutEnabled = -1, true
	options.DialTimeout, options.DialerRetries, options.MinIdleConns = connectWithin, 1, idle
	// What an ACL user of the cache need not be allowed to do.
	options.DisableIdentity = true
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return options, nil
}

// Quiet silences what the Redis library itself would write to standard error:
// one line for each failed connection. The cache logs transitions.
func Quiet() { redis.SetLogger(&logging.VoidLogger{}) }

// kindOf reads the parameters: which kind of service it is, and its addresses.
func kindOf(u *url.URL) (*redis.UniversalOptions, error) {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("the parameters after ? cannot be read")
	}
	for name, values := range query {
		if !slices.Contains([]string{"cluster", "sentinel_master", "addr", "sentinel_username", "sentinel_password"}, name) {
			return nil, fmt.Errorf("parameter %q is unknown; expected cluster=true, or sentinel_master with addr", name)
		}
		if name != "addr" && len(values) != 1 {
			return nil, fmt.Errorf("parameter %q is given %d times", name, len(values))
		}
	}
	options := &redis.UniversalOptions{
		MasterName: query.Get("sentinel_master"), SentinelUsername: query.Get("sentinel_username"), SentinelPassword: query.Get("sentinel_password"),
	}
	if cluster := query.Get("cluster"); query.Has("cluster") {
		if options.IsClusterMode, err = strconv.ParseBool(cluster); err != nil {
			return nil, fmt.Errorf("cluster=%q: expected true or false", cluster)
		}
	}
	switch {
	case query.Has("sentinel_master") && options.MasterName == "":
		return nil, errors.New("sentinel_master is empty; expected the name of the master")
	case options.IsClusterMode && options.MasterName != "":
		return nil, errors.New("cluster and sentinel_master exclude each other")
	case options.MasterName == "" && (query.Has("sentinel_username") || query.Has("sentinel_password")):
		return nil, errors.New("sentinel_username and sentinel_password need sentinel_master")
	case query.Has("addr") && !options.IsClusterMode && options.MasterName == "":
		return nil, errors.New("addr needs cluster=true or sentinel_master")
	}
	port := redisPort
	if options.MasterName != "" {
		port = sentinelPort
	}
	for _, given := range append([]string{u.Host}, query["addr"]...) {
		address, err := withPort(given, port)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(options.Addrs, address) {
			options.Addrs = append(options.Addrs, address)
		}
	}
	return options, nil
}

func withPort(address, port string) (string, error) {
	u, err := url.Parse("//" + address)
	if err != nil || u.Hostname() == "" || u.Host != address {
		return "", errors.New("host or addr: expected host:port") // it may hold a password that is not escaped
	}
	if u.Port() != "" {
		port = u.Port()
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}

// database reads /db.
func database(path string, cluster bool) (int, error) {
	path = strings.TrimPrefix(path, "/")
	if path == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(path)
	if err != nil || n < 0 {
		return 0, errors.New("path: expected the number of a database, such as /0 (a / in the password is written %2F)")
	}
	if cluster && n != 0 {
		return 0, fmt.Errorf("database %d: a Cluster has only database 0", n)
	}
	return n, nil
}
