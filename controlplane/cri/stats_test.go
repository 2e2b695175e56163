// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/kubelet/pkg/types"
)

func cpu(at time.Duration, used uint64) *runtimeapi.CpuUsage {
	return &runtimeapi.CpuUsage{Timestamp: now.Add(at).UnixNano(), UsageCoreNanoSeconds: value(used)}
}

func value(v uint64) *runtimeapi.UInt64Value { return &runtimeapi.UInt64Value{Value: v} }

// sample sets what containers and pods use so long after the start.
func (n *node) sample(at time.Duration, used uint64) {
	n.RuntimeService.SetFakeContainerStats([]*runtimeapi.ContainerStats{
		{
			Attributes: &runtimeapi.ContainerAttributes{Id: webNow, Metadata: &runtimeapi.ContainerMetadata{Name: "web"},
				Labels: map[string]string{types.KubernetesPodNameLabel: "web-0", types.KubernetesPodNamespaceLabel: "default"}},
			Cpu: cpu(at, used), Memory: &runtimeapi.MemoryUsage{WorkingSetBytes: value(12_300_000)},
			WritableLayer: &runtimeapi.FilesystemUsage{UsedBytes: value(45_000), InodesUsed: value(17)},
			Swap:          &runtimeapi.SwapUsage{SwapUsageBytes: value(1000)},
		},
		// Started again meanwhile: its counter is below what it was.
		{Attributes: &runtimeapi.ContainerAttributes{Id: dnsNow, Metadata: &runtimeapi.ContainerMetadata{Name: "coredns"}}, Cpu: cpu(at, 1_000_000-used/1000)},
		{Attributes: &runtimeapi.ContainerAttributes{Id: oddNow}},
	})
	n.RuntimeService.SetFakePodSandboxStats([]*runtimeapi.PodSandboxStats{{
		Attributes: &runtimeapi.PodSandboxAttributes{Id: webPod, Metadata: &runtimeapi.PodSandboxMetadata{Name: "web-0", Namespace: "default"}},
		Linux: &runtimeapi.LinuxPodSandboxStats{
			Cpu: cpu(at, used*2), Memory: &runtimeapi.MemoryUsage{WorkingSetBytes: value(5)},
			Process: &runtimeapi.ProcessUsage{ProcessCount: value(3)},
			Network: &runtimeapi.NetworkUsage{DefaultInterface: &runtimeapi.NetworkInterfaceUsage{RxBytes: value(2000), TxBytes: value(3_000_000)}},
		},
	}})
}

func TestStats(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"stats"}, `CONTAINER       NAME      CPU %    MEM      DISK   INODES   SWAP   POD      NAMESPACE
11aa220000000   web       25.00    12.3MB   45kB   17       1kB    web-0    default
22bb000000000   coredns   <none>   0B       0B     0        0B     <none>   <none>
33cc000000000   <none>    <none>   0B       0B     0        0B     <none>   <none>
`},
		{[]string{"stats", "11aa2"}, `CONTAINER       NAME   CPU %   MEM      DISK   INODES   SWAP   POD     NAMESPACE
11aa220000000   web    25.00   12.3MB   45kB   17       1kB    web-0   default
`},
		{[]string{"stats", "--pod", "c0", "-q"}, oddNow + "\n"},
		{[]string{"statsp"}, `POD ID          NAME    NAMESPACE   CPU %   MEM   PROCESSES   RX    TX
a1b2c30000000   web-0   default     50.00   5B    3           2kB   3MB
`},
	} {
		n := newFilledNode(t)
		n.sample(0, 0)
		var out bytes.Buffer
		cmd := (&tool{pause: func(_ context.Context, d time.Duration) error {
			n.sample(d, 500_000_000) // half a second of work in two
			return nil
		}}).command()
		args := append([]string{"--data-dir", n.layout.Data, "--run-dir", n.layout.Run}, tt.args...)
		cmd.SetArgs(append(args, "--period", "2s"))
		cmd.SetOut(&out)
		if err := cmd.ExecuteContext(t.Context()); err != nil {
			t.Errorf("%v: %v", tt.args, err)
		}
		if diff := cmp.Diff(tt.want, out.String()); diff != "" {
			t.Errorf("%v: -want +got:\n%s", tt.args, diff)
		}
	}
	r := newFilledNode(t).ctr(t, "stats", "--period", "0s")
	if want := "--period 0s: want more than none"; r.err == nil || r.err.Error() != want {
		t.Errorf("got error %v, want %s", r.err, want)
	}
}
