/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Services: address and port -> a region of slots -> a backend.
 *
 * A region of slots that a frontend points at is never edited. A change writes
 * a new region, flips the frontend's one value, and frees the old region after
 * an RCU grace period. So a reader that found a frontend sees a whole region. */
#pragma once

#include "addr.h"

struct frontend_key {
	struct addr addr;
	__be16 port;
	__u8 l4_proto;
	__u8 pad;
};

struct frontend {
	__u32 offset; /* of the first slot */
	__u32 count; /* of slots; 0: no ready backend */
	__u32 generation; /* of the region, from the daemon's counter, never 0 */
	__u32 check; /* of the key: see frontend_lookup() */
};

/* A backend with no flag set is nobody's: its number is free. */
enum backend_flag {
	BACKEND_READY = 1,
};

struct backend {
	struct addr addr;
	__be16 port;
	__u8 l4_proto;
	__u8 flags;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct frontend_key);
	__type(value, struct frontend);
	__uint(max_entries, 65536);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} wag_frontends1 SEC(".maps");

/* Numbers of backends. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 262144);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} wag_slots1 SEC(".maps");

/* By number; number 0 is nobody. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct backend);
	__uint(max_entries, 65536);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} wag_backends1 SEC(".maps");

/* Says which frontend a value is of. The same in Go: maps.FrontendCheck(). */
static __always_inline __u32 frontend_check(const struct frontend_key *key)
{
	return key->addr.w[0] ^ key->addr.w[1] ^ key->addr.w[2] ^ key->addr.w[3] ^
	       ((__u32)key->port << 16 | key->l4_proto);
}

static __always_inline bool frontend_read(const struct frontend_key *key, struct frontend *out)
{
	struct frontend *fe = bpf_map_lookup_elem(&wag_frontends1, key);

	if (!fe)
		return false;
	out->generation = READ_ONCE(fe->generation);
	out->offset = READ_ONCE(fe->offset);
	out->count = READ_ONCE(fe->count);
	out->check = READ_ONCE(fe->check);
	/* Since Linux 6.1 an element that was replaced may be another frontend's at
	 * once, before this program has ended. */
	if (READ_ONCE(fe->generation) != out->generation || out->check != frontend_check(key))
		out->generation = 0;
	return true;
}

/* Finds a frontend and copies it, whole. */
static __always_inline bool frontend_lookup(const struct addr *addr, __be16 port, __u8 l4_proto,
					    struct frontend *out)
{
	struct frontend_key key = { .addr = *addr, .port = port, .l4_proto = l4_proto };

	if (!frontend_read(&key, out))
		return false;
	if (out->generation)
		return true;
	return frontend_read(&key, out) && out->generation;
}

/* The backend of the given number, or NULL where it takes no traffic. */
static __always_inline struct backend *backend_lookup(__u32 id)
{
	struct backend *b = bpf_map_lookup_elem(&wag_backends1, &id);

	return b && (b->flags & BACKEND_READY) ? b : NULL;
}

/* Chooses a backend by a number that is random, or a hash where the choice is
 * to be the same next time. NULL: there is none. */
static __always_inline struct backend *backend_choose(const struct frontend *fe, __u32 number,
						      __u32 *id)
{
	__u32 slot, *chosen;

	if (!fe->count)
		return NULL;
	slot = fe->offset + number % fe->count;
	chosen = bpf_map_lookup_elem(&wag_slots1, &slot);
	if (!chosen)
		return NULL;
	*id = READ_ONCE(*chosen);
	return backend_lookup(*id);
}
