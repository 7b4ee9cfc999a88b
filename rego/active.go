package rego

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/rego/bundle"
	"github.com/mtls-authz/mtls-authz/rego/source"
)

// ErrNoPolicy: no policy is in force yet, so nothing can be decided.
var ErrNoPolicy = errors.New("no policy is in force yet")

// ActiveConfig configures [Open].
type ActiveConfig struct {
	// Config is for every policy; Bundle may also be an https URL, and "" is
	// the built-in policy alone.
	Config
	// Token is for the server of an https URL; "": none.
	Token string
	// Roots verify that server; nil: the system's.
	Roots *x509.CertPool
	// Poll is how often the source is looked at; 0 means source.DefaultPoll.
	Poll time.Duration
	// Folder keeps the last good bundle for a restart; "": it is not kept. It
	// is made, with mode 0700.
	Folder string
	// Seal authenticates what is kept there, 32 bytes or more that are not in
	// Folder. Required with Folder.
	Seal []byte
	// Log gets one line for each transition; nil means none.
	Log *slog.Logger
	// Metrics gets the counter of activations and the time of the last one; nil
	// means none.
	Metrics prometheus.Registerer
}

// Active is the policy in force. It follows the source of the operator's
// bundle: a bundle that passes the gate takes the place of the one before, at
// once for all later requests; of any other, the last good one stays.
type Active struct {
	cfg     ActiveConfig
	log     *slog.Logger
	metrics *activeMetrics
	source  *source.Source
	saved   *saved
	policy  atomic.Pointer[Policy]

	// These belong to Run: the newest signed bundle, the content in force, a
	// bundle to try again, whether the saved bundle was tried.
	mark     bundle.Mark
	content  [32]byte
	refused  *retry
	fellBack bool

	mu     sync.Mutex
	status Status
}

// retry is a bundle that was refused for want of time, to be tried again.
type retry struct {
	archive []byte
	after   time.Duration
	at      time.Time
}

// Open makes an Active, which has no policy until Run has found a good one; but
// the built-in policy alone, where no bundle is configured, is in force at once.
// Errors are about the configuration.
func Open(ctx context.Context, cfg ActiveConfig) (*Active, error) {
	a := &Active{cfg: cfg, log: cfg.Log}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if a.metrics, err = newActiveMetrics(cfg.Metrics); err != nil {
		return nil, err
	}
	if cfg.Bundle == "" {
		policy, err := Compile(ctx, cfg.Config)
		if err != nil {
			return nil, err
		}
		a.status.Source = "built-in"
		a.inForce(policy, bundle.None(), FromBuiltIn)
		return a, nil
	}
	a.source, err = source.Open(source.Config{Location: cfg.Bundle, Token: cfg.Token, Roots: cfg.Roots, Poll: cfg.Poll})
	if err != nil {
		return nil, err
	}
	a.status.Source = a.source.String()
	if cfg.Folder != "" {
		if len(cfg.Seal) < 32 {
			return nil, fmt.Errorf("a seal of %d bytes for the saved bundle; expected 32 or more", len(cfg.Seal))
		}
		a.saved = &saved{filepath.Clean(cfg.Folder), cfg.Bundle, cfg.Seal, cfg.Key}
	}
	return a, nil
}

// Policy is the policy in force, nil if there is none yet: see [Active.Ready].
func (a *Active) Policy() *Policy { return a.policy.Load() }

// Ready returns an [ErrNoPolicy] that says why as long as none is in force.
func (a *Active) Ready() error {
	if a.policy.Load() != nil {
		return nil
	}
	if last := a.Status().Error; last != "" {
		return fmt.Errorf("%w: %s", ErrNoPolicy, last)
	}
	return ErrNoPolicy
}

// Revision is that of the policy in force, "" if there is none.
func (a *Active) Revision() string {
	if policy := a.policy.Load(); policy != nil {
		return policy.Revision()
	}
	return ""
}

// Site are the operator's grants of the policy in force.
func (a *Active) Site() *grants.Site {
	if policy := a.policy.Load(); policy != nil {
		return policy.Site()
	}
	return &grants.Site{}
}

// patience is how long a source may take at the start before the saved bundle
// serves.
const patience = 5 * time.Second

// firstRetry is when a bundle that was refused for want of time is tried again;
// the time doubles up to maxRetry.
const (
	firstRetry = 15 * time.Second
	maxRetry   = 10 * time.Minute
)

// Run follows the source until ctx ends.
func (a *Active) Run(ctx context.Context) {
	if a.source == nil {
		return
	}
	events := make(chan source.Event)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.source.Follow(ctx, func(event source.Event) {
			select {
			case events <- event:
			case <-ctx.Done():
			}
		})
	}()
	defer func() { <-ended }()
	a.readMark()
	waiting := time.After(patience)
	for {
		var again <-chan time.Time
		if a.refused != nil {
			again = time.After(time.Until(a.refused.at))
		}
		select {
		case <-ctx.Done():
			return
		case event := <-events:
			a.take(ctx, event)
		case <-waiting:
			a.fallBack(ctx)
		case <-again:
			_ = a.activate(ctx, a.refused.archive, FromSource) // it has noted what it says
		}
	}
}

// take is what a source's event means.
func (a *Active) take(ctx context.Context, event source.Event) {
	switch {
	case event.Err != nil:
		a.unreachable(event.Err)
	case event.Archive == nil:
		a.reachable()
	default:
		a.refused = nil
		a.reachable()
		_ = a.activate(ctx, event.Archive, FromSource) // it has noted what it says
	}
	a.fallBack(ctx)
}

// activate takes a bundle through the gate. Only a good one replaces what is in
// force. It notes and returns why one is refused.
func (a *Active) activate(ctx context.Context, archive []byte, from Origin) *bundle.Refusal {
	policy, b, err := a.judge(ctx, archive)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return a.refuse(archive, from, err)
	}
	if from == FromSource {
		a.refused = nil
	}
	if a.cfg.Key != nil {
		a.mark = b.Mark()
	}
	if a.saved != nil && from == FromSource {
		if err := a.saved.store(archive, a.mark); err != nil {
			a.log.Error("policy: the bundle could not be kept for a restart", slog.String("error", err.Error()))
		}
	}
	a.content = b.Digest
	a.inForce(policy, b, from)
	return nil
}

func (a *Active) judge(ctx context.Context, archive []byte) (_ *Policy, _ *bundle.Bundle, err error) {
	defer func() {
		if v := recover(); v != nil { // a bundle must not bring the gateway down
			err = bundle.Refuse(bundle.StepRead, nil, "reading the bundle failed: %v", v)
		}
	}()
	b, err := bundle.Read(archive, a.cfg.Key)
	if err != nil {
		return nil, nil, err
	}
	if a.cfg.Key != nil {
		if err := b.Follows(a.mark); err != nil {
			return nil, nil, err
		}
	}
	if policy := a.policy.Load(); policy != nil && b.Digest == a.content {
		return policy, b, nil
	}
	policy, err := CompileBundle(ctx, b, a.cfg.Config)
	return policy, b, err
}

// refuse notes why a bundle is not in force, and keeps one that may pass later.
func (a *Active) refuse(archive []byte, from Origin, err error) *bundle.Refusal {
	refusal := bundle.RefusalOf(bundle.StepRead, err)
	if from == FromSource && refusal.Temporary() {
		if a.refused == nil {
			a.refused = &retry{archive: archive, after: firstRetry / 2}
		}
		a.refused.after = min(2*a.refused.after, maxRetry)
		a.refused.at = time.Now().Add(a.refused.after)
	} else if from == FromSource {
		a.refused = nil
	}
	a.noteRefusal(refusal, from)
	return refusal
}

// readMark learns which signed bundle was the newest before the restart.
func (a *Active) readMark() {
	if a.saved == nil {
		return
	}
	_, mark, err := a.saved.load()
	if err != nil {
		a.log.Error("policy: saved bundle", slog.String("error", err.Error()))
		return
	}
	a.mark = mark
}

// fallBack puts the saved bundle in force if nothing is. One that is refused is
// not tried again, unless the time was short.
func (a *Active) fallBack(ctx context.Context) {
	if a.saved == nil || a.fellBack || a.policy.Load() != nil {
		return
	}
	a.fellBack = true
	archive, _, err := a.saved.load()
	switch {
	case err != nil:
		a.noteRefusal(bundle.Refuse(bundle.StepSignature, nil, "%v", err), FromSaved)
	case archive != nil:
		if refusal := a.activate(ctx, archive, FromSaved); refusal != nil {
			a.fellBack = !refusal.Temporary()
		}
	}
}
