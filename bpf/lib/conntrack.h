/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Flows that our programs translate, each as two entries: one a direction.
 *
 * An entry maps a packet's tuple, as seen on the leg of one endpoint, to the
 * tuple that it becomes. Entries expire in the kernel by a timer each, because
 * the daemon may be away for hours: a packet only writes the time, the timer
 * looks whether it was long ago. An entry whose other direction lives is kept. */
#pragma once

#include "parse.h"

#define CLOCK_MONOTONIC 1

struct ct_key {
	struct tuple flow;
	__u8 l4_proto;
	__u8 pad;
	__u16 endpoint; /* the leg: number of the endpoint that the flow belongs to */
};

enum ct_flag {
	CT_REPLY = 1, /* the direction from the backend */
	CT_CLOSING = 2, /* a FIN or RST was seen */
};

struct ct_entry {
	struct bpf_timer timer;
	struct tuple to; /* what the packet becomes */
	__u32 last_seen; /* seconds on CLOCK_MONOTONIC */
	__u32 lifetime; /* seconds after last_seen */
	__u32 backend; /* number in wag_backends1 */
	struct tuple other; /* key of the other direction */
	__u32 flags; /* enum ct_flag */
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
 * kernel's default keepalive speaks (tcp_keepalive_time). */
#define CT_TCP_SYN 60
#define CT_TCP 8000
#define CT_TCP_CLOSING 10
#define CT_ANY 60

static __always_inline __u32 ct_now(void)
{
	return bpf_ktime_get_ns() / NSEC_PER_SEC;
}

/* Seconds until an entry expires, 0 where it has. */
static __always_inline __u32 ct_left(const struct ct_entry *e, __u32 now)
{
	__u32 idle = now - READ_ONCE(e->last_seen);

	return idle < e->lifetime ? e->lifetime - idle : 0;
}

static __always_inline __u32 ct_lifetime(const struct packet *p)
{
	if (p->l4_proto != IPPROTO_TCP)
		return CT_ANY;
	return p->tcp_flags & TCP_SYN ? CT_TCP_SYN : CT_TCP;
}

static int ct_expire(void *map, struct ct_key *key, struct ct_entry *e)
{
	__u32 now = ct_now(), left = ct_left(e, now);
	struct ct_key other_key = *key;
	struct ct_entry *other;

	if (!left) {
		/* One direction may be silent for long, such as a UDP log. */
		other_key.flow = e->other;
		other = bpf_map_lookup_elem(&wag_conntrack1, &other_key);
		if (other)
			left = ct_left(other, now);
	}
	if (left)
		bpf_timer_start(&e->timer, left * NSEC_PER_SEC, 0);
	else
		bpf_map_delete_elem(&wag_conntrack1, key);
	return 0;
}

/* The live entry of a packet. Its time is renewed, a closing flow's life cut. */
static __always_inline struct ct_entry *ct_lookup(const struct packet *p, __u32 endpoint)
{
	struct ct_key key = { .flow = p->flow, .l4_proto = p->l4_proto, .endpoint = endpoint };
	struct ct_entry *e = bpf_map_lookup_elem(&wag_conntrack1, &key);
	__u32 now;

	if (!e)
		return NULL;
	now = ct_now();
	if (!ct_left(e, now))
		return NULL;
	/* Once a second at most: the line is shared between CPUs. */
	if (READ_ONCE(e->last_seen) != now)
		WRITE_ONCE(e->last_seen, now);
	if (p->l4_proto == IPPROTO_TCP) {
		if (p->tcp_flags & (TCP_FIN | TCP_RST) && !(e->flags & CT_CLOSING)) {
			e->flags |= CT_CLOSING;
			e->lifetime = CT_TCP_CLOSING;
			bpf_timer_start(&e->timer, CT_TCP_CLOSING * NSEC_PER_SEC, 0);
		} else if (e->lifetime == CT_TCP_SYN && !(p->tcp_flags & TCP_SYN)) {
			e->lifetime = CT_TCP;
		}
	}
	return e;
}

/* Whether writing e would take a live flow's replies away: two flows from one
 * port to one backend have the same reply tuple. */
static __always_inline bool ct_clashes(const struct ct_entry *found, const struct ct_entry *e)
{
	if (!(e->flags & CT_REPLY) || !ct_left(found, e->last_seen) || found->flags & CT_CLOSING)
		return false;
	return __builtin_memcmp(&found->other, &e->other, sizeof(e->other));
}

/* Writes one direction of a flow and starts its timer. Returns 0 or a drop
 * reason. */
static __always_inline int ct_insert(const struct ct_key *key, struct ct_entry *e)
{
	struct ct_entry *found = bpf_map_lookup_elem(&wag_conntrack1, key);

	if (found && ct_clashes(found, e))
		return DROP_FLOW_CLASH;
	if (bpf_map_update_elem(&wag_conntrack1, key, e, BPF_ANY))
		return DROP_FLOWS_FULL;
	found = bpf_map_lookup_elem(&wag_conntrack1, key);
	if (!found)
		return DROP_FLOWS_FULL;
	bpf_timer_init(&found->timer, &wag_conntrack1, CLOCK_MONOTONIC);
	bpf_timer_set_callback(&found->timer, ct_expire);
	bpf_timer_start(&found->timer, e->lifetime * NSEC_PER_SEC, 0);
	return 0;
}
