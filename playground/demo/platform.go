package demo

import (
	"crypto/rand"
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/ca"
	"github.com/mtls-authz/mtls-authz/playground/capi"
	"github.com/mtls-authz/mtls-authz/playground/cloud"
	"github.com/mtls-authz/mtls-authz/playground/controller"
)

// Who logs in to the demo's Cloud Controller.
const (
	userName, userPassword = "alice", "wonderland"
	clientID               = "mtls-authz"
	readUsername           = "auditor"
)

// platform is Cloud Controller with its UAA, on a port of its own.
type platform struct {
	cloud  *cloud.Cloud
	server *http.Server
	url    string
	caFile string
	// user is alice's guid, a developer of the org acme.
	user                       string
	clientSecret, readPassword string
}

// startPlatform starts it; the foundation, whose gateway asks it, comes later.
func startPlatform(dir string, foundation func() *playground.Foundation) (p *platform, err error) {
	p = &platform{user: playground.GUID("user " + userName), clientSecret: rand.Text(), readPassword: rand.Text(), caFile: filepath.Join(dir, "api-ca.pem")}
	root, err := ca.NewRoot("platform CA")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(p.caFile, root.PEM(), 0o600); err != nil {
		return nil, err
	}
	certificate, err := root.Server("127.0.0.1", "localhost")
	if err != nil {
		return nil, err
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate.TLS()}, MinVersion: tls.VersionTLS12})
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return nil, err
	}
	p.url = "https://localhost:" + port
	p.cloud = cloud.New(cloud.Config{
		Domain: playground.Domain, Router: func() cloud.Router { return foundation().Router },
		Broker: func(user string) *controller.Client {
			client := *foundation().Controller
			client.User = user
			return &client
		},
	})
	p.populate()
	p.server = &http.Server{Handler: p.cloud, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = p.server.Serve(listener) }()
	return p, nil
}

func (p *platform) populate() {
	p.cloud.AddClient(clientID, p.clientSecret)
	for _, app := range []playground.App{playground.Backend, playground.Frontend, playground.Monitoring, playground.Intruder, playground.Authz, green} {
		id := app.Identity()
		p.cloud.Put(capi.Orgs, capi.Entity{GUID: id.Org, Name: app.Org})
		p.cloud.Put(capi.Spaces, capi.Entity{GUID: id.Space, Name: app.Space, Parent: id.Org})
		p.cloud.Put(capi.Apps, capi.Entity{GUID: id.App, Name: app.Name, Parent: id.Space})
	}
	p.cloud.AddUser(userName, userPassword, p.user, playground.Backend.Identity().Org)
	for _, host := range []string{"backend", "live", "named"} {
		p.cloud.AddRoute(host, "", playground.Backend.Identity().Space)
	}
	p.cloud.AddRoute("foreign", "", playground.Intruder.Identity().Space)
}

// environment is the gateway's, so that it asks this Cloud Controller.
func (p *platform) environment() []string {
	return []string{
		"CF_API_URL=" + p.url, "CF_CLIENT_ID=" + clientID, "CF_CLIENT_SECRET=" + p.clientSecret, "CA_FILES=" + p.caFile,
		"NAME_INTERVAL=1s", "READ_USERNAME=" + readUsername, "READ_PASSWORD=" + p.readPassword,
	}
}

func (p *platform) stop() error { return p.server.Close() }
