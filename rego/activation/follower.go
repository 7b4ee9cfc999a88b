package activation

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
	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/bundle"
	"github.com/mtls-authz/mtls-authz/rego/source"
)

// ErrNoPolicy: no policy is in force yet, so nothing can be decided.
var ErrNoPolicy = errors.New("no policy is in force yet")

// Config configures [Open].
type Config struct {
	// Policy is for every policy; its Bundle may also be an https URL, and "" is
	// the built-in policy alone.
	Policy rego.Config
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

// A Follower keeps the policy in force. It follows the source of the operator's
// bundle: a bundle that passes the gate takes the place of the one before, at
// once for all later requests; of any other, the last good one stays.
type Follower struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	source  *source.Source
	saved   *saved
	policy  atomic.Pointer[rego.Policy]

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

// Open makes a Follower, which has no policy until Run has found a good one; but
// the built-in policy alone, where no bundle is configured, is in force at once.
// Errors are about the configuration.
func Open(ctx context.Context, cfg Config) (*Follower, error) {
	f := &Follower{cfg: cfg, log: cfg.Log}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if f.metrics, err = newMetrics(cfg.Metrics); err != nil {
		return nil, err
	}
	if cfg.Policy.Bundle == "" {
		policy, err := rego.Compile(ctx, cfg.Policy)
		if err != nil {
			return nil, err
		}
		f.status.Source = "built-in"
		f.inForce(policy, bundle.None(), FromBuiltIn)
		return f, nil
	}
	f.source, err = source.Open(source.Config{Location: cfg.Policy.Bundle, Token: cfg.Token, Roots: cfg.Roots, Poll: cfg.Poll})
	if err != nil {
		return nil, err
	}
	f.status.Source = f.source.String()
	if cfg.Folder != "" {
		if len(cfg.Seal) < 32 {
			return nil, fmt.Errorf("a seal of %d bytes for the saved bundle; expected 32 or more", len(cfg.Seal))
		}
		f.saved = &saved{filepath.Clean(cfg.Folder), cfg.Policy.Bundle, cfg.Seal, cfg.Policy.Key}
	}
	return f, nil
}

// Policy is the policy in force, nil if there is none yet: see [Follower.Ready].
func (f *Follower) Policy() *rego.Policy { return f.policy.Load() }

// Ready returns an [ErrNoPolicy] that says why as long as none is in force.
func (f *Follower) Ready() error {
	if f.policy.Load() != nil {
		return nil
	}
	if last := f.Status().Error; last != "" {
		return fmt.Errorf("%w: %s", ErrNoPolicy, last)
	}
	return ErrNoPolicy
}

// Revision is that of the policy in force, "" if there is none.
func (f *Follower) Revision() string {
	if policy := f.policy.Load(); policy != nil {
		return policy.Revision()
	}
	return ""
}

// Site are the operator's grants of the policy in force.
func (f *Follower) Site() *grants.Site {
	if policy := f.policy.Load(); policy != nil {
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
func (f *Follower) Run(ctx context.Context) {
	if f.source == nil {
		return
	}
	events := make(chan source.Event)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.source.Follow(ctx, func(event source.Event) {
			select {
			case events <- event:
			case <-ctx.Done():
			}
		})
	}()
	defer func() { <-ended }()
	f.readMark()
	waiting := time.After(patience)
	for {
		var again <-chan time.Time
		if f.refused != nil {
			again = time.After(time.Until(f.refused.at))
		}
		select {
		case <-ctx.Done():
			return
		case event := <-events:
			f.take(ctx, event)
		case <-waiting:
			f.fallBack(ctx)
		case <-again:
			_ = f.activate(ctx, f.refused.archive, FromSource) // it has noted what it says
		}
	}
}

// take is what a source's event means.
func (f *Follower) take(ctx context.Context, event source.Event) {
	switch {
	case event.Err != nil:
		f.unreachable(event.Err)
	case event.Archive == nil:
		f.reachable()
	default:
		f.refused = nil
		f.reachable()
		_ = f.activate(ctx, event.Archive, FromSource) // it has noted what it says
	}
	f.fallBack(ctx)
}

// activate takes a bundle through the gate. Only a good one replaces what is in
// force. It notes and returns why one is refused.
func (f *Follower) activate(ctx context.Context, archive []byte, from Origin) *bundle.Refusal {
	policy, b, err := f.judge(ctx, archive)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return f.refuse(archive, from, err)
	}
	if from == FromSource {
		f.refused = nil
	}
	if f.cfg.Policy.Key != nil {
		f.mark = b.Mark()
	}
	if f.saved != nil && from == FromSource {
		if err := f.saved.store(archive, f.mark); err != nil {
			f.log.Error("policy: the bundle could not be kept for a restart", slog.String("error", err.Error()))
		}
	}
	f.content = b.Digest
	f.inForce(policy, b, from)
	return nil
}

func (f *Follower) judge(ctx context.Context, archive []byte) (_ *rego.Policy, _ *bundle.Bundle, err error) {
	defer func() {
		if v := recover(); v != nil { // a bundle must not bring the gateway down
			err = bundle.Refuse(bundle.StepRead, nil, "reading the bundle failed: %v", v)
		}
	}()
	b, err := bundle.Read(archive, f.cfg.Policy.Key)
	if err != nil {
		return nil, nil, err
	}
	if f.cfg.Policy.Key != nil {
		if err := b.Follows(f.mark); err != nil {
			return nil, nil, err
		}
	}
	if policy := f.policy.Load(); policy != nil && b.Digest == f.content {
		return policy, b, nil
	}
	policy, err := rego.CompileBundle(ctx, b, f.cfg.Policy)
	return policy, b, err
}

// refuse notes why a bundle is not in force, and keeps one that may pass later.
func (f *Follower) refuse(archive []byte, from Origin, err error) *bundle.Refusal {
	refusal := bundle.RefusalOf(bundle.StepRead, err)
	if from == FromSource && refusal.Temporary() {
		if f.refused == nil {
			f.refused = &retry{archive: archive, after: firstRetry / 2}
		}
		f.refused.after = min(2*f.refused.after, maxRetry)
		f.refused.at = time.Now().Add(f.refused.after)
	} else if from == FromSource {
		f.refused = nil
	}
	f.noteRefusal(refusal, from)
	return refusal
}

// readMark learns which signed bundle was the newest before the restart.
func (f *Follower) readMark() {
	if f.saved == nil {
		return
	}
	_, mark, err := f.saved.load()
	if err != nil {
		f.log.Error("policy: saved bundle", slog.String("error", err.Error()))
		return
	}
	f.mark = mark
}

// fallBack puts the saved bundle in force if nothing is. One that is refused is
// not tried again, unless the time was short.
func (f *Follower) fallBack(ctx context.Context) {
	if f.saved == nil || f.fellBack || f.policy.Load() != nil {
		return
	}
	f.fellBack = true
	archive, _, err := f.saved.load()
	switch {
	case err != nil:
		f.noteRefusal(bundle.Refuse(bundle.StepSignature, nil, "%v", err), FromSaved)
	case archive != nil:
		if refusal := f.activate(ctx, archive, FromSaved); refusal != nil {
			f.fellBack = !refusal.Temporary()
		}
	}
}
