/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Flows that need state: those that our programs translate, each as two entries,
 * one a direction, and those that must stay on the host stack.
 *
 * An entry maps a packet's tuple, as seen on the leg of one endpoint, to the
 * tuple that it becomes. A packet writes the time; an entry whose time is over,
 * and whose other direction's is too, counts as absent. The daemon has such
 * entries swept every now and then. It may be away for hours: a table that is
 * full sweeps itself. (A bpf_timer each would do without sweeping, but its
 * memory is got atomically, which fails by the thousand under load, and kernels
 * before 6.13 can lock up when its element is replaced, CVE-2024-56592.) */
#pragma once

#include "parse.h"

struct ct_key {
	struct tuple flow;
	__u8 l4_proto;
	__u8 pad;
	__u16 endpoint; /* the leg: number of the endpoint that the flow belongs to */
};

/* The leg of flows from outside, towards a service. No endpoint has this number. */
#define LEG_OUTSIDE 0

enum ct_flag {
	CT_REPLY = 1, /* the direction from the backend */
	CT_CLOSING = 2, /* a FIN or RST was seen, or never a SYN */
	CT_STACK = 4, /* nothing to translate: the flow belongs to the host stack */
	CT_OUTSIDE = 8, /* a flow from outside: its directions are on two legs */
};

/* The upper half of the flags of a CT_OUTSIDE entry: the other direction's leg. */
#define CT_LEG_SHIFT 16

struct ct_entry {
	struct tuple to; /* what the packet becomes */
	__u32 last_seen; /* seconds on CLOCK_MONOTONIC */
	__u32 lifetime; /* seconds after last_seen */
	__u32 backend; /* number in wag_backends1 */
	struct tuple other; /* key of the other direction */
	__u32 flags; /* enum ct_flag, and see CT_LEG_SHIFT */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct ct_key);
	__type(value, struct ct_entry);
	__uint(max_entries, 131072);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} wag_conntrack1 SEC(".maps");

/* Seconds. An established TCP flow outlives the two hours after which the
 * kernel's default keepalive speaks (tcp_keepalive_time). A flow without
 * connections is short until its sender speaks again: most are one question. */
#define CT_TCP_SYN 60
#define CT_TCP 8000
#define CT_TCP_CLOSING 10
#define CT_ANY_NEW 30
#define CT_ANY 120

static __always_inline __u32 ct_now(void)
{
	return bpf_ktime_get_ns() / NSEC_PER_SEC;
}

/* Seconds until an entry expires by itself, 0 where it has. Another CPU may be
 * a second ahead: that is no time ago, not 136 years. */
static __always_inline __u32 ct_left(const struct ct_entry *e, __u32 now)
{
	__s32 idle = (__s32)(now - READ_ONCE(e->last_seen));
	__u32 lifetime = READ_ONCE(e->lifetime);

	if (idle < 0)
		idle = 0;
	return (__u32)idle < lifetime ? lifetime - idle : 0;
}

static __always_inline struct ct_entry *ct_other(const struct ct_key *key, const struct ct_entry *e)
{
	struct ct_key other_key = *key;

	other_key.flow = e->other;
	if (e->flags & CT_OUTSIDE)
		other_key.endpoint = e->flags >> CT_LEG_SHIFT;
	return bpf_map_lookup_elem(&wag_conntrack1, &other_key);
}

/* Seconds until a flow expires. One direction may be silent for long, such as
 * a UDP log's, or an idle connection's whose last word was the client's. */
static __always_inline __u32 ct_flow_left(const struct ct_key *key, const struct ct_entry *e,
					  __u32 now)
{
	__u32 left = ct_left(e, now);
	struct ct_entry *other;

	if (left)
		return left;
	other = ct_other(key, e);
	return other ? ct_left(other, now) : 0;
}

/* Whether a packet may start a flow that lives. Others (a FIN or RST that came
 * late, a scan) get an entry too, which dies at once: else a pod could fill
 * the table for hours with packets that nobody answers. */
static __always_inline bool ct_is_start(const struct packet *p)
{
	return p->l4_proto != IPPROTO_TCP ||
	       (p->tcp_flags & (TCP_SYN | TCP_RST | TCP_FIN)) == TCP_SYN;
}

static __always_inline __u32 ct_lifetime(const struct packet *p)
{
	if (p->l4_proto != IPPROTO_TCP)
		return CT_ANY_NEW;
	return ct_is_start(p) ? CT_TCP_SYN : CT_TCP_CLOSING;
}

static long ct_sweep_one(void *map, struct ct_key *key, struct ct_entry *e, __u32 *now)
{
	if (!ct_flow_left(key, e, *now))
		bpf_map_delete_elem(&wag_conntrack1, key);
	return 0;
}

/* Removes what has expired. */
static __always_inline void ct_sweep(void)
{
	__u32 now = ct_now();

	bpf_for_each_map_elem(&wag_conntrack1, ct_sweep_one, &now, 0);
}

/* When a full table was last swept, in seconds. Walking a hundred thousand
 * entries takes milliseconds: once a second is as often as a packet may. */
static __u32 ct_swept;

/* Whether it may be worth trying again. */
static __always_inline bool ct_make_room(void)
{
	__u32 now = ct_now(), before = READ_ONCE(ct_swept);

	if (before == now || __sync_val_compare_and_swap(&ct_swept, before, now) != before)
		return false;
	ct_sweep();
	return true;
}

static __always_inline void ct_close(struct ct_entry *e)
{
	if (e->flags & CT_CLOSING)
		return;
	e->flags |= CT_CLOSING;
	e->lifetime = CT_TCP_CLOSING;
}

/* What a packet says about the life of its flow. */
static __always_inline void ct_touch(const struct packet *p, const struct ct_key *key,
				     struct ct_entry *e)
{
	struct ct_entry *other;

	if (p->l4_proto != IPPROTO_TCP) {
		if (e->lifetime == CT_ANY_NEW && !(e->flags & CT_REPLY))
			e->lifetime = CT_ANY;
		return;
	}
	if (p->tcp_flags & TCP_RST) {
		/* There will be no answer that closes the other direction. */
		other = ct_other(key, e);
		if (other)
			ct_close(other);
	}
	if (p->tcp_flags & (TCP_FIN | TCP_RST))
		ct_close(e);
	else if (e->lifetime == CT_TCP_SYN && !(p->tcp_flags & TCP_SYN))
		e->lifetime = CT_TCP;
}

/* The live entry of a packet, whose time it renews. */
static __always_inline struct ct_entry *ct_lookup(const struct packet *p, __u32 endpoint)
{
	struct ct_key key = { .flow = p->flow, .l4_proto = p->l4_proto, .endpoint = endpoint };
	struct ct_entry *e = bpf_map_lookup_elem(&wag_conntrack1, &key);
	__u32 now;

	if (!e)
		return NULL;
	now = ct_now();
	if (!ct_flow_left(&key, e, now))
		return NULL;
	/* Once a second at most: the line is shared between CPUs. */
	if (READ_ONCE(e->last_seen) != now)
		WRITE_ONCE(e->last_seen, now);
	ct_touch(p, &key, e);
	return e;
}

/* Whether writing e would take a live flow's replies away: two flows from one
 * port to one backend have the same reply tuple. */
static __always_inline bool ct_clashes(const struct ct_key *key, const struct ct_entry *found,
				       const struct ct_entry *e)
{
	if (!(e->flags & CT_REPLY) || found->flags & CT_CLOSING ||
	    !ct_flow_left(key, found, e->last_seen))
		return false;
	return __builtin_memcmp(&found->other, &e->other, sizeof(e->other));
}

/* Writes one direction of a flow. Returns 0 or a drop reason. */
static __always_inline int ct_insert(const struct ct_key *key, struct ct_entry *e)
{
	struct ct_entry *found = bpf_map_lookup_elem(&wag_conntrack1, key);

	if (found && ct_clashes(key, found, e))
		return DROP_FLOW_CLASH;
	if (!bpf_map_update_elem(&wag_conntrack1, key, e, BPF_ANY))
		return 0;
	if (ct_make_room() && !bpf_map_update_elem(&wag_conntrack1, key, e, BPF_ANY))
		return 0;
	return DROP_FLOWS_FULL;
}

static long ct_purge_one(void *map, struct ct_key *key, struct ct_entry *e, __u32 *endpoint)
{
	if (key->endpoint == *endpoint ||
	    (e->flags & CT_OUTSIDE && e->flags >> CT_LEG_SHIFT == *endpoint))
		bpf_map_delete_elem(&wag_conntrack1, key);
	return 0;
}

/* Forgets every flow of an endpoint. */
static __always_inline void ct_purge(__u32 endpoint)
{
	bpf_for_each_map_elem(&wag_conntrack1, ct_purge_one, &endpoint, 0);
}
