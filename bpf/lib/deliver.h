/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The only way into a local pod from our programs. It skips the host stack and
 * therefore does the stack's work: TTL, MTU, MAC addresses, packet type. */
#pragma once

#include "out.h"
#include "translate.h"

/* Whether the packet, or each segment of it, fits the endpoint's device. */
static __always_inline bool mtu_fits(struct __sk_buff *skb, const struct endpoint *ep)
{
	__u32 mtu_len = 0;

	if (skb->len <= ep->mtu + ETH_HLEN)
		return true;
	return !bpf_check_mtu(skb, ep->ifindex, &mtu_len, 0, BPF_MTU_CHK_SEGS);
}

/* One hop less, and the MAC addresses that the stack would have set. */
static __always_inline int forward_headers(struct __sk_buff *skb, const struct packet *p,
					   const struct endpoint *ep)
{
	struct ethhdr *eth;
	int ret;

	ret = age(skb, p);
	if (ret)
		return ret;
	eth = (void *)(long)skb->data;
	if ((void *)(eth + 1) > (void *)(long)skb->data_end)
		return DROP_INTERNAL;
	__builtin_memcpy(eth->h_dest, ep->pod_mac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, ep->host_mac, ETH_ALEN);
	return 0;
}

/* Hands a packet to a local endpoint. Returns a TC action or a drop reason:
 * TCX_NEXT where the stack has to answer (ICMP time exceeded, packet too big). */
__noinline int deliver(struct __sk_buff *skb, struct packet *p, struct endpoint *ep)
{
	int ret;

	if (!p || !ep)
		return DROP_INTERNAL;
	if (p->ttl <= 1 || !mtu_fits(skb, ep))
		return TCX_NEXT;

	if (endpoint_marks(ep) & EP_NAT) {
		ret = translate_reply(skb, p, ep);
		if (ret < 0)
			return ret;
		if (ret)
			count_event(HOOK_FROM_POD, EVENT_UNTRANSLATED, skb->len);
	}
	ret = forward_headers(skb, p, ep);
	if (ret)
		return ret;
	/* A frame to a MAC address that was not the gateway's would be ignored. */
	if (skb->pkt_type != PACKET_HOST)
		bpf_skb_change_type(skb, PACKET_HOST);
	return bpf_redirect_peer(ep->ifindex, 0);
}
