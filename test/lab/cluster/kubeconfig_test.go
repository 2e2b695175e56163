// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKubeconfigFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".lab", "kubeconfig")
	unlock, err := lockFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockFolder(path); err == nil || !strings.Contains(err.Error(), "another waggle-lab cluster") {
		t.Errorf("locked twice: %v", err)
	}
	for range 2 { // the second one replaces the first
		if err := replaceFile(path, header+"apiVersion: v1\n"); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v (%v), want 0600", info.Mode(), err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("beside it: %v", entries)
	}
	unlock()
	if unlock, err = lockFolder(path); err != nil {
		t.Fatalf("after unlock: %v", err)
	}
	unlock()
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	if err := RemoveKubeconfig(path); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
	if err := RemoveKubeconfig(path); err != nil {
		t.Errorf("nothing to remove: %v", err)
	}
}

// Where no kubeconfig came to be, the folder goes again.
func TestEmptyFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".lab", "kubeconfig")
	unlock, err := lockFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
}

// A kubeconfig that somebody else wrote stays.
func TestForeignKubeconfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte("apiVersion: v1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := RemoveKubeconfig(path); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}
