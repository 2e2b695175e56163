//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The two programs on the host side of every pod's device. One copy serves all
 * pods: what differs between them is in wag_endpoints1. */
#include "lib/deliver.h"
#include "lib/stack.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Passing to the stack, which may answer with ICMP or route to the world. */
static __always_inline int to_stack(struct __sk_buff *skb, enum hook hook)
{
	count_event(hook, EVENT_TO_STACK, skb->len);
	return TCX_NEXT;
}

/* A pod sends. */
static __always_inline int from_pod_walk(struct __sk_buff *skb)
{
	struct endpoint *src, *dst;
	struct packet p;
	int ret;

	ret = parse_l3(skb, &p);
	if (ret)
		return ret;

	/* One look-up for two things: is it this pod's address, and which pod. */
	src = endpoint_lookup(&p.flow.saddr);
	if (!src || src->ifindex != skb->ifindex)
		return addr_is_link_scope(&p.flow.saddr) && !p.is_v4 ? DROP_LINK_SCOPE :
								       DROP_SPOOFED;

	dst = endpoint_lookup(&p.flow.daddr);
	if (!dst) {
		ret = translate_forward(skb, &p, src);
		if (ret < 0)
			return ret;
		if (!ret)
			return to_stack(skb, HOOK_FROM_POD);
		count_event(HOOK_FROM_POD, EVENT_TRANSLATED, skb->len);
		if (ret == TRANSLATED_OUT) {
			ret = send_out(skb, &p);
			if (ret > DROP_FIRST)
				count_event(HOOK_FROM_POD, EVENT_SENT, skb->len);
			return ret;
		}
		dst = endpoint_lookup(&p.flow.daddr);
		if (!dst)
			return to_stack(skb, HOOK_FROM_POD);
	}
	if (endpoint_marks(src) & EP_STACK && stack_owns(skb, &p, src))
		return to_stack(skb, HOOK_FROM_POD);
	ret = deliver(skb, &p, dst);
	if (ret == TCX_NEXT)
		return to_stack(skb, HOOK_FROM_POD);
	if (ret > DROP_FIRST)
		count_event(HOOK_FROM_POD, EVENT_DELIVERED, skb->len);
	return ret;
}

SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	int ret = from_pod_walk(skb);

	if (ret > DROP_FIRST)
		return ret;
	count_drop(HOOK_FROM_POD, ret, skb->len);
	return TC_ACT_SHOT;
}

/* The host stack sends to a pod: from this node, or routed through it. */
static __always_inline int to_pod_walk(struct __sk_buff *skb)
{
	struct endpoint *ep, *src;
	struct packet p;
	int ret;

	/* What is not for the pod's own addresses (the link's own ND) has no
	 * endpoint and passes as it is. */
	ret = parse_l3(skb, &p);
	if (ret == DROP_L3_PROTO)
		return TCX_NEXT;
	if (ret)
		return ret;
	ep = endpoint_lookup(&p.flow.daddr);
	if (ep && ep->ifindex == skb->ifindex) {
		if (endpoint_marks(ep) & EP_NAT) {
			ret = translate_reply(skb, &p, ep);
			if (ret < 0)
				return ret;
			if (ret)
				count_event(HOOK_TO_POD, EVENT_UNTRANSLATED, skb->len);
		}
		/* Only what was forwarded can be from a pod. */
		src = skb->ingress_ifindex ? endpoint_lookup(&p.flow.saddr) : NULL;
		if (src && src->ifindex == skb->ingress_ifindex)
			stack_note(skb, &p, ep);
	}
	count_event(HOOK_TO_POD, EVENT_DELIVERED, skb->len);
	return TCX_NEXT;
}

SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	int ret = to_pod_walk(skb);

	if (ret > DROP_FIRST)
		return ret;
	count_drop(HOOK_TO_POD, ret, skb->len);
	return TC_ACT_SHOT;
}

/* The daemon runs these two on a packet that is none (BPF_PROG_TEST_RUN), as one
 * system call for the whole table. */

/* Forgets the flows of the endpoint in skb->mark. */
SEC("tc")
int purge_flows(struct __sk_buff *skb)
{
	ct_purge(skb->mark);
	return 0;
}

/* Removes flows that have expired. */
SEC("tc")
int sweep_flows(struct __sk_buff *skb)
{
	ct_sweep();
	return 0;
}

/* The compiler writes to BTF only what something is made of; Go wants these as
 * well. (In .rodata: a plain variable would cost a map.) */
volatile const struct {
	enum hook hook;
	enum event event;
	enum drop_reason drop_reason;
	enum ep_mark ep_mark;
	enum backend_flag backend_flag;
	enum ct_flag ct_flag;
} btf_types;
