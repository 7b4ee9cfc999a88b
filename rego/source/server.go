package source

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/download"
	"github.com/open-policy-agent/opa/v1/logging"
	"github.com/open-policy-agent/opa/v1/plugins/rest"

	"github.com/mtls-authz/mtls-authz/rego/bundle"
)

// longPoll is how long a server that can do so is asked to wait for news.
const longPoll = 60 * time.Second

// server is a bundle server: OPA's downloader over a transport that adds what
// the downloader does not do by itself.
type server struct {
	config    download.Config
	client    rest.Client
	path      string
	transport *transport
}

const pluginName = "gateway"

func newServer(cfg Config, location *url.URL) (*server, error) {
	origin := url.URL{Scheme: location.Scheme, Host: location.Host}
	s := &server{
		path:      strings.TrimPrefix(location.RequestURI(), "/"),
		transport: newTransport(cfg, location.Host),
	}
	settings, err := json.Marshal(map[string]any{
		"name": "bundle", "url": origin.String(), "credentials": map[string]any{"plugin": pluginName},
	})
	if err != nil {
		return nil, err
	}
	plugin := httpClient{&http.Client{Transport: s.transport, CheckRedirect: checkRedirect, Timeout: longPoll + answerTimeout}}
	s.client, err = rest.New(settings, nil, rest.Logger(logging.NewNoOpLogger()),
		rest.AuthPluginLookup(func(string) rest.HTTPAuthPlugin { return plugin }))
	if err != nil {
		return nil, err
	}
	wait, least, most := int64(longPoll/time.Second), max(1, int64(cfg.Poll*4/5/time.Second)), max(1, int64((cfg.Poll*6/5+time.Second-1)/time.Second))
	s.config = download.Config{Polling: download.PollingConfig{MinDelaySeconds: &least, MaxDelaySeconds: &most, LongPollingTimeoutSeconds: &wait}}
	return s, s.config.ValidateAndInjectDefaults()
}

// httpClient gives OPA's client the gateway's own, which knows the token.
type httpClient struct{ client *http.Client }

func (h httpClient) NewClient(rest.Config) (*http.Client, error) { return h.client, nil }
func (httpClient) Prepare(*http.Request) error                   { return nil }

func (s *server) follow(ctx context.Context, tell func(Event)) {
	var told news
	downloader := download.New(s.config, s.client, s.path).WithSizeLimitBytes(bundle.MaxContent).
		WithCallback(func(_ context.Context, update download.Update) error {
			archive := s.transport.take()
			switch {
			// What came whole goes through the gate, even if the downloader
			// could not read it: the gate says why, with file and line.
			case archive != nil && told.isNew(archive):
				tell(Event{Archive: archive})
			case archive != nil:
				tell(Event{})
			case update.Error != nil:
				told = news{}
				tell(Event{Err: plainError(update.Error)})
			default:
				tell(Event{})
			}
			return nil
		})
	downloader.Start(ctx)
	<-ctx.Done()
	downloader.Stop(ctx)
	s.transport.close()
}

// plainError leaves out the URL, whose query may be a secret.
func plainError(err error) error {
	if failed, ok := errors.AsType[*url.Error](err); ok {
		return failed.Err
	}
	return err
}
