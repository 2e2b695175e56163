// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package lab_test

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/waggle-net/waggle/test/lab"
)

func TestHostsReachEachOther(t *testing.T) {
	l := lab.ForTest(t, lab.Topology{Racks: []int{2, 1}, Client: true})
	hosts := append(l.Nodes(), l.Client())
	for _, to := range hosts {
		serveTCP(t, to)
	}
	for _, from := range hosts {
		for _, to := range hosts {
			for _, addr := range to.Addrs() {
				if err := from.DoNet(func() error { return dial(addr.String()) }); err != nil {
					t.Errorf("%s to %s (%s): %v", from.Name, to.Name, addr, err)
				}
			}
		}
	}
}

// serveTCP accepts connections inside a host, in both families, until the test ends.
func serveTCP(t *testing.T, h *lab.Host) {
	t.Helper()
	var listener net.Listener
	err := h.DoNet(func() (err error) {
		listener, err = net.Listen("tcp", ":8080")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
}

func dial(addr string) error {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(addr, "8080"), 2*time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}

func TestHostHasItsOwnWorld(t *testing.T) {
	l := lab.ForTest(t, lab.Topology{Racks: []int{2}, Private: []string{"/var/lib/kubelet"}})
	node := l.Host("node2")
	for _, row := range []struct{ command, want string }{
		{"hostname", "node2"},
		{"cat /etc/hostname", "node2"},
		{"ls /sys/class/net", "eth0\nlo"},
		{"ls /etc/cni/net.d", "10-waggle.conflist"},
		{"readlink /opt/cni/bin", l.BinDir},
		{"ls /var/lib/kubelet", ""},
		{"stat -fc %T /sys/fs/bpf", "bpf_fs"},
		{"stat -fc %T " + node.BPFRoot(), "bpf_fs"},
		{"cat /proc/sys/net/ipv4/ip_forward", "0"},
		{"cat /proc/sys/net/ipv6/conf/all/forwarding", "0"},
		{"cat /sys/class/net/eth0/address", node.MAC.String()},
		{"echo 1 > /proc/sys/net/ipv4/ip_forward", ""},
		{"(echo 1 > /proc/sys/vm/swappiness) || echo refused", "refused"},
		{"touch /run/waggle/x /var/lib/waggle/y /etc/waggle/z", ""},
		{"ls /run/waggle-lab/" + l.Name, "node2"},
		{"ls /run/netns", ""},
		{"grep 0:: /proc/self/cgroup | grep -o waggle-lab.*", "waggle-lab/" + l.Name + "/node2/host"},
		{"test -w " + node.CgroupRoot() + "/cgroup.procs", ""},
		{"ip -br route get 2001:db8:ff::2 | grep -o 'via [^ ]*'", "via 2001:db8::1"},
		{"ip netns add mine && ls /run/netns && ip netns del mine", "mine"},
	} {
		out, err := node.Run(t.Context(), "bash", "-c", "exec 2>/dev/null; "+row.command)
		if err != nil || strings.TrimSpace(out) != row.want {
			t.Errorf("%s: got %q, want %q (%v)", row.command, out, row.want, err)
		}
	}
	for _, file := range []string{"run/x", "var/y", "etc/z"} {
		if _, err := os.Stat(node.Dir() + "/" + file); err != nil {
			t.Errorf("not visible outside: %v", err)
		}
	}
}

func TestDoEntersAndLeaves(t *testing.T) {
	l := lab.ForTest(t, lab.Topology{})
	node := l.Host("node1")
	outside, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		err := node.Do(func() error {
			name, err := os.Hostname()
			if err != nil || name != "node1" {
				return fmt.Errorf("host name %q: %w", name, err)
			}
			if _, err := os.Stat("/etc/waggle"); err != nil {
				return err
			}
			_, err = net.InterfaceByName("eth0")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, proc := range []string{"self", "thread-self"} {
		if ns, _ := os.Readlink("/proc/" + proc + "/ns/net"); ns != outside {
			t.Errorf("/proc/%s is in %s, was in %s", proc, ns, outside)
		}
	}
	if err := node.Do(func() error { runtime.Goexit(); return nil }); err == nil {
		t.Error("runtime.Goexit inside Do went unnoticed")
	}
}
