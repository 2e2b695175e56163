/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Verdicts, drop reasons, and the counters that tell how often each occurred.
 *
 * Functions of the walks return a TC action (TCX_NEXT and above) or a drop
 * reason (DROP_FIRST and below); the entry function of a program converts the
 * latter to TC_ACT_SHOT and counts it. Go reads the names below from BTF. */
#pragma once

#include "common.h"

/* Where something was counted. */
enum hook {
	HOOK_FROM_POD,
	HOOK_TO_POD,
	HOOK_SOCKET,
	HOOK_FROM_NETWORK,
	HOOK_COUNT,
};

/* Clear of every TC action, TCX_NEXT (-1) above all. */
#define DROP_FIRST (-130)

/* Why a packet was dropped. Appended to only: numbers are read by people. */
enum drop_reason {
	DROP_TRUNCATED = DROP_FIRST, /* a header is longer than the packet */
	DROP_L3_PROTO = -131, /* neither IPv4 nor IPv6 (ARP is never needed) */
	DROP_IPV6_EXT = -132, /* more IPv6 extension headers than we follow */
	DROP_SPOOFED = -133, /* source is not an address of this endpoint */
	DROP_LINK_SCOPE = -134, /* a pod's own ND, MLD, router solicitation: of no use */
	DROP_NO_BACKEND = -135, /* the service has no ready backend */
	/* -136 is free */
	DROP_FLOWS_FULL = -137, /* no room in the flow table */
	DROP_FLOW_CLASH = -138, /* no port was found whose replies are not another flow's */
	DROP_SCTP_PORT = -139, /* a service maps an SCTP port to another */
	DROP_REWRITE = -140, /* a packet could not be changed (kernel out of memory) */
	DROP_INTERNAL = -141, /* cannot happen: please report */
	DROP_REMOTE_BACKEND = -142, /* from outside, to a service without backend in a local pod */
	DROP_TTL = -143, /* the last hop was used up where no ICMP error can be sent */
	DROP_MTU = -144, /* too long for the way out, where no ICMP error can be sent */
	DROP_NO_ROUTE = -145, /* the kernel knows no way to the destination */
};
#define DROP_LAST DROP_NO_ROUTE

/* What else is counted. */
enum event {
	EVENT_DELIVERED, /* handed to a local pod, host stack skipped */
	EVENT_TO_STACK, /* passed to the host stack */
	EVENT_TRANSLATED, /* to a service: destination became a backend */
	EVENT_UNTRANSLATED, /* from a backend: source became the service again */
	EVENT_REFUSED, /* connect or send to a service without ready backend */
	EVENT_NO_STORAGE, /* a socket's reverse state could not be kept */
	EVENT_SENT, /* sent out of the node, host stack skipped */
	EVENT_COUNT,
};

/* The counters are [hook][events, then drop reasons]. */
#define COUNTER_DROPS 32
#define COUNTERS_PER_HOOK 64

_Static_assert(EVENT_COUNT <= COUNTER_DROPS, "events run into the drop reasons");
_Static_assert(DROP_FIRST - DROP_LAST < COUNTERS_PER_HOOK - COUNTER_DROPS,
	       "drop reasons run into the next hook");

struct counter {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct counter);
	__uint(max_entries, HOOK_COUNT *COUNTERS_PER_HOOK);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} wag_counters1 SEC(".maps");

static __always_inline void count_at(__u32 index, __u32 bytes)
{
	struct counter *c = bpf_map_lookup_elem(&wag_counters1, &index);

	if (!c)
		return;
	c->packets++;
	c->bytes += bytes;
}

static __always_inline void count_event(enum hook hook, enum event event, __u32 bytes)
{
	count_at(hook * COUNTERS_PER_HOOK + event, bytes);
}

static __always_inline void count_drop(enum hook hook, int reason, __u32 bytes)
{
	count_at(hook * COUNTERS_PER_HOOK + COUNTER_DROPS + (DROP_FIRST - reason), bytes);
}
