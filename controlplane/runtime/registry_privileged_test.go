// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package runtime

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"path/filepath"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A registry that gives one image, over TLS, to those who have a token, which it
// gives to those who know a password: as most registries do.
type registry struct {
	blobs    map[string][]byte // by digest
	manifest ocispec.Descriptor
	url      string
	// basic asks for the password itself, without tokens.
	basic bool
}

func newRegistry(t *testing.T, archive []byte, basic bool) (r *registry, caFile string) {
	t.Helper()
	r = &registry{blobs: make(map[string][]byte), basic: basic}
	for tr := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == ocispec.ImageIndexFile {
			var index ocispec.Index
			if err := json.Unmarshal(content, &index); err != nil {
				t.Fatal(err)
			}
			r.manifest = index.Manifests[0]
		}
		r.blobs["sha256:"+path.Base(h.Name)] = content
	}
	server := httptest.NewTLSServer(r)
	t.Cleanup(server.Close)
	r.url = server.URL
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	mustWrite(t, caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	return r, caFile
}

func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	user, password, _ := req.BasicAuth()
	known := user == "robot" && password == "secret"
	if req.URL.Path == "/token" {
		if !known {
			http.Error(w, "who are you", http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"token":"t0ken"}`)
		return
	}
	switch {
	case r.basic && !known:
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		http.Error(w, "who are you", http.StatusUnauthorized)
		return
	case !r.basic && req.Header.Get("Authorization") != "Bearer t0ken":
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test"`, r.url))
		http.Error(w, "no token", http.StatusUnauthorized)
		return
	}
	digest := path.Base(req.URL.Path)
	if digest == "1" { // the tag
		digest = r.manifest.Digest.String()
	}
	blob, ok := r.blobs[digest]
	if !ok {
		http.NotFound(w, req)
		return
	}
	w.Header().Set("Docker-Content-Digest", digest)
	w.Header().Set("Content-Type", "application/octet-stream")
	if digest == r.manifest.Digest.String() {
		w.Header().Set("Content-Type", r.manifest.MediaType)
	}
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(blob))
}

// TestPull pulls the image of a registry that nobody can reach from its mirror, and
// from one that has its own address: certificate, user and password are those of
// the files that Write wrote.
func TestPull(t *testing.T) {
	for _, basic := range []bool{false, true} {
		t.Run(fmt.Sprintf("basic=%t", basic), func(t *testing.T) {
			r, ca := newRegistry(t, archive(t, nil), basic)
			known := Endpoint{URL: r.url, CAFile: ca, Username: "robot", Password: "secret"}
			stranger := Endpoint{URL: r.url, CAFile: ca, Username: "robot", Password: "guess"}
			untrusting := known
			untrusting.CAFile = ""
			n := startNode(t, func(c *Config) {
				c.Registries = []Registry{
					{Name: "docker.io", Mirrors: []Endpoint{known}},
					{Name: "direct.example.com:5000", Server: known},
					{Name: "trusting.example.com", Server: Endpoint{URL: r.url, SkipVerify: true, Username: "robot", Password: "secret"}},
					{Name: "stranger.example.com", Server: stranger},
					{Name: "untrusting.example.com", Server: untrusting},
					{Name: AllRegistries, Mirrors: []Endpoint{known}},
				}
			})
			for name, want := range map[string]bool{
				"docker.io/library/test:1":         true,
				"direct.example.com:5000/a/test:1": true,
				"trusting.example.com/test:1":      true,
				"other.example.com/test:1":         true,
				"stranger.example.com/test:1":      false,
				"untrusting.example.com/test:1":    false,
			} {
				_, err := n.images.PullImage(t.Context(), &cri.PullImageRequest{Image: &cri.ImageSpec{Image: name}})
				if (err == nil) != want {
					t.Errorf("pull %s: %v, want success: %t", name, err, want)
				}
			}
		})
	}
}
