// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waggle-net/waggle/internal/status"
	"github.com/waggle-net/waggle/test/await"
)

// fixed is a daemon that always says the same.
type fixed struct{ status status.Status }

func (f fixed) Ready() error { return nil }

func (f fixed) Status(context.Context) (*status.Status, error) { return &f.status, nil }

// serve runs a daemon on a socket until the test ends, and returns its path.
func serve(t *testing.T, s status.Status) string {
	socket := filepath.Join(t.TempDir(), "waggled.sock")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- status.Serve(ctx, socket, fixed{s}, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	await.Until(t, func() error {
		_, err := (&status.Client{Socket: socket}).Status(ctx)
		return err
	})
	return socket
}

func TestExitCodes(t *testing.T) {
	healthy := serve(t, status.Status{Version: "v1", NodeName: "node1", Ready: true})
	ill := serve(t, status.Status{Ready: true, Problems: []status.Problem{{Component: "intent", Message: "file is gone"}}})
	starting := serve(t, status.Status{})
	absent := filepath.Join(t.TempDir(), "waggled.sock")
	for _, row := range []struct {
		args           string
		code           int
		stdout, stderr string
	}{
		{"status --socket " + healthy, exitOK, "waggled v1 on node1: ready", ""},
		{"status --check --socket " + healthy, exitOK, "waggled v1 on node1: ready", ""},
		{"status --socket " + ill, exitOK, "intent: file is gone", ""},
		{"status --check --socket " + ill, exitProblem, "intent: file is gone", ""},
		{"status --check --socket " + starting, exitProblem, "NOT READY", ""},
		{"status --json --check --socket " + ill, exitProblem, `"message": "file is gone"`, ""},
		{"status --socket " + absent, exitFailure, "", "waggle: waggled does not answer at " + absent + ": is it running?"},
		{"status -o yaml", exitFailure, "", `unknown output "yaml": use text or json`},
		{"status --json -o json", exitFailure, "", "none of the others can be"},
		{"status now", exitFailure, "", "unknown command"},
		{"stats", exitFailure, "", "unknown command"},
		{"version", exitOK, "waggle ", ""},
		{"", exitOK, "waggle [command]", ""},
	} {
		var stdout, stderr bytes.Buffer
		code := execute(t.Context(), strings.Fields(row.args), &stdout, &stderr)
		if code != row.code {
			t.Errorf("waggle %s: exit code %d, want %d", row.args, code, row.code)
		}
		for name, got := range map[string][2]string{"stdout": {stdout.String(), row.stdout}, "stderr": {stderr.String(), row.stderr}} {
			if !strings.Contains(got[0], got[1]) || got[1] == "" && got[0] != "" {
				t.Errorf("waggle %s: %s is %q, want %q in it", row.args, name, got[0], got[1])
			}
		}
	}
}

// TestJSON holds that the output is one document whose lists are never null.
func TestJSON(t *testing.T) {
	socket := serve(t, status.Status{Ready: true})
	var stdout, stderr bytes.Buffer
	if code := execute(t.Context(), []string{"status", "--json", "--socket", socket}, &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	var got map[string]any
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for key, v := range got {
		if v == nil {
			t.Errorf("%s is null", key)
		}
	}
}
