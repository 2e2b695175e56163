// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"flag"
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

var update = flag.Bool("update", false, "write the expected output of the txtar files anew")

var compare = cmp.Options{cmpopts.EquateComparable(netip.Prefix{}), cmpopts.EquateEmpty()}

// TestFiles loads the waggled.yaml of each txtar with the flags in its comment's
// last line, and compares the error, or else the configuration, with "want".
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
		if f.Name == "want" {
			want = &ar.Files[i]
		} else if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	flags := pflag.NewFlagSet("waggled", pflag.ContinueOnError)
	AddFlags(flags)
	var got string
	if err := flags.Parse(flagsOf(ar)); err != nil {
		got = err.Error()
	} else {
		got = load(t, dir, flags)
	}
	got += "\n"
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
}

func load(t *testing.T, dir string, flags *pflag.FlagSet) string {
	c, err := Load(filepath.Join(dir, "waggled.yaml"), flags)
	if err != nil {
		return strings.ReplaceAll(err.Error(), dir, "/etc/waggle")
	}
	b, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(b), "\n")
}

// flagsOf returns the words of the comment's line that begins with "flags:".
func flagsOf(ar *txtar.Archive) []string {
	for line := range strings.Lines(string(ar.Comment)) {
		if words, ok := strings.CutPrefix(line, "flags:"); ok {
			return strings.Fields(words)
		}
	}
	return nil
}

func TestLoadWithoutFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "absent.yaml")
	flags := pflag.NewFlagSet("waggled", pflag.ContinueOnError)
	AddFlags(flags)
	_, err := loadFile(path, true, flags)
	want := "read config " + path + " (absent) and flags: podCIDRs: Required value: give this node's pods a range, as in [10.244.1.0/24]"
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got error %v, want %s", err, want)
	}
	if err := flags.Parse([]string{"--pod-cidrs=192.0.2.0/24", "--node-name=n"}); err != nil {
		t.Fatal(err)
	}
	c, err := loadFile(path, true, flags)
	if err != nil || c.NodeName != "n" || len(c.ClusterCIDRs) != 1 {
		t.Errorf("got %v, %v", c, err)
	}
	if _, err := Load(filepath.Join(t.TempDir(), "x.yaml"), nil); !os.IsNotExist(err) && !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got error %v for a file that was asked for and is absent", err)
	}
	if _, err := loadFile(path, false, flags); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that was asked for: %v", err)
	}
}

// TestFlagOfEachField holds fields and flags together.
func TestFlagOfEachField(t *testing.T) {
	fields := map[string]bool{"apiVersion": true, "kind": true} // a file's, not a setting
	for _, o := range options.Options {
		fields[o.Field] = true
	}
	var tree map[string]any
	if err := yaml.Unmarshal([]byte(Default().String()), &tree); err != nil {
		t.Fatal(err)
	}
	for key, v := range tree {
		inner, ok := v.(map[string]any)
		if !ok {
			inner = map[string]any{"": nil}
		}
		for k := range inner {
			if name := strings.TrimSuffix(key+"."+k, "."); !fields[name] {
				t.Errorf("no flag for %s", name)
			}
		}
	}
}

func TestFlagNames(t *testing.T) {
	for path, want := range map[string]string{
		"podCIDRs": "pod-cidrs", "bpfRoot": "bpf-root", "ipam.restTime": "ipam-rest-time", "cni.binDir": "cni-bin-dir", "mtu": "mtu",
	} {
		if got := FlagName(path); got != want {
			t.Errorf("FlagName(%s) = %s, want %s", path, got, want)
		}
	}
}

func TestPaths(t *testing.T) {
	c := Default()
	got := []string{c.CNISocket(), c.APISocket(), c.PinDir()}
	want := []string{"/run/waggle/cni.sock", "/run/waggle/waggled.sock", "/sys/fs/bpf/waggle"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// FuzzParse holds: an error or a valid configuration, never both, and a valid
// one reads back the same from what it is written as.
func FuzzParse(f *testing.F) {
	paths, _ := filepath.Glob("testdata/*.txtar")
	for _, path := range paths {
		ar, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range ar.Files {
			if file.Name == "waggled.yaml" {
				f.Add(file.Data)
			}
		}
	}
	hostname := func() (string, error) { return "node1", nil }
	read := func(data []byte) *Config {
		c, errs, err := parse(data)
		if err != nil || len(errs) > 0 {
			return nil
		}
		c.complete(hostname)
		if len(c.Validate()) > 0 {
			return nil
		}
		return c
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := read(data)
		if c == nil {
			return
		}
		text, err := yaml.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again := read(text)
		if diff := cmp.Diff(c, again, compare); diff != "" {
			t.Errorf("written as\n%s\nit reads differently:\n%s", text, diff)
		}
	})
}

// The example that people start from is valid, and its comments tell the
// defaults as they are.
func TestExample(t *testing.T) {
	const path = "../../deploy/waggled.yaml"
	c, err := Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(b)) {
		if key, ok := strings.CutPrefix(line, "# "); ok && strings.Contains(key, ": ") && !strings.HasPrefix(key, "nodeName") {
			if word, _, _ := strings.Cut(key, ":"); !strings.Contains(word, " ") {
				line = key
			}
		}
		lines = append(lines, line)
	}
	all := filepath.Join(t.TempDir(), "all.yaml")
	if err := os.WriteFile(all, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	spelled, err := Load(all, nil)
	if err != nil {
		t.Fatal(err)
	}
	none := strings.NewReplacer("null", "[]") // a list that is absent is empty
	if diff := cmp.Diff(none.Replace(c.String()), none.Replace(spelled.String())); diff != "" {
		t.Errorf("the comments are not the defaults (-default +comment):\n%s", diff)
	}
}

// What Write writes, Load reads: the same, with nothing left to complete.
func TestWrite(t *testing.T) {
	want := Default()
	want.NodeName = "node1"
	want.ClusterCIDRs = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}
	want.Kubernetes = Kubernetes{Kubeconfig: "/etc/waggle/kubeconfig"}
	want.IntentFile = ""
	path := filepath.Join(t.TempDir(), "waggled.yaml")
	if err := want.Write(path); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Errorf("-written +read:\n%s", diff)
	}
}
