package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// maxAttempts is how often Cloud Controller tries to delete an orphan, at
// intervals that double from a minute.
const maxAttempts = 11

// A Platform is Cloud Controller around its broker client: after a create of
// which it cannot tell whether anything is left with the broker, it deletes
// that in the background. The background runs when [Platform.RunJobs] is
// called, so that tests order what happens; it is safe for concurrent use.
type Platform struct {
	// Client sends the requests. Required.
	*Client

	mu   sync.Mutex
	jobs []*job
}

// job deletes an orphan.
type job struct {
	what     string
	remove   func(context.Context, *Client) (*Answer, error)
	attempts int
}

// CreateService is [Client.CreateService], and orphan mitigation.
func (p *Platform) CreateService(ctx context.Context, s Service, parameters json.RawMessage) (*Answer, error) {
	answer, err := p.Client.CreateService(ctx, s, parameters)
	if orphaned(answer, err) {
		p.DiscardService(s)
	}
	return answer, err
}

// BindRoute is [Client.BindRoute], and orphan mitigation.
func (p *Platform) BindRoute(ctx context.Context, b Binding, parameters json.RawMessage) (*Answer, error) {
	answer, err := p.Client.BindRoute(ctx, b, parameters)
	if orphaned(answer, err) {
		p.Discard(b)
	}
	return answer, err
}

// DiscardService is what becomes of a service instance whose create failed when
// the user repeats cf create-service: the same name gets another guid, and a job
// deletes the former.
func (p *Platform) DiscardService(s Service) {
	p.enqueue("service instance "+s.GUID, func(ctx context.Context, c *Client) (*Answer, error) { return c.DeleteService(ctx, s) })
}

// Discard is what becomes of a binding whose create failed when the user repeats
// cf bind-route-service: the same route gets another guid, and a job deletes the
// former.
func (p *Platform) Discard(b Binding) {
	p.enqueue("binding "+b.GUID, func(ctx context.Context, c *Client) (*Answer, error) { return c.UnbindRoute(ctx, b) })
}

func (p *Platform) enqueue(what string, remove func(context.Context, *Client) (*Answer, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.jobs = append(p.jobs, &job{what: what, remove: remove})
}

// Jobs tells what waits to be deleted, oldest first.
func (p *Platform) Jobs() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var waiting []string
	for _, j := range p.jobs {
		waiting = append(waiting, j.what)
	}
	return waiting
}

// RunJobs lets every job send its DELETE once, without originating identity. A
// job that does not succeed stays for the next time, up to 11 times; the error
// names those, and those that were given up.
func (p *Platform) RunJobs(ctx context.Context) error {
	p.mu.Lock()
	waiting := slices.Clone(p.jobs)
	p.mu.Unlock()
	background := *p.Client
	background.User = ""
	var problems []error
	for _, j := range waiting {
		done, err := j.try(ctx, &background)
		problems = append(problems, err)
		if done {
			p.finish(j)
		}
	}
	return errors.Join(problems...)
}

// try reports whether the job is over. An asynchronous deletion is not looked
// after.
func (j *job) try(ctx context.Context, c *Client) (over bool, err error) {
	answer, err := j.remove(ctx, c)
	if err == nil {
		switch outcome := answer.Outcome(); outcome {
		case Succeeded, InProgress:
			return true, nil
		default:
			err = fmt.Errorf("%s (status %d): %s", outcome, answer.Status, answer.Description())
		}
	}
	j.attempts++
	return j.attempts == maxAttempts, fmt.Errorf("controller: delete orphaned %s, attempt %d of %d: %w", j.what, j.attempts, maxAttempts, err)
}

func (p *Platform) finish(over *job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.jobs = slices.DeleteFunc(p.jobs, func(j *job) bool { return j == over })
}

// orphaned judges a create, answered or not.
func orphaned(answer *Answer, err error) bool {
	var unanswered *Unanswered
	if errors.As(err, &unanswered) {
		return unanswered.Outcome() == Orphaned
	}
	return err == nil && answer.Outcome() == Orphaned
}
