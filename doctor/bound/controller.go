package bound

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	"github.com/mtls-authz/mtls-authz/directory/controller"
	"github.com/mtls-authz/mtls-authz/doctor"
)

const authority = "cloud_controller.global_auditor (or cloud_controller.admin_read_only): uaac client update CF_CLIENT_ID --authorities cloud_controller.global_auditor"

// controller asks for a token and a list, as names and --reconcile need them.
func (cfg Config) controller(ctx context.Context) []doctor.Finding {
	if cfg.Cloud == nil {
		return []doctor.Finding{doctor.Unknown("", cfg.NoCloud, "with a client, names stand beside guids, and domains and bindings are compared")}
	}
	orgs, err := cfg.Cloud.Orgs(ctx)
	switch {
	case err != nil:
		return []doctor.Finding{doctor.Bad("", err.Error(), mend(err))}
	case orgs == 0:
		// It gets empty lists, and no error.
		return []doctor.Finding{doctor.Bad("", "the client gets a token and may see no org", "give it the authority "+authority)}
	}
	return []doctor.Finding{doctor.Good("", "the client gets a token, and sees "+count(orgs, "org"))}
}

// mend is what to do about an error of Cloud Controller or UAA.
func mend(err error) string {
	var lookup *net.DNSError
	var verify *tls.CertificateVerificationError
	var network *net.OpError
	switch {
	case errors.Is(err, controller.ErrUnauthorized):
		return "CF_CLIENT_ID and CF_CLIENT_SECRET must be those of a client of this foundation's UAA with the grant client_credentials, and CF_API_URL its Cloud Controller"
	case errors.Is(err, controller.ErrForbidden):
		return "give the client the authority " + authority
	case errors.Is(err, controller.ErrNotFound):
		return "CF_API_URL must be what cf api shows"
	case errors.As(err, &lookup):
		return "DNS must know the host in CF_API_URL, and the one of UAA, from where the gateway runs"
	case errors.As(err, &verify):
		return "CA_FILES must hold the CA of the certificates of Cloud Controller and UAA"
	case errors.As(err, &network) && network.Op == "dial":
		return "see security group above: Cloud Controller and UAA must be reached from where the gateway runs"
	}
	return "run it again; if it stays so, look at the log of Cloud Controller and UAA: cf curl /v3/organizations"
}
