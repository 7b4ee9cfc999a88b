package acceptance_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

const (
	forwardedURLHeader = "X-Cf-Forwarded-Url"
	signatureHeader    = "X-Cf-Proxy-Signature"
	metadataHeader     = "X-Cf-Proxy-Metadata"
	xfccHeader         = "X-Forwarded-Client-Cert"
)

// sealerOf derives gorouter's key from its secret, which takes a while, once.
var sealerOf = sync.OnceValues(func() (cipher.AEAD, error) {
	key, err := pbkdf2.Key(sha256.New, secret, nil, 100001, 16)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
})

// sign makes the three headers of leg 1 as if it had been at a time: gorouter
// and its stand-in accept them if they have the same secret.
func sign(forwardedURL string, at time.Time) (http.Header, error) {
	sealer, err := sealerOf()
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, sealer.NonceSize())
	rand.Read(nonce)
	plain, err := json.Marshal(map[string]any{"forwarded_url": forwardedURL, "requested_time": at})
	if err != nil {
		return nil, err
	}
	meta, err := json.Marshal(map[string][]byte{"nonce": nonce})
	if err != nil {
		return nil, err
	}
	return http.Header{
		forwardedURLHeader: {forwardedURL},
		signatureHeader:    {base64.URLEncoding.EncodeToString(sealer.Seal(nil, nonce, plain, nil))},
		metadataHeader:     {base64.URLEncoding.EncodeToString(meta)},
	}, nil
}
