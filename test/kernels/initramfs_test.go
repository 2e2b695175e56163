// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
)

// TestInitramfs compares the whole archive with a listing, mode, name, content.
func TestInitramfs(t *testing.T) {
	dir := t.TempDir()
	payload := buildStatic(t, dir)
	init, data := filepath.Join(dir, "init"), filepath.Join(dir, "data")
	for path, text := range map[string]string{init: "INIT", data: "DATA"} {
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	g := &Guest{
		Payload: payload, Args: []string{"-v"}, Env: []string{"A=b"},
		Files: map[string]string{"/etc/deep/data": data},
	}
	files, err := g.contents(init, []module{{"udp_tunnel", []byte("U")}, {"vxlan", []byte("V")}})
	if err != nil {
		t.Fatal(err)
	}
	files["/waggle/payload"] = entry{mode: 0o755, data: []byte("PAYLOAD")} // keep the listing short
	var archive bytes.Buffer
	if err := writeInitramfs(&archive, files); err != nil {
		t.Fatal(err)
	}
	const want = `drwxr-xr-x etc
drwxr-xr-x etc/deep
drwxr-xr-x waggle
drwxr-xr-x waggle/modules
-rw-r----- etc/deep/data DATA
-rwxr-xr-x init INIT
-rw-r--r-- waggle/modules/udp_tunnel.ko U
-rw-r--r-- waggle/modules/vxlan.ko V
-rwxr-xr-x waggle/payload PAYLOAD
-rw-r--r-- waggle/spec.json {"modules":["udp_tunnel.ko","vxlan.ko"],"name":"payload","args":["-v"],"env":["A=b"]}
`
	if got := listing(t, &archive); got != want {
		t.Errorf("archive holds\n%swant\n%s", got, want)
	}
}

func TestContentsRefuses(t *testing.T) {
	payload := buildStatic(t, t.TempDir())
	for guest, want := range map[string]string{
		"etc/x":    "add file etc/x: not a clean absolute path",
		"/etc/../": "add file /etc/../: not a clean absolute path",
		"/init":    "add file /init: reserved",
	} {
		g := &Guest{Payload: payload, Files: map[string]string{guest: payload}}
		if _, err := g.contents(payload, nil); err == nil || err.Error() != want {
			t.Errorf("%s: error %v, want %s", guest, err, want)
		}
	}
	// The shell of a development machine is dynamically linked.
	g := &Guest{Payload: "/bin/sh"}
	if _, err := g.contents(payload, nil); err == nil || !strings.Contains(err.Error(), "dynamically linked") {
		t.Errorf("dynamic payload: error %v", err)
	}
}

// listing prints an archive, one entry a line.
func listing(t *testing.T, r io.Reader) string {
	t.Helper()
	var out strings.Builder
	cr := cpio.NewReader(r)
	for {
		hdr, err := cr.Next()
		if errors.Is(err, io.EOF) {
			return out.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(cr)
		if err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf("%s %s %s", hdr.FileInfo().Mode(), hdr.Name, content)
		out.WriteString(strings.TrimSuffix(line, " ") + "\n")
	}
}

// buildStatic compiles the probe, a static program.
func buildStatic(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "payload")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, "./testdata/probe")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build payload: %v: %s", err, out)
	}
	return path
}
