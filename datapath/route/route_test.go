// SPDX-License-Identifier: Apache-2.0

package route

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// prefixes reads prefixes separated by blanks.
func prefixes(t *testing.T, text string) []netip.Prefix {
	t.Helper()
	var list []netip.Prefix
	for s := range strings.FieldsSeq(text) {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

func TestRanges(t *testing.T) {
	for _, tt := range []struct{ name, prefixes, want, elements string }{
		{"none", "", "", ""},
		{"one", "10.0.0.0/8", "10.0.0.0-10.255.255.255", "10.0.0.0 11.0.0.0]"},
		{"host bits", "10.1.2.3/16", "10.1.0.0-10.1.255.255", "10.1.0.0 10.2.0.0]"},
		{"one address", "10.1.2.3/32", "10.1.2.3-10.1.2.3", "10.1.2.3 10.1.2.4]"},
		{"twice", "10.0.0.0/8 10.0.0.0/8", "10.0.0.0-10.255.255.255", "10.0.0.0 11.0.0.0]"},
		{"one inside the other", "10.5.0.0/16 10.0.0.0/8", "10.0.0.0-10.255.255.255", "10.0.0.0 11.0.0.0]"},
		{"side by side", "10.0.1.0/24 10.0.0.0/24 10.0.2.0/24", "10.0.0.0-10.0.2.255", "10.0.0.0 10.0.3.0]"},
		{"apart", "192.168.0.0/16 10.0.0.0/24", "10.0.0.0-10.0.0.255 192.168.0.0-192.168.255.255", "10.0.0.0 10.0.1.0] 192.168.0.0 192.169.0.0]"},
		{"all", "0.0.0.0/0 10.0.0.0/8", "0.0.0.0-255.255.255.255", "0.0.0.0"},
		{"the last", "255.255.255.255/32 240.0.0.0/4", "240.0.0.0-255.255.255.255", "240.0.0.0"},
		{"the other family", "fd00::/8", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list := ranges(prefixes(t, tt.prefixes), true)
			if diff := cmp.Diff(tt.want, rangeText(list)); diff != "" {
				t.Errorf("ranges (-want +got):\n%s", diff)
			}
			var elements []string
			for _, e := range intervals(list) {
				addr, _ := netip.AddrFromSlice(e.Key)
				elements = append(elements, addr.String()+map[bool]string{true: "]"}[e.IntervalEnd])
			}
			if diff := cmp.Diff(tt.elements, strings.Join(elements, " ")); diff != "" {
				t.Errorf("elements (-want +got):\n%s", diff)
			}
		})
	}
	const want = "fd00::-fd00::1:ffff:ffff:ffff:ffff ff00::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
	list := ranges(prefixes(t, "ff00::/8 fd00:0:0:1::/64 10.0.0.0/8 fd00::/64"), false)
	if diff := cmp.Diff(want, rangeText(list)); diff != "" {
		t.Errorf("ranges of IPv6 (-want +got):\n%s", diff)
	}
}

func rangeText(list []addrRange) string {
	var out []string
	for _, r := range list {
		out = append(out, fmt.Sprintf("%s-%s", r.from, r.to))
	}
	return strings.Join(out, " ")
}

// The ranges cover exactly what the prefixes do, in order and with gaps.
func FuzzRanges(f *testing.F) {
	f.Add([]byte{10, 0, 0, 0, 8, 10, 1, 0, 0, 16}, []byte{10, 0, 0, 1})
	f.Add([]byte{255, 255, 255, 255, 32, 255, 255, 255, 254, 32, 0, 0, 0, 0, 0}, []byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, data, probe []byte) {
		var list []netip.Prefix
		for ; len(data) >= 5; data = data[5:] {
			list = append(list, netip.PrefixFrom(netip.AddrFrom4([4]byte(data)), int(data[4])%33))
		}
		got := ranges(list, true)
		for i := 1; i < len(got); i++ {
			if end := got[i-1].to.Next(); !end.IsValid() || !end.Less(got[i].from) {
				t.Fatalf("%v touches the range before it in %v", got[i], rangeText(got))
			}
		}
		if len(probe) < 4 {
			return
		}
		addr := netip.AddrFrom4([4]byte(probe))
		want, in := false, false
		for _, p := range list {
			want = want || p.Contains(addr)
		}
		for _, r := range got {
			in = in || !addr.Less(r.from) && !r.to.Less(addr)
		}
		if in != want {
			t.Errorf("%s in %s: %t, want %t", addr, rangeText(got), in, want)
		}
	})
}

func TestMasqueradeTableIsNotNeeded(t *testing.T) {
	for _, cfg := range []Config{
		{},
		{Masquerade: true},
		{Masquerade: true, ClusterCIDRs: prefixes(t, "10.0.0.0/8")},
		{PodCIDRs: prefixes(t, "10.0.0.0/8")},
	} {
		if masqueradeTable(cfg) != nil {
			t.Errorf("a table for %+v", cfg)
		}
	}
}

func TestFingerprint(t *testing.T) {
	of := func(pods, cluster string) string {
		return masqueradeTable(Config{Masquerade: true, PodCIDRs: prefixes(t, pods), ClusterCIDRs: prefixes(t, cluster)}).fingerprint()
	}
	base := of("10.1.0.0/24 fd00::/64", "10.0.0.0/8")
	if other := of("fd00::/64 10.1.0.0/24 10.1.0.0/25", "10.1.0.0/16 10.0.0.0/8"); other != base {
		t.Errorf("other order and overlaps give another table:\n%s\n%s", base, other)
	}
	for name, other := range map[string]string{
		"another pod CIDR":      of("10.1.1.0/24 fd00::/64", "10.0.0.0/8"),
		"another cluster CIDR":  of("10.1.0.0/24 fd00::/64", "10.0.0.0/9"),
		"one family only":       of("10.1.0.0/24", "10.0.0.0/8"),
		"pod and cluster swaps": of("10.0.0.0/8 fd00::/64", "10.1.0.0/24"),
	} {
		if other == base {
			t.Errorf("%s gives the same table:\n%s", name, base)
		}
	}
}

func TestExplain(t *testing.T) {
	for err, want := range map[error]bool{
		unix.EOPNOTSUPP: true,
		fmt.Errorf("conn.Receive: %w", errors.Join(unix.EPERM, unix.ENOENT)): true,
		unix.EPERM:  false,
		unix.EINVAL: false,
	} {
		got := explain(err)
		if errors.Is(got, ErrNoNFTables) != want || !errors.Is(got, err) {
			t.Errorf("explain(%v) = %v", err, got)
		}
	}
	if !errors.Is(explain(unix.EINVAL, unix.EINVAL), ErrNoNFTables) {
		t.Error("a further sign is not taken for one")
	}
	if explain(nil) != nil {
		t.Error("an error of nothing")
	}
}

func TestDescribe(t *testing.T) {
	net := func(s string) *netlink.Route {
		return &netlink.Route{Dst: ipNet(netip.MustParsePrefix(s)), Type: unix.RTN_UNICAST, Protocol: unix.RTPROT_STATIC}
	}
	viaGateway := net("0.0.0.0/0")
	viaGateway.Gw = []byte{192, 0, 2, 1}
	viaGateway.Priority = 100
	v6Default := &netlink.Route{Family: netlink.FAMILY_V6, Type: unix.RTN_BLACKHOLE, Protocol: Protocol}
	for want, r := range map[string]*netlink.Route{
		"default via 192.0.2.1 proto static metric 100": viaGateway,
		"blackhole default proto 119":                   v6Default,
		"10.1.0.0/16 proto static":                      net("10.1.0.0/16"),
		"fd00::7 proto static":                          net("fd00::7/128"),
		"unreachable 10.1.2.0/24 proto 119":             unreachableRoute(netip.MustParsePrefix("10.1.2.0/24")),
	} {
		if got := describe(r); got != want {
			t.Errorf("describe() = %q, want %q", got, want)
		}
	}
}

func TestSmallestMTU(t *testing.T) {
	mtus := map[int]int{1: 1500, 2: 9001, 3: 1450}
	linkMTU := func(index int) (int, error) {
		if mtu, ok := mtus[index]; ok {
			return mtu, nil
		}
		return 0, unix.ENODEV
	}
	def := func(link, mtu int) netlink.Route {
		return netlink.Route{LinkIndex: link, MTU: mtu, Type: unix.RTN_UNICAST, Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0"))}
	}
	other := netlink.Route{LinkIndex: 3, Type: unix.RTN_UNICAST, Dst: ipNet(netip.MustParsePrefix("10.0.0.0/8"))}
	multipath := netlink.Route{Type: unix.RTN_UNICAST, MultiPath: []*netlink.NexthopInfo{{LinkIndex: 2}, {LinkIndex: 1}}}
	blackhole := netlink.Route{LinkIndex: 3, Type: unix.RTN_BLACKHOLE}
	for _, tt := range []struct {
		name   string
		routes []netlink.Route
		want   int
		err    error
	}{
		{"no route", nil, 0, nil},
		{"no default route", []netlink.Route{other}, 0, nil},
		{"one", []netlink.Route{other, def(2, 0)}, 9001, nil},
		{"two", []netlink.Route{def(2, 0), def(1, 0)}, 1500, nil},
		{"two hops", []netlink.Route{multipath}, 1500, nil},
		{"limited by the route", []netlink.Route{def(2, 1400), def(1, 0)}, 1400, nil},
		{"not limited by the route", []netlink.Route{def(1, 9000)}, 1500, nil},
		{"blackhole", []netlink.Route{blackhole}, 0, nil},
		{"device gone", []netlink.Route{def(1, 0), def(9, 0)}, 0, unix.ENODEV},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := smallestMTU(tt.routes, linkMTU)
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("%d, %v; want %d, %v", got, err, tt.want, tt.err)
			}
		})
	}
}
