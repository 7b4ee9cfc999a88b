package identity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// WatchInterval is how often watched files are read again. Diego replaces the
// files of a read-only directory by rename, which an inode watch misses.
const WatchInterval = 2 * time.Second

// begin is how every PEM block begins, and no file name.
const begin = "-----BEGIN "

// A File is a PEM file's path, or the PEM itself.
type File string

// Read returns the PEM.
func (f File) Read() ([]byte, error) {
	if f.isPEM() {
		return []byte(f), nil
	}
	return os.ReadFile(string(f))
}

func (f File) isPEM() bool { return strings.Contains(string(f), begin) }

// ReadCAs reads every certificate of the files. It refuses a file without a
// certificate, and one with anything that is not a certificate.
func ReadCAs(files ...File) ([]*x509.Certificate, error) {
	var cas []*x509.Certificate
	for _, file := range files {
		text, err := file.Read()
		if err != nil {
			return nil, err
		}
		found, err := ParseCertificates(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file.name(), err)
		}
		cas = append(cas, found...)
	}
	return cas, nil
}

// ReadIssuer reads the second block of an instance certificate
// (CF_INSTANCE_CERT): the CA that issues the certificates of all app instances.
func ReadIssuer(instanceCert File) ([]*x509.Certificate, error) {
	chain, err := ReadCAs(instanceCert)
	if err != nil {
		return nil, err
	}
	if len(chain) < 2 {
		return nil, fmt.Errorf("%s: expected the leaf and then its issuer, found %d certificate", instanceCert.name(), len(chain))
	}
	// What is trusted because it lies beside our own certificate must at least
	// have issued it.
	if err := chain[0].CheckSignatureFrom(chain[1]); err != nil {
		return nil, fmt.Errorf("%s: the second certificate did not issue the first: %w", instanceCert.name(), err)
	}
	return chain[1:2], nil
}

func (f File) name() string {
	if f.isPEM() {
		return "the given PEM"
	}
	return string(f)
}

// ParseCertificates reads every certificate of PEM that is at hand; what it does
// not hold is looked for nowhere else. It refuses what [ReadCAs] refuses.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	begun := bytes.Count(text, []byte(begin))
	var found []*x509.Certificate
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("expected only CERTIFICATE blocks, found %q", block.Type)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(found)+1, err)
		}
		found, text = append(found, certificate), rest
	}
	if len(found) == 0 && begun == 0 {
		return nil, errors.New("no certificate found")
	}
	// pem.Decode steps over what it cannot read: a CA would be missing unseen.
	if len(found) != begun {
		return nil, fmt.Errorf("%d PEM blocks begin, but %d are whole certificates", begun, len(found))
	}
	return found, nil
}

// Watch calls changed once at its start, because the files may have changed
// since the caller has read them, and then each time the content of one of
// them has changed, until ctx ends. An error of changed is handed to failed and
// the call is repeated at the next interval: rotation replaces the key first
// and the certificate a moment later, so a mismatch is expected to pass.
func Watch(ctx context.Context, files []File, changed func() error, failed func(error)) {
	var seen [sha256.Size]byte
	ticker := time.NewTicker(WatchInterval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		// Taken before changed reads the files: what changes in between is
		// seen at the next interval.
		if now := digest(files); now != seen {
			if err := changed(); err != nil {
				failed(err)
			} else {
				seen = now
			}
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

func digest(files []File) [sha256.Size]byte {
	all := sha256.New()
	for _, file := range files {
		// An unreadable file reads as empty here; changed reports the error.
		text, _ := file.Read()
		one := sha256.Sum256(text)
		all.Write(one[:])
	}
	return [sha256.Size]byte(all.Sum(nil))
}

// A KeyPair is the gateway's own instance certificate (CF_INSTANCE_CERT and
// CF_INSTANCE_KEY), presented to the router. It keeps the last good pair.
type KeyPair struct {
	cert, key File
	current   atomic.Pointer[tls.Certificate]
}

// NewKeyPair reads the pair once.
func NewKeyPair(cert, key File) (*KeyPair, error) {
	pair := &KeyPair{cert: cert, key: key}
	if err := pair.Reload(); err != nil {
		return nil, err
	}
	return pair, nil
}

// Reload reads the pair again; on any error the former pair stays.
func (p *KeyPair) Reload() error {
	cert, err := p.cert.Read()
	if err != nil {
		return err
	}
	key, err := p.key.Read()
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("%s and its key: %w", p.cert.name(), err)
	}
	if former := p.current.Load(); former == nil || !slices.EqualFunc(former.Certificate, pair.Certificate, bytes.Equal) {
		p.current.Store(&pair)
	}
	return nil
}

// Files are the files to [Watch].
func (p *KeyPair) Files() []File { return []File{p.cert, p.key} }

// Certificate is the pair in force: the same pointer as long as it is the same
// pair.
func (p *KeyPair) Certificate() *tls.Certificate { return p.current.Load() }
