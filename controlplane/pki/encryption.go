// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/waggle-net/waggle/controlplane/layout"
)

const (
	encryptionAPIVersion = "apiserver.config.k8s.io/v1"
	encryptionKind       = "EncryptionConfiguration"
	secretboxKey         = 32 // bytes
)

const encryptionHead = `# Written once by waggle-kube: the key that secrets are encrypted with in etcd.
# Back it up: without it nobody reads a secret. A snapshot of waggle-kube holds a copy.
`

// encryptionConfig is as much of an EncryptionConfiguration as we write and check.
type encryptionConfig struct {
	APIVersion string               `json:"apiVersion"`
	Kind       string               `json:"kind"`
	Resources  []encryptedResources `json:"resources"`
}

type encryptedResources struct {
	Resources []string `json:"resources"`
	// Providers are the ways to read, and the first of them the way to write,
	// each under its name. One of another kind (kms) has other fields.
	Providers []map[string]encryptionKeys `json:"providers"`
}

type encryptionKeys struct {
	Keys []encryptionKey `json:"keys,omitempty"`
}

type encryptionKey struct {
	Name   string `json:"name"`
	Secret string `json:"secret"`
}

// keySizes of the providers whose keys are in the file, in bytes.
var keySizes = map[string][]int{
	"secretbox": {secretboxKey},
	"aescbc":    {16, 24, 32},
	"aesgcm":    {16, 24, 32},
}

// EnsureEncryptionConfig makes the configuration of encryption at rest with a key
// of its own, unless there is one. One that is there is never written, for a person
// may have changed it; it is checked, because the apiserver would say less. A
// missing one beside an etcd with data is an error: a new key reads nothing of it.
func EnsureEncryptionConfig(l layout.Layout, now time.Time) (changes []Change, err error) {
	return ensureEncryptionConfig(l, now, &store{})
}

func ensureEncryptionConfig(l layout.Layout, now time.Time, s *store) ([]Change, error) {
	path := l.EncryptionConfig()
	if err := errors.Join(s.discard(path), s.restrict(path, secretMode)); err != nil {
		return s.changes, err
	}
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s.changes, makeEncryptionConfig(l, now, s)
	case err != nil:
		return s.changes, fmt.Errorf("read encryption configuration: %w", err)
	}
	if err := checkEncryptionConfig(text); err != nil {
		return s.changes, fmt.Errorf("read encryption configuration %s: %w: restore it from a backup, for without its keys nobody can read the secrets in etcd", path, err)
	}
	return s.changes, nil
}

func makeEncryptionConfig(l layout.Layout, now time.Time, s *store) error {
	path := l.EncryptionConfig()
	member := filepath.Join(l.EtcdDir(), "member") // where etcd keeps what it has
	if _, err := os.Lstat(member); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read encryption configuration: %s is missing, but etcd has data in %s, whose secrets are encrypted: restore the file from a backup", path, l.EtcdDir())
	}
	text, err := newEncryptionConfig(now)
	if err != nil {
		return fmt.Errorf("make encryption configuration: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make encryption configuration: %w", err)
	}
	if err := s.write(path, text, secretMode); err != nil {
		return fmt.Errorf("make encryption configuration: %w", err)
	}
	s.record(path, "did not exist", time.Time{})
	return nil
}

// newEncryptionConfig encrypts secrets with a new key. Last comes identity, so that
// what was written before, in the clear, can be read.
func newEncryptionConfig(now time.Time) ([]byte, error) {
	secret := make([]byte, secretboxKey)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	text, err := yaml.Marshal(encryptionConfig{
		APIVersion: encryptionAPIVersion,
		Kind:       encryptionKind,
		Resources: []encryptedResources{{
			Resources: []string{"secrets"},
			Providers: []map[string]encryptionKeys{
				{"secretbox": {Keys: []encryptionKey{{
					Name:   "key-" + now.UTC().Format("20060102"),
					Secret: base64.StdEncoding.EncodeToString(secret),
				}}}},
				{"identity": {}},
			},
		}},
	})
	return append([]byte(encryptionHead), text...), err
}

// checkEncryptionConfig finds what makes a file useless; the apiserver checks the
// rest. Errors do not quote the text, which is secret.
func checkEncryptionConfig(text []byte) error {
	var c encryptionConfig
	if err := yaml.Unmarshal(text, &c); err != nil {
		return errors.New("it is no YAML of an EncryptionConfiguration")
	}
	if c.APIVersion != encryptionAPIVersion || c.Kind != encryptionKind {
		return fmt.Errorf("it is no %s of %s", encryptionKind, encryptionAPIVersion)
	}
	if len(c.Resources) == 0 {
		return errors.New("it names no resource to encrypt")
	}
	for i, res := range c.Resources {
		if len(res.Resources) == 0 || len(res.Providers) == 0 {
			return fmt.Errorf("entry %d has no resources or no providers", i+1)
		}
		for _, provider := range res.Providers {
			for name, p := range provider {
				if err := checkEncryptionKeys(name, p.Keys); err != nil {
					return fmt.Errorf("provider %s of entry %d: %w", name, i+1, err)
				}
			}
		}
	}
	return nil
}

func checkEncryptionKeys(provider string, keys []encryptionKey) error {
	sizes, inFile := keySizes[provider]
	if !inFile {
		return nil
	}
	if len(keys) == 0 {
		return errors.New("it has no key")
	}
	for i, k := range keys {
		secret, err := base64.StdEncoding.DecodeString(k.Secret)
		if err != nil || !slices.Contains(sizes, len(secret)) {
			return fmt.Errorf("key %d is not %v bytes in base64", i+1, sizes)
		}
	}
	return nil
}
