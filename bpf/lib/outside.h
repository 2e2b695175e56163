/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Services for clients outside, as far as their backends are local pods. A flow has
 * its first direction on the leg of outside and its replies on the backend's, where
 * from_pod finds them (translate_forward). */
#pragma once

#include "translate.h"

/* The node's own addresses. Written by the daemon alone. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct addr);
	__type(value, __u32);
	__uint(max_entries, 256);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} wag_node_addrs1 SEC(".maps");

/* Before 6.2, a key must be on the stack, and not in what a global function got. */
static __always_inline bool addr_is_node(const struct addr *a)
{
	struct addr key = *a;

	return bpf_map_lookup_elem(&wag_node_addrs1, &key);
}

/* Whether a source is one that somebody outside may have. What we redirect skips
 * the kernel's own checks (martians, rp_filter). */
static __always_inline bool addr_may_be_outside(const struct addr *a, bool is_v4)
{
	struct addr key = *a;
	__u8 first = is_v4 ? ((const __u8 *)&a->w[3])[0] : ((const __u8 *)a)[0];

	if (is_v4 && (first == 0 || first == 127 || first >= 224))
		return false;
	if (!is_v4 && (first == 0xff || addr_is_link_scope(a) ||
		       (!a->w[0] && !a->w[1] && !a->w[2] && a->w[3] == bpf_htonl(1))))
		return false;
	return !bpf_map_lookup_elem(&wag_node_addrs1, &key) && !endpoint_lookup(&key);
}

/* Whether a packet that started no flow yet is for us: TRANSLATED if it is,
 * TRANSLATED_NOT for the stack, or a drop reason. A global function, for its stack. */
__noinline int outside_admit(struct packet *p, __u32 backends)
{
	if (!p)
		return DROP_INTERNAL;
	/* The stack refuses in the node's name (RST, port unreachable). */
	if (!backends && addr_is_node(&p->flow.daddr))
		return TRANSLATED_NOT;
	if (!addr_may_be_outside(&p->flow.saddr, p->is_v4))
		return DROP_SPOOFED;
	return TRANSLATED;
}

/* Records a flow from outside to one backend. See flow_record(). */
__noinline int outside_record(struct packet *p, struct backend *b, __u32 backend_id,
			      struct tuple *to)
{
	struct endpoint *ep;
	struct addr key;

	if (!p || !b || !to)
		return DROP_INTERNAL;
	if (p->l4_proto == IPPROTO_SCTP && b->port != p->flow.dport)
		return DROP_SCTP_PORT;
	key = b->addr;
	ep = endpoint_lookup(&key);
	if (!ep)
		return DROP_REMOTE_BACKEND;
	to->saddr = p->flow.saddr;
	to->daddr = b->addr;
	to->dport = b->port;
	/* Before the first packet is delivered: its reply must find it set. */
	endpoint_mark(ep, EP_NAT);
	return flow_write(p, to, backend_id, LEG_OUTSIDE, ep->id);
}

/* Starts a flow from outside to a backend. Returns 0 and the new tuple, or a drop
 * reason. */
static __always_inline int outside_start(struct packet *p, const struct frontend *fe,
					 struct tuple *to)
{
	__u32 number = bpf_get_prandom_u32();
	int ret = DROP_FLOW_CLASH;
	struct backend *b;
	__u32 id;

	for (int i = 0; i < FLOW_TRIES && (ret == DROP_FLOW_CLASH || ret == DROP_REMOTE_BACKEND);
	     i++) {
		b = backend_choose(fe, number + i, &id);
		if (!b)
			return DROP_NO_BACKEND;
		/* A backend that was not local took no port. */
		to->sport = flow_port(p, ret == DROP_FLOW_CLASH ? i : 0, number + i * 0x9e3779b1);
		ret = outside_record(p, b, id, to);
	}
	return ret;
}

/* Translates a packet from outside to a service. Returns an enum translation or a
 * drop reason. */
__noinline int translate_outside(struct __sk_buff *skb, struct packet *p)
{
	struct frontend fe = {};
	struct ct_entry *e;
	struct tuple to;
	bool found;
	int ret;

	if (!p)
		return DROP_INTERNAL;
	if (parse_l4(skb, p) || !p->has_ports)
		return TRANSLATED_NOT; /* the stack knows what to do with it */
	found = frontend_lookup(&p->flow.daddr, p->flow.dport, p->l4_proto, &fe);
	if (!found && !(leg_marks(LEG_OUTSIDE) & EP_NAT))
		return TRANSLATED_NOT;

	e = ct_lookup(p, LEG_OUTSIDE);
	if (e && flow_goes_on(p, e)) {
		to = e->to;
	} else if (found) {
		ret = outside_admit(p, fe.count);
		if (ret != TRANSLATED)
			return ret;
		ret = outside_start(p, &fe, &to);
		if (ret)
			return ret;
		leg_mark(LEG_OUTSIDE, EP_NAT);
	} else {
		return TRANSLATED_NOT;
	}
	fragment_remember(p);
	ret = nat_rewrite(skb, p, &to);
	return ret ? ret : TRANSLATED;
}
