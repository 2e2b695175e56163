// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waggle-net/waggle/controlplane/config"
	"github.com/waggle-net/waggle/controlplane/layout"
	"github.com/waggle-net/waggle/internal/version"
)

// execute runs the command line, and returns what it prints.
func execute(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := root()
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

// testConfig is a complete configuration below a folder of the test.
func testConfig(t *testing.T, environ ...string) *config.Config {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "kube.yaml")
	if err := os.WriteFile(file, []byte("apiVersion: waggle.dev/v1alpha1\nkind: ServerConfig\nnodeName: node1\nnodeIPs: [192.0.2.10, '2001:db8::10']\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(nil, append([]string{
		"WAGGLE_CONFIG=" + file, "WAGGLE_DATA_DIR=" + filepath.Join(dir, "data"), "WAGGLE_RUN_DIR=" + filepath.Join(dir, "run"),
	}, environ...))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// write writes it where the supervisor does.
func write(t *testing.T, c *config.Config) layout.Layout {
	t.Helper()
	l := c.Layout()
	if err := os.MkdirAll(l.GeneratedDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := c.Write(l.Generated("config.json")); err != nil {
		t.Fatal(err)
	}
	return l
}

// TestRefused: what cannot be meant is one error, before anything is started.
func TestRefused(t *testing.T) {
	c := testConfig(t)
	l := write(t, c)
	odd := filepath.Join(t.TempDir(), "odd.json")
	if err := os.WriteFile(odd, []byte(`{"nodeNaem": "node1"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	dirs := []string{"--data-dir", l.Data, "--run-dir", l.Run}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"contol-plane"}, `unknown command "contol-plane" for "waggle-kube"`},
		{[]string{"--frobnicate"}, "unknown flag: --frobnicate"},

		{[]string{"control-plane", "now"}, `unknown command "now" for "waggle-kube control-plane"`},
		{[]string{"control-plane", "--port", "1"}, "unknown flag: --port"},
		{[]string{"control-plane"}, "control-plane: no configuration: waggle-kube server writes it and starts this process; by hand, --config names it"},
		{[]string{"control-plane", "--config", l.Data + "/none"}, "read config: open " + l.Data + "/none: no such file or directory"},
		{[]string{"control-plane", "--config", odd}, "read config " + odd + `: json: unknown field "nodeNaem"`},

		{[]string{"node", "now"}, `unknown command "now" for "waggle-kube node"`},
		{[]string{"node"}, "node: no configuration"},
		{[]string{"node", "--config", odd, "--cgroup-driver", "cgroup2"}, `--cgroup-driver "cgroup2": use systemd or cgroupfs`},
		{[]string{"node", "--config", odd}, "read config " + odd + `: json: unknown field "nodeNaem"`},

		{[]string{"snapshot", "svae"}, `unknown command "svae" for "waggle-kube snapshot"`},
		{append([]string{"snapshot", "save", "a", "b"}, dirs...), "accepts at most 1 arg(s), received 2"},
		{append([]string{"snapshot", "save", "a", "--dir", "b"}, dirs...), "both FILE and --dir are given: leave one of them out"},
		{append([]string{"snapshot", "save", l.Data}, dirs...), l.Data + " is a folder: name a file in it, or use --dir " + l.Data},
		{[]string{"snapshot", "save", "--data-dir", l.Data + "/none"}, "no server was started on data folder " + l.Data + "/none yet"},
		{append([]string{"snapshot", "list", "all"}, dirs...), `unknown command "all" for "waggle-kube snapshot list"`},
		{append([]string{"snapshot", "restore"}, dirs...), "accepts 1 arg(s), received 0"},
		{append([]string{"snapshot", "restore", l.Data + "/none"}, dirs...), "no such file or directory"},
	} {
		t.Run(strings.Join(tt.args[:min(len(tt.args), 3)], " "), func(t *testing.T) {
			out, err := execute(t, tt.args...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			// An error is told once, by whoever gets it, and without the help after it.
			if out != "" {
				t.Errorf("printed %q", out)
			}
		})
	}
}

// TestHelp: it is that of the program that a person has called.
func TestHelp(t *testing.T) {
	commands := [][]string{nil, {"control-plane"}, {"node"}, {"ctr"}, {"snapshot"}, {"snapshot", "save"}, {"snapshot", "list"}, {"snapshot", "restore"}}
	for _, c := range root().Commands() {
		if !slices.ContainsFunc(commands, func(args []string) bool { return len(args) == 1 && args[0] == c.Name() }) {
			t.Errorf("%s is not among those that are tried", c.Name())
		}
	}
	for _, args := range commands {
		out, err := execute(t, append(args, "--help")...)
		if err != nil {
			t.Errorf("%v: %v", args, err)
		}
		if !strings.Contains(out, "waggle-kube") || strings.Contains(out, "waggle-kubernetes") {
			t.Errorf("%v: want waggle-kube alone in\n%s", args, out)
		}
	}
	if out, err := execute(t); err != nil || !strings.Contains(out, "Available Commands:") {
		t.Errorf("without a command: %v\n%s", err, out)
	}
	out, err := execute(t, "--version")
	if want := "waggle-kube version " + version.String() + ", Kubernetes " + version.Kubernetes + "\n"; err != nil || out != want {
		t.Errorf("version: %q, %v, want %q", out, err, want)
	}
}

func TestAsKubectl(t *testing.T) {
	for _, tt := range []struct {
		args, rest []string
		is         bool
	}{
		{[]string{"/opt/waggle-kubernetes", "kubectl", "get", "nodes"}, []string{"get", "nodes"}, true},
		{[]string{"/opt/waggle-kubernetes", "kubectl"}, []string{}, true},
		{[]string{"/usr/local/bin/kubectl", "kubectl"}, []string{"kubectl"}, true},
		{[]string{"kubectl"}, []string{}, true},
		{[]string{"waggle-kubernetes", "node", "kubectl"}, nil, false},
		{[]string{"kubectl-plugin"}, nil, false},
		{nil, nil, false},
	} {
		rest, is := asKubectl(tt.args)
		if diff := cmp.Diff(tt.rest, rest); is != tt.is || diff != "" {
			t.Errorf("%v: %t, rest (-want +got):\n%s", tt.args, is, diff)
		}
	}
}
