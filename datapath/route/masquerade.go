// SPDX-License-Identifier: Apache-2.0

package route

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// tableName is that of our only nftables table, of family inet.
const tableName = "waggle"

// notMasqueraded are destinations that no configuration makes us masquerade:
// what never leaves a link, and groups. Masquerade would hide from a receiver on
// the link who the sender is, and answers from outside of it do not exist.
var notMasqueraded = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
}

// nftFamily is what the rules of the two families differ in.
type nftFamily struct {
	v4       bool
	suffix   string
	proto    byte
	key      nftables.SetDatatype
	src, dst uint32 // offsets in the network header
}

var nftFamilies = []nftFamily{
	{true, "4", unix.NFPROTO_IPV4, nftables.TypeIPAddr, 12, 16},
	{false, "6", unix.NFPROTO_IPV6, nftables.TypeIP6Addr, 8, 24},
}

// masqueradeTable is the table that the configuration asks for, nil for none.
//
//	table inet waggle {
//		set pods4 { type ipv4_addr; flags interval; elements = { this node's pod CIDRs } }
//		set direct4 { type ipv4_addr; flags interval; elements = { who sees pods as they are } }
//		chain postrouting {
//			type nat hook postrouting priority srcnat; policy accept;
//			ip saddr @pods4 ip daddr != @direct4 counter masquerade fully-random
//		}
//	}
//
// and the same for IPv6. Packets to local pods need no exception of their own:
// the pod CIDRs are direct. Other nodes' addresses are masqueraded towards unless
// they are in the cluster CIDRs or excluded, as anything outside is.
//
// Ports are fully random: the kernel's usual choice keeps the pod's port where
// it is free, and two processors that look at the same moment find the same port
// free for two pods' flows; the packet that comes second is dropped. DNS
// clients met this often. What it costs is that no port is kept.
func masqueradeTable(cfg Config) *table {
	if !cfg.Masquerade {
		return nil
	}
	priority, policy := *nftables.ChainPriorityNATSource, nftables.ChainPolicyAccept
	t := &table{chains: []*chain{{Chain: &nftables.Chain{
		Name: "postrouting", Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting,
		Priority: &priority, Policy: &policy,
	}}}}
	for _, f := range nftFamilies {
		pods := ranges(cfg.PodCIDRs, f.v4)
		if len(pods) == 0 {
			continue
		}
		var direct []netip.Prefix
		for _, list := range [][]netip.Prefix{cfg.PodCIDRs, cfg.ClusterCIDRs, cfg.MasqueradeExclusions, notMasqueraded} {
			direct = append(direct, list...)
		}
		t.sets = append(t.sets,
			f.set("pods", "pods of this node", pods),
			f.set("direct", "these see pods under their own addresses", ranges(direct, f.v4)))
		t.chains[0].rules = append(t.chains[0].rules, f.rule())
	}
	if len(t.sets) == 0 {
		return nil
	}
	return t
}

func (f nftFamily) set(name, comment string, list []addrRange) *set {
	return &set{
		Set:      &nftables.Set{Name: name + f.suffix, KeyType: f.key, Interval: true, Comment: comment},
		elements: intervals(list),
	}
}

func (f nftFamily) rule() *nftables.Rule {
	address := func(offset uint32) expr.Any {
		return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.key.Bytes}
	}
	return &nftables.Rule{
		Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{f.proto}},
			address(f.src),
			&expr.Lookup{SourceRegister: 1, SetName: "pods" + f.suffix},
			address(f.dst),
			&expr.Lookup{SourceRegister: 1, SetName: "direct" + f.suffix, Invert: true},
			&expr.Counter{},
			&expr.Masq{FullyRandom: true},
		},
		UserData: userdata.AppendString(nil, userdata.TypeComment, "pods to the world"),
	}
}
