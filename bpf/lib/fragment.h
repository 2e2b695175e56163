/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Ports of packets, those of fragments included.
 *
 * Only the first fragment of a datagram carries ports. Where somebody needs
 * them, it leaves them in a map for its followers (both families). A follower
 * that overtakes the first one has no ports, and goes where packets without
 * ports go: its datagram is lost, and sent again. */
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

static __always_inline struct fragment_key fragment_key(const struct packet *p)
{
	return (struct fragment_key){
		.saddr = p->flow.saddr,
		.daddr = p->flow.daddr,
		.id = p->frag_id,
		.l4_proto = p->l4_proto,
	};
}

/* Leaves the ports of a first fragment for its followers. To be called before
 * the packet is changed, and only where its flow is of interest: one pod's
 * fragments to the world must not push out another's. */
static __always_inline void fragment_remember(const struct packet *p)
{
	struct fragment first = { .sport = p->flow.sport, .dport = p->flow.dport };
	struct fragment_key key;

	if (p->frag != FRAG_FIRST)
		return;
	key = fragment_key(p);
	bpf_map_update_elem(&wag_fragments1, &key, &first, BPF_ANY);
}

static __always_inline void fragment_recall(struct packet *p)
{
	struct fragment_key key = fragment_key(p);
	struct fragment *first = bpf_map_lookup_elem(&wag_fragments1, &key);

	if (!first)
		return;
	p->flow.sport = first->sport;
	p->flow.dport = first->dport;
	p->has_ports = 1;
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
	if (p->frag == FRAG_LATER) {
		fragment_recall(p);
		return 0;
	}

	if (bpf_skb_load_bytes(skb, p->l4_off, &ports, sizeof(ports)))
		return DROP_TRUNCATED;
	p->flow.sport = ports.sport;
	p->flow.dport = ports.dport;
	if (p->l4_proto == IPPROTO_TCP &&
	    bpf_skb_load_bytes(skb, p->l4_off + 13, &p->tcp_flags, sizeof(p->tcp_flags)))
		return DROP_TRUNCATED;
	p->has_ports = 1;
	return 0;
}
