/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Services per packet, for what no socket hook saw: raw sockets, SCTP,
 * sandboxed runtimes, other cgroups. All state sits with the endpoint that
 * talks to the service, so it does not matter where the backend is or which
 * way its replies come. */
#pragma once

#include "conntrack.h"
#include "endpoint.h"
#include "fragment.h"
#include "nat.h"
#include "service.h"

/* A pod that reaches itself through its service per packet: the kernel refuses
 * its own address from outside, so this one stands in for it. They belong to
 * nobody: one is link-local, one from the discard prefix (RFC 6666). */
volatile const struct addr hairpin_v4 = {
	.w = { 0, 0, bpf_htonl(0xffff), bpf_htonl(0xa9fe0102) }, /* 169.254.1.2 */
};
volatile const struct addr hairpin_v6 = {
	.w = { bpf_htonl(0x01000000), 0, 0, bpf_htonl(2) }, /* 100::2 */
};

static __always_inline struct addr hairpin_addr(bool is_v4)
{
	struct addr a;

	for (int i = 0; i < 4; i++)
		a.w[i] = is_v4 ? hairpin_v4.w[i] : hairpin_v6.w[i];
	return a;
}

/* Flows that are translated per packet leave from ports of their own. A pod may
 * have a connection with a backend itself, or through the socket hook, whose
 * port its kernel would use again towards the service: to it these are two
 * peers. With that port, the backend could not tell the two apart, and neither
 * could we tell their replies.
 *
 * Unprivileged ports are moved one to one, half way round: those that kernels
 * give to sockets (ip_local_port_range, by default 32768 to 60999) land outside of
 * that range. One to one, so that the backend's TIME_WAIT meets the sequence
 * numbers and time stamps that the pod's kernel meant for it, and not those of
 * another port: it would refuse the connection (PAWS, RFC 7323). */
#define PORT_FIRST 1024
#define PORT_COUNT (65536 - PORT_FIRST)

/* Where that is taken, another one has to do. */
#define SPARE_FIRST 61000
#define SPARE_COUNT (65536 - SPARE_FIRST)

/* How many ports, each with a backend chosen anew, are tried before a flow is
 * refused. */
#define FLOW_TRIES 32

static __always_inline __be16 flow_port(const struct packet *p, int attempt, __u32 number)
{
	__u16 port = bpf_ntohs(p->flow.sport);

	if (p->l4_proto == IPPROTO_SCTP)
		return p->flow.sport; /* its CRC32c covers the port */
	if (attempt)
		return bpf_htons(SPARE_FIRST + number % SPARE_COUNT);
	if (port < PORT_FIRST)
		return p->flow.sport;
	return bpf_htons(PORT_FIRST + (port - PORT_FIRST + PORT_COUNT / 2) % PORT_COUNT);
}

/* Writes both directions of a flow, from the packet's tuple to the given one.
 * Returns 0 or a drop reason. */
static __always_inline int flow_write(const struct packet *p, const struct tuple *to, __u32 backend,
				      __u32 leg, __u32 reply_leg)
{
	struct ct_entry e = { .last_seen = ct_now(), .backend = backend };
	__u32 flags = ct_is_start(p) ? 0 : CT_CLOSING;
	bool outside = leg != reply_leg;
	struct ct_key key = {};
	int ret;

	/* The reply first: it is the one that can clash. (One key for both: four
	 * calls deep, 512 bytes of stack are few.) */
	key.l4_proto = p->l4_proto;
	key.endpoint = reply_leg;
	key.flow.saddr = to->daddr;
	key.flow.sport = to->dport;
	key.flow.daddr = to->saddr;
	key.flow.dport = to->sport;
	e.lifetime = ct_lifetime(p);
	e.flags = flags | CT_REPLY;
	if (outside)
		e.flags |= CT_OUTSIDE | leg << CT_LEG_SHIFT;
	e.to.saddr = p->flow.daddr;
	e.to.sport = p->flow.dport;
	e.to.daddr = p->flow.saddr;
	e.to.dport = p->flow.sport;
	e.other = p->flow;
	ret = ct_insert(&key, &e);
	if (ret)
		return ret;

	e.flags = flags;
	if (outside)
		e.flags |= CT_OUTSIDE | reply_leg << CT_LEG_SHIFT;
	e.to = *to;
	e.other = key.flow;
	key.endpoint = leg;
	key.flow = p->flow;
	return ct_insert(&key, &e);
}

/* Records a flow to one backend from the port in to->sport. Returns 0 and the
 * new tuple, or a drop reason. A global function, so that the verifier walks it
 * once and not once a try. */
__noinline int flow_record(struct packet *p, struct endpoint *ep, struct backend *b,
			   __u32 backend_id, struct tuple *to)
{
	if (!p || !ep || !b || !to)
		return DROP_INTERNAL;
	if (p->l4_proto == IPPROTO_SCTP && b->port != p->flow.dport)
		return DROP_SCTP_PORT;

	to->saddr = p->flow.saddr;
	to->daddr = b->addr;
	to->dport = b->port;
	if (addr_equal(&b->addr, &p->flow.saddr))
		to->saddr = hairpin_addr(p->is_v4);
	return flow_write(p, to, backend_id, ep->id, ep->id);
}

/* Starts a flow to a backend. Returns 0 and the new tuple, or a drop reason. */
static __always_inline int flow_start(struct packet *p, struct endpoint *ep,
				      const struct frontend *fe, struct tuple *to)
{
	__u32 number = bpf_get_prandom_u32();
	int ret = DROP_FLOW_CLASH;
	struct backend *b;
	__u32 id;

	for (int i = 0; i < FLOW_TRIES && ret == DROP_FLOW_CLASH; i++) {
		b = backend_choose(fe, number + i, &id);
		if (!b)
			return DROP_NO_BACKEND;
		/* Golden ratio steps: neighbours of a taken port are taken too. */
		to->sport = flow_port(p, i, number + i * 0x9e3779b1);
		ret = flow_record(p, ep, b, id, to);
	}
	return ret;
}

/* Whether an existing flow goes on as it is. TCP stays with its backend until
 * it ends; a new connection from the same port is judged anew. UDP has no end,
 * so it leaves a backend that has gone. */
static __always_inline bool flow_goes_on(const struct packet *p, const struct ct_entry *e)
{
	struct backend *b;

	if (e->flags & CT_REPLY)
		return true;
	if (p->l4_proto == IPPROTO_TCP) {
		if (!(p->tcp_flags & TCP_SYN))
			return true;
		if (e->flags & CT_CLOSING || e->lifetime == CT_TCP)
			return false;
		/* A SYN that is sent again, because the backend went, say. */
	}
	b = backend_lookup(e->backend);
	return b && addr_equal(&b->addr, &e->to.daddr) && b->port == e->to.dport;
}

/* What became of a packet that translate_forward() or translate_reply() saw. */
enum translation {
	TRANSLATED_NOT, /* there is nothing to translate */
	TRANSLATED, /* it has a new tuple */
	TRANSLATED_OUT, /* likewise, and it answers somebody outside in the node's name */
};

/* Translates a packet that its endpoint sends: to a service, or as a backend to a
 * client outside. Returns an enum translation or a drop reason. A global function,
 * so that the verifier walks it once. */
__noinline int translate_forward(struct __sk_buff *skb, struct packet *p, struct endpoint *ep)
{
	struct ct_entry *e = NULL;
	int done = TRANSLATED;
	struct frontend fe;
	struct tuple to;
	bool found;
	int ret;

	if (!p || !ep)
		return DROP_INTERNAL;
	ret = parse_l4(skb, p);
	if (ret)
		return ret;
	if (!p->has_ports)
		return TRANSLATED_NOT; /* no service has it; the stack knows what to do with it */

	found = frontend_lookup(&p->flow.daddr, p->flow.dport, p->l4_proto, &fe);
	if (!found && !(endpoint_marks(ep) & EP_NAT))
		return TRANSLATED_NOT;

	e = ct_lookup(p, ep->id);
	if (e && !(e->flags & CT_STACK) && flow_goes_on(p, e)) {
		to = e->to;
		if (e->flags & CT_OUTSIDE)
			done = TRANSLATED_OUT;
	} else if (found) {
		ret = flow_start(p, ep, &fe, &to);
		if (ret)
			return ret;
		/* Before the first packet leaves: its reply must find it set. */
		endpoint_mark(ep, EP_NAT);
	} else {
		return TRANSLATED_NOT;
	}
	fragment_remember(p);
	ret = nat_rewrite(skb, p, &to);
	return ret ? ret : done;
}

/* Gives a packet that comes back from a backend the service's address again.
 * Returns as translate_forward() does. Only for endpoints marked EP_NAT. */
__noinline int translate_reply(struct __sk_buff *skb, struct packet *p, struct endpoint *ep)
{
	struct ct_entry *e;
	struct tuple to;
	int ret;

	if (!p || !ep)
		return DROP_INTERNAL;
	ret = parse_l4(skb, p);
	if (ret)
		return ret;
	if (!p->has_ports)
		return TRANSLATED_NOT;
	e = ct_lookup(p, ep->id);
	if (!e || !(e->flags & CT_REPLY))
		return TRANSLATED_NOT;
	to = e->to;
	fragment_remember(p);
	ret = nat_rewrite(skb, p, &to);
	return ret ? ret : TRANSLATED;
}
