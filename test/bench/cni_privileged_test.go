// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package bench

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"

	"github.com/waggle-net/waggle/test/lab"
)

const (
	fullNode   = 110 // pods, the kubelet's default limit
	sideBySide = 20
	inARow     = 200
	batches    = 10
)

// BenchmarkCNI times what a container runtime waits for, from libcni's call to
// its return: the plugin's process, the daemon and the kernel are in it, making
// the pod's namespace is not.
func BenchmarkCNI(b *testing.B) {
	h := node(b)
	for _, pods := range []int{0, fullNode} {
		fill(b, h, pods)
		b.Run(fmt.Sprintf("beside-%d-pods", pods), func(b *testing.B) {
			var adds, dels []time.Duration
			for i := range inARow {
				a := newAttachment(b, h, fmt.Sprintf("one-%d-%d", pods, i))
				adds = append(adds, a.must(b, a.add))
				dels = append(dels, a.must(b, a.del))
			}
			result(b, "add-one-by-one", percentiles(adds)...)
			result(b, "del-one-by-one", percentiles(dels)...)

			adds, dels = nil, nil
			for i := range batches {
				batch := make([]*attachment, sideBySide)
				for j := range batch {
					batch[j] = newAttachment(b, h, fmt.Sprintf("side-%d-%d-%d", pods, i, j))
				}
				adds = append(adds, together(b, batch, (*attachment).add)...)
				dels = append(dels, together(b, batch, (*attachment).del)...)
			}
			result(b, fmt.Sprintf("add-%d-side-by-side", sideBySide), percentiles(adds)...)
			result(b, fmt.Sprintf("del-%d-side-by-side", sideBySide), percentiles(dels)...)
		})
	}
	checkNoLeftovers(b, h, fullNode)
}

// BenchmarkPluginStart times the plugin's process alone: the verb VERSION asks
// nobody. Beside it, a program that does nothing.
func BenchmarkPluginStart(b *testing.B) {
	plugin := filepath.Join(lab.ForTest(b, lab.Topology{}).BinDir, "waggle-cni")
	var ours, nothing []time.Duration
	for range inARow {
		ours = append(ours, execute(b, plugin))
		nothing = append(nothing, execute(b, "/bin/true"))
	}
	result(b, "waggle-cni-VERSION", percentiles(ours)...)
	result(b, "bin-true", percentiles(nothing)...)
}

func execute(b *testing.B, program string) time.Duration {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), program)
	cmd.Env = []string{"CNI_COMMAND=VERSION"}
	cmd.Stdin = strings.NewReader(`{"cniVersion": "1.1.0", "name": "waggle", "type": "waggle-cni"}`)
	begin := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%s: %v: %s", program, err, out)
	}
	return time.Since(begin)
}

// fill adds pods to the host until it has that many.
func fill(b *testing.B, h *lab.Host, pods int) {
	b.Helper()
	have, err := h.Pods()
	if err != nil {
		b.Fatal(err)
	}
	for i := len(have); i < pods; i++ {
		if _, err := h.AddPod(b.Context(), lab.PodOptions{Name: fmt.Sprintf("p%d", i)}); err != nil {
			b.Fatal(err)
		}
	}
}

// attachment is a pod's interface, without the rest of a pod.
type attachment struct {
	host *lab.Host
	rt   *libcni.RuntimeConf
}

func newAttachment(b *testing.B, h *lab.Host, name string) *attachment {
	b.Helper()
	path := filepath.Join(h.PodNetNSDir(), name)
	namespace(b, path)
	return &attachment{h, &libcni.RuntimeConf{ContainerID: name, NetNS: path, IfName: "eth0", Args: [][2]string{
		{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", name}, {"K8S_POD_UID", name},
	}}}
}

func (a *attachment) add(ctx context.Context) (time.Duration, error) {
	return a.timed(func(c *libcni.CNIConfig, list *libcni.NetworkConfigList) error {
		_, err := c.AddNetworkList(ctx, list, a.rt)
		return err
	})
}

func (a *attachment) del(ctx context.Context) (time.Duration, error) {
	return a.timed(func(c *libcni.CNIConfig, list *libcni.NetworkConfigList) error {
		return c.DelNetworkList(ctx, list, a.rt)
	})
}

// timed runs a verb inside the host, where the plugin and its configuration are
// what a runtime there would see. Going there is not counted.
func (a *attachment) timed(verb func(*libcni.CNIConfig, *libcni.NetworkConfigList) error) (took time.Duration, err error) {
	err = a.host.Do(func() error {
		list, err := libcni.NetworkConfFromFile("/etc/cni/net.d/10-waggle.conflist")
		if err != nil {
			return err
		}
		config := libcni.NewCNIConfigWithCacheDir([]string{"/opt/cni/bin"}, filepath.Join(a.host.Dir(), "cni/cache"), nil)
		begin := time.Now()
		err = verb(config, list)
		took = time.Since(begin)
		return err
	})
	return took, err
}

func (a *attachment) must(b *testing.B, verb func(context.Context) (time.Duration, error)) time.Duration {
	b.Helper()
	took, err := verb(b.Context())
	if err != nil {
		b.Fatalf("%s: %v", a.rt.ContainerID, err)
	}
	return took
}

// together starts a verb for all of them at once.
func together(b *testing.B, all []*attachment, verb func(*attachment, context.Context) (time.Duration, error)) []time.Duration {
	b.Helper()
	took, errs := make([]time.Duration, len(all)), make([]error, len(all))
	gate := make(chan struct{})
	var wg sync.WaitGroup
	for i, a := range all {
		wg.Go(func() {
			<-gate
			took[i], errs[i] = verb(a, b.Context())
		})
	}
	close(gate)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		b.Fatal(err)
	}
	return took
}

// checkNoLeftovers makes sure that DEL did what ADD was timed with.
func checkNoLeftovers(b *testing.B, h *lab.Host, pods int) {
	b.Helper()
	s, err := daemonStatus(b.Context(), h)
	if err != nil {
		b.Fatal(err)
	}
	if len(s.Endpoints) != pods {
		b.Errorf("%d endpoints are left, want %d", len(s.Endpoints), pods)
	}
}
