/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Changing the addresses and ports of a packet, and its checksums. */
#pragma once

#include <stddef.h>

#include "parse.h"

#define CSUM_OFF_TCP 16
#define CSUM_OFF_UDP 6

static __always_inline int nat_addr(struct __sk_buff *skb, const struct packet *p, bool source,
				    const struct addr *to)
{
	__u32 off = ETH_HLEN;

	if (p->is_v4) {
		off += source ? offsetof(struct iphdr, saddr) : offsetof(struct iphdr, daddr);
		return bpf_skb_store_bytes(skb, off, &to->w[3], 4, 0);
	}
	off += source ? offsetof(struct ipv6hdr, saddr) : offsetof(struct ipv6hdr, daddr);
	return bpf_skb_store_bytes(skb, off, to, 16, 0);
}

/* Corrects the transport checksum for new addresses and ports. SCTP's CRC32c
 * covers no address, and its ports are never changed. */
static __always_inline int nat_l4_csum(struct __sk_buff *skb, const struct packet *p,
				       const struct tuple *to, __s64 addr_diff)
{
	__u32 off, flags = 0;

	if (p->l4_proto == IPPROTO_TCP) {
		off = p->l4_off + CSUM_OFF_TCP;
	} else if (p->l4_proto == IPPROTO_UDP) {
		off = p->l4_off + CSUM_OFF_UDP;
		flags = BPF_F_MARK_MANGLED_0; /* zero means: no checksum (RFC 768) */
	} else {
		return 0;
	}
	if (bpf_l4_csum_replace(skb, off, 0, addr_diff, flags | BPF_F_PSEUDO_HDR))
		return DROP_REWRITE;
	/* Where a NIC summed the whole packet (CHECKSUM_COMPLETE), that helper takes
	 * the addresses out of the sum, as IPv4's header checksum balances them. IPv6
	 * has none: what the transport checksum lost, the addresses have gained. */
	if (!p->is_v4)
		bpf_csum_update(skb, addr_diff);
	if (p->flow.sport != to->sport &&
	    bpf_l4_csum_replace(skb, off, p->flow.sport, to->sport, flags | 2))
		return DROP_REWRITE;
	if (p->flow.dport != to->dport &&
	    bpf_l4_csum_replace(skb, off, p->flow.dport, to->dport, flags | 2))
		return DROP_REWRITE;
	return 0;
}

/* Makes the packet's tuple the given one, in the packet and in p. Returns 0 or
 * a drop reason. Pointers into the packet are invalid afterwards. */
static __always_inline int nat_rewrite(struct __sk_buff *skb, struct packet *p,
				       const struct tuple *to)
{
	bool ports = p->flow.sport != to->sport || p->flow.dport != to->dport;
	__s64 diff;
	int ret;

	if (ports && p->l4_proto == IPPROTO_SCTP)
		return DROP_SCTP_PORT;

	/* The v4-mapped prefix is in both and adds nothing to the difference. */
	diff = bpf_csum_diff((void *)&p->flow.saddr, sizeof(struct addr), (void *)&to->saddr,
			     sizeof(struct addr), 0);
	diff = bpf_csum_diff((void *)&p->flow.daddr, sizeof(struct addr), (void *)&to->daddr,
			     sizeof(struct addr), diff);

	if (p->is_v4 &&
	    bpf_l3_csum_replace(skb, ETH_HLEN + offsetof(struct iphdr, check), 0, diff, 0))
		return DROP_REWRITE;
	if (p->frag != FRAG_LATER) {
		ret = nat_l4_csum(skb, p, to, diff);
		if (ret)
			return ret;
		if (p->flow.sport != to->sport &&
		    bpf_skb_store_bytes(skb, p->l4_off, &to->sport, 2, 0))
			return DROP_REWRITE;
		if (p->flow.dport != to->dport &&
		    bpf_skb_store_bytes(skb, p->l4_off + 2, &to->dport, 2, 0))
			return DROP_REWRITE;
	}
	if (!addr_equal(&p->flow.saddr, &to->saddr) && nat_addr(skb, p, true, &to->saddr))
		return DROP_REWRITE;
	if (!addr_equal(&p->flow.daddr, &to->daddr) && nat_addr(skb, p, false, &to->daddr))
		return DROP_REWRITE;
	p->flow = *to;
	return 0;
}
