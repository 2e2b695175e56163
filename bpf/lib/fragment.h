/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Ports of packets, those of fragments included.
 *
 * Only the first fragment of a datagram carries ports. It leaves them in a map
 * where its followers find them (both families). A follower that overtakes the
 * first one is dropped: the sender repeats the datagram. */
#pragma once

#include "parse.h"

struct fragment_key {
	struct addr saddr;
	struct addr daddr;
	__u32 id;
	__u32 l4_proto;
};

struct fragment {
	__be16 sport;
	__be16 dport;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct fragment_key);
	__type(value, struct fragment);
	__uint(max_entries, 8192);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} wag_fragments1 SEC(".maps");

static __always_inline int parse_fragment(struct packet *p)
{
	struct fragment_key key = {
		.saddr = p->flow.saddr,
		.daddr = p->flow.daddr,
		.id = p->frag_id,
		.l4_proto = p->l4_proto,
	};
	struct fragment *known, first;

	if (p->frag == FRAG_FIRST) {
		first.sport = p->flow.sport;
		first.dport = p->flow.dport;
		bpf_map_update_elem(&wag_fragments1, &key, &first, BPF_ANY);
		return 0;
	}
	known = bpf_map_lookup_elem(&wag_fragments1, &key);
	if (!known)
		return DROP_FRAGMENT;
	p->flow.sport = known->sport;
	p->flow.dport = known->dport;
	p->has_ports = 1;
	return 0;
}

/* Reads the ports of TCP, UDP and SCTP, and a TCP packet's flags. Packets of
 * other protocols have none, which is no error: see has_ports. */
static __always_inline int parse_l4(struct __sk_buff *skb, struct packet *p)
{
	struct {
		__be16 sport;
		__be16 dport;
	} ports;
	int ret;

	if (p->has_ports)
		return 0;
	/* IPv6's chain is followed here and not in parse_l3(): between pods
	 * without policy or translation nobody asks what is inside. */
	if (!p->is_v4) {
		ret = parse_ipv6_ext(skb, p);
		if (ret)
			return ret;
	}
	if (p->l4_proto != IPPROTO_TCP && p->l4_proto != IPPROTO_UDP && p->l4_proto != IPPROTO_SCTP)
		return 0;
	if (p->frag == FRAG_LATER)
		return parse_fragment(p);

	if (bpf_skb_load_bytes(skb, p->l4_off, &ports, sizeof(ports)))
		return DROP_TRUNCATED;
	p->flow.sport = ports.sport;
	p->flow.dport = ports.dport;
	if (p->l4_proto == IPPROTO_TCP &&
	    bpf_skb_load_bytes(skb, p->l4_off + 13, &p->tcp_flags, sizeof(p->tcp_flags)))
		return DROP_TRUNCATED;
	p->has_ports = 1;
	return p->frag == FRAG_FIRST ? parse_fragment(p) : 0;
}
