// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"
	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write expected output anew: the txtar files, and docs/kube-config.md")

// TestFiles loads the kube.yaml of each txtar with the flags and the environment in
// its comment, and compares the error, or else the configuration, with "want".
// $DIR is the folder that holds the other files.
func TestFiles(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no test files: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) { runFile(t, path) })
	}
}

func runFile(t *testing.T, path string) {
	ar, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var want *txtar.File
	for i, f := range ar.Files {
		data := strings.ReplaceAll(string(f.Data), "$DIR", dir)
		if f.Name == "want" {
			want = &ar.Files[i]
		} else if err := os.WriteFile(filepath.Join(dir, f.Name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	comment := strings.ReplaceAll(string(ar.Comment), "$DIR", dir)
	got := strings.ReplaceAll(loadText(t, filepath.Join(dir, "kube.yaml"), comment), dir, "/etc/waggle") + "\n"
	if *update {
		want.Data = []byte(got)
		if err := os.WriteFile(path, txtar.Format(ar), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(want.Data), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if strings.Contains(got, "hunter2") {
		t.Errorf("a password is shown:\n%s", got)
	}
}

// loadText is the configuration, or the error, as text. The flags are between
// blanks, so they have none inside.
func loadText(t *testing.T, path, comment string) string {
	flags := newFlags()
	var environ []string
	for line := range strings.Lines(comment) {
		if words, ok := strings.CutPrefix(line, "flags:"); ok {
			if err := flags.Parse(strings.Fields(words)); err != nil {
				return FlagError(flags, err).Error()
			}
		}
		if entry, ok := strings.CutPrefix(line, "env: "); ok {
			environ = append(environ, strings.TrimSuffix(entry, "\n"))
		}
	}
	c, err := load(path, false, flags, environ, func() (string, error) { return "Node1", nil })
	if err != nil {
		return err.Error()
	}
	b, err := yaml.JSONToYAML([]byte(c.String()))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(b), "\n")
}

func newFlags() *pflag.FlagSet {
	flags := pflag.NewFlagSet("waggle-kube", pflag.ContinueOnError)
	AddFlags(flags)
	return flags
}

func TestWhichFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, nodeName string) string {
		path := filepath.Join(dir, name)
		text := "apiVersion: waggle.dev/v1alpha1\nkind: ServerConfig\nnodeName: " + nodeName + "\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	byFlag, byEnv := write("a.yaml", "by-flag"), write("b.yaml", "by-env")
	flags := newFlags()
	environ := []string{"WAGGLE_CONFIG=" + byEnv}
	if c, err := Load(flags, environ); err != nil || c.NodeName != "by-env" {
		t.Errorf("WAGGLE_CONFIG: got %v, %v", c, err)
	}
	if c, err := Load(nil, environ); err != nil || c.NodeName != "by-env" {
		t.Errorf("without flags: got %v, %v", c, err)
	}
	if err := flags.Parse([]string{"--config", byFlag}); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(flags, environ); err != nil || c.NodeName != "by-flag" {
		t.Errorf("--config: got %v, %v", c, err)
	}
	if _, err := Load(nil, []string{"WAGGLE_CONFIG=" + filepath.Join(dir, "absent")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got error %v for a file that was asked for and is absent", err)
	}
}

func TestAbsentFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "absent.yaml")
	hostname := func() (string, error) { return "", errors.New("none") }
	_, err := load(path, true, nil, nil, hostname)
	want := "read config " + path + " (absent), environment and flags: nodeName: Required value: this machine has no host name: set nodeName"
	if err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
	c, err := load(path, true, nil, []string{"WAGGLE_NODE_NAME=n"}, hostname)
	if err != nil || c.NodeName != "n" {
		t.Errorf("got %v, %v", c, err)
	}
}

func TestUnknownFlag(t *testing.T) {
	for arg, want := range map[string]string{
		"--data-dr=/x":     "unknown flag: --data-dr: did you mean --data-dir?",
		"--podcidrs=x":     "unknown flag: --podcidrs: did you mean --pod-cidrs?",
		"--bananas":        "unknown flag: --bananas: --help lists them",
		"-x":               "unknown shorthand flag: 'x' in -x",
		"--dns-port=a":     `invalid argument "a" for "--dns-port" flag: use a whole number`,
		"--log-level":      "flag needs an argument: --log-level",
		"--node-ips=1.2.3": `invalid argument "1.2.3" for "--node-ips" flag: "1.2.3": not an IP address: write it as 192.0.2.1 or 2001:db8::1`,
	} {
		flags := newFlags()
		err := flags.Parse([]string{arg})
		if err == nil || FlagError(flags, err).Error() != want {
			t.Errorf("%s: got error %v, want %s", arg, FlagError(flags, err), want)
		}
	}
}

// A configuration that everyone can read must not hold a password.
func TestOpenFileWithPassword(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kube.yaml")
	text := "apiVersion: waggle.dev/v1alpha1\nkind: ServerConfig\nnodeName: n\n" +
		"containerRuntime: {registries: [{host: registry.example, username: u, password: hunter2}]}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	environ := []string{"WAGGLE_CONFIG=" + path}
	if _, err := Load(nil, environ); err != nil {
		t.Errorf("mode 0600: %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	want := "read config " + path + ": containerRuntime.registries[0].password: Forbidden: everyone can read " + path + ": chmod 600 it, or use passwordFile (set by the file)"
	if _, err := Load(nil, environ); err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
	// What is in the file does not matter where the environment replaces it.
	if _, err := Load(nil, append(environ, "WAGGLE_CONTAINER_RUNTIME_REGISTRIES=[{host: registry.example, username: u, password: hunter2}]")); err != nil {
		t.Errorf("registries from the environment: %v", err)
	}
}

// TestSecretsAreNotPrinted looks for a password in whatever may end up in a log.
func TestSecretsAreNotPrinted(t *testing.T) {
	c := complete(t)
	c.ContainerRuntime.Registries = []Registry{{Host: "registry.example", Username: "u", Password: "hunter2"}}
	r := c.ContainerRuntime.Registries[0]
	var b strings.Builder
	log := slog.New(slog.NewTextHandler(&b, nil))
	log.Info("a", "config", c, "password", r.Password)
	log = slog.New(slog.NewJSONHandler(&b, nil))
	log.Info("a", "config", c, "password", r.Password)
	b.WriteString(c.String())
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{c, *c, c.ContainerRuntime, r, &r, r.Password} {
			fmt.Fprintf(&b, verb+"\n", v)
		}
	}
	for _, shown := range []string{"hunter2", fmt.Sprintf("%x", "hunter2")} {
		if strings.Contains(b.String(), shown) {
			t.Errorf("a password is shown as %s:\n%s", shown, b.String())
		}
	}
	if c.ContainerRuntime.Registries[0].Password.Reveal() != "hunter2" {
		t.Error("String changed the password")
	}
}

// complete is the configuration of an empty file on a machine named n.
func complete(t testing.TB) *Config {
	t.Helper()
	c := Default()
	c.complete(func() (string, error) { return "n", nil })
	if errs := c.Validate(); len(errs) > 0 {
		t.Fatal(errs)
	}
	return c
}

func TestWriteRead(t *testing.T) {
	ar, err := txtar.ParseFile("testdata/full.txtar")
	if err != nil {
		t.Fatal(err)
	}
	c, errs, err := parse(ar.Files[0].Data)
	if err != nil || len(errs) > 0 {
		t.Fatal(errs, err)
	}
	c.complete(os.Hostname)
	c.ContainerRuntime.Registries[0].Password = "hunter2 \"\\<\u2028"
	path := filepath.Join(t.TempDir(), "c.json")
	for range 2 { // the second one replaces the first
		if err := c.Write(path); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c, got, compare); diff != "" {
		t.Errorf("-written +read:\n%s", diff)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: it holds secrets", info.Mode(), err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if err := c.Write(filepath.Join(path, "x")); err == nil || !strings.HasPrefix(err.Error(), "write config: ") {
		t.Errorf("in no folder: %v", err)
	}
}

func TestReadErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.json")
	for text, want := range map[string]string{
		"": "read config " + path + ": EOF",
		`{"apiVersion": "waggle.dev/v2", "new": 1}`: "read config " + path + `: json: unknown field "new"`,
		"{} {}": "read config " + path + ": more than one document",
		"{}":    "read config " + path + ": ",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got error %v, want %s", text, err, want)
		}
	}
}

var compare = cmp.Options{cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})}

// FuzzParse holds: an error or a valid configuration, never both, and a valid one
// reads back the same from what is written for the other processes.
func FuzzParse(f *testing.F) {
	paths, _ := filepath.Glob("testdata/*.txtar")
	for _, path := range paths {
		ar, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range ar.Files {
			if file.Name == "kube.yaml" {
				f.Add(file.Data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, errs, err := parse(data)
		if err != nil || len(errs) > 0 {
			return
		}
		c.complete(func() (string, error) { return "n", nil })
		if len(c.Validate()) > 0 {
			return
		}
		path := filepath.Join(t.TempDir(), "c.json")
		if err := c.Write(path); err != nil {
			t.Fatal(err)
		}
		again, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c, again, compare); diff != "" {
			t.Errorf("it reads differently:\n%s", diff)
		}
	})
}
