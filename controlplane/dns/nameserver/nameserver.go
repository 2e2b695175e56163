// SPDX-License-Identifier: Apache-2.0

// Package nameserver reads which nameservers a node's cluster DNS forwards to.
package nameserver

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"

	"github.com/miekg/dns"
)

const (
	port = 53
	// most is more than anybody waits for.
	most = 15
)

// Source is where they are named.
type Source struct {
	// Listed are addresses with or without a port. Optional: those of ResolvConf.
	Listed []string
	// ResolvConf is a resolv.conf(5). Required, unless some are listed.
	ResolvConf string
	// ResolvedConf is the one in which systemd-resolved writes what is behind its
	// stub. Required, unless some are listed.
	ResolvedConf string
	// Self names what of cluster DNS an address is, if it is. Required.
	Self func(netip.AddrPort) string
}

// List are nameservers to forward to, and what is wrong with others.
type List struct {
	Addrs    []netip.AddrPort // at most 15, each once
	From     string           // where they are from
	Problems []string         // each with its remedy
}

// Equal says whether two lists say the same.
func (l List) Equal(o List) bool {
	return slices.Equal(l.Addrs, o.Addrs) && l.From == o.From && slices.Equal(l.Problems, o.Problems)
}

// Read reads the list. The error is that of a nameserver which is listed; a
// resolv.conf that is missing or wrong is a problem that may pass.
func (s Source) Read() (List, error) {
	if len(s.Listed) == 0 {
		return s.system(), nil
	}
	l := List{From: "the configuration"}
	for _, text := range s.Listed {
		a, err := parse(text)
		if err != nil {
			return l, err
		}
		if self := s.Self(a); self != "" {
			return l, fmt.Errorf("forward to nameserver %s: it is %s, and would ask itself: name another", text, self)
		}
		l.Addrs = append(l.Addrs, a)
	}
	l.Addrs = unique(l.Addrs)
	if len(l.Addrs) > most {
		return l, fmt.Errorf("forward to %d nameservers: at most %d are possible: name fewer", len(l.Addrs), most)
	}
	return l, nil
}

// parse reads an address with or without a port.
func parse(text string) (netip.AddrPort, error) {
	ap, err := netip.ParseAddrPort(text)
	if err != nil {
		a, aerr := netip.ParseAddr(text)
		if aerr != nil {
			return ap, fmt.Errorf("read nameserver %q: not an address with or without a port: write it as in 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53", text)
		}
		ap = netip.AddrPortFrom(a, port)
	}
	if ap.Port() == 0 || ap.Addr().IsUnspecified() || ap.Addr().IsMulticast() {
		return ap, fmt.Errorf("read nameserver %q: no nameserver can be there: write its own address", text)
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

// system reads resolv.conf. A loopback address in it is mostly the stub of
// systemd-resolved, which may send queries back here, so that the nameservers behind
// it are used instead. Another resolver on loopback is asked like any other: cluster
// DNS is in the node's own network, and a loop would be found.
func (s Source) system() List {
	n := s.read(s.ResolvConf)
	if slices.ContainsFunc(n.Addrs, func(a netip.AddrPort) bool { return a.Addr().IsLoopback() }) {
		if behind := s.read(s.ResolvedConf); len(behind.Addrs) > 0 {
			n = behind
		}
	}
	if len(n.Addrs) == 0 {
		n.Problems = append(n.Problems, fmt.Sprintf(
			"no nameserver to forward to: only names of the cluster are answered; write one into %s or into the configuration", s.ResolvConf))
	}
	return n
}

func (s Source) read(path string) List {
	n := List{From: path}
	f, err := os.Open(path)
	if err != nil {
		n.Problems = append(n.Problems, err.Error())
		return n
	}
	defer f.Close()
	listed, err := parseResolvConf(f)
	if err != nil {
		n.Problems = append(n.Problems, fmt.Sprintf("read %s: %v", path, err))
	}
	for _, text := range listed {
		a, err := parse(text)
		if err != nil {
			n.Problems = append(n.Problems, fmt.Sprintf("%s: %v", path, err))
		} else if self := s.Self(a); self != "" {
			n.Problems = append(n.Problems, fmt.Sprintf(
				"%s: nameserver %s is %s, and would ask itself: it is left out; name another there or in the configuration", path, text, self))
		} else {
			n.Addrs = append(n.Addrs, a)
		}
	}
	n.Addrs = unique(n.Addrs)
	if len(n.Addrs) > most {
		n.Problems = append(n.Problems, fmt.Sprintf("%s: %d nameservers are listed: the first %d are used", path, len(n.Addrs), most))
		n.Addrs = n.Addrs[:most]
	}
	return n
}

// parseResolvConf reads the nameservers of a resolv.conf(5).
func parseResolvConf(r io.Reader) ([]string, error) {
	const limit = 64 << 10 // beyond what a resolver reads
	config, err := dns.ClientConfigFromReader(io.LimitReader(r, limit))
	if err != nil {
		return nil, err
	}
	return config.Servers, nil
}

// unique keeps the first of each.
func unique(addrs []netip.AddrPort) []netip.AddrPort {
	var out []netip.AddrPort
	for _, a := range addrs {
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}
