/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Out of the node without the host stack, for packets that it would refuse: those
 * that a pod sends in the name of one of the node's addresses (to the stack, a
 * forwarded packet from its own address is a martian). */
#pragma once

#include "nat.h"

#define AF_INET 2
#define AF_INET6 10

/* One hop less. */
static __always_inline int age(struct __sk_buff *skb, const struct packet *p)
{
	struct ethhdr *eth = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;

	if (p->is_v4) {
		struct iphdr *ip = (void *)(eth + 1);
		__u32 check;

		if ((void *)(ip + 1) > end)
			return DROP_INTERNAL;
		/* RFC 1624: the TTL is the high byte of its word. */
		check = ip->check + bpf_htons(0x0100);
		ip->check = check + (check >= 0xffff);
		ip->ttl--;
	} else {
		struct ipv6hdr *ip6 = (void *)(eth + 1);

		if ((void *)(ip6 + 1) > end)
			return DROP_INTERNAL;
		ip6->hop_limit--;
	}
	return 0;
}

/* Routes the packet by the kernel's tables and sends it. Returns a TC action or a
 * drop reason. */
__noinline int send_out(struct __sk_buff *skb, struct packet *p)
{
	struct bpf_fib_lookup fib = { .ifindex = skb->ifindex };
	struct bpf_redir_neigh hop = {};
	__u32 mtu = 0;
	long ret;

	if (!p)
		return DROP_INTERNAL;
	if (p->ttl <= 1)
		return DROP_TTL;
	fib.l4_protocol = p->l4_proto;
	fib.sport = p->flow.sport; /* for routes by flow and rules by port */
	fib.dport = p->flow.dport;
	if (p->is_v4) {
		fib.family = AF_INET;
		fib.ipv4_src = p->flow.saddr.w[3];
		fib.ipv4_dst = p->flow.daddr.w[3];
	} else {
		fib.family = AF_INET6;
		__builtin_memcpy(fib.ipv6_src, &p->flow.saddr, sizeof(fib.ipv6_src));
		__builtin_memcpy(fib.ipv6_dst, &p->flow.daddr, sizeof(fib.ipv6_dst));
	}
	ret = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
	/* Without a neighbour it has a route: the kernel finds the neighbour. */
	if (ret != BPF_FIB_LKUP_RET_SUCCESS && ret != BPF_FIB_LKUP_RET_NO_NEIGH)
		return DROP_NO_ROUTE;
	if (bpf_check_mtu(skb, fib.ifindex, &mtu, 0, BPF_MTU_CHK_SEGS) > 0)
		return DROP_MTU;
	ret = age(skb, p);
	if (ret)
		return ret;
	hop.nh_family = fib.family;
	__builtin_memcpy(hop.ipv6_nh, fib.ipv6_dst, sizeof(hop.ipv6_nh));
	return bpf_redirect_neigh(fib.ifindex, &hop, sizeof(hop), 0);
}
