package author

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/author/page"
	"github.com/mtls-authz/mtls-authz/rego/author/release"
)

// BuildConfig configures [Build].
type BuildConfig struct {
	// Place is the bundle's source. Key is not used: what is built is not signed
	// yet.
	Place
	Settings
	// Output is the file to write. Required.
	Output string
	// Revision is for .manifest; "": what it says stays.
	Revision string
	// Sign signs; nil: the bundle is not signed.
	Sign *release.Key
	JSON bool
}

type built struct {
	File           string `json:"file"`
	SHA256         string `json:"sha256"`
	BundleRevision string `json:"bundle_revision"`
	Revision       string `json:"policy_revision"`
	Signature      string `json:"signature,omitempty"`
}

// Build writes the archive of a bundle, if the whole gate lets it pass. The gate
// looks at what will be written, read again with the public key. The file is
// there as a whole or not at all.
func Build(ctx context.Context, w io.Writer, cfg BuildConfig) error {
	source, err := cfg.archive()
	if err != nil {
		return cfg.findings(w, cfg.JSON, err)
	}
	archive, made, err := release.Make(release.Config{Archive: source, Revision: cfg.Revision, Key: cfg.Sign})
	if err != nil {
		return cfg.findings(w, cfg.JSON, err)
	}
	policy, _, err := rego.Examine(ctx, made, cfg.config())
	if err != nil {
		return cfg.findings(w, cfg.JSON, err)
	}
	if err := writeFile(cfg.Output, archive); err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	sum := sha256.Sum256(archive)
	b := built{File: cfg.Output, SHA256: hex.EncodeToString(sum[:]), BundleRevision: made.Revision, Revision: policy.Revision()}
	if cfg.Sign != nil {
		b.Signature = cfg.Sign.Public().Algorithm()
	}
	if cfg.JSON {
		return page.JSON(w, b)
	}
	p := page.New(w)
	p.Printf("%s\n", b.File)
	rows := [][]string{{"sha256", b.SHA256}, {"bundle revision", orNone(b.BundleRevision)}, {"policy_revision", b.Revision}, {"signature", orNone(b.Signature)}}
	p.Table(rows)
	return p.Err()
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

// writeFile writes a file that takes its name once it is whole.
func writeFile(name string, content []byte) (err error) {
	file, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name()) // the error says more
		}
	}()
	if _, err = file.Write(content); err == nil {
		err = file.Chmod(0o644)
	}
	if err == nil {
		err = file.Sync()
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return os.Rename(file.Name(), name)
}
