package author

import (
	"context"
	"io"

	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/author/page"
	"github.com/mtls-authz/mtls-authz/rego/author/summary"
)

// CheckConfig configures [Check].
type CheckConfig struct {
	Place
	Settings
	JSON bool
}

// Check takes a bundle through the whole gate, as the gateway does before it
// activates one, and writes each finding or, if there is none, what the policy
// is made of. Findings are an [ErrFindings].
func Check(ctx context.Context, w io.Writer, cfg CheckConfig) error {
	b, err := cfg.read()
	if err != nil {
		return cfg.findings(w, cfg.JSON, err)
	}
	policy, compiled, err := rego.Examine(ctx, b, cfg.config())
	if err != nil {
		return cfg.findings(w, cfg.JSON, err)
	}
	if cfg.Key != nil {
		if err := b.Follows(b.Mark()); err != nil {
			return cfg.findings(w, cfg.JSON, err)
		}
	}
	s, err := summary.Of(policy, compiled)
	if err != nil {
		return err
	}
	if cfg.Key != nil {
		s.Signed = cfg.Key.Algorithm()
	}
	if cfg.JSON {
		return page.JSON(w, s)
	}
	return s.Write(w, cfg.Location)
}
