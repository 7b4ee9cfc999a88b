package author

import (
	"io"
	"maps"
	"slices"

	"github.com/mtls-authz/mtls-authz/rego/author/page"
	"github.com/mtls-authz/mtls-authz/rego/explain"
)

// maxListed bounds the grants that are listed.
const maxListed = 20

func (cfg EvalConfig) write(w io.Writer, v *verdict) error {
	p := page.New(w)
	if v.Allow {
		p.Printf("allow\n  mtls_policy          %s\n", v.Policy)
	} else {
		p.Printf("deny\n  mtls_policy          %s\n  mtls_denied_reason   %s\n", v.Policy, v.Reason)
	}
	if v.Error != "" {
		p.Printf("  because              %s\n", v.Error)
	}
	for _, name := range slices.Sorted(maps.Keys(v.Headers)) {
		p.Printf("  header               %s: %s\n", name, v.Headers[name])
	}
	if !cfg.Explain {
		return p.Err()
	}
	p.Printf("\ngrants: %d\n", len(v.Grants))
	for i, grant := range v.Grants {
		if i == maxListed {
			p.Printf("  and %d more, to others\n", len(v.Grants)-i)
			break
		}
		if grant.Because == "" {
			p.Printf("  matches   %s (%s)\n", grant.Grant, grant.Origin)
			continue
		}
		p.Printf("  no        %s (%s)\n            %s\n", grant.Grant, grant.Origin, grant.Because)
	}
	p.Printf("\nchecks: %d\n", len(v.Checks))
	for _, check := range v.Checks {
		if check.Holds {
			p.Printf("  holds     %s%s\n", check.Name, page.Prefixed(": ", check.Title))
			continue
		}
		p.Printf("  denies    %s%s\n", check.Name, page.Prefixed(": ", check.Title))
		if len(check.Ends) == 0 {
			p.Printf("            allow is %s\n", check.Allow)
		}
		cfg.writeEnds(p, check.Ends, "            ")
	}
	return p.Err()
}

func (cfg EvalConfig) writeEnds(p *page.Page, ends []explain.End, indent string) {
	for _, end := range ends {
		verb := "does not hold"
		if end.Holds {
			verb = "holds"
		}
		p.Printf("%s%s:%d: %s %s: %s\n", indent, cfg.file(end.File), end.Line, end.Rule, verb, end.Condition)
		for _, value := range end.Values {
			p.Printf("%s    %s is %s\n", indent, value.Name, value.Value)
		}
		cfg.writeEnds(p, end.Because, indent+"    ")
	}
}
