/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a socket has to remember so that services look real to it: the service
 * that it talks to, behind each backend that it really talks to.
 *
 * It lives in socket storage and goes with the socket: nothing to collect. */
#pragma once

#include "service.h"

/* A service as the application named it, and the backend that it became. */
struct sock_flow {
	struct addr service;
	struct addr backend;
	__be16 service_port;
	__be16 backend_port;
};

/* Of a connected socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct sock_flow);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} wag_sk_peer1 SEC(".maps");

/* A resolver that asks this many services at once through one unconnected
 * socket is served from its storage alone. */
#define SOCK_FLOWS 8

/* Of an unconnected UDP socket. */
struct sock_flows {
	struct bpf_spin_lock lock; /* threads may share a socket */
	__u32 next; /* to be replaced */
	__u32 spilled; /* some flow is in wag_sk_spill1 */
	struct sock_flow flow[SOCK_FLOWS];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct sock_flows);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} wag_sk_flows1 SEC(".maps");

/* The flows of sockets that talk to more services than fit their storage. */
struct sock_spill_key {
	__u64 cookie;
	struct addr backend;
	__be16 backend_port;
	__u16 pad[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct sock_spill_key);
	__type(value, struct sock_flow);
	__uint(max_entries, 16384);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} wag_sk_spill1 SEC(".maps");

static __always_inline bool sock_flow_is(const struct sock_flow *f, const struct addr *backend,
					 __be16 port)
{
	return f->backend_port == port && addr_equal(&f->backend, backend);
}

static __always_inline void sock_flow_spill(__u64 cookie, const struct sock_flow *f)
{
	struct sock_spill_key key = {
		.cookie = cookie,
		.backend = f->backend,
		.backend_port = f->backend_port,
	};

	bpf_map_update_elem(&wag_sk_spill1, &key, f, BPF_ANY);
}

/* Remembers a flow of an unconnected socket. Where two services share a
 * backend, its replies carry the one that was talked to last. */
static __always_inline void sock_flow_keep(struct sock_flows *s, __u64 cookie,
					   const struct sock_flow *f)
{
	struct sock_flow old = {};
	__u32 i, at = SOCK_FLOWS;

	bpf_spin_lock(&s->lock);
	for (i = 0; i < SOCK_FLOWS; i++) {
		if (sock_flow_is(&s->flow[i], &f->backend, f->backend_port)) {
			at = i;
			break;
		}
	}
	if (at == SOCK_FLOWS) {
		at = s->next % SOCK_FLOWS;
		s->next = at + 1;
		old = s->flow[at];
		if (old.backend_port)
			s->spilled = 1;
	}
	s->flow[at % SOCK_FLOWS] = *f;
	bpf_spin_unlock(&s->lock);

	if (old.backend_port)
		sock_flow_spill(cookie, &old);
}

/* Finds what a reply from the given backend answers. */
static __always_inline bool sock_flow_find(struct sock_flows *s, __u64 cookie,
					   const struct addr *backend, __be16 port,
					   struct sock_flow *found)
{
	struct sock_spill_key key = { .cookie = cookie, .backend = *backend, .backend_port = port };
	struct sock_flow *f;
	bool hit = false;

	bpf_spin_lock(&s->lock);
	for (__u32 i = 0; i < SOCK_FLOWS; i++) {
		if (sock_flow_is(&s->flow[i], backend, port)) {
			*found = s->flow[i];
			hit = true;
			break;
		}
	}
	bpf_spin_unlock(&s->lock);
	if (hit || !s->spilled)
		return hit;
	f = bpf_map_lookup_elem(&wag_sk_spill1, &key);
	if (!f)
		return false;
	*found = *f;
	return true;
}
