// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package preflight

import (
	"net/netip"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/waggle-net/waggle/test/sandbox"
)

func TestMain(m *testing.M) { os.Exit(sandbox.Main(m)) }

// A machine that runs these tests is one that a node could run on, and a check
// leaves nothing there.
func TestRealMachine(t *testing.T) {
	dir := t.TempDir()
	before := mustRead(t, "/proc/self/mountinfo")
	all := Run(t.Context(), Input{
		DataDir:  dir,
		RunDir:   dir,
		NodeName: "node1",
		Programs: []string{"/proc/self/exe"},

		OwnDataplane: true,
		Ports:        []Port{{6443, "tcp", netip.Addr{}, "the Kubernetes API", "apiserver.port"}},
		CIDRs:        []CIDR{{netip.MustParsePrefix("10.244.0.0/16"), "podCIDRs"}, {netip.MustParsePrefix("fd00:244::/48"), "podCIDRs"}},
	})
	for _, c := range checks {
		i := slices.IndexFunc(all, func(f Finding) bool { return f.Name == c.name })
		if i < 0 {
			t.Errorf("%s found nothing", c.name)
		}
	}
	for _, f := range all {
		t.Logf("%s %s: %s", f.Level, f.Name, f.Message)
		// How fast and how full the disk is, and what is mounted, is not for a test to say.
		if f.Level == Fail && !slices.Contains([]string{"data folder", "disk speed", "dataplane"}, f.Name) {
			t.Errorf("%s failed: %s", f.Name, f.Message)
		}
	}
	if after := mustRead(t, "/proc/self/mountinfo"); after != before {
		t.Errorf("mounts were\n%s\nand are\n%s", before, after)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// What cannot carry the upper side of an overlay is told from what can.
func TestOverlay(t *testing.T) {
	dir := t.TempDir()
	if err := tryOverlay(dir); err != nil {
		t.Errorf("in %s: %v", dir, err)
	}
	// The data folder's path is of no matter.
	odd := dir + "/a:b,c\\d"
	if err := os.Mkdir(odd, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := tryOverlay(odd); err != nil {
		t.Errorf("in %s: %v", odd, err)
	}
	// An overlay upon an overlay.
	err := onThrowawayThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		for _, d := range []string{"/lower", "/upper", "/work", "/merged"} {
			if err := os.Mkdir(dir+d, 0o700); err != nil {
				return err
			}
		}
		if err := unix.Mount("overlay", dir+"/merged", "overlay", 0, "lowerdir="+dir+"/lower,upperdir="+dir+"/upper,workdir="+dir+"/work"); err != nil {
			return err
		}
		work, err := os.MkdirTemp(dir+"/merged", "")
		if err != nil {
			return err
		}
		if err := overlayInNamespace(work); err == nil {
			t.Error("an overlay upon an overlay works")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func mustRead(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
