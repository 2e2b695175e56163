// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDaemonConfig(t *testing.T) {
	l := plan(Topology{Name: "lab", Racks: []int{1}}.withDefaults())
	cgroup := l.Host("node1").CgroupRoot()
	if !strings.HasSuffix(cgroup, "/waggle-lab/lab/node1") {
		t.Errorf("cgroup root is %s", cgroup)
	}
	want := `apiVersion: waggle.dev/v1alpha1
kind: DaemonConfig
nodeName: node1
podCIDRs: ["10.244.1.0/24", "fd00:10:244:1::/64"]
clusterCIDRs: ["10.244.0.0/16", "fd00:10:244::/48"]
bpfRoot: /run/waggle-lab/lab/node1/bpf
cgroupRoot: ` + cgroup + `
intentFile: /etc/waggle/intent.yaml
mode: overlay
`
	if diff := cmp.Diff(want, l.Host("node1").daemonConfig("mode: overlay\n")); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

func TestRenderIntent(t *testing.T) {
	l := plan(Topology{Racks: []int{1}}.withDefaults())
	pod := &Pod{IPs: []netip.Addr{netip.MustParseAddr("10.244.1.2"), netip.MustParseAddr("fd00:10:244:1::2")}}
	backends := PodBackends(8080, pod)
	backends[1].NotReady = true
	got := l.RenderIntent(Service{
		Name: "echo", ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00:10:96::a")},
		Ports: []ServicePort{{Name: "http", Port: 80, Backends: backends}, {Name: "dns", Protocol: "UDP", Port: 53}},
	})
	want := `apiVersion: waggle.dev/v1alpha1
kind: Intent
nodes:
- name: node1
  addresses: ["198.18.0.11", "2001:db8::b"]
  podCIDRs: ["10.244.1.0/24", "fd00:10:244:1::/64"]
services:
- namespace: default
  name: echo
  clusterIPs: ["10.96.0.10", "fd00:10:96::a"]
  ports:
  - name: "http"
    protocol: TCP
    port: 80
    backends:
    - {address: "10.244.1.2", port: 8080, ready: true}
    - {address: "fd00:10:244:1::2", port: 8080, ready: false}
  - name: "dns"
    protocol: UDP
    port: 53
    backends: []
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("intent (-want +got):\n%s", diff)
	}
	if got := l.RenderIntent(); !strings.HasSuffix(got, "services: []\n") {
		t.Errorf("intent without services:\n%s", got)
	}
}

func TestParseMountinfo(t *testing.T) {
	text := `27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
300 29 0:4 net:[4026532281] /run/netns/lab-node1 rw shared:5 - nsfs nsfs rw
301 29 0:50 /a\040b /mnt/with\040space rw shared:1 master:2 - tmpfs none rw
nonsense
302 29 0:51 / /cut rw
`
	want := []mountEntry{
		{"/", "/", "ext4"},
		{"net:[4026532281]", "/run/netns/lab-node1", "nsfs"},
		{"/a b", "/mnt/with space", "tmpfs"},
	}
	if diff := cmp.Diff(want, parseMountinfo(text), cmp.AllowUnexported(mountEntry{})); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
}

func TestTopMounts(t *testing.T) {
	mounts := []mountEntry{{point: "/sys"}, {point: "/sys/fs/cgroup"}, {point: "/sys/fs/cgroup/unified"}, {point: "/sys/fs/bpf"}}
	want := []string{"/sys/fs/cgroup", "/sys/fs/bpf"}
	if diff := cmp.Diff(want, topMounts(mounts, "/sys")); diff != "" {
		t.Errorf("top mounts (-want +got):\n%s", diff)
	}
}

// TestNetNSNames: Down removes what matches, so what does not match matters more.
func TestNetNSNames(t *testing.T) {
	for _, row := range []struct {
		lab, file string
		want      bool
	}{
		{"lab", "lab-node1", true}, {"lab", "lab-router", true}, {"lab", "lab-client", true},
		{"lab", "lab-mine", false}, {"lab", "lab2-node1", false}, {"lab", "node1", false},
		{"lab", "lab-node1-old", false}, {"lab", "my-lab-node1", false}, {"lab", "lab-node", false},
	} {
		if got := netnsNames(row.lab).MatchString(row.file); got != row.want {
			t.Errorf("lab %s, file %s: %v, want %v", row.lab, row.file, got, row.want)
		}
	}
}

func TestTail(t *testing.T) {
	path := t.TempDir() + "/log"
	var lines []string
	for i := range logTailLines + 5 {
		lines = append(lines, "line "+strconv.Itoa(i))
	}
	if err := os.WriteFile(path, []byte("old\n"+strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := tail(path, int64(len("old\n")))
	if !strings.HasPrefix(got, "(5 lines omitted, all in "+path+")\nline 5\n") || !strings.HasSuffix(got, "line 34") {
		t.Errorf("tail is:\n%s", got)
	}
	if got := tail(path+"x", 0); !strings.Contains(got, "is empty") {
		t.Errorf("tail of nothing is %q", got)
	}
}
