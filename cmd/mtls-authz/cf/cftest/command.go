package cftest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/grants/parameters"
)

// run is the cf command; it returns the exit code.
func run(args []string) int {
	path := os.Getenv(stateVariable)
	f, err := load(path)
	if err == nil {
		err = record(path, args)
	}
	if err == nil {
		err = f.do(path, args)
	}
	if err != nil {
		fmt.Println("FAILED")
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

var errTarget = errors.New("No org and space targeted, use 'cf target -o ORG -s SPACE' to target an org and space.") //nolint:staticcheck // as cf writes it

func (f Foundation) do(path string, args []string) error {
	switch {
	case len(args) == 2 && args[0] == "curl":
		if os.Getenv("CF_TRACE") == "true" {
			fmt.Println("REQUEST: Authorization: [PRIVATE DATA HIDDEN]")
			return nil
		}
		text, err := json.Marshal(f.curl(args[1]))
		fmt.Println(string(text))
		return err
	case f.NoLogin:
		return errors.New("Not logged in. Use 'cf login' or 'cf login --sso' to log in.") //nolint:staticcheck // as cf writes it
	case f.TargetSpace == "":
		return errTarget
	case len(args) == 1 && args[0] == "oauth-token":
		_, err := fmt.Println("bearer " + Token)
		return err
	case len(args) == 3 && args[2] == "--guid":
		return f.guid(args[0], args[1])
	case len(args) == 3 && args[0] == "service" && args[2] == "--params":
		at, err := f.service(args[1])
		if err != nil {
			return err
		}
		fmt.Println(string(f.parameters(f.Instances[at])))
		return nil
	case len(args) == 4 && args[0] == "update-service" && args[2] == "-c":
		return f.update(path, args[1], args[3])
	case len(args) > 1 && args[0] == "add-route-policy":
		return f.addPolicy(path, args[1:])
	}
	return fmt.Errorf("cftest: cf %q is not known", args)
}

// sent is the filter that cf makes of a name: it encodes commas and nothing else.
func sent(name string) string { return strings.ReplaceAll(name, ",", "%2C") }

func (f Foundation) guid(kind, name string) error {
	var guid string
	switch kind {
	case "app":
		for _, one := range f.Apps {
			if oneOf(sent(name), one.Name) && one.Space == f.TargetSpace {
				guid = one.GUID
			}
		}
	case "space":
		for _, one := range f.Spaces {
			if oneOf(sent(name), one.Name) && one.Org == f.orgOf(f.TargetSpace) {
				guid = one.GUID
			}
		}
	case "org":
		for _, one := range f.Orgs {
			if oneOf(sent(name), one.Name) {
				guid = one.GUID
			}
		}
	case "service":
		at, err := f.service(name)
		if err != nil {
			return err
		}
		guid = f.Instances[at].GUID
	}
	if guid == "" {
		return fmt.Errorf("%s%s '%s' not found.", strings.ToUpper(kind[:1]), kind[1:], name) //nolint:staticcheck // as cf writes it
	}
	fmt.Println(guid)
	return nil
}

func (f Foundation) orgOf(space string) string {
	at := slices.IndexFunc(f.Spaces, func(s Space) bool { return s.GUID == space })
	if at < 0 {
		return ""
	}
	return f.Spaces[at].Org
}

// service finds an instance of the targeted space.
func (f Foundation) service(name string) (int, error) {
	at := slices.IndexFunc(f.Instances, func(i Instance) bool { return oneOf(sent(name), i.Name) && i.Space == f.TargetSpace })
	if at < 0 {
		return at, fmt.Errorf("Service instance '%s' not found.", name) //nolint:staticcheck // as cf writes it
	}
	return at, nil
}

// update is cf update-service with the gateway's broker behind it.
func (f Foundation) update(path, name, given string) error {
	at, err := f.service(name)
	if err != nil {
		return err
	}
	fmt.Printf("Updating service instance %s in org acme / space dev as alice...\n\n", name)
	now, err := parameters.ParseInstance(f.Instances[at].Parameters)
	if err != nil {
		return err
	}
	if f.Refusal != "" {
		return errors.New("Service broker error: " + f.Refusal)
	}
	next, err := now.Update([]byte(given), time.Now())
	if err != nil {
		return fmt.Errorf("Service broker error: %w", err) //nolint:staticcheck // as cf writes it
	}
	f.Instances[at].Parameters = next.JSON()
	fmt.Printf("Update of service instance %s complete.\nOK\n", name)
	return save(path, f)
}

// addPolicy is cf add-route-policy with a raw source.
func (f Foundation) addPolicy(path string, args []string) error {
	flags := map[string]string{}
	for i := 1; i+1 < len(args); i += 2 {
		flags[args[i]] = args[i+1]
	}
	for _, one := range f.Routes {
		if f.named(one.Domain) == args[0] && one.Host == flags["--hostname"] && (flags["--path"] == "" || flags["--path"] == one.Path) {
			f.Policies = append(f.Policies, Policy{fmt.Sprintf("77777777-0000-4000-8000-%012d", len(f.Policies)), one.GUID, flags["--source"]})
			fmt.Println("OK")
			return save(path, f)
		}
	}
	return errors.New("route not found")
}
