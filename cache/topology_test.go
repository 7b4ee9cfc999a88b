package cache_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/cache"
	"github.com/mtls-authz/mtls-authz/rego"
)

// shares demands that what one instance decides another finds in Redis.
func shares(t *testing.T, client func() redis.UniversalClient, p *rego.Policy, paths int) *instance {
	t.Helper()
	one := running(t, newInstanceOf(t, client(), macKey, cache.Config{}))
	require.Eventually(t, one.shared.Available, 20*time.Second, 10*time.Millisecond)
	a, at := access(t, 7, allowFrontend), client()
	for n := range paths {
		r := request(p, a, fmt.Sprintf("/shared/%d", n), start)
		decision, err := one.Decide(t.Context(), r)
		require.NoError(t, err)
		require.True(t, decision.Allow)
		require.Eventually(t, func() bool { return at.Exists(t.Context(), cache.NameOf(cache.KeyOf(r))).Val() == 1 }, 20*time.Second, 5*time.Millisecond, one.shared.Reason())
		found(t, client, cache.Config{}, r, true)
	}
	return one
}

// certified makes a CA and files of a certificate for 127.0.0.1.
func certified(t *testing.T) (roots *x509.CertPool, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(certFile, text, 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}), 0o600))
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	return roots, certFile, keyFile
}

// The ACL user may do what the cache does and nothing else.
func TestRedisOverTLSWithAnACLUser(t *testing.T) {
	roots, certFile, keyFile := certified(t)
	secure := (&redisServer{
		roots: roots, login: "cache:secret@",
		args: []string{
			"--tls-cert-file", certFile, "--tls-key-file", keyFile, "--tls-auth-clients", "no",
			"--user", "cache", "on", ">secret", "~mtls-authz:*", "+getrange", "+set", "+exists", "+ping", "--user", "default", "off",
		},
	}).begin(t)
	p := policy(t, readsPath)
	shares(t, func() redis.UniversalClient { return secure.client(t) }, p, 2)

	strangers, _, _ := certified(t)
	for why, client := range map[string]redis.UniversalClient{
		"certificate signed by unknown authority": clientOf(t, secure.url(), strangers),
		"WRONGPASS":          clientOf(t, strings.Replace(secure.url(), "secret", "wrong", 1), roots),
		"it does not answer": clientOf(t, strings.Replace(secure.url(), "rediss", "redis", 1), nil),
	} {
		i := running(t, newInstanceOf(t, client, macKey, cache.Config{}))
		failing(t, i, p)
		require.Eventually(t, func() bool { return strings.Contains(i.shared.Reason(), why) }, 20*time.Second, 10*time.Millisecond, why)
		assert.NotContains(t, i.shared.Reason()+i.log.text(), "secret")
	}
}

// freePorts are n different ones.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var ports []int
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer listener.Close()
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

func serverAt(t *testing.T, port int, args ...string) *redisServer {
	t.Helper()
	s := &redisServer{port: port, dir: t.TempDir(), args: args}
	t.Cleanup(s.kill)
	require.True(t, s.start(t), s.output.String())
	return s
}

// A master that dies: Sentinel makes the replica the master, and the instance
// finds it.
func TestSentinelFailsOver(t *testing.T) {
	master := startRedis(t)
	replica := startRedis(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(master.port), "--repl-diskless-sync-delay", "0")
	var addresses []string
	for _, port := range freePorts(t, 3) {
		conf := filepath.Join(t.TempDir(), "sentinel.conf")
		require.NoError(t, os.WriteFile(conf, fmt.Appendf(nil, "port %d\nbind 127.0.0.1\nsentinel monitor decisions 127.0.0.1 %d 2\n"+
			"sentinel down-after-milliseconds decisions 500\nsentinel failover-timeout decisions 3000\n", port, master.port), 0o600))
		serverAt(t, port, conf, "--sentinel")
		addresses = append(addresses, fmt.Sprintf("127.0.0.1:%d", port))
	}
	sentinel := redis.NewSentinelClient(&redis.Options{Addr: addresses[0]})
	t.Cleanup(func() { _ = sentinel.Close() })
	require.Eventually(t, func() bool {
		known, err := sentinel.Master(t.Context(), "decisions").Result()
		return err == nil && known["num-slaves"] == "1" && known["num-other-sentinels"] == "2"
	}, 30*time.Second, 50*time.Millisecond)

	url := "redis://" + addresses[0] + "?sentinel_master=decisions&addr=" + addresses[1] + "&addr=" + addresses[2]
	p := policy(t, readsPath)
	one := shares(t, func() redis.UniversalClient { return clientOf(t, url, nil) }, p, 1)
	master.kill()
	failing(t, one, p)
	n, at := 0, replica.client(t)
	require.Eventually(t, func() bool { // requests go on, and the new master gets entries
		n++
		r := request(p, access(t, 7, allowFrontend), fmt.Sprintf("/failed-over/%d", n), start)
		decision, err := one.Decide(t.Context(), r)
		return err == nil && decision.Allow && one.shared.Available() && at.Info(t.Context(), "replication").Val() != "" &&
			strings.Contains(at.Info(t.Context(), "replication").Val(), "role:master") && at.DBSize(t.Context()).Val() > 1
	}, 40*time.Second, 20*time.Millisecond, "%s", one.shared.Reason())
}

// startCluster forms a Cluster of three masters and three replicas.
func startCluster(t *testing.T) []*redisServer {
	t.Helper()
	var nodes []*redisServer
	for range 6 {
		nodes = append(nodes, startRedis(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", strconv.Itoa(freePort(t)), "--repl-diskless-sync-delay", "0"))
	}
	ctx := t.Context()
	clients := make([]redis.UniversalClient, len(nodes))
	for i, node := range nodes {
		clients[i] = node.client(t)
		if i < 3 {
			require.NoError(t, clients[i].ClusterAddSlotsRange(ctx, i*16384/3, (i+1)*16384/3-1).Err())
		}
		require.NoError(t, clients[0].Do(ctx, "cluster", "meet", "127.0.0.1", node.port, node.clusterPort()).Err())
	}
	everywhere := func(done func(redis.UniversalClient) bool) {
		for _, client := range clients {
			require.Eventually(t, func() bool { return done(client) }, 30*time.Second, 20*time.Millisecond)
		}
	}
	everywhere(func(c redis.UniversalClient) bool {
		return strings.Contains(c.ClusterInfo(ctx).Val(), "cluster_known_nodes:6")
	})
	for i := range 3 {
		require.NoError(t, clients[i+3].ClusterReplicate(ctx, clients[i].ClusterMyID(ctx).Val()).Err())
	}
	everywhere(func(c redis.UniversalClient) bool {
		return strings.Contains(c.ClusterInfo(ctx).Val(), "cluster_state:ok")
	})
	return nodes
}

func (s *redisServer) clusterPort() int {
	for i, arg := range s.args {
		if arg == "--cluster-port" {
			port, _ := strconv.Atoi(s.args[i+1])
			return port
		}
	}
	return 0
}

// Entries lie on all nodes; slots move while requests go on; a master dies.
func TestAClusterReshardsAndFailsOver(t *testing.T) {
	nodes := startCluster(t)
	url := "redis://" + nodes[0].addr() + "?cluster=true&addr=" + nodes[1].addr()
	p := policy(t, readsPath)
	one := shares(t, func() redis.UniversalClient { return clientOf(t, url, nil) }, p, 12)
	for _, master := range nodes[:3] {
		assert.Positive(t, master.client(t).DBSize(t.Context()).Val())
	}

	from, to := nodes[0].client(t), nodes[1].client(t)
	fromID, toID := from.ClusterMyID(t.Context()).Val(), to.ClusterMyID(t.Context()).Val()
	a := access(t, 7, allowFrontend)
	for slot := range 40 {
		require.NoError(t, to.Do(t.Context(), "cluster", "setslot", slot, "importing", fromID).Err())
		require.NoError(t, from.Do(t.Context(), "cluster", "setslot", slot, "migrating", toID).Err())
		r := request(p, a, fmt.Sprintf("/resharding/%d", slot), start)
		decision, err := one.Decide(t.Context(), r)
		require.NoError(t, err)
		require.True(t, decision.Allow)
		for _, name := range from.ClusterGetKeysInSlot(t.Context(), slot, 100).Val() {
			require.NoError(t, from.Migrate(t.Context(), "127.0.0.1", strconv.Itoa(nodes[1].port), name, 0, time.Second).Err())
		}
		for _, client := range []redis.UniversalClient{to, from} {
			require.NoError(t, client.Do(t.Context(), "cluster", "setslot", slot, "node", toID).Err())
		}
	}
	one = shares(t, func() redis.UniversalClient { return clientOf(t, url, nil) }, p, 12)

	nodes[2].kill()
	n := 0
	require.Eventually(t, func() bool {
		n++
		decision, err := one.Decide(t.Context(), request(p, a, fmt.Sprintf("/failing-over/%d", n), start))
		require.NoError(t, err)
		require.True(t, decision.Allow)
		return nodes[5].client(t).Do(t.Context(), "role").Val() != nil && strings.Contains(nodes[5].client(t).Info(t.Context(), "replication").Val(), "role:master")
	}, 40*time.Second, 50*time.Millisecond)
	require.Eventually(t, one.shared.Available, 40*time.Second, 20*time.Millisecond, "%s", one.shared.Reason())
	shares(t, func() redis.UniversalClient { return clientOf(t, url, nil) }, p, 12)
}
