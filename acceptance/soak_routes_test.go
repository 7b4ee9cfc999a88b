package acceptance_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/mtls-authz/mtls-authz/playground/controller"
)

// grant is whom a route allows.
type grant struct{ frontend, monitoring bool }

var frontendOnly = grant{frontend: true}

func (g grant) allows(caller string) bool {
	return caller == "frontend" && g.frontend || caller == "monitoring" && g.monitoring
}

// parameters are what a developer writes.
func (g grant) parameters() json.RawMessage {
	list := []string{}
	if g.frontend {
		list = append(list, `"cf:app:$frontend"`)
	}
	if g.monitoring {
		list = append(list, `"cf:app:$monitoring"`)
	}
	return given(`{"allow":[` + strings.Join(list, ",") + `]}`)
}

// soakRoute is a route with all that decides about it.
type soakRoute struct {
	host    string
	service controller.Service
	granted *fact[grant]
	frozen  *fact[bool]

	mu sync.Mutex
	// addresses are those of the bindings: the one in use last, and some former.
	addresses []*address
}

// address is a binding's URL, and whether it is bound.
type address struct {
	bound
	isBound *fact[bool]
}

// somewhere is mostly the address in use.
func (r *soakRoute) somewhere() *address {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rand.IntN(20) == 0 {
		return r.addresses[rand.IntN(len(r.addresses))]
	}
	return r.addresses[len(r.addresses)-1]
}

// expected are the outcomes that are right for a request that was under way from
// one moment to another.
func (r *soakRoute) expected(a *address, caller string, gateway int, from, until time.Time) map[string]bool {
	right := map[string]bool{}
	bound := a.isBound.possible(gateway, from, until)
	if slices.Contains(bound, false) {
		right[unbound] = true
		// A binding not in memory is looked up, perhaps over a connection that broke
		// when the database went.
		if _, away := a.isBound.away.touch(from.Add(-elsewhere), until); away {
			right["503 not_ready"] = true
		}
	}
	if !slices.Contains(bound, true) {
		return right
	}
	if caller == "stranger" {
		right["403 untrusted_certificate"] = true
		return right
	}
	for _, granted := range r.granted.possible(gateway, from, until) {
		switch frozen := r.frozen.possible(gateway, from, until); {
		case granted == grant{}:
			right[nobody] = true
		case !granted.allows(caller):
			right[noMatch] = true
		default:
			right[closedByPolicy] = right[closedByPolicy] || slices.Contains(frozen, true)
			right[allowed] = right[allowed] || slices.Contains(frozen, false)
		}
	}
	return right
}

// change is what a developer does to a route: mostly whom it allows.
func (s *soak) change(r *soakRoute) {
	if rand.IntN(4) > 0 {
		s.regrant(r)
		return
	}
	s.unbind(r)
	s.bind(r)
}

func (s *soak) regrant(r *soakRoute) {
	g := grant{rand.IntN(3) > 0, rand.IntN(3) == 0}
	r.granted.begin(g, len(s.servers))
	taken := s.persist("update", http.StatusOK, func(there *controller.Client) (*controller.Answer, error) {
		return there.UpdateService(s.t.Context(), r.service, controller.Change{Parameters: g.parameters()})
	}, nil)
	r.granted.acknowledge(taken)
}

func (s *soak) bind(r *soakRoute) {
	b := s.binding(r.service)
	b.Route = r.host
	a := &address{isBound: &fact[bool]{away: &s.away}}
	a.isBound.begin(true, len(s.servers))
	taken := s.persist("bind", http.StatusCreated, func(there *controller.Client) (*controller.Answer, error) {
		return there.BindRoute(s.t.Context(), b, nil)
	}, func(answer *controller.Answer) { a.bound = s.urlOf(b, answer) })
	a.isBound.acknowledge(taken)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addresses = append(r.addresses[max(0, len(r.addresses)-2):], a)
}

func (s *soak) unbind(r *soakRoute) {
	r.mu.Lock()
	a := r.addresses[len(r.addresses)-1]
	r.mu.Unlock()
	a.isBound.begin(false, len(s.servers))
	taken := s.persist("unbind", http.StatusOK, func(there *controller.Client) (*controller.Answer, error) {
		return there.UnbindRoute(s.t.Context(), a.Binding)
	}, nil)
	a.isBound.acknowledge(taken)
}

// persist repeats a change until a gateway takes it, as Cloud Controller and its
// users do; 503 is the broker's word for a database that is away. A change that was
// not answered at first may have been made then, by another gateway.
func (s *soak) persist(what string, good int, send func(*controller.Client) (*controller.Answer, error), done func(*controller.Answer)) (gateway int) {
	repeated := map[int]int{http.StatusCreated: http.StatusOK, http.StatusOK: http.StatusGone}[good]
	again := false
	assert.NoError(s.t, until(what, func() error {
		gateway = rand.IntN(len(s.servers))
		answer, err := send(s.at(s.t, gateway).Client)
		unsure := again
		again = true
		switch {
		case err != nil:
			return err
		case answer.Status == http.StatusServiceUnavailable:
			s.seen.count("503 of the broker", 1)
			return fmt.Errorf("%d %s", answer.Status, answer.Body)
		case answer.Status != good && answer.Status != repeated:
			s.seen.wrong(fmt.Sprintf("%s: the broker answers %d %s", what, answer.Status, answer.Body))
		}
		if done != nil {
			done(answer)
		}
		if unsure {
			gateway = nobodyKnows
		}
		return nil
	}))
	return gateway
}

// swap freezes some of the routes by another policy, and waits until every gateway
// says that it is in force.
func (s *soak) swap() {
	s.swapping.Lock()
	defer s.swapping.Unlock()
	before := make([]string, len(s.servers))
	for i := range s.servers {
		before[i], _ = s.server(i).revision()
	}
	var hosts []string
	for _, r := range s.routes {
		freeze := rand.IntN(4) == 0
		r.frozen.begin(freeze, len(s.servers))
		if freeze {
			hosts = append(hosts, r.host)
		}
	}
	s.bundle.put(s.t, "data.json", frozen(append(hosts, fmt.Sprintf("turn%d.example.com", rand.Uint64()))...))
	for i := range s.servers {
		_, err := s.server(i).awaitRevision(before[i])
		assert.NoError(s.t, err)
		for _, r := range s.routes {
			r.frozen.settle(i)
		}
	}
}
