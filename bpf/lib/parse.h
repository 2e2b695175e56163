/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Parsing of headers: bounded, total, and lazy.
 *
 * parse_l3() is all that a packet between pods without policy or translation
 * pays for. parse_l4() is called by those who need ports. Both return 0 or a
 * drop reason. Nothing is assumed about what is linear: headers that are not
 * are pulled or loaded. */
#pragma once

#include "addr.h"
#include "counters.h"

/* RFC 8200, 4.1 knows seven kinds, each once but one; more is an attack. */
#define IPV6_EXT_MAX 6

#define IP_MF 0x2000
#define IP_OFFSET 0x1fff
#define IP6_MF 0x0001
#define IP6_OFFSET 0xfff8

enum frag {
	FRAG_NONE,
	FRAG_FIRST, /* has the transport header */
	FRAG_LATER, /* has none: ports come from the fragments map */
};

struct packet {
	struct tuple flow; /* ports are valid after parse_l4() */
	__u32 frag_id;
	__u16 l4_off; /* of the transport header, from the start of the frame */
	__u8 l4_proto;
	__u8 ttl; /* or hop limit */
	__u8 frag; /* enum frag */
	__u8 tcp_flags; /* the 14th byte of a TCP header; valid after parse_l4() */
	__u8 is_v4;
	__u8 has_ports;
};

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* Makes the first len bytes readable through skb->data where they exist. */
static __always_inline bool linear(struct __sk_buff *skb, __u32 len)
{
	if (skb->data + len <= skb->data_end)
		return true;
	return !bpf_skb_pull_data(skb, len) && skb->data + len <= skb->data_end;
}

static __always_inline int parse_ipv4(struct __sk_buff *skb, struct packet *p)
{
	struct iphdr *ip;
	__u16 frag_off;

	if (!linear(skb, ETH_HLEN + sizeof(*ip)))
		return DROP_TRUNCATED;
	ip = (void *)(long)skb->data + ETH_HLEN;
	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return DROP_TRUNCATED;
	if (ip->version != 4 || ip->ihl < 5)
		return DROP_TRUNCATED;

	p->is_v4 = 1;
	p->flow.saddr = addr_from_v4(ip->saddr);
	p->flow.daddr = addr_from_v4(ip->daddr);
	p->l4_proto = ip->protocol;
	p->ttl = ip->ttl;
	p->l4_off = ETH_HLEN + ip->ihl * 4;

	frag_off = bpf_ntohs(ip->frag_off);
	if (frag_off & (IP_MF | IP_OFFSET)) {
		p->frag = (frag_off & IP_OFFSET) ? FRAG_LATER : FRAG_FIRST;
		p->frag_id = ip->id;
	}
	return 0;
}

struct ipv6_ext {
	__u8 next;
	__u8 len; /* in units of 8 bytes, not counting the first */
	__be16 frag_off;
	__be32 frag_id;
};

/* Follows the extension headers to the transport header. BIG TCP's jumbo
 * hop-by-hop header is one of them and needs no care here. */
static __always_inline int parse_ipv6_ext(struct __sk_buff *skb, struct packet *p)
{
	struct ipv6_ext ext;
	int i;

	for (i = 0; i <= IPV6_EXT_MAX; i++) {
		switch (p->l4_proto) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
		case IPPROTO_FRAGMENT:
		case IPPROTO_AH:
			break;
		default:
			return 0;
		}
		if (i == IPV6_EXT_MAX)
			break;
		if (bpf_skb_load_bytes(skb, p->l4_off, &ext, sizeof(ext)))
			return DROP_TRUNCATED;
		if (p->l4_proto == IPPROTO_FRAGMENT) {
			__u16 frag_off = bpf_ntohs(ext.frag_off);

			/* An atomic fragment (RFC 6946) is not one. */
			if (frag_off & (IP6_MF | IP6_OFFSET))
				p->frag = (frag_off & IP6_OFFSET) ? FRAG_LATER : FRAG_FIRST;
			p->frag_id = ext.frag_id;
			p->l4_off += sizeof(ext);
		} else if (p->l4_proto == IPPROTO_AH) {
			p->l4_off += (ext.len + 2) * 4; /* RFC 4302, 2.2 */
		} else {
			p->l4_off += (ext.len + 1) * 8;
		}
		p->l4_proto = ext.next;
		/* What follows in a later fragment is payload, not headers. */
		if (p->frag == FRAG_LATER)
			return 0;
	}
	return DROP_IPV6_EXT;
}

static __always_inline int parse_ipv6(struct __sk_buff *skb, struct packet *p)
{
	struct ipv6hdr *ip6;

	if (!linear(skb, ETH_HLEN + sizeof(*ip6)))
		return DROP_TRUNCATED;
	ip6 = (void *)(long)skb->data + ETH_HLEN;
	if ((void *)(ip6 + 1) > (void *)(long)skb->data_end)
		return DROP_TRUNCATED;
	if (ip6->version != 6)
		return DROP_TRUNCATED;

	p->flow.saddr = addr_from_v6(&ip6->saddr);
	p->flow.daddr = addr_from_v6(&ip6->daddr);
	p->l4_proto = ip6->nexthdr;
	p->ttl = ip6->hop_limit;
	p->l4_off = ETH_HLEN + sizeof(*ip6);
	return 0;
}

/* Reads addresses, protocol and fragmentation of an Ethernet frame. */
static __always_inline int parse_l3(struct __sk_buff *skb, struct packet *p)
{
	__builtin_memset(p, 0, sizeof(*p));
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return parse_ipv4(skb, p);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(skb, p);
	return DROP_L3_PROTO;
}
