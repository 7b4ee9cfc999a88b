package acceptance_test

import (
	"bytes"
	"os"
	"strings"
	"text/template"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/ca"
	"github.com/mtls-authz/mtls-authz/playground/router"
)

type gorouterConfig struct {
	trust   playground.Trust
	another *ca.Authority
	mode    router.ForwardedClientCert
	port    int
}

type gorouterPorts struct{ NATS, HTTP, TLS, Status, Routes, Internal int }

// gorouterYAML leaves out nothing that a hand-written file needs: several of
// the binary's own defaults are not the job's.
var gorouterYAML = template.Must(template.New("").Funcs(template.FuncMap{"indent": func(pem []byte) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(string(pem)), "\n", "\n    ")
}}).Parse(`port: {{.HTTP}}
enable_ssl: true
ssl_port: {{.TLS}}
enable_http2: true
min_tls_version: TLSv1.2
max_tls_version: TLSv1.3
cipher_suites: ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256:TLS_AES_128_GCM_SHA256
tls_pem:
- cert_chain: |
{{indent .Certificate}}
  private_key: |
{{indent .Key}}
client_cert_validation: request
client_ca_certs: |
{{indent .ClientCAs}}
only_trust_client_ca_certs: true
ca_certs:
- |
{{indent .Certificate}}
forwarded_client_cert: {{.Mode}}
route_services_secret: {{.Secret}}
route_services_timeout: 60s
route_services_recommend_https: true
route_services_hairpinning: true
route_services_internal_server_port: {{.Internal}}
route_services:
  max_attempts: 3
  strict_signature_validation: false
backends:
  max_attempts: 3
nats:
  hosts:
  - hostname: 127.0.0.1
    port: {{.NATS}}
status:
  host: 127.0.0.1
  port: {{.Status}}
  enable_nontls_health_checks: true
  user: status
  pass: status
  routes:
    port: {{.Routes}}
start_response_delay_interval: 0s
droplet_stale_threshold: 24h
endpoint_timeout: 60s
drain_wait: 0s
drain_timeout: 1s
enable_envelope_v1_metrics: false
send_http_start_stop_server_event: false
send_http_start_stop_client_event: false
access_log:
  file: {{.Dir}}/access.log
logging:
  level: info
`))

func (g *gorouter) writeConfig(path, dir string, cfg gorouterConfig) error {
	if cfg.mode == "" {
		cfg.mode = router.SanitizeSet
	}
	var text bytes.Buffer
	err := gorouterYAML.Execute(&text, struct {
		gorouterPorts
		Certificate, Key, ClientCAs []byte
		Mode                        router.ForwardedClientCert
		Secret, Dir                 string
	}{
		g.ports, cfg.trust.Certificate.CertPEM(), cfg.trust.Certificate.KeyPEM(),
		append(cfg.trust.ClientCAs.PEM(), cfg.another.PEM()...), cfg.mode, secret, dir,
	})
	if err != nil {
		return err
	}
	return os.WriteFile(path, text.Bytes(), 0o600)
}

func (g *gorouter) choosePorts(tls int) error {
	p := &g.ports
	for _, port := range []*int{&p.NATS, &p.HTTP, &p.TLS, &p.Status, &p.Routes, &p.Internal} {
		var err error
		if *port, err = freePort(); err != nil {
			return err
		}
	}
	if tls != 0 {
		p.TLS = tls
	}
	return nil
}
