package callerassertion

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	// refreshAge is when known keys are fetched again; requests do not wait for
	// that. The gateway publishes a key long before it signs with it.
	refreshAge = 5 * time.Minute
	// maxAge is how long known keys are used while they cannot be fetched.
	maxAge = 24 * time.Hour
	// afterSuccess and afterFailure are the least time between two fetches,
	// whatever keys requests name.
	afterSuccess = 10 * time.Second
	afterFailure = time.Second

	fetchTimeout = 5 * time.Second
	maxKeySet    = 64 << 10 // bytes
)

// keySet knows the keys that the gateway publishes.
type keySet struct {
	url    string
	client *http.Client
	now    func() time.Time

	mu sync.Mutex
	// known are the keys by name, fetched when they were; replaced as a whole.
	known   map[string]ed25519.PublicKey
	fetched time.Time
	// next is when a fetch may begin again, flight is closed when the one that
	// is under way ends, failed is how the last one ended.
	next   time.Time
	flight chan struct{}
	failed error
}

var errNotFetched = errors.New("not fetched yet")

// find returns the key of a name. It waits only where the key is not known, and
// for one fetch at the most.
func (k *keySet) find(ctx context.Context, id string) (ed25519.PublicKey, error) {
	key, flight := k.look(id)
	if key == nil && flight != nil {
		select {
		case <-flight:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: the request ended: %w", ErrUnavailable, ctx.Err())
		}
		key, _ = k.look(id)
	}
	if key == nil {
		return nil, k.missing()
	}
	return key, nil
}

// look returns a known key, and the fetch under way, which it begins if there is
// reason to.
func (k *keySet) look(id string) (ed25519.PublicKey, <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	age, now := k.age(), k.now()
	var key ed25519.PublicKey
	if age < maxAge {
		key = k.known[id]
	}
	if (key == nil || age >= refreshAge) && k.flight == nil && !now.Before(k.next) {
		k.flight = make(chan struct{})
		// It serves all that wait, so it does not end with one request.
		go k.refresh(k.flight)
	}
	return key, k.flight
}

// missing is why a key was not found.
func (k *keySet) missing() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.age() < maxAge {
		return ErrUnknownKey
	}
	return fmt.Errorf("%w: keys of %s: %w", ErrUnavailable, k.url, k.failed)
}

// age is that of the known keys; beyond every bound if there are none.
func (k *keySet) age() time.Duration {
	if k.known == nil {
		return maxAge
	}
	return k.now().Sub(k.fetched)
}

func (k *keySet) refresh(done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	known, err := k.fetch(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	k.flight, k.failed, k.next = nil, err, now.Add(afterFailure)
	if err == nil {
		k.known, k.fetched, k.next = known, now, now.Add(afterSuccess)
	}
	close(done)
}

func (k *keySet) fetch(ctx context.Context) (map[string]ed25519.PublicKey, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
	if err != nil {
		return nil, err
	}
	response, err := k.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d, expected 200", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxKeySet+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxKeySet {
		return nil, fmt.Errorf("more than %d bytes", maxKeySet)
	}
	return parseKeys(body)
}

// parseKeys reads a JWK Set. A key's name is computed, so that no key can take
// the place of another. Keys of other kinds are passed over (RFC 7517, section 5).
func parseKeys(text []byte) (map[string]ed25519.PublicKey, error) {
	var set struct {
		Keys []struct {
			Type  string `json:"kty"`
			Curve string `json:"crv"`
			X     string `json:"x"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("expected a JWK Set: %w", err)
	}
	keys := map[string]ed25519.PublicKey{}
	for _, jwk := range set.Keys {
		if jwk.Type != "OKP" || jwk.Curve != "Ed25519" {
			continue
		}
		key, err := decode(jwk.X)
		if err != nil || len(key) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("x: expected %d bytes in base64url", ed25519.PublicKeySize)
		}
		keys[KeyID(key)] = key
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("no Ed25519 key among %d", len(set.Keys))
	}
	return keys, nil
}
