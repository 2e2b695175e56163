/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Local pods by address. */
#pragma once

#include "addr.h"

/* One local pod's interface; each of its addresses has an entry. Written by
 * the daemon alone. */
struct endpoint {
	__u32 ifindex; /* of the device's host side */
	__u32 id; /* index into wag_ep_marks1 */
	__u8 pod_mac[6];
	__u8 host_mac[6];
	__u32 mtu;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct addr);
	__type(value, struct endpoint);
	__uint(max_entries, 8192);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} wag_endpoints1 SEC(".maps");

/* What decides the price of a packet: none set, no flow look-up. */
enum ep_mark {
	EP_NAT = 1, /* programs translated some flow of this endpoint */
	EP_STACK = 2, /* some flow from a local pod reached it through the host stack */
};

/* One more than endpoint.MaxID in Go. */
#define ENDPOINTS_MAX 4096

/* Marks by endpoint number. They are apart from struct endpoint because the
 * programs set them: the daemon would lose a mark by writing an entry anew. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, ENDPOINTS_MAX);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} wag_ep_marks1 SEC(".maps");

static __always_inline struct endpoint *endpoint_lookup(const struct addr *a)
{
	return bpf_map_lookup_elem(&wag_endpoints1, a);
}

static __always_inline __u32 leg_marks(__u32 id)
{
	__u32 *marks = bpf_map_lookup_elem(&wag_ep_marks1, &id);

	return marks ? READ_ONCE(*marks) : 0;
}

static __always_inline __u32 endpoint_marks(const struct endpoint *ep)
{
	return leg_marks(ep->id);
}

static __always_inline void leg_mark(__u32 id, enum ep_mark mark)
{
	__u32 *marks = bpf_map_lookup_elem(&wag_ep_marks1, &id);

	/* Tested first: an atomic operation per packet would bounce the line. */
	if (marks && !(READ_ONCE(*marks) & mark))
		__sync_fetch_and_or(marks, mark);
}

static __always_inline void endpoint_mark(const struct endpoint *ep, enum ep_mark mark)
{
	leg_mark(ep->id, mark);
}
