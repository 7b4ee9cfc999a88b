// Package client asks a gateway's API on the command line.
//
// Credentials go to the gateway that was named, over https, and never after a
// redirect. What is answered is outside text: nothing in it moves a terminal's
// cursor.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/cf"
	"github.com/mtls-authz/mtls-authz/identity"
)

const (
	patience   = time.Minute
	maxAnswer  = 64 << 20 // bytes
	asText     = "text/plain"
	asJSON     = "application/json"
	userOf     = "READ_USERNAME"
	passwordOf = "READ_PASSWORD"
)

// Client is the API of a gateway, and who asks.
type Client struct {
	// Below is the path of the API; with a user's token that of one service instance.
	Below string
	// ByToken: the user's token stands in place of a password.
	ByToken bool

	base, accept   string
	user, password string
	token          string
	http           *http.Client
}

var errNoCredentials = errors.New("who asks? name a route of yours, about which your cf login is enough, or set READ_USERNAME and READ_PASSWORD of the gateway in the environment")

// New reads where the gateway is and who asks, about a route or, if it is "", about
// all; it opens no connection to the gateway.
func New(ctx context.Context, gateway, route string, asksJSON bool) (*Client, error) {
	base, err := parseBase(gateway)
	if err != nil {
		return nil, err
	}
	g := &Client{base: base, user: os.Getenv(userOf), password: os.Getenv(passwordOf), Below: "/v1", accept: asText}
	if asksJSON {
		g.accept = asJSON
	}
	if g.user == "" || g.password == "" {
		if err := g.asUser(ctx, route); err != nil {
			return nil, err
		}
	}
	roots, err := trusted(os.Getenv("CA_FILES"))
	if err != nil {
		return nil, err
	}
	g.http = &http.Client{
		Timeout:       patience,
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return g, nil
}

// asUser asks about a route by the token of whoever is logged in with cf: the API
// shows the service instance that the route is bound to.
func (g *Client) asUser(ctx context.Context, route string) error {
	if route == "" || g.user != "" || g.password != "" { // half of a password is a mistake
		return errNoCredentials
	}
	cli, err := cf.Find()
	if err != nil {
		return fmt.Errorf("%w: %w", errNoCredentials, err)
	}
	bound, err := cli.RouteNamed(ctx, route)
	if err != nil {
		return err
	}
	if g.token, err = cli.Token(ctx); err != nil {
		return err
	}
	g.ByToken, g.Below = true, g.Below+"/instances/"+bound.Instance.GUID.String()
	return nil
}

// parseBase accepts https, and http for a gateway on this machine, named by its
// address: credentials go nowhere in clear.
func parseBase(text string) (string, error) {
	u, err := url.Parse(strings.TrimSuffix(text, "/"))
	if err == nil && u.Host != "" && u.User == nil && u.Path == "" && u.RawQuery == "" && u.Fragment == "" {
		address, _ := netip.ParseAddr(u.Hostname())
		if u.Scheme == "https" || u.Scheme == "http" && address.IsLoopback() {
			return u.Scheme + "://" + u.Host, nil
		}
	}
	return "", fmt.Errorf("--url, MTLS_AUTHZ_URL: %q: expected https://host of the gateway, without a path", text)
}

// trusted are the system's CAs and those of CA_FILES: files with commas between
// them, or PEM.
func trusted(files string) (*x509.CertPool, error) {
	roots, err := x509.SystemCertPool()
	if err != nil || files == "" {
		return roots, err
	}
	list := []identity.File{identity.File(files)}
	if !strings.Contains(files, "-----BEGIN ") {
		list = nil
		for path := range strings.SplitSeq(files, ",") {
			list = append(list, identity.File(strings.TrimSpace(path)))
		}
	}
	extra, err := identity.ReadCAs(list...)
	if err != nil {
		return nil, fmt.Errorf("CA_FILES: %w", err)
	}
	for _, ca := range extra {
		roots.AddCert(ca)
	}
	return roots, nil
}

func (g *Client) get(ctx context.Context, path string) ([]byte, error) {
	return g.Call(ctx, http.MethodGet, path, nil)
}

// JSON decodes an answer.
func (g *Client) JSON(ctx context.Context, path string, into any) error {
	plain := *g
	plain.accept = asJSON
	answer, err := plain.get(ctx, path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("%s%s: expected JSON of a gateway: %w", g.base, path, err)
	}
	return nil
}

// Call sends a request and returns the answer as it came.
func (g *Client) Call(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	answer, _, err := g.send(ctx, method, path, body)
	return answer, err
}

// send returns the head of the answer, too.
func (g *Client) send(ctx context.Context, method, path string, body []byte) ([]byte, http.Header, error) {
	request, err := http.NewRequestWithContext(ctx, method, g.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	request.Header.Set("Accept", g.accept)
	if body != nil {
		request.Header.Set("Content-Type", asJSON)
	}
	request.SetBasicAuth(g.user, g.password)
	if g.token != "" {
		request.Header.Set("Authorization", "bearer "+g.token)
	}
	response, err := g.http.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = response.Body.Close() }() // only read
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, nil, err
	}
	if len(answer) > maxAnswer {
		return nil, nil, fmt.Errorf("%s%s: an answer of more than %d MiB", g.base, path, maxAnswer>>20)
	}
	if response.StatusCode != http.StatusOK {
		return nil, nil, refused(response, answer)
	}
	kind, _, _ := strings.Cut(response.Header.Get("Content-Type"), ";")
	if kind != g.accept {
		return nil, nil, fmt.Errorf("%s%s answered with %q in place of %s: is that a gateway, as new as this command?", g.base, path, kind, g.accept)
	}
	return answer, response.Header, nil
}

// refusal is what a gateway says in place of an answer.
type refusal struct {
	status int
	detail string
}

func (r *refusal) Error() string {
	return fmt.Sprintf("the gateway refuses this (%d): %s", r.status, r.detail)
}

// refused is the error that a status other than 200 is.
func refused(response *http.Response, answer []byte) error {
	var problem struct {
		Title  string `json:"title"`
		Detail string `json:"detail"`
	}
	if json.Unmarshal(answer, &problem) == nil && problem.Detail != "" {
		return &refusal{response.StatusCode, strings.Map(Printable, problem.Detail)}
	}
	words := fmt.Sprintf("%s answered %d", response.Request.URL.Host, response.StatusCode)
	switch code := response.StatusCode; {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		words += ": wrong credentials, or not for this"
	case code >= 300 && code < 400:
		words += ", a redirect, which is not followed with credentials: give the URL of the gateway itself"
	case code == http.StatusNotFound:
		words += ": is that a gateway, as new as this command?"
	}
	return errors.New(words)
}

// Show writes an answer without what could move a terminal's cursor.
func Show(w io.Writer, answer []byte) error {
	_, err := w.Write(bytes.Map(Printable, answer))
	return err
}

// Printable leaves out what could move a terminal's cursor.
func Printable(r rune) rune {
	if r == '\n' || unicode.IsPrint(r) {
		return r
	}
	return -1
}

// ShowOne prints what the gateway answers.
func (g *Client) ShowOne(ctx context.Context, w io.Writer, path string) error {
	answer, err := g.get(ctx, path)
	if err != nil {
		return err
	}
	return Show(w, answer)
}
