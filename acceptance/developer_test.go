package acceptance_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/controller"
)

// developer changes a service instance of their own, one step after the other,
// and knows what was acknowledged. The steps are random, but only by the seed.
type developer struct {
	*cloud
	random  *rand.Rand
	resting atomic.Bool
	service controller.Service
	// exists, step and bindings are what was acknowledged. A step is an update,
	// whose number tells who passes.
	exists   bool
	step     int
	bindings []bound
	former   []bound
	changes  atomic.Int64
	// open is the change whose answer did not come, or was an error.
	open *change
}

// change is a request that changes something.
type change struct {
	what string
	send func() (*controller.Answer, error)
	// good are the statuses of success, the first time and when repeated.
	good []int
	// done takes over what a success has changed.
	done func(answer *controller.Answer)
	// happened tells whether it has, as far as the broker shows.
	happened func() bool
}

func newDeveloper(c *cloud, seed uint64) *developer {
	d := &developer{cloud: c, random: rand.New(rand.NewPCG(seed, 0))}
	d.service = d.cloud.service()
	return d
}

// work makes changes until one is not answered as it should be, or they are
// told to rest.
func (d *developer) work() {
	for !d.resting.Load() && d.open == nil {
		next := d.next()
		answer, err := next.send()
		if err != nil || answer.Status >= http.StatusInternalServerError {
			d.open = next
			return
		}
		d.accept(next, answer)
	}
}

// rest ends work after the change that is under way, until the next check.
func (d *developer) rest() { d.resting.Store(true) }

func (d *developer) accept(made *change, answer *controller.Answer) {
	d.t.Helper()
	if !assert.Contains(d.t, made.good, answer.Status, "%s: %s", made.what, answer.Body) {
		d.rest()
		return
	}
	made.done(answer)
	d.changes.Add(1)
}

// next chooses the next change.
func (d *developer) next() *change {
	switch n := d.random.IntN(10); {
	case !d.exists:
		return d.create()
	case n < 3 && len(d.bindings) < 4:
		return d.bind()
	case n < 6:
		return d.update()
	case n < 9 && len(d.bindings) > 0:
		return d.unbind()
	case n == 9:
		return d.remove()
	}
	return d.bind()
}

// parameters admit the frontend after an even step, and monitoring after an odd
// one.
func (d *developer) parameters(step int) json.RawMessage {
	return given(fmt.Sprintf(`{"allow":["cf:app:%s"],"labels":{"step":"%d"}}`, []string{"$frontend", "$monitoring"}[step%2], step))
}

func (d *developer) create() *change {
	d.service = d.cloud.service()
	s, step := d.service, d.step
	return &change{
		what: "create " + s.GUID, good: []int{200, 201},
		send: func() (*controller.Answer, error) {
			return d.Client.CreateService(d.t.Context(), s, d.parameters(step))
		},
		done:     func(*controller.Answer) { d.exists = true },
		happened: func() bool { return d.answers(d.FetchService(d.t.Context(), s)) },
	}
}

func (d *developer) bind() *change {
	b := d.binding(d.service)
	return &change{
		what: "bind " + b.GUID, good: []int{200, 201},
		send:     func() (*controller.Answer, error) { return d.Client.BindRoute(d.t.Context(), b, nil) },
		done:     func(answer *controller.Answer) { d.bindings = append(d.bindings, d.urlOf(b, answer)) },
		happened: func() bool { return d.answers(d.FetchBinding(d.t.Context(), b)) },
	}
}

func (d *developer) update() *change {
	s, step := d.service, d.step+1
	return &change{
		what: "update to step " + strconv.Itoa(step), good: []int{200},
		send: func() (*controller.Answer, error) {
			return d.UpdateService(d.t.Context(), s, controller.Change{Parameters: d.parameters(step)})
		},
		done:     func(*controller.Answer) { d.step = step },
		happened: func() bool { return d.instance(s).Parameters.Labels["step"] == strconv.Itoa(step) },
	}
}

func (d *developer) unbind() *change {
	b := d.bindings[d.random.IntN(len(d.bindings))]
	return &change{
		what: "unbind " + b.GUID, good: []int{200, 410},
		send: func() (*controller.Answer, error) { return d.UnbindRoute(d.t.Context(), b.Binding) },
		done: func(*controller.Answer) {
			d.bindings = slices.DeleteFunc(slices.Clone(d.bindings), func(one bound) bool { return one.GUID == b.GUID })
			d.former = append(d.former, b)
		},
		happened: func() bool { return !d.answers(d.FetchBinding(d.t.Context(), b.Binding)) },
	}
}

func (d *developer) remove() *change {
	s := d.service
	return &change{
		what: "delete " + s.GUID, good: []int{200, 410},
		send: func() (*controller.Answer, error) { return d.DeleteService(d.t.Context(), s) },
		done: func(*controller.Answer) {
			d.exists, d.bindings, d.former = false, nil, append(d.former, d.bindings...)
		},
		happened: func() bool { return !d.answers(d.FetchService(d.t.Context(), s)) },
	}
}

// answers tells whether a thing is there.
func (d *developer) answers(answer *controller.Answer, err error) bool {
	d.t.Helper()
	require.NoError(d.t, err)
	require.Contains(d.t, []int{200, 404}, answer.Status)
	return answer.Status == 200
}

// check asserts that all is as the developer knows it. The open change has happened
// wholly or not at all; it is repeated, and then it has.
func (d *developer) check() {
	d.t.Helper()
	if open := d.open; open != nil {
		d.open = nil
		if !open.happened() {
			d.verify()
		}
		answer, err := open.send()
		require.NoError(d.t, err, open.what)
		d.accept(open, answer)
		require.True(d.t, open.happened(), open.what)
	}
	d.verify()
	d.resting.Store(false)
}

// verify compares all that can be seen with what was acknowledged.
func (d *developer) verify() {
	d.t.Helper()
	if !d.exists {
		d.is(404)(d.FetchService(d.t.Context(), d.service))
	} else {
		d.has(d.service, d.bindings...)
		assert.Equal(d.t, strconv.Itoa(d.step), d.instance(d.service).Parameters.Labels["step"])
	}
	passes := [][2]string{{allowed, noMatch}, {noMatch, allowed}}[d.step%2]
	for _, b := range d.bindings {
		d.is(200)(d.FetchBinding(d.t.Context(), b.Binding))
		d.soon(b, passes[0], passes[1])
	}
	for _, b := range d.former {
		d.is(404)(d.FetchBinding(d.t.Context(), b.Binding))
		d.soon(b, unbound, unbound)
	}
	d.former = nil
}

// leave deletes what the developer has.
func (d *developer) leave() {
	d.t.Helper()
	for _, b := range d.bindings {
		d.is(200)(d.UnbindRoute(d.t.Context(), b.Binding))
		d.closed(b)
	}
	if d.exists {
		d.is(200)(d.DeleteService(d.t.Context(), d.service))
	}
	d.gone(d.service)
}
