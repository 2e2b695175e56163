// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package lab_test

import (
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/waggle-net/waggle/test/lab"
)

// counting matches sysctls that change by themselves.
var counting = regexp.MustCompile(`(?m)^(fs\.(dentry|inode|file-nr|aio-nr|quota)|kernel\.(random|ns_last_pid|pty)|net\.netfilter\.nf_conntrack_count).*\n`)

// machineState is what a lab must not change: the machine's network, its sysctls
// and the folders that hosts have their own of.
func machineState(t *testing.T) map[string]string {
	t.Helper()
	state := map[string]string{}
	for _, command := range []string{
		"ip -d link", "ip addr", "ip -4 route show table all", "ip -6 route show table all", "ip rule",
		"sysctl -a", "ls -d /run/waggle /etc/waggle /etc/cni /opt/cni /var/lib/waggle /var/lib/labtest", "cat /etc/hosts", "hostname",
	} {
		// ls and sysctl fail for parts, which is fine: only the difference counts.
		out, _ := exec.Command("sh", "-c", command+" 2>&1").Output()
		state[command] = counting.ReplaceAllString(string(out), "")
	}
	mounts, _ := filepath.Glob("/run/*")
	for _, m := range mounts {
		state["folder "+m] = "there"
	}
	return state
}

func TestMachineIsUntouched(t *testing.T) {
	before := machineState(t)
	topology := lab.Topology{Name: "tmach", Racks: []int{1, 1}, Client: true, Private: []string{"/var/lib/labtest"}}
	if _, err := lab.Up(t.Context(), topology); err != nil {
		t.Fatal(err)
	}
	during := machineState(t)
	for _, folder := range []string{"folder /run/waggle-lab", "folder /run/netns"} {
		if during[folder] == "" {
			t.Errorf("no %s", folder)
		}
		if before[folder] == "" {
			delete(during, folder)
		}
	}
	if diff := cmp.Diff(before, during); diff != "" {
		t.Errorf("while the lab is up (-before +during):\n%s", diff)
	}
	if err := lab.Down(t.Context(), topology.Name); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, machineState(t)); diff != "" {
		t.Errorf("after down (-before +after):\n%s", diff)
	}
}

// TestLabsSideBySide builds and removes labs at the same time, among them one
// name twice.
func TestLabsSideBySide(t *testing.T) {
	var group errgroup.Group
	names := []string{"tpar1", "tpar2", "tpar3", "tpar1"}
	for _, name := range names {
		group.Go(func() error {
			for range 5 {
				_, upErr := lab.Up(t.Context(), lab.Topology{Name: name, Racks: []int{2}})
				if err := errors.Join(upErr, lab.Down(t.Context(), name)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	for _, name := range names {
		assertNoTraces(t, name)
	}
}

// TestForeignNamespacesStay: what a user made with `ip netns` survives, whether
// it was there before the lab or came later.
func TestForeignNamespacesStay(t *testing.T) {
	run := func(command string) string {
		t.Helper()
		out, err := exec.Command("sh", "-c", command).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		return string(out)
	}
	run("ip netns add tforn-mine")
	if _, err := lab.Up(t.Context(), lab.Topology{Name: "tforn"}); err != nil {
		t.Fatal(err)
	}
	run("ip netns add tforn-later && ip netns exec tforn-node1 ip link show eth0")
	if err := lab.Down(t.Context(), "tforn"); err != nil {
		t.Fatal(err)
	}
	run("ip netns exec tforn-mine true && ip netns exec tforn-later true && ip netns del tforn-mine && ip netns del tforn-later")
	// The next lab finds /run/netns as `ip netns` left it.
	if _, err := lab.Up(t.Context(), lab.Topology{Name: "tforn"}); err != nil {
		t.Fatal(err)
	}
	if err := lab.Down(t.Context(), "tforn"); err != nil {
		t.Fatal(err)
	}
	assertNoTraces(t, "tforn")
}
