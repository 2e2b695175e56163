/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* One address type for both families.
 *
 * IPv4 is held v4-mapped (RFC 4291, 2.5.5.2), so that maps, look-ups and flows
 * exist once and dual stack is not a second copy of everything. The price is
 * three more words to hash for an IPv4 key, a nanosecond or two. */
#pragma once

#include "common.h"

struct addr {
	__be32 w[4];
};

/* What identifies a flow, as it stands in the packet. */
struct tuple {
	struct addr saddr;
	struct addr daddr;
	__be16 sport;
	__be16 dport;
};

static __always_inline struct addr addr_from_v4(__be32 v4)
{
	return (struct addr){ .w = { 0, 0, bpf_htonl(0xffff), v4 } };
}

static __always_inline struct addr addr_from_v6(const struct in6_addr *v6)
{
	struct addr a;

	__builtin_memcpy(&a, v6, sizeof(a));
	return a;
}

static __always_inline bool addr_is_v4(const struct addr *a)
{
	return !a->w[0] && !a->w[1] && a->w[2] == bpf_htonl(0xffff);
}

static __always_inline bool addr_equal(const struct addr *a, const struct addr *b)
{
	return a->w[3] == b->w[3] && a->w[2] == b->w[2] && a->w[1] == b->w[1] && a->w[0] == b->w[0];
}

/* The unspecified and the link-local IPv6 addresses: what a kernel uses before
 * it has an address, and to talk about the link (ND, MLD). */
static __always_inline bool addr_is_link_scope(const struct addr *a)
{
	if ((a->w[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000))
		return true;
	return !a->w[0] && !a->w[1] && !a->w[2] && !a->w[3];
}
