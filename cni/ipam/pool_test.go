// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func newPool(t testing.TB, prefix string, rest time.Duration) *Pool {
	t.Helper()
	p, err := New(netip.MustParsePrefix(prefix), rest)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func take(t testing.TB, p *Pool, now time.Duration) netip.Addr {
	t.Helper()
	a, err := p.Next(now, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.Take(a)
	return a
}

func TestWhatAPrefixGivesOut(t *testing.T) {
	for _, tc := range []struct{ prefix, want string }{
		{"10.0.0.0/30", "10.0.0.2"},
		{"10.0.0.0/29", "10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6"},
		{"10.0.0.8/30", "10.0.0.10"},
		{"255.255.255.248/29", "255.255.255.250 255.255.255.251 255.255.255.252 255.255.255.253 255.255.255.254"},
		{"2001:db8::/126", "2001:db8::2 2001:db8::3"},
		{"2001:db8::fff0/125", "2001:db8::fff2 2001:db8::fff3 2001:db8::fff4 2001:db8::fff5 2001:db8::fff6 2001:db8::fff7"},
		{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126", ""}, // multicast
	} {
		p, err := New(netip.MustParsePrefix(tc.prefix), 0)
		if err != nil {
			if tc.want != "" {
				t.Errorf("%s: %v", tc.prefix, err)
			}
			continue
		}
		var got []string
		for {
			a, err := p.Next(0, nil)
			if err != nil {
				if !errors.Is(err, ErrExhausted) {
					t.Errorf("%s: error %v, want exhausted", tc.prefix, err)
				}
				break
			}
			p.Take(a)
			got = append(got, a.String())
		}
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("%s gives\n %s\nwant\n %s", tc.prefix, s, tc.want)
		}
	}
}

func TestHugePrefixIsNotEnumerated(t *testing.T) {
	p := newPool(t, "2001:db8::/32", 0)
	for range 1000 {
		take(t, p, 0)
	}
	if a := take(t, p, 0); a != netip.MustParseAddr("2001:db8::3ea") {
		t.Errorf("address 1001 is %s", a)
	}
}

func TestLongestFreeFirstAfterRest(t *testing.T) {
	const rest = 30 * time.Second
	p := newPool(t, "10.0.0.0/29", rest)
	var all []netip.Addr
	for range 5 {
		all = append(all, take(t, p, 0))
	}
	p.Release(all[3], 10*time.Second)
	p.Release(all[1], 20*time.Second)

	_, err := p.Next(30*time.Second, nil)
	var resting *RestingError
	if !errors.As(err, &resting) || resting.Wait != 10*time.Second || resting.Free != 2 {
		t.Fatalf("error %#v, want two addresses resting for 10s more", err)
	}
	if !strings.Contains(err.Error(), "free in 10s") {
		t.Errorf("message %q does not say when", err)
	}
	if a := take(t, p, 40*time.Second); a != all[3] {
		t.Errorf("got %s, want %s, the one free longest", a, all[3])
	}
	if a := take(t, p, time.Minute); a != all[1] {
		t.Errorf("got %s, want %s", a, all[1])
	}
}

func TestHeldAddressIsPassedOver(t *testing.T) {
	p := newPool(t, "10.0.0.0/29", 0)
	for range 5 {
		take(t, p, 0)
	}
	a, b := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	p.Release(a, 1)
	held := func(x netip.Addr) bool { return x == a }
	_, err := p.Next(2, held)
	var resting *RestingError
	if !errors.As(err, &resting) || resting.Held != 1 || resting.Wait != 0 {
		t.Fatalf("error %#v, want one held", err)
	}
	p.Release(b, 3)
	if got, err := p.Next(4, held); err != nil || got != b {
		t.Errorf("got %v %v, want %v", got, err, b)
	}
}

func TestManyReleasedAreReusedBeforeNewOnes(t *testing.T) {
	p := newPool(t, "2001:db8::/64", time.Second)
	p.maxReleased = 3
	var all []netip.Addr
	for range 3 {
		all = append(all, take(t, p, 0))
	}
	for _, a := range all {
		p.Release(a, 0)
	}
	if a, _ := p.Next(0, nil); a != all[2].Next() {
		t.Errorf("got %s while the released rest, want a new one", a)
	}
	if a := take(t, p, time.Second); a != all[0] {
		t.Errorf("got %s, want %s", a, all[0])
	}
}

func TestTimeNeverRunsBackInTheQueue(t *testing.T) {
	p := newPool(t, "10.0.0.0/30", time.Second)
	a := take(t, p, 0)
	p.Release(a, 5*time.Second)
	p.Release(a, 0) // again: no effect
	if _, err := p.Next(5*time.Second, nil); err == nil {
		t.Error("address given out while it rests")
	}
	if p.Free() != 1 || p.Used() != 0 {
		t.Errorf("free %d, used %d", p.Free(), p.Used())
	}
}

func TestForeignAddressIsKeptButNeverGivenOut(t *testing.T) {
	p := newPool(t, "10.0.0.0/30", 0)
	old := netip.MustParseAddr("10.9.9.9")
	p.Take(old)
	p.Release(old, 0)
	take(t, p, 1)
	if a, err := p.Next(1, nil); !errors.Is(err, ErrExhausted) {
		t.Errorf("got %s %v, want exhausted", a, err)
	}
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct{ prefixes, want string }{
		{"10.1.2.0/24", ""},
		{"10.1.2.0/24 2001:db8::/64", ""},
		{"2001:db8::/64 10.1.2.0/24", ""},
		{"", "none given"},
		{"10.1.2.0/31", "use /30 or larger"},
		{"10.1.2.3/32", "use /30 or larger"},
		{"2001:db8::/127", "use /126 or larger"},
		{"10.1.2.3/24", "write 10.1.2.0/24"},
		{"10.1.2.0/24 10.2.0.0/16", "one per family"},
		{"10.1.2.0/24 2001:db8::/64 2001:db9::/64", "one per family"},
		{"169.254.0.0/16", "not a range"},
		{"fe80::/64", "not a range"},
		{"127.0.0.0/8", "not a range"},
		{"::ffff:10.0.0.0/120", "write it as IPv4"},
	} {
		var ps []netip.Prefix
		for s := range strings.FieldsSeq(tc.prefixes) {
			ps = append(ps, netip.MustParsePrefix(s))
		}
		err := Validate(ps)
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%q: %v", tc.prefixes, err)
		case tc.want != "" && (!errors.Is(err, ErrPrefix) || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%q: error %v, want %q", tc.prefixes, err, tc.want)
		}
	}
	if err := Validate([]netip.Prefix{{}}); !errors.Is(err, ErrPrefix) {
		t.Errorf("zero prefix: %v", err)
	}
}

func BenchmarkNext(b *testing.B) {
	p := newPool(b, "10.0.0.0/16", 0)
	for range 65533 {
		take(b, p, 0)
	}
	a := netip.MustParseAddr("10.0.77.7")
	for i := range b.N {
		p.Release(a, time.Duration(i))
		take(b, p, time.Duration(i))
	}
}
