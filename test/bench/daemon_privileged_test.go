// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package bench

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/waggle-net/waggle/bpf"
	"github.com/waggle-net/waggle/test/lab"
)

const (
	manyServices = 10_000
	mib          = 1 << 20
)

// BenchmarkBinary is the size of what is installed.
func BenchmarkBinary(b *testing.B) {
	dir := lab.ForTest(b, lab.Topology{}).BinDir
	for _, name := range []string{"waggled", "waggle-cni", "waggle"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			b.Fatal(err)
		}
		result(b, name, metric{"MiB", float64(info.Size()) / mib})
	}
}

// BenchmarkMemory is the memory of the daemon when it has nothing to do.
func BenchmarkMemory(b *testing.B) {
	h := node(b)
	result(b, "0-pods", memory(b, h)...)
	fill(b, h, fullNode)
	result(b, fmt.Sprintf("%d-pods", fullNode), memory(b, h)...)
}

// BenchmarkServices is the time from a new intent file to the last frontend in
// the kernel, and what the daemon needs to remember them.
func BenchmarkServices(b *testing.B) {
	h := node(b)
	result(b, "0-services", memory(b, h)...)
	frontends, err := ebpf.LoadPinnedMap(filepath.Join(h.BPFRoot(), "waggle/maps/wag_frontends1"), &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		b.Fatal(err)
	}
	defer frontends.Close()
	services := manyOf(manyServices)

	all := apply(b, h, services, func() error { return countFrontends(frontends, manyServices) })
	result(b, fmt.Sprintf("%d-services", manyServices), append(memory(b, h), metric{"programmed-ms", ms(all)})...)

	// One more among them, over and over.
	var times []time.Duration
	for i := range 5 {
		services = append(services, aService(manyServices+i))
		key := frontendKey(services[len(services)-1])
		times = append(times, apply(b, h, services, func() error {
			var fe bpf.PodFrontend
			return frontends.Lookup(key, &fe)
		}))
	}
	result(b, "one-more", percentiles(times)...)
	result(b, "one-more-afterwards", memory(b, h)...)
}

// manyOf makes services of two backends.
func manyOf(n int) []lab.Service {
	services := make([]lab.Service, n)
	for i := range services {
		services[i] = aService(i)
	}
	return services
}

func aService(i int) lab.Service {
	backend := func(n int) lab.Backend {
		return lab.Backend{AddrPort: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 128 + byte(n>>16), byte(n >> 8), byte(n)}), 8080)}
	}
	return lab.Service{
		Name:       fmt.Sprintf("s%d", i),
		ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96 + byte(i>>16), byte(i >> 8), byte(i)})},
		Ports:      []lab.ServicePort{{Name: "http", Port: 80, Backends: []lab.Backend{backend(2 * i), backend(2*i + 1)}}},
	}
}

func frontendKey(s lab.Service) bpf.PodFrontendKey {
	ip, port := s.ClusterIPs[0].As16(), s.Ports[0].Port
	key := bpf.PodFrontendKey{Port: port<<8 | port>>8, L4Proto: 6}
	for i := range key.Addr.W {
		key.Addr.W[i] = uint32(ip[4*i]) | uint32(ip[4*i+1])<<8 | uint32(ip[4*i+2])<<16 | uint32(ip[4*i+3])<<24
	}
	return key
}

// apply writes the intent and returns how long the kernel took to have it. It
// looks at the kernel: asking the daemon would give it more to do.
func apply(b *testing.B, h *lab.Host, services []lab.Service, done func() error) time.Duration {
	b.Helper()
	text := h.Lab().RenderIntent(services...)
	begin := time.Now()
	if err := h.WriteIntent(text); err != nil {
		b.Fatal(err)
	}
	waitFor(b, done)
	return time.Since(begin)
}

func countFrontends(m *ebpf.Map, want int) error {
	const batch = 16384
	keys, values := make([]bpf.PodFrontendKey, batch), make([]bpf.PodFrontend, batch)
	var at ebpf.MapBatchCursor
	for have := 0; ; {
		n, err := m.BatchLookup(&at, keys, values, nil)
		if have += n; err == nil {
			continue
		}
		if !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
		if have != want {
			return fmt.Errorf("%d frontends, want %d", have, want)
		}
		return nil
	}
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// memory waits until the daemon's memory has settled, and says what is left. The
// maps are the kernel's, and not in it.
func memory(b *testing.B, h *lab.Host) []metric {
	b.Helper()
	p, err := h.Process("waggled")
	if err != nil {
		b.Fatal(err)
	}
	last, same := smaps(b, p.Pid), 0
	for tick := time.NewTicker(time.Second); same < 3; {
		<-tick.C
		now := smaps(b, p.Pid)
		if same++; now["Rss"] != last["Rss"] {
			same = 0
		}
		last = now
	}
	return []metric{{"rss-MiB", last["Rss"] / mib}, {"pss-MiB", last["Pss"] / mib}, {"anonymous-MiB", last["Pss_Anon"] / mib}, {"peak-MiB", peak(b, p.Pid) / mib}}
}

// smaps reads a process's memory in bytes.
func smaps(b *testing.B, pid int) map[string]float64 { return kilobytes(b, pid, "smaps_rollup") }

// peak is the most that was ever resident.
func peak(b *testing.B, pid int) float64 { return kilobytes(b, pid, "status")["VmHWM"] }

func kilobytes(b *testing.B, pid int, file string) map[string]float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		b.Fatal(err)
	}
	out := make(map[string]float64)
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[2] == "kB" {
			if n, err := strconv.ParseFloat(f[1], 64); err == nil {
				out[strings.TrimSuffix(f[0], ":")] = n * 1024
			}
		}
	}
	return out
}
