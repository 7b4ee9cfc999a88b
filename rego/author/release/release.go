package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	opabundle "github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/mtls-authz/mtls-authz/rego/bundle"
)

const (
	manifest   = ".manifest"
	signatures = ".signatures.json"
	// keyID is what the signature calls its key; a gateway has one key and does
	// not look at it.
	keyID = "policy"
)

// Config configures [Make].
type Config struct {
	// Archive is the bundle, as bundle.ReadArchive returns it. Required.
	Archive []byte
	// Revision is for .manifest; "": what it says stays. A signed bundle needs an
	// integer or a time of RFC 3339.
	Revision string
	// Key signs; nil: the bundle is not signed.
	Key *Key
}

// Make returns the archive to give to gateways and what a gateway reads in it.
func Make(cfg Config) ([]byte, *bundle.Bundle, error) {
	files, err := unpack(cfg.Archive)
	if err != nil {
		return nil, nil, err
	}
	if _, ok := files[signatures]; ok {
		return nil, nil, bundle.Refuse(bundle.StepSignature, nil, "there is a signature already, in %s", signatures).
			WithFix("remove the file; what is built gets a signature of its own")
	}
	if cfg.Revision != "" {
		if files[manifest], err = withRevision(files[manifest], cfg.Revision); err != nil {
			return nil, nil, err
		}
	}
	var public *bundle.Key
	if cfg.Key != nil {
		public = cfg.Key.public
		if files[signatures], err = sign(files, cfg.Key); err != nil {
			return nil, nil, err
		}
	}
	archive, err := pack(files)
	if err != nil {
		return nil, nil, err
	}
	if len(archive) > bundle.MaxArchive {
		return nil, nil, bundle.Refuse(bundle.StepRead, nil, "the archive would be larger than %d MiB", bundle.MaxArchive>>20)
	}
	made, err := bundle.Read(archive, public)
	if err != nil {
		return nil, nil, err
	}
	if cfg.Key != nil {
		if err := made.Follows(bundle.Mark{}); err != nil {
			return nil, nil, bundle.RefusalOf(bundle.StepSignature, err).WithFix("give --revision, higher with each bundle")
		}
	}
	return archive, made, nil
}

// unpack returns the files of an archive within the limits of package bundle.
func unpack(archive []byte) (map[string][]byte, error) {
	if err := bundle.Inspect(archive); err != nil {
		return nil, err
	}
	unzipped, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return nil, bundle.Refuse(bundle.StepRead, nil, "%v", err)
	}
	files, entries := map[string][]byte{}, tar.NewReader(unzipped)
	for {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, bundle.Refuse(bundle.StepRead, nil, "%v", err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		content, err := io.ReadAll(io.LimitReader(entries, bundle.MaxContent))
		if err != nil {
			return nil, bundle.Refuse(bundle.StepRead, nil, "%s: %v", header.Name, err)
		}
		files[strings.TrimPrefix(path.Clean("/"+header.Name), "/")] = content
	}
}

func withRevision(text []byte, revision string) ([]byte, error) {
	members := map[string]any{}
	if text != nil {
		if err := util.Unmarshal(text, &members); err != nil {
			return nil, bundle.Refuse(bundle.StepParse, nil, "%s: %v", manifest, err)
		}
	}
	members["revision"] = revision
	return json.Marshal(members)
}

// pack writes the files in the order of their names, without times and owners.
func pack(files map[string][]byte) ([]byte, error) {
	var out bytes.Buffer
	zipped, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	entries := tar.NewWriter(zipped)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		content := files[name]
		if err := entries.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			return nil, err
		}
		if _, err := entries.Write(content); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(entries.Close(), zipped.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// sign returns the file that holds the signature over every other file.
func sign(files map[string][]byte, key *Key) ([]byte, error) {
	hasher, err := opabundle.NewSignatureHasher(opabundle.SHA256)
	if err != nil {
		return nil, err
	}
	var list []opabundle.FileInfo
	for _, name := range slices.Sorted(maps.Keys(files)) {
		var value any = files[name]
		if opabundle.IsStructuredDoc(name) { // hashed as what it says, not as it is written
			if err := util.Unmarshal(files[name], &value); err != nil {
				return nil, bundle.Refuse(bundle.StepParse, nil, "%s: %v", name, err)
			}
		}
		sum, err := hasher.HashFile(value)
		if err != nil {
			return nil, bundle.Refuse(bundle.StepSignature, nil, "%s: %v", name, err)
		}
		list = append(list, opabundle.NewFile(name, hex.EncodeToString(sum), opabundle.SHA256.String()))
	}
	token, err := opabundle.GenerateSignedToken(list, opabundle.NewSigningConfig(key.pem, key.public.Algorithm(), ""), keyID)
	if err != nil {
		return nil, fmt.Errorf("the bundle could not be signed by a key for %s", key.public.Algorithm())
	}
	return json.Marshal(opabundle.SignaturesConfig{Signatures: []string{token}})
}
