package author

import (
	"io"
	"maps"
	"slices"

	"github.com/mtls-authz/mtls-authz/rego/explain"
)

// maxListed bounds the grants that are listed.
const maxListed = 20

func (cfg EvalConfig) write(w io.Writer, v *verdict) error {
	p := &page{w: w}
	if v.Allow {
		p.printf("allow\n  mtls_policy          %s\n", v.Policy)
	} else {
		p.printf("deny\n  mtls_policy          %s\n  mtls_denied_reason   %s\n", v.Policy, v.Reason)
	}
	if v.Error != "" {
		p.printf("  because              %s\n", v.Error)
	}
	for _, name := range slices.Sorted(maps.Keys(v.Headers)) {
		p.printf("  header               %s: %s\n", name, v.Headers[name])
	}
	if !cfg.Explain {
		return p.err
	}
	p.printf("\ngrants: %d\n", len(v.Grants))
	for i, grant := range v.Grants {
		if i == maxListed {
			p.printf("  and %d more, to others\n", len(v.Grants)-i)
			break
		}
		if grant.Because == "" {
			p.printf("  matches   %s (%s)\n", grant.Grant, grant.Origin)
			continue
		}
		p.printf("  no        %s (%s)\n            %s\n", grant.Grant, grant.Origin, grant.Because)
	}
	p.printf("\nchecks: %d\n", len(v.Checks))
	for _, check := range v.Checks {
		if check.Holds {
			p.printf("  holds     %s%s\n", check.Name, prefixed(": ", check.Title))
			continue
		}
		p.printf("  denies    %s%s\n", check.Name, prefixed(": ", check.Title))
		if len(check.Ends) == 0 {
			p.printf("            allow is %s\n", check.Allow)
		}
		cfg.writeEnds(p, check.Ends, "            ")
	}
	return p.err
}

func (cfg EvalConfig) writeEnds(p *page, ends []explain.End, indent string) {
	for _, end := range ends {
		verb := "does not hold"
		if end.Holds {
			verb = "holds"
		}
		p.printf("%s%s:%d: %s %s: %s\n", indent, cfg.file(end.File), end.Line, end.Rule, verb, end.Condition)
		for _, value := range end.Values {
			p.printf("%s    %s is %s\n", indent, value.Name, value.Value)
		}
		cfg.writeEnds(p, end.Because, indent+"    ")
	}
}
