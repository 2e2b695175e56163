/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Flows that must stay on the host stack.
 *
 * A packet of one local pod that reaches another through the stack was sent to
 * somebody else first: a port of the node that portmap or docker translates,
 * say. Its reply has to pass the stack again, to be translated back; between
 * local pods it would skip it. (Packets that the stack gets because of their TTL
 * or size make such a flow too, which only costs them the shortcut.) */
#pragma once

#include "translate.h"

/* Notes that the flow of a packet to ep, from a local pod, came by the stack. */
__noinline int stack_note(struct __sk_buff *skb, struct packet *p, struct endpoint *ep)
{
	struct ct_entry e = { .last_seen = ct_now(), .flags = CT_STACK };
	struct ct_key key = {};
	struct packet reply;

	if (!p || !ep)
		return DROP_INTERNAL;
	if (parse_l4(skb, p))
		return 0; /* the stack has let it through, so may we */
	reply = *p;
	reply.flow.saddr = p->flow.daddr;
	reply.flow.daddr = p->flow.saddr;
	reply.flow.sport = p->flow.dport;
	reply.flow.dport = p->flow.sport;
	if (ct_lookup(&reply, ep->id))
		return 0;
	key.flow = reply.flow;
	key.l4_proto = p->l4_proto;
	key.endpoint = ep->id;
	e.lifetime = p->l4_proto == IPPROTO_TCP ? CT_TCP : CT_ANY;
	e.to = reply.flow;
	e.other = reply.flow;
	endpoint_mark(ep, EP_STACK);
	ct_insert(&key, &e); /* full: counted nowhere, the reply is lost */
	return 0;
}

/* Whether a packet that ep sends answers such a flow. Only for endpoints marked
 * EP_STACK. */
__noinline int stack_owns(struct __sk_buff *skb, struct packet *p, struct endpoint *ep)
{
	struct ct_entry *e;

	if (!p || !ep)
		return 0;
	if (parse_l4(skb, p))
		return 0;
	e = ct_lookup(p, ep->id);
	return e && e->flags & CT_STACK;
}
