package native

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/mistake"
)

// A Policy is one route policy.
type Policy struct {
	Source grants.Source
	// RouteGUID and URL, host[/path], are of the route; one of them may be "".
	RouteGUID, URL string
	// Domain, Hostname and Path are known from a table only.
	Domain, Hostname, Path string
}

var errEmpty = errors.New("expected what cf curl '/v3/route_policies?include=route' or cf route-policies prints")

// Read reads route policies: JSON of /v3/route_policies, or the table of cf
// route-policies.
func Read(text []byte) ([]Policy, error) {
	trimmed := strings.TrimSpace(string(text))
	switch {
	case trimmed == "":
		return nil, errEmpty
	case strings.HasPrefix(trimmed, "{"):
		return readJSON([]byte(trimmed))
	}
	return readTable(trimmed)
}

// document is a list of Cloud Controller's v3 API.
type document struct {
	Pagination struct {
		Next *struct {
			Href string `json:"href"`
		} `json:"next"`
	} `json:"pagination"`
	Resources *[]struct {
		Source        string `json:"source"`
		Relationships struct {
			Route struct {
				Data struct {
					GUID string `json:"guid"`
				} `json:"data"`
			} `json:"route"`
		} `json:"relationships"`
	} `json:"resources"`
	Included struct {
		Routes []struct {
			GUID string `json:"guid"`
			URL  string `json:"url"`
		} `json:"routes"`
	} `json:"included"`
}

func readJSON(text []byte) ([]Policy, error) {
	var d document
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, mistake.OfJSON(err, "route policies")
	}
	if d.Resources == nil {
		return nil, errEmpty
	}
	if d.Pagination.Next != nil {
		return nil, errors.New("route policies: this is one page of several; ask with per_page=5000, and read each page by itself")
	}
	policies := make([]Policy, 0, len(*d.Resources))
	for i, one := range *d.Resources {
		source, err := grants.ParseSource(one.Source)
		if err != nil {
			return nil, fmt.Errorf("resources[%d]: %w", i, err)
		}
		p := Policy{Source: source, RouteGUID: one.Relationships.Route.Data.GUID}
		if p.RouteGUID == "" {
			return nil, fmt.Errorf("resources[%d]: expected relationships.route.data.guid", i)
		}
		for _, r := range d.Included.Routes {
			if r.GUID == p.RouteGUID {
				p.URL = r.URL
			}
		}
		policies = append(policies, p)
	}
	return policies, nil
}

var (
	header = []string{"host", "domain", "path", "source", "scope", "name"}
	none   = "No route policies found."
	// style are bold and colours, which cf writes to terminals and with CF_COLOR.
	style = regexp.MustCompile("\x1b\\[[0-9;]*m")
)

// readTable reads the table of cf route-policies. Its columns are told apart by
// what is in them, not by their width: neither of host, domain, path and source
// has spaces, host and path may be empty, a path begins with a slash and a source
// with cf:.
func readTable(text string) ([]Policy, error) {
	lines := strings.Split(style.ReplaceAllString(text, ""), "\n")
	at := slices.IndexFunc(lines, func(line string) bool { return slices.Equal(strings.Fields(line), header) })
	if at < 0 {
		if strings.Contains(text, none) {
			return nil, nil
		}
		return nil, fmt.Errorf("%w; found no line %q", errEmpty, strings.Join(header, " "))
	}
	policies := []Policy{}
	for i, line := range lines[at+1:] {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		p, err := readRow(fields)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", at+2+i, err)
		}
		policies = append(policies, p)
	}
	return policies, nil
}

func readRow(fields []string) (p Policy, err error) {
	source := slices.IndexFunc(fields, func(field string) bool { return strings.HasPrefix(field, "cf:") })
	if source < 0 {
		return p, errors.New("expected host, domain, path, source, scope and name")
	}
	if p.Source, err = grants.ParseSource(fields[source]); err != nil {
		return p, err
	}
	if source+1 >= len(fields) || fields[source+1] != p.Source.Kind.String() {
		return p, fmt.Errorf("expected scope %s after %s", p.Source.Kind, p.Source)
	}
	where := fields[:source]
	if len(where) > 0 && strings.HasPrefix(where[len(where)-1], "/") {
		p.Path, where = where[len(where)-1], where[:len(where)-1]
	}
	switch len(where) {
	case 1:
		p.Domain = where[0]
	case 2:
		p.Hostname, p.Domain = where[0], where[1]
	default:
		return p, errors.New("expected host, domain and path before the source")
	}
	// cf leaves a domain empty that it could not look up: what stands alone then is
	// the host. Every domain of Cloud Foundry has a dot.
	if strings.Contains(p.Hostname+p.Domain, "/") || !strings.Contains(p.Domain, ".") {
		return p, errors.New("expected host, domain and path before the source")
	}
	p.URL = strings.TrimPrefix(p.Hostname+"."+p.Domain, ".") + p.Path
	return p, nil
}
