// Package capi is a Cloud Controller with its UAA in miniature: orgs, spaces and
// apps with names and labels, lists in pages, tokens that end, and the
// permissions of users on service instances. It answers in the shapes of API
// version 3.228 and fails on demand.
//
// It is for tests and the playground: it keeps everything in memory and trusts
// whoever calls its methods.
package capi

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// An Entity is an org, a space or an app.
type Entity struct {
	GUID, Name string
	// Parent is the org's guid of a space, the space's of an app; "" of an org.
	Parent string
	Labels map[string]string
}

// Kinds of entities, as the paths below /v3 name them.
const (
	Orgs   = "organizations"
	Spaces = "spaces"
	Apps   = "apps"
)

// Permissions are those of a user on a service instance.
type Permissions struct {
	Manage bool `json:"manage"`
	Read   bool `json:"read"`
}

// A Fault is how calls fail. The zero Fault is none.
type Fault struct {
	// Path is the prefix of the paths that fail, Status what they answer. Of them
	// only those fail that have Query in their query.
	Path, Query string
	Status      int
	Header      http.Header
	// Body stands in the place of an error document.
	Body string
	// Times is how many calls fail; 0: all.
	Times int
}

// Cloud is safe for concurrent use; it is an [http.Handler].
type Cloud struct {
	mu       sync.Mutex
	entities map[string]map[string]Entity // by kind and guid
	clients  map[string]string            // secrets
	users    map[string]member            // by name
	// tokens are the UAA clients and users that have one, and when it ends.
	tokens    map[string]bearer
	life      time.Duration
	instances map[string]map[string]Permissions // by instance and user
	fault     Fault
	pageLimit int
	pageMost  int
	scope     string
	hidden    map[string]bool // orgs that clients may not see
	calls     map[string]int  // by path
	queries   []string
	mux       *http.ServeMux
}

// bearer is who has a token.
type bearer struct {
	client, user string
	ends         time.Time
}

// member is a user who logs in with a password, and sees one org.
type member struct{ password, id, org string }

// New returns an empty cloud.
func New() *Cloud {
	c := &Cloud{
		entities: map[string]map[string]Entity{Orgs: {}, Spaces: {}, Apps: {}}, clients: map[string]string{}, users: map[string]member{}, tokens: map[string]bearer{},
		life: 10 * time.Minute, pageMost: 5000, scope: "cloud_controller.global_auditor", instances: map[string]map[string]Permissions{}, hidden: map[string]bool{}, calls: map[string]int{}, mux: http.NewServeMux(),
	}
	c.mux.HandleFunc("GET /{$}", c.root)
	c.mux.HandleFunc("GET /v3", c.rootV3)
	c.mux.HandleFunc("POST /oauth/token", c.token)
	c.mux.HandleFunc("GET /login", c.prompts)
	for kind := range c.entities {
		c.mux.HandleFunc("GET /v3/"+kind, func(w http.ResponseWriter, r *http.Request) { c.list(w, r, kind) })
		c.mux.HandleFunc("GET /v3/"+kind+"/{guid}", func(w http.ResponseWriter, r *http.Request) { c.one(w, r, kind) })
	}
	c.mux.HandleFunc("GET /v3/service_instances/{guid}/permissions", c.permissions)
	return c
}

// Put makes an entity or changes it: a rename is a Put with another name.
func (c *Cloud) Put(kind string, e Entity) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.Labels = maps.Clone(e.Labels)
	c.entities[kind][e.GUID] = e
}

// Get is an entity by its guid.
func (c *Cloud) Get(kind, guid string) (Entity, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, there := c.entities[kind][guid]
	return e, there
}

// Rename gives names to entities of a kind at one moment, by their guids.
func (c *Cloud) Rename(kind string, names map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for guid, name := range names {
		e := c.entities[kind][guid]
		e.Name = name
		c.entities[kind][guid] = e
	}
}

// Delete deletes an entity and what is in it.
func (c *Cloud) Delete(kind, guid string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entities[kind], guid)
	for _, below := range []string{Spaces, Apps} {
		maps.DeleteFunc(c.entities[below], func(_ string, e Entity) bool {
			return e.Parent == guid || below == Apps && c.entities[Spaces][e.Parent].GUID == ""
		})
	}
}

// AddClient makes a client of UAA that may read everything.
func (c *Cloud) AddClient(id, secret string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clients[id] = secret
}

// AddUser makes a user who logs in with a password, and sees an org and what is in
// it.
func (c *Cloud) AddUser(name, password, id, org string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.users[name] = member{password, id, org}
}

// Authenticated reports whether a request comes with a token that is in force.
func (c *Cloud) Authenticated(r *http.Request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	who, known := c.tokens[tokenOf(r)]
	return known && time.Now().Before(who.ends)
}

// User is the id of the user whose token a request comes with, "" if it is
// nobody's.
func (c *Cloud) User(r *http.Request) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tokens[tokenOf(r)].user
}

// Hide keeps an org from clients, as one without cloud_controller.global_auditor
// would not see it.
func (c *Cloud) Hide(org string, hidden bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hidden[org] = hidden
}

// Login returns a token of a user.
func (c *Cloud) Login(user string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.issue(bearer{user: user})
}

// issue makes a token that looks like one of UAA's.
func (c *Cloud) issue(to bearer) string {
	to.ends = time.Now().Add(c.life)
	claims, _ := json.Marshal(object{ // strings cannot fail
		"jti": rand.Text(), "user_id": to.user, "user_name": c.nameOf(to.user), "origin": "uaa", "client_id": cmp.Or(to.client, "cf"), "exp": to.ends.Unix(),
	})
	token := "eyJhbGciOiJSUzI1NiJ9." + base64.RawURLEncoding.EncodeToString(claims) + "." + rand.Text()
	c.tokens[token] = to
	return token
}

func (c *Cloud) nameOf(user string) string {
	for name, one := range c.users {
		if one.id == user {
			return name
		}
	}
	return user
}

// Revoke ends all tokens.
func (c *Cloud) Revoke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.tokens)
}

// TokenLife is how long tokens that are made from now on live.
func (c *Cloud) TokenLife(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.life = d
}

// Permit makes a service instance on which a user has permissions; the others
// have none.
func (c *Cloud) Permit(instance, user string, p Permissions) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.instances[instance] == nil {
		c.instances[instance] = map[string]Permissions{}
	}
	c.instances[instance][user] = p
}

// Fail makes calls fail.
func (c *Cloud) Fail(f Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = f
}

// PageLimit bounds pages of lists, whatever is asked for; 0: as Cloud Controller.
func (c *Cloud) PageLimit(most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pageLimit = most
}

// MaxPerPage is how much a list may be asked for at once; more is refused. At
// first 5000.
func (c *Cloud) MaxPerPage(most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pageMost = most
}

// Scope is what tokens of clients permit from now on.
func (c *Cloud) Scope(scope string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.scope = scope
}

// Calls is how often a path was called.
func (c *Cloud) Calls(path string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[path]
}

// Queries are all calls so far, with their queries.
func (c *Cloud) Queries() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.queries)
}

// ServeHTTP implements [http.Handler].
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.calls[r.URL.Path]++
	c.queries = append(c.queries, r.URL.RequestURI())
	fault := c.fault
	hit := fault.Status != 0 && strings.HasPrefix(r.URL.Path, fault.Path) && strings.Contains(r.URL.RawQuery, fault.Query)
	if hit && fault.Times == 1 {
		c.fault = Fault{}
	} else if hit && fault.Times > 1 {
		c.fault.Times--
	}
	c.mu.Unlock()
	if hit {
		maps.Copy(w.Header(), fault.Header)
		refuse(w, fault.Status, fault.Body)
		return
	}
	c.mux.ServeHTTP(w, r)
}
