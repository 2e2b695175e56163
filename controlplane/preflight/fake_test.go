// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"
)

// newProbe makes a machine of files in a folder of the test.
func newProbe(t *testing.T, healthy, over tree) *probe {
	t.Helper()
	root := t.TempDir()
	in := Input{Root: root, DataDir: root + "/var/lib/waggle-kube", RunDir: root + "/run/waggle-kube", CNIConfDir: "/etc/cni/net.d", BPFRoot: "/sys/fs/bpf"}
	var f fake
	for _, part := range []tree{healthy, over} {
		mustYAML(t, part["input"], &in)
		mustYAML(t, part["machine"], &f)
		for path, content := range part {
			if !slices.Contains([]string{"input", "machine", "links", "remove", "want"}, path) {
				mustWrite(t, filepath.Join(root, path), content)
			}
		}
		for line := range strings.Lines(part["links"]) {
			path, target, _ := strings.Cut(strings.TrimSpace(line), " ")
			path = filepath.Join(root, path)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.RemoveAll(path), os.Symlink(target, path)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for path := range strings.FieldsSeq(over["remove"]) {
		if err := os.RemoveAll(filepath.Join(root, path)); err != nil {
			t.Fatal(err)
		}
	}
	return &probe{in, f.machine()}
}

func mustYAML(t *testing.T, text string, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
		t.Fatal(err)
	}
}

func mustWrite(t *testing.T, path, content string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// fake is what system calls say on a machine of a test.
type fake struct {
	Arch        string
	Now         time.Time
	Unsynced    bool
	Disk, Run   fakeFS
	Sync        []string // durations
	SyncError   string
	Overlay     string // error
	Listen      map[string]string
	Addresses   []struct{ Device, Prefix string }
	Runc        string
	RuncVersion string
	Waggled     string   // what its check says
	WaggledFail string   // and its error
	Missing     []string // programs
}

type fakeFS struct {
	FreeMiB, TotalMiB, Files, FreeFiles uint64
	ReadOnly, NoExec, Tmpfs             bool
	Error                               string
}

func (f fakeFS) statfs() (unix.Statfs_t, error) {
	st := unix.Statfs_t{Frsize: 4096, Bavail: f.FreeMiB << 8, Blocks: f.TotalMiB << 8, Files: f.Files, Ffree: f.FreeFiles}
	if f.ReadOnly {
		st.Flags |= unix.ST_RDONLY
	}
	if f.NoExec {
		st.Flags |= unix.ST_NOEXEC
	}
	if f.Tmpfs {
		st.Type = unix.TMPFS_MAGIC
	}
	return st, asError(f.Error)
}

// asError gives the errors their names that the checks tell apart.
func asError(text string) error {
	for _, e := range []unix.Errno{unix.EADDRINUSE, unix.EADDRNOTAVAIL} {
		if text == unix.ErrnoName(e) {
			return e
		}
	}
	if text != "" {
		return errors.New(text)
	}
	return nil
}

func (f *fake) machine() machine {
	return machine{
		arch:        f.Arch,
		now:         func() time.Time { return f.Now },
		clockSynced: func() (bool, error) { return !f.Unsynced, nil },
		statfs: func(path string) (unix.Statfs_t, error) {
			if strings.HasSuffix(path, "/run") {
				return f.Run.statfs()
			}
			return f.Disk.statfs()
		},
		syncTimes: func(context.Context, string) ([]time.Duration, error) {
			var times []time.Duration
			for _, s := range f.Sync {
				d, err := time.ParseDuration(s)
				if err != nil {
					return nil, err
				}
				times = append(times, d)
			}
			return times, asError(f.SyncError)
		},
		tryOverlay: func(string) error { return asError(f.Overlay) },
		listen: func(_ context.Context, p Port) error {
			return asError(f.Listen[fmt.Sprintf("%d/%s", p.Number, p.Protocol)])
		},
		addresses: f.addresses,
		findRunc: func() (string, error) {
			if f.Runc == "" {
				return "", errors.New("not found")
			}
			return f.Runc, nil
		},
		runcVersion: func(context.Context, string) (string, error) {
			if f.RuncVersion == "" {
				return "", errors.New("exec format error")
			}
			return f.RuncVersion, nil
		},
		waggledCheck: func(context.Context, string) (string, error) {
			return f.Waggled, asError(f.WaggledFail)
		},
		isExecutable: func(path string) error {
			if slices.Contains(f.Missing, path) {
				return &os.PathError{Op: "stat", Path: path, Err: os.ErrNotExist}
			}
			return nil
		},
	}
}

func (f *fake) addresses() ([]deviceAddress, error) {
	var all []deviceAddress
	for _, a := range f.Addresses {
		p, err := netip.ParsePrefix(a.Prefix)
		if err != nil {
			return nil, err
		}
		all = append(all, deviceAddress{a.Device, p})
	}
	return all, nil
}
