// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEncryptionConfigIsMadeOnce(t *testing.T) {
	l := testSpec(t).Layout
	changes, err := EnsureEncryptionConfig(l, start)
	if err != nil {
		t.Fatal(err)
	}
	want := []Change{{File: l.EncryptionConfig(), Reason: "did not exist"}}
	if diff := cmp.Diff(want, changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	text := mustRead(t, l.EncryptionConfig())
	secret := regexp.MustCompile(`secret: (\S+)`).FindStringSubmatch(text)
	if secret == nil {
		t.Fatalf("no secret in:\n%s", text)
	}
	if key, err := base64.StdEncoding.DecodeString(secret[1]); err != nil || len(key) != 32 {
		t.Errorf("key of %d bytes, error %v, want 32", len(key), err)
	}
	const wantText = encryptionHead + `apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- providers:
  - secretbox:
      keys:
      - name: key-20260501
        secret: SECRET
  - identity: {}
  resources:
  - secrets
`
	if diff := cmp.Diff(wantText, strings.Replace(text, secret[1], "SECRET", 1)); diff != "" {
		t.Errorf("file (-want +got):\n%s", diff)
	}
	info, err := os.Stat(l.EncryptionConfig())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("permissions %v, error %v, want 0600", info.Mode(), err)
	}

	// Another one has another key.
	other := testSpec(t).Layout
	if _, err := EnsureEncryptionConfig(other, start); err != nil {
		t.Fatal(err)
	}
	if mustRead(t, other.EncryptionConfig()) == text {
		t.Error("two clusters have the same key")
	}

	// And stays, though etcd has data now and the day is another.
	makeMember(t, l.EtcdDir())
	if changes, err := EnsureEncryptionConfig(l, start.Add(day)); err != nil || len(changes) > 0 || mustRead(t, l.EncryptionConfig()) != text {
		t.Errorf("second time: changes %+v, error %v", changes, err)
	}
}

func makeMember(t *testing.T, etcd string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(etcd, "member"), 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestEncryptionConfigIsRepaired(t *testing.T) {
	l := testSpec(t).Layout
	if _, err := EnsureEncryptionConfig(l, start); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(l.EncryptionConfig(), 0o644); err != nil {
		t.Fatal(err)
	}
	changes, err := EnsureEncryptionConfig(l, start)
	if err != nil || len(changes) != 1 || !strings.Contains(changes[0].Reason, "permissions 0644 were too open, now 0600") {
		t.Errorf("changes %+v, error %v", changes, err)
	}
}

func TestLostEncryptionConfig(t *testing.T) {
	l := testSpec(t).Layout
	makeMember(t, l.EtcdDir())
	changes, err := EnsureEncryptionConfig(l, start)
	if err == nil || len(changes) > 0 || !strings.Contains(err.Error(), "encryption.yaml is missing, but etcd has data in "+l.EtcdDir()+", whose secrets are encrypted: restore the file from a backup") {
		t.Errorf("changes %+v, error %v", changes, err)
	}
	if _, err := os.Stat(l.EncryptionConfig()); err == nil {
		t.Error("the file was made nevertheless")
	}
}

// A file that a person has written is left as it is, and refused where it is
// useless. Keys in errors would end up in logs.
func TestEncryptionConfigIsChecked(t *testing.T) {
	const head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n"
	const key32 = "c2VjcmV0IG9mIDMyIGJ5dGVzLCBub3QgbW9yZSEhISE="
	const secretbox = "resources: [{resources: [secrets], providers: [{secretbox: {keys: [{name: a, secret: "
	tests := map[string]struct{ text, want string }{
		"rotated": {head + "resources: [{resources: [secrets, configmaps], providers: [{secretbox: {keys: [{name: b, secret: " + key32 +
			"}, {name: a, secret: " + key32 + "}]}}, {identity: {}}]}]", ""},
		"aescbc":         {head + "resources: [{resources: [secrets], providers: [{aescbc: {keys: [{name: a, secret: " + key32 + "}]}}]}]", ""},
		"kms":            {head + "resources: [{resources: ['*.*'], providers: [{kms: {apiVersion: v2, name: vault, endpoint: 'unix:///run/kms.sock', timeout: 3s}}]}]", ""},
		"decrypted":      {head + "resources: [{resources: [secrets], providers: [{identity: {}}]}]", ""},
		"empty":          {"", "it is no EncryptionConfiguration of apiserver.config.k8s.io/v1"},
		"no YAML":        {"\t" + key32, "it is no YAML of an EncryptionConfiguration"},
		"other kind":     {strings.Replace(head, "Encryption", "Authentication", 1), "it is no EncryptionConfiguration of"},
		"nothing":        {head, "it names no resource to encrypt"},
		"no provider":    {head + "resources: [{resources: [secrets]}]", "entry 1 has no resources or no providers"},
		"no keys":        {head + "resources: [{resources: [secrets], providers: [{secretbox: {keys: []}}]}]", "provider secretbox of entry 1: it has no key"},
		"short key":      {head + secretbox + "c2hvcnQ=}]}}]}]", "provider secretbox of entry 1: key 1 is not [32] bytes in base64"},
		"cut key":        {head + secretbox + key32[:40] + "}]}}]}]", "provider secretbox of entry 1: key 1 is not [32] bytes"},
		"key that lacks": {head + "resources: [{resources: [secrets], providers: [{secretbox: {keys: [{name: a}]}}]}]", "provider secretbox of entry 1: key 1"},
		"wrong type":     {head + "resources: " + key32, "it is no YAML of an EncryptionConfiguration"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			l := testSpec(t).Layout
			if err := os.MkdirAll(l.Data, 0o700); err != nil {
				t.Fatal(err)
			}
			mustWrite(t, l.EncryptionConfig(), test.text)
			changes, err := EnsureEncryptionConfig(l, start)
			switch {
			case test.want == "" && err != nil:
				t.Errorf("error %v, want none", err)
			case test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), "read encryption configuration "+l.EncryptionConfig()+": "+test.want) ||
				!strings.Contains(err.Error(), "restore it from a backup")):
				t.Errorf("error %v, want %s", err, test.want)
			case err != nil && strings.Contains(err.Error(), key32[:20]):
				t.Errorf("error %v tells a key", err)
			}
			if len(changes) > 0 || mustRead(t, l.EncryptionConfig()) != test.text {
				t.Errorf("changes %+v, want none", changes)
			}
		})
	}
}
