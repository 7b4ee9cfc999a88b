package playground

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/mtls-authz/mtls-authz/playground/ca"
	"github.com/mtls-authz/mtls-authz/playground/controller"
	"github.com/mtls-authz/mtls-authz/playground/router"
)

const (
	// Domain is the foundation's domain for identity-aware routes.
	Domain = "apps.identity"
	// GatewayHost is the gateway's own route.
	GatewayHost = "mtls-authz." + Domain
)

// GUID returns the guid of a thing by its name, the same every time.
func GUID(name string) string { return uuid.NewSHA1(uuid.NameSpaceDNS, []byte(name)).String() }

// App is an app of the foundation.
type App struct{ Name, Space, Org string }

// Identity is what Diego writes into the app's certificate.
func (a App) Identity() ca.Identity {
	return ca.Identity{App: GUID("app " + a.Name), Space: GUID("space " + a.Space), Org: GUID("org " + a.Org), Instance: GUID("instance " + a.Name)}
}

// The apps that every foundation has; Authz is the gateway.
var (
	Backend    = App{"backend", "shop", "acme"}
	Frontend   = App{"frontend", "shop", "acme"}
	Monitoring = App{"monitoring", "observability", "acme"}
	Intruder   = App{"intruder", "lab", "globex"}
	Authz      = App{"mtls-authz", "platform", "system"}
)

// Router is what the foundation needs of a router: the stand-in of this
// package, or a real gorouter.
type Router interface {
	Addr() string
	Register(route, backend string) error
	Bind(route, routeServiceURL string) error
	Unbind(route string) error
	Sign(forwardedURL string) http.Header
	Close() error
}

// Trust is what a router needs to know: its own certificate, and the CAs that
// may have issued its clients'.
type Trust struct {
	Certificate *ca.Credential
	ClientCAs   *ca.Authority
}

// Config configures [Start].
type Config struct {
	// Executable is the mtls-authz binary. Required.
	Executable string
	// Dir holds keys, certificates and the gateway's state. Required.
	Dir string
	// Router makes the router; nil: the stand-in on sanitize_set and any port.
	Router func(Trust) (Router, error)
	// Environment is added to the gateway's, and wins.
	Environment []string
	// Decision gets each line that the gateway writes; nil: nobody.
	Line func(line []byte)
}

// Foundation is a running one.
type Foundation struct {
	Config
	// IdentityCA issues instance certificates; Root signed it.
	Root, IdentityCA *ca.Authority
	RouterCA         *ca.Authority
	Router           Router
	// Controller speaks to the gateway's broker.
	Controller *controller.Client
	gateway    *process
	environ    []string
}

// Start starts a foundation whose gateway answers. Stop it with
// [Foundation.Stop], also after an error of a later call.
func Start(ctx context.Context, cfg Config) (f *Foundation, err error) {
	f = &Foundation{Config: cfg}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Stop())
		}
	}()
	if err := f.mint(); err != nil {
		return f, err
	}
	if err := f.startRouter(); err != nil {
		return f, fmt.Errorf("start the router: %w", err)
	}
	if err := f.configure(); err != nil {
		return f, err
	}
	return f, f.StartGateway(ctx)
}

func (f *Foundation) mint() (err error) {
	if f.Root, err = ca.NewRoot("appRootCA"); err != nil {
		return err
	}
	if f.IdentityCA, err = f.Root.Intermediate("instanceIdentityCA"); err != nil {
		return err
	}
	if f.RouterCA, err = ca.NewRoot("routerCA"); err != nil {
		return err
	}
	return os.WriteFile(f.RouterCAFile(), f.RouterCA.PEM(), 0o600)
}

// RouterCAFile verifies the router's certificate.
func (f *Foundation) RouterCAFile() string { return filepath.Join(f.Dir, "router-ca.pem") }

func (f *Foundation) startRouter() error {
	certificate, err := f.RouterCA.Server(Domain, "*."+Domain, "*.wild."+Domain)
	if err != nil {
		return err
	}
	start := f.Config.Router
	if start == nil {
		start = func(t Trust) (Router, error) { return NewRouter(t, router.Config{}) }
	}
	f.Router, err = start(Trust{certificate, f.Root})
	return err
}

// NewRouter starts the stand-in. cfg needs no certificates; ClientCAs may hold
// other CAs that the router accepts clients of, as production routers do.
func NewRouter(t Trust, cfg router.Config) (Router, error) {
	cfg.Certificate = t.Certificate.TLS()
	if cfg.ClientCAs == nil {
		cfg.ClientCAs = x509.NewCertPool()
	}
	cfg.ClientCAs.AddCert(t.ClientCAs.Certificate())
	r, err := router.New(cfg)
	if err != nil {
		return nil, err // and not an interface that holds no router
	}
	return r, nil
}

// configure writes the gateway's environment as Cloud Foundry and an operator
// would.
func (f *Foundation) configure() error {
	own, err := f.Credential(Authz)
	if err != nil {
		return err
	}
	certFile, keyFile, err := own.WriteFiles(filepath.Join(f.Dir, Authz.Name))
	if err != nil {
		return err
	}
	id := Authz.Identity()
	application, err := json.Marshal(map[string]any{
		"application_id": id.App, "application_name": Authz.Name, "application_uris": []string{GatewayHost},
		"space_id": id.Space, "organization_id": id.Org, "cf_api": "https://api.system.identity",
	})
	if err != nil {
		return err
	}
	password := rand.Text()
	f.Controller = &controller.Client{Username: "cloud-controller", Password: password, User: GUID("user admin")}
	f.environ = []string{
		"VCAP_APPLICATION=" + string(application), "VCAP_SERVICES={}", "CF_INSTANCE_INDEX=0", "MEMORY_LIMIT=512m", "LISTEN_ADDRESS=127.0.0.1",
		"CF_INSTANCE_CERT=" + certFile, "CF_INSTANCE_KEY=" + keyFile,
		"ALLOW_EPHEMERAL_STATE=true", "DATA_DIR=" + filepath.Join(f.Dir, "data"),
		"BROKER_USERNAME=cloud-controller", "BROKER_PASSWORD=" + password,
		"ROUTER_ADDRESS=" + f.Router.Addr(), "ROUTER_CA_FILES=" + f.RouterCAFile(),
	}
	return nil
}

// StartGateway starts the gateway, maps its route, and waits until it answers.
// It tries again if somebody took a port that was free a moment ago.
func (f *Foundation) StartGateway(ctx context.Context) (err error) {
	for range 3 {
		if err = f.tryGateway(ctx); !errors.Is(err, errPortTaken) {
			break
		}
	}
	return err
}

func (f *Foundation) tryGateway(ctx context.Context) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	environ := append(append([]string{fmt.Sprintf("PORT=%d", port)}, f.environ...), f.Environment...)
	f.gateway, err = startProcess(f.Executable, environ, f.Line)
	if err != nil {
		return fmt.Errorf("start the gateway: %w", err)
	}
	f.Controller.URL = fmt.Sprintf("http://127.0.0.1:%d", port)
	if err := f.Router.Register(GatewayHost, f.Controller.URL); err != nil {
		return err
	}
	err = f.gateway.waitFor(ctx, f.Controller.URL+"/healthz")
	if errors.Is(err, errPortTaken) {
		return errors.Join(err, f.unmap())
	}
	return err
}

// unmap takes the gateway's route from the router, if that can be done alone.
func (f *Foundation) unmap() error {
	r, ok := f.Router.(interface {
		Deregister(route, backend string) error
	})
	if !ok {
		return nil
	}
	return r.Deregister(GatewayHost, f.Controller.URL)
}

// StopGateway stops the gateway as Cloud Foundry does, with SIGTERM, and
// returns how it ended.
func (f *Foundation) StopGateway() error {
	if f.gateway == nil {
		return nil
	}
	defer func() { f.gateway = nil }()
	if err := f.unmap(); err != nil {
		return err
	}
	return f.gateway.stop()
}

// Stop stops everything.
func (f *Foundation) Stop() error {
	var problems []error
	problems = append(problems, f.StopGateway())
	if f.Router != nil {
		problems = append(problems, f.Router.Close())
	}
	return errors.Join(problems...)
}

// Credential mints an instance certificate for an app.
func (f *Foundation) Credential(app App, options ...ca.Option) (*ca.Credential, error) {
	return f.IdentityCA.Instance(app.Identity(), options...)
}
