// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waggle-net/waggle/test/lab"
)

// TestBadInput: each wrong input ends the daemon with one clear message that
// names the field and the remedy, and leaves nothing behind.
func TestBadInput(t *testing.T) {
	l := lab.ForTest(t, lab.Topology{Racks: []int{1}})
	n1 := l.Host("node1")
	start(t, n1) // writes a good configuration
	kill(t, n1)
	if out, err := n1.Run(t.Context(), l.BinDir+"/waggled", "cleanup"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	before := nodeState(t, n1)
	config := filepath.Join(n1.Dir(), "etc/waggled.yaml")
	good, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	broken := func(lines string) func(t *testing.T) {
		return func(t *testing.T) {
			if err := os.WriteFile(config, append(good, lines...), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	waggled := l.BinDir + "/waggled"
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T)
		argv    []string
		want    []string
	}{
		{"unknown flag", nil, []string{waggled, "run", "--pod-cidr", "10.0.0.0/8"}, []string{"unknown flag", "--pod-cidr"}},
		{"unknown command", nil, []string{waggled, "start"}, []string{"unknown command", "start"}},
		{"no such file", nil, []string{waggled, "run", "--config", "/nonexistent.yaml"}, []string{"/nonexistent.yaml"}},
		{"malformed file", broken("a: [\n"), []string{waggled, "run"}, []string{"waggled.yaml"}},
		{"unknown key", broken("podCidr: x\n"), []string{waggled, "run"}, []string{"podCidr", "podCIDRs"}},
		{"two errors at once", broken("mtu: -1\nattach: xdp\n"), []string{waggled, "run"}, []string{"mtu", "attach"}},
		{"pod CIDR too small", nil, []string{waggled, "run", "--pod-cidrs", "10.244.1.0/31"}, []string{"podCIDRs", "10.244.1.0/31"}},
		{"overlapping CIDRs", nil, []string{waggled, "run", "--cluster-cidrs", "10.244.0.0/16,10.244.0.0/20,fd00:10:244::/48"}, []string{"clusterCIDRs", "overlap"}},
		{"no bpffs", nil, []string{waggled, "run", "--bpf-root", "/tmp"}, []string{"/tmp", "mount -t bpf"}},
		{"private bpffs", nil, []string{"unshare", "-m", "sh", "-c", "mount -t bpf bpf /mnt && exec " + waggled + " run --bpf-root /mnt"}, []string{"private", "mount it on the host"}},
		{"no cgroup v2", nil, []string{waggled, "run", "--cgroup-root", "/tmp"}, []string{"cgroupRoot", "/tmp"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.WriteFile(config, good, 0o644); err != nil {
				t.Fatal(err)
			}
			if c.prepare != nil {
				c.prepare(t)
			}
			out, err := n1.Run(t.Context(), c.argv[0], c.argv[1:]...)
			if err == nil {
				t.Fatalf("it succeeds: %s", out)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("the message lacks %q: %s", want, out)
				}
			}
		})
	}
	if after := nodeState(t, n1); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// TestPoolExhausted: a full range is an error that says so; a released address
// rests before it is given again.
func TestPoolExhausted(t *testing.T) {
	l := lab.ForTest(t, lab.Topology{Racks: []int{1}})
	n1 := l.Host("node1")
	const tiny = `podCIDRs: ["10.244.1.0/29", "fd00:10:244:1::/64"]`
	start(t, n1)
	kill(t, n1)
	config := filepath.Join(n1.Dir(), "etc/waggled.yaml")
	b, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "podCIDRs:") {
			line = tiny + "\n"
		}
		lines = append(lines, line)
	}
	lines = append(lines, "ipam: {restTime: 1h}\n")
	if err := os.WriteFile(config, []byte(strings.Join(lines, "")), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := n1.Start(t.Context(), "waggled", l.BinDir+"/waggled", "run"); err != nil {
		t.Fatal(err)
	}
	if err := eventually(t, func() error {
		_, err := n1.Run(t.Context(), l.BinDir+"/waggle", "status")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var pods []*lab.Pod
	for i := range 20 {
		p, err := n1.AddPod(t.Context(), lab.PodOptions{Name: "p" + string(rune('a'+i))})
		if err != nil {
			if !strings.Contains(err.Error(), "10.244.1.0/29") {
				t.Errorf("the error does not name the range: %v", err)
			}
			break
		}
		pods = append(pods, p)
	}
	// Of eight, the network's, the first host's and the broadcast address are not given.
	if len(pods) != 5 {
		t.Errorf("%d pods fit into a /29, want 5", len(pods))
	}
	if err := pods[0].Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := n1.AddPod(t.Context(), lab.PodOptions{Name: "resting"}); err == nil || !strings.Contains(err.Error(), "rest") {
		t.Errorf("an address that rests: %v", err)
	}
	nothingLeft(t, n1, len(pods)-1)
}
