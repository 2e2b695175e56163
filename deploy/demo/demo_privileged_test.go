// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package demo

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waggle-net/waggle/test/await"
)

// container is an unpacked image, to be run without a container runtime: the image has
// all that its program needs, or the program does not start.
type container struct {
	root   string
	config ocispec.ImageConfig
}

func unpack(t *testing.T, file, name string) container {
	t.Helper()
	config, layer := readImage(t, filepath.Join(os.Getenv(builtEnv), file), name)
	c := container{root: t.TempDir(), config: config.Config}
	eachFile(t, layer, func(h *tar.Header, content []byte) {
		path := filepath.Join(c.root, h.Name)
		var err error
		switch h.Typeflag {
		case tar.TypeDir:
			err = errors.Join(os.Mkdir(path, 0o755), os.Chmod(path, os.FileMode(h.Mode)))
		case tar.TypeSymlink:
			err = os.Symlink(h.Linkname, path)
		default:
			err = os.WriteFile(path, content, os.FileMode(h.Mode))
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	return c
}

// start runs the image as its configuration says: in its root, as its user.
func (c container) start(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	var user syscall.Credential
	if _, err := fmt.Sscanf(c.config.User, "%d:%d", &user.Uid, &user.Gid); err != nil || user.Uid == 0 {
		t.Fatalf("user %q: %v", c.config.User, err)
	}
	if len(args) == 0 {
		args = c.config.Cmd
	}
	cmd := &exec.Cmd{
		Path: c.config.Entrypoint[0], Args: append([]string{c.config.Entrypoint[0]}, args...), Dir: c.config.WorkingDir,
		Env: append(env, c.config.Env...), Stdout: t.Output(), Stderr: t.Output(),
		SysProcAttr: &syscall.SysProcAttr{Chroot: c.root, Credential: &user, Pdeathsig: syscall.SIGKILL},
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	return cmd
}

// get asks until there is an answer of this status, and returns it.
func get(t *testing.T, url string, status int) string {
	t.Helper()
	var body []byte
	await.Until(t, func() error {
		resp, err := http.Get(url)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if body, err = io.ReadAll(resp.Body); err != nil {
			return err
		}
		if resp.StatusCode != status {
			return fmt.Errorf("GET %s: %s, want %d: %s", url, resp.Status, status, body)
		}
		return nil
	})
	return string(body)
}

func list(t *testing.T, base string) []string {
	t.Helper()
	var entries []struct{ Name, Text, Pod string }
	if err := json.Unmarshal([]byte(get(t, base+"/api/entries", 200)), &entries); err != nil {
		t.Fatal(err)
	}
	texts := make([]string, 0, len(entries))
	for _, e := range entries {
		texts = append(texts, strings.TrimSpace(e.Pod+" "+e.Name+" "+e.Text))
	}
	return texts
}

func sign(t *testing.T, base, text string) {
	t.Helper()
	resp, err := http.PostForm(base+"/", url.Values{"name": {"Ada"}, "text": {text}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Request.Method != http.MethodGet {
		body, err := io.ReadAll(resp.Body)
		t.Fatalf("sign: %s, %v\n%s", resp.Status, err, body)
	}
}

// TestImagesTogether runs two replicas over one Redis, one a family, as the images have
// them.
func TestImagesTogether(t *testing.T) {
	redis, web := unpack(t, "redis.tar", RedisImage), unpack(t, "guestbook.tar", GuestbookImage)
	database := redis.start(t, nil)
	one := web.start(t, []string{"POD_NAME=one", "NODE_NAME=node1", "POD_IPS=192.0.2.1,2001:db8::1"},
		"-listen=:8081", "-redis=127.0.0.1:6379", "-drain=1h")
	two := web.start(t, []string{"POD_NAME=two"}, "-listen=:8082", "-redis=[::1]:6379", "-drain=0")
	const four, six = "http://127.0.0.1:8081", "http://[::1]:8082"
	get(t, four+"/readyz", 200)
	get(t, six+"/readyz", 200)
	if diff := cmp.Diff([]string{}, list(t, four)); diff != "" {
		t.Errorf("before the first entry: -want +got:\n%s", diff)
	}

	sign(t, four, "<b>hello</b>")
	sign(t, six, "from six")
	want := []string{"two Ada from six", "one Ada <b>hello</b>"}
	if diff := cmp.Diff(want, list(t, six)); diff != "" {
		t.Errorf("entries: -want +got:\n%s", diff)
	}
	page := get(t, four+"/", 200)
	for _, text := range []string{"<dd>one</dd>", "<dd>node1</dd>", "<dd>192.0.2.1, 2001:db8::1</dd>", "&lt;b&gt;hello&lt;/b&gt;", "<dd>127.0.0.1:"} {
		if !strings.Contains(page, text) {
			t.Errorf("the page has no %q:\n%s", text, page)
		}
	}

	// Redis gone: the replicas say so, and stay ready. Redis back: so are its entries,
	// and no connection of before is in the way.
	if err := database.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = database.Wait() // it was killed
	if body := get(t, four+"/api/entries", 503); !strings.Contains(body, `"error":"ask redis: dial tcp 127.0.0.1:6379`) {
		t.Errorf("without Redis: %s", body)
	}
	if body := get(t, six+"/", 200); !strings.Contains(body, "The entries cannot be read: ask redis") {
		t.Errorf("the page without Redis: %s", body)
	}
	get(t, four+"/readyz", 200)
	redis.start(t, nil)
	if diff := cmp.Diff(want, list(t, four)); diff != "" {
		t.Errorf("after a restart: -want +got:\n%s", diff)
	}
	for i := range 105 {
		sign(t, six, fmt.Sprint("entry ", i))
	}
	entries := list(t, four)
	if len(entries) != 100 || entries[0] != "two Ada entry 104" || entries[99] != "two Ada entry 5" {
		t.Errorf("%d entries, from %q to %q", len(entries), entries[0], entries[len(entries)-1])
	}

	endsWell(t, two)
	drains(t, one, four)
}

// endsWell ends a replica that nobody has to forget.
func endsWell(t *testing.T, replica *exec.Cmd) {
	t.Helper()
	if err := replica.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := replica.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v, want exit code 0", err)
	}
}

// drains sees that one told to end says so, and serves on, until it is told again.
func drains(t *testing.T, replica *exec.Cmd, base string) {
	t.Helper()
	if err := replica.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	get(t, base+"/readyz", 503)
	get(t, base+"/healthz", 200)
	sign(t, base, "the last")
	if err := replica.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err := replica.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("after a second SIGTERM: %v, want it to have ended by that", err)
	}
}

// The client is there for people: kubectl exec deploy/redis -- redis-cli.
func TestRedisClient(t *testing.T) {
	c := unpack(t, "redis.tar", RedisImage)
	c.config.Entrypoint = []string{"/usr/bin/redis-cli"}
	if err := c.start(t, nil, "--version").Wait(); err != nil {
		t.Error(err)
	}
}

func TestRedisImageHasWhatItNeeds(t *testing.T) {
	config, layer := readImage(t, filepath.Join(os.Getenv(builtEnv), "redis.tar"), RedisImage)
	if diff := cmp.Diff(redisConfig, config.Config); diff != "" {
		t.Errorf("configuration: -want +got:\n%s", diff)
	}
	var size int64
	copyright := make(map[string]bool)
	eachFile(t, layer, func(h *tar.Header, _ []byte) {
		size += h.Size
		if strings.HasSuffix(h.Name, "/copyright") {
			copyright[h.Name] = true
		}
		for _, part := range []string{"perl", "/man/", "changelog", "dpkg", "usr/bin/passwd"} {
			if strings.Contains(h.Name, part) {
				t.Errorf("%s is in the image", h.Name)
			}
		}
	})
	if size > 40<<20 {
		t.Errorf("it has %d MiB of files: did more than the libraries get in?", size>>20)
	}
	for _, pkg := range []string{"redis-server", "redis-tools", "libc6"} {
		if name := "usr/share/doc/" + pkg + "/copyright"; !copyright[name] {
			t.Errorf("%s is not in the image", name)
		}
	}
}

// A second build asks apt for names alone: in here is no network to fetch more from.
// Without lists of packages it keeps the image, too.
func TestRedisImageIsKept(t *testing.T) {
	path := filepath.Join(os.Getenv(builtEnv), "redis.tar")
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	kept := func(t *testing.T) {
		t.Helper()
		if err := buildRedis(t.Context(), path, t.Output()); err != nil {
			t.Fatal(err)
		}
		if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
			t.Errorf("the image was written again (%v)", err)
		}
	}
	t.Run("same packages", kept)
	t.Run("no lists", func(t *testing.T) {
		conf := filepath.Join(t.TempDir(), "apt.conf")
		text := fmt.Sprintf("Dir::State::lists %q;\nAcquire::Retries \"0\";\n", t.TempDir())
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("APT_CONFIG", conf)
		kept(t)
	})
}
