package demo

import (
	"encoding/json"
	"net"
	"net/http"
	"time"
)

// demoApp is the protected app: it answers with what it was told of the caller.
type demoApp struct {
	server *http.Server
	url    string
}

func startDemoApp() (*demoApp, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	app := &demoApp{
		url: "http://" + listener.Addr().String(),
		server: &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]string{
				"hello": "from the backend", "method": r.Method, "path": r.URL.EscapedPath(), "caller": r.Header.Get("X-Mtls-Authz-Caller"),
			})
		})},
	}
	go func() { _ = app.server.Serve(listener) }()
	return app, nil
}

func (a *demoApp) stop() error { return a.server.Close() }
