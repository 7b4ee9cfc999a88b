package edge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// diagnose says what a failure to talk to a router means, and what to do about it.
func diagnose(err error, router string) (found, fix string) {
	var dial *net.OpError
	if errors.As(err, new(*unreachable)) || errors.As(err, new(*net.DNSError)) || errors.As(err, &dial) && dial.Op == "dial" {
		return notReached(err, Endpoint{Address: router, Setting: routerSetting})
	}
	return notUnderstood(err)
}

const routerSetting = "ROUTER_ADDRESS, else GATEWAY_URL,"

// rejected are what TCP says where a firewall refuses instead of dropping. The
// rules that Cloud Foundry makes of security groups end with such a refusal
// (icmp-port-unreachable), which looks like a port where nobody listens.
var rejected = []syscall.Errno{syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EACCES, syscall.EPERM}

// notReached is about a server that takes no connection.
func notReached(err error, e Endpoint) (found, fix string) {
	if errors.As(err, new(*net.DNSError)) {
		return "the name does not resolve", "DNS must know the host in " + e.Setting + " from where the gateway runs"
	}
	allow := "a security group must let the gateway's space reach it: cf create-security-group and cf bind-security-group with " + rules(e.Address) + ", then restart the app, as running ones may not get new rules; "
	if isTimeout(err) {
		return "no answer in time: a firewall drops what is sent, or nobody has this address", allow + "else look at firewalls on the way, and whether " + e.Setting + " names the right address"
	}
	for _, number := range rejected {
		if errors.Is(err, number) {
			return "the connection is refused (" + number.Error() + "): by a security group, or nobody listens there", allow + "else correct the address in " + e.Setting + " or start what should listen there"
		}
	}
	return err.Error(), "look whether " + e.Setting + " names the right address, and at the network on the way"
}

// notUnderstood is about a router that takes connections: no security group is in
// the way.
func notUnderstood(err error) (found, fix string) {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var plain tls.RecordHeaderError
	switch {
	case alert(err) == unknownAuthority || alert(err) == badCertificate:
		return "it refuses the gateway's own certificate (" + alert(err) + ")",
			"router.ca_certs, or router.client_ca_certs with router.only_trust_client_ca_certs, must hold the CA of instance certificates, ((diego_instance_identity_ca.certificate))"
	case errors.As(err, &authority):
		return "its certificate is of an authority that is not trusted here", "ROUTER_CA_FILES must hold the CA of the router's certificate"
	case errors.As(err, &name):
		return "its certificate is not for this host", "give the router a certificate that covers the domain, or correct ROUTER_ADDRESS"
	case errors.As(err, &invalid):
		return "its certificate is not valid: " + invalid.Error(), "renew the router's certificate; look at the clocks if it is not expired"
	case errors.As(err, &plain):
		return "it does not speak TLS", "ROUTER_ADDRESS must name the router's TLS port"
	case isTimeout(err):
		return "it takes the connection and then says nothing in time: what listens there does not speak TLS, or hangs", "ROUTER_ADDRESS must name the router's TLS port; if it does, look at the router's log and load"
	}
	return err.Error(), "look at the router's log"
}

// What a router says of a client's certificate that it does not accept.
const (
	unknownAuthority = "tls: unknown certificate authority"
	badCertificate   = "tls: bad certificate"
)

// alert is what the other side of a TLS connection ended it with, "" if it did not.
func alert(err error) string {
	var remote *net.OpError
	if errors.As(err, &remote) && remote.Op == "remote error" {
		return remote.Err.Error()
	}
	return ""
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// lookupTime is what finding the addresses of a rule may take.
const lookupTime = 2 * time.Second

// rules are those of a security group, as cf create-security-group reads them. They
// take addresses and no names.
func rules(address string) string {
	type rule struct {
		Protocol    string `json:"protocol"`
		Destination string `json:"destination"`
		Ports       string `json:"ports"`
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = address, "443"
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupTime)
	defer cancel()
	hosts, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		hosts = []string{host}
	}
	all := make([]rule, len(hosts))
	for i := range hosts {
		all[i] = rule{"tcp", hosts[i], port}
	}
	text, _ := json.Marshal(all) // texts alone
	return string(text)
}
