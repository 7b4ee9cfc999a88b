package activation

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/mtls-authz/mtls-authz/rego/bundle"
)

// errTampered: the saved bundle is not what was saved.
var errTampered = errors.New("the saved bundle was changed, or saved under another key of the store; it is not used")

// saved keeps the last good bundle on disk for a restart while its source is
// away, and with it the mark of the newest signed one. It is one file: a line
// with a MAC, a line of JSON, the archive. Whoever can write the folder but does
// not hold the key cannot make a policy of it.
type saved struct {
	folder, location string
	seal             []byte
	key              *bundle.Key
}

// header binds an archive to the setting that it came by.
type header struct {
	Location    [sha256.Size]byte `json:"location"`
	Fingerprint [sha256.Size]byte `json:"fingerprint"`
	Mark        bundle.Mark       `json:"mark"`
}

func (s *saved) path() string { return filepath.Join(s.folder, "last-good-bundle") }

func (s *saved) header(mark bundle.Mark) header {
	h := header{Location: sha256.Sum256([]byte(s.location)), Mark: mark}
	if s.key != nil {
		h.Fingerprint = s.key.Fingerprint()
	}
	return h
}

func (s *saved) mac(content []byte) []byte {
	mac := hmac.New(sha256.New, s.seal)
	mac.Write([]byte("mtls-authz saved bundle 1\n"))
	mac.Write(content)
	return mac.Sum(nil)
}

// load returns the saved archive and mark; nil without an error: nothing was
// saved for this setting.
func (s *saved) load() ([]byte, bundle.Mark, error) {
	file, err := os.Open(s.path())
	if errors.Is(err, os.ErrNotExist) {
		return nil, bundle.Mark{}, nil
	}
	if err != nil {
		return nil, bundle.Mark{}, err
	}
	defer func() { _ = file.Close() }() // only read
	const overhead = 4 << 10
	content, err := io.ReadAll(io.LimitReader(file, bundle.MaxArchive+overhead))
	if err != nil {
		return nil, bundle.Mark{}, err
	}
	if len(content) < sha256.Size || !hmac.Equal(content[:sha256.Size], s.mac(content[sha256.Size:])) {
		return nil, bundle.Mark{}, errTampered
	}
	line, archive, _ := bytes.Cut(content[sha256.Size:], []byte("\n"))
	var h header
	if err := json.Unmarshal(line, &h); err != nil {
		return nil, bundle.Mark{}, errTampered
	}
	if h != s.header(h.Mark) {
		return nil, bundle.Mark{}, nil
	}
	return archive, h.Mark, nil
}

// store replaces what was saved, at once or not at all.
func (s *saved) store(archive []byte, mark bundle.Mark) (err error) {
	line, err := json.Marshal(s.header(mark))
	if err != nil {
		return err
	}
	content := append(append(line, '\n'), archive...)
	if err := os.MkdirAll(s.folder, 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(s.folder, "new-*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	_, err = file.Write(append(s.mac(content), content...))
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err = os.Rename(file.Name(), s.path()); err != nil {
		return err
	}
	folder, err := os.Open(s.folder)
	if err != nil {
		return err
	}
	if err = errors.Join(folder.Sync(), folder.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", s.folder, err)
	}
	return nil
}
