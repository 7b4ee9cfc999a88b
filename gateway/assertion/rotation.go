package assertion

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/mtls-authz/mtls-authz/callerassertion"
)

const (
	// Period is how long a key signs. It is published a whole Period before, so
	// that every cache of the keys knows it by then, and gateways know it while
	// the store is away for so long. A stolen database signs for two periods at
	// most.
	Period = 24 * time.Hour
	// Overlap is how long a key is published after its period: for the life of
	// the last assertion, and clocks that differ.
	Overlap = 10 * time.Minute

	// checkInterval is how often Run looks whether a key is missing.
	checkInterval = 10 * time.Second
)

// period counts Periods since 1970.
type period int64

func periodOf(t time.Time) period { return period(t.Unix() / int64(Period/time.Second)) }

func (p period) start() time.Time { return time.Unix(int64(p)*int64(Period/time.Second), 0).UTC() }

// name is that of the seed in the store: whichever gateway asks first makes it.
func (p period) name() string { return "caller-assertion-" + p.start().Format(time.RFC3339) }

// published returns the first and the last period whose keys are published: the
// present one, the next, and for a while the one before.
func published(now time.Time) (first, last period) {
	return periodOf(now.Add(-Overlap)), periodOf(now) + 1
}

// key is a key pair with all that does not change from one assertion to the next.
type key struct {
	private ed25519.PrivateKey
	public  ed25519.PublicKey
	id      string
	// header is the encoded JWS header.
	header string
}

func newKey(seed []byte) (*key, error) {
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("%d bytes, expected a seed of %d", len(seed), ed25519.SeedSize)
	}
	private := ed25519.NewKeyFromSeed(seed)
	public, _ := private.Public().(ed25519.PublicKey)
	id := callerassertion.KeyID(public)
	header := `{"typ":"` + callerassertion.Type + `","alg":"` + callerassertion.Algorithm + `","kid":"` + id + `"}`
	return &key{private: private, public: public, id: id, header: base64.RawURLEncoding.EncodeToString([]byte(header))}, nil
}

// Load reads the seeds that are missing and forgets those that are over. A seed
// that cannot be read keeps no other from being known.
func (s *Signer) Load(ctx context.Context) (err error) {
	s.loading.Lock()
	defer s.loading.Unlock()
	first, last := published(s.cfg.Now())
	known := maps.Clone(*s.keys.Load())
	maps.DeleteFunc(known, func(p period, _ *key) bool { return p < first || p > last })
	for p := first; p <= last; p++ {
		if known[p] != nil {
			continue
		}
		k, failed := s.read(ctx, p)
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("seed %q: %w", p.name(), failed))
			continue
		}
		known[p] = k
	}
	s.keys.Store(&known)
	return err
}

func (s *Signer) read(ctx context.Context, p period) (*key, error) {
	seed, err := s.cfg.Seed(ctx, p.name())
	if err != nil {
		return nil, err
	}
	return newKey(seed)
}

// Run loads keys when they are due, until ctx ends.
func (s *Signer) Run(ctx context.Context) {
	ticker := time.NewTicker(checkInterval)
	defer ticker.Stop()
	failing := false
	for {
		err := s.Load(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			s.cfg.Log.Warn("keys of the caller assertion cannot be read; those known serve on within their time", slog.String("error", err.Error()))
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
