//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The program on the devices by which the node is reached. */
#include "lib/deliver.h"
#include "lib/outside.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* A packet from outside. All but those to services are the stack's. */
static __always_inline int from_network_walk(struct __sk_buff *skb)
{
	struct endpoint *dst;
	struct packet p;
	int ret;

	if (parse_l3(skb, &p))
		return TCX_NEXT;
	ret = translate_outside(skb, &p);
	if (ret < 0)
		return ret;
	if (ret == TRANSLATED_NOT)
		return TCX_NEXT;
	count_event(HOOK_FROM_NETWORK, EVENT_TRANSLATED, skb->len);
	dst = endpoint_lookup(&p.flow.daddr);
	if (!dst)
		return DROP_NO_BACKEND; /* it went while its flow lived */
	if (p.ttl <= 1)
		return DROP_TTL;
	ret = deliver(skb, &p, dst);
	if (ret == TCX_NEXT)
		count_event(HOOK_FROM_NETWORK, EVENT_TO_STACK, skb->len);
	else if (ret > DROP_FIRST)
		count_event(HOOK_FROM_NETWORK, EVENT_DELIVERED, skb->len);
	return ret;
}

SEC("tc")
int from_network(struct __sk_buff *skb)
{
	int ret = from_network_walk(skb);

	if (ret > DROP_FIRST)
		return ret;
	count_drop(HOOK_FROM_NETWORK, ret, skb->len);
	return TC_ACT_SHOT;
}
