//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Services at the socket: the address is a backend's before a packet exists.
 *
 * The programs are on the cgroup that holds the node's pods and its own
 * processes. A v6 socket that speaks IPv4 passes v4-mapped addresses, which is
 * how struct addr holds them anyway. */
#include "lib/counters.h"
#include "lib/sockaddr.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* From linux/errno.h. */
#define ECONNREFUSED 111

/* From linux/in.h of newer kernels. The first subflow is plain TCP to us. */
#define IPPROTO_MPTCP_PARENT 262

/* What the kernel does with the call. */
#define SOCK_REFUSE 0
#define SOCK_GO_ON 1

static __always_inline __u8 l4_proto(const struct bpf_sock_addr *ctx)
{
	return ctx->protocol == IPPROTO_MPTCP_PARENT ? IPPROTO_TCP : ctx->protocol;
}

/* The programs' context cannot be passed as a pointer to its address: the
 * verifier wants each access spelled out, hence the macros by family. */
#define GET_V4(ctx) addr_from_v4((ctx)->user_ip4)
#define SET_V4(ctx, a) ((ctx)->user_ip4 = (a)->w[3])
#define GET_V6(ctx)                                                                        \
	((struct addr){ .w = { (ctx)->user_ip6[0], (ctx)->user_ip6[1], (ctx)->user_ip6[2], \
			       (ctx)->user_ip6[3] } })
#define SET_V6(ctx, a)                          \
	do {                                    \
		(ctx)->user_ip6[0] = (a)->w[0]; \
		(ctx)->user_ip6[1] = (a)->w[1]; \
		(ctx)->user_ip6[2] = (a)->w[2]; \
		(ctx)->user_ip6[3] = (a)->w[3]; \
	} while (0)

static __always_inline int refuse(void)
{
	count_event(HOOK_SOCKET, EVENT_REFUSED, 0);
	bpf_set_retval(-ECONNREFUSED);
	return SOCK_REFUSE;
}

/* Chooses a backend for the address in f->service. Returns SOCK_REFUSE where
 * the service has none, SOCK_GO_ON else, with f->backend_port 0 where the
 * address is no service. */
static __always_inline int choose(__u8 proto, __u32 number, struct sock_flow *f)
{
	struct frontend fe;
	struct backend *b;
	__u32 id;

	if (!frontend_lookup(&f->service, f->service_port, proto, &fe))
		return SOCK_GO_ON;
	b = backend_choose(&fe, number, &id);
	if (!b)
		return refuse();
	f->backend = b->addr;
	f->backend_port = b->port;
	count_event(HOOK_SOCKET, EVENT_TRANSLATED, 0);
	return SOCK_GO_ON;
}

/* connect(2): TCP, and UDP that wants one peer only. */
static __always_inline int sock_connect(struct bpf_sock_addr *ctx, struct sock_flow *f)
{
	struct sock_flow *peer;

	if (!choose(l4_proto(ctx), bpf_get_prandom_u32(), f))
		return SOCK_REFUSE;
	if (!f->backend_port) {
		/* A UDP socket may be connected again, now past any service. */
		bpf_sk_storage_delete(&wag_sk_peer1, ctx->sk);
		return SOCK_GO_ON;
	}
	peer = bpf_sk_storage_get(&wag_sk_peer1, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (peer)
		*peer = *f;
	else /* the connection works, getpeername() shows the backend */
		count_event(HOOK_SOCKET, EVENT_NO_STORAGE, 0);
	return SOCK_GO_ON;
}

/* A number that is the same for a socket and a service: each datagram of a
 * conversation goes to the same backend. (Finaliser of MurmurHash3.) */
static __always_inline __u32 socket_number(__u64 cookie, const struct sock_flow *f)
{
	__u32 h = (__u32)cookie ^ (__u32)(cookie >> 32) ^ f->service.w[3] ^ f->service_port;

	h ^= h >> 16;
	h *= 0x85ebca6b;
	h ^= h >> 13;
	h *= 0xc2b2ae35;
	return h ^ h >> 16;
}

/* What a socket is connected to, if it is: a peer that connect(AF_UNSPEC)
 * dissolved, which runs no hook, is none. */
static __always_inline struct sock_flow *sock_peer(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	if (!sk || sk->state != BPF_TCP_ESTABLISHED) /* of UDP too */
		return NULL;
	return bpf_sk_storage_get(&wag_sk_peer1, sk, 0, 0);
}

/* sendto(2) and sendmsg(2) of UDP with an address. */
static __always_inline int sock_sendmsg(struct bpf_sock_addr *ctx, struct sock_flow *f)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct sock_flow *peer = sock_peer(ctx);
	struct sock_flows *flows;

	/* A connected socket that names its peer again gets answers from no other. */
	if (peer && peer->service_port == f->service_port &&
	    addr_equal(&peer->service, &f->service)) {
		*f = *peer;
		return SOCK_GO_ON;
	}
	if (!choose(l4_proto(ctx), socket_number(cookie, f), f))
		return SOCK_REFUSE;
	if (!f->backend_port)
		return SOCK_GO_ON;
	flows = bpf_sk_storage_get(&wag_sk_flows1, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!flows) {
		/* Its reply would come from a stranger: better an error now. */
		count_event(HOOK_SOCKET, EVENT_NO_STORAGE, 0);
		return SOCK_REFUSE;
	}
	sock_flow_keep(flows, cookie, f);
	return SOCK_GO_ON;
}

/* recvmsg(2) of UDP: which service does the sender in f->backend stand for? */
static __always_inline bool sock_recvmsg(struct bpf_sock_addr *ctx, struct sock_flow *f)
{
	struct sock_flow *peer = sock_peer(ctx);
	struct sock_flows *flows;

	if (peer && sock_flow_is(peer, &f->backend, f->backend_port)) {
		*f = *peer;
		return true;
	}
	flows = bpf_sk_storage_get(&wag_sk_flows1, ctx->sk, 0, 0);
	if (!flows)
		return false;
	return sock_flow_find(flows, bpf_get_socket_cookie(ctx), &f->backend, f->backend_port, f);
}

/* getpeername(2): the service that the application connected to. */
static __always_inline bool sock_getpeername(struct bpf_sock_addr *ctx, struct sock_flow *f)
{
	struct sock_flow *peer = bpf_sk_storage_get(&wag_sk_peer1, ctx->sk, 0, 0);

	if (!peer || !sock_flow_is(peer, &f->backend, f->backend_port))
		return false;
	*f = *peer;
	return true;
}

/* The entry functions, for one family: read, decide, write back. */
#define SOCKET_PROGRAMS(family, get, set)                                                     \
	SEC("cgroup/connect" #family)                                                         \
	int connect##family(struct bpf_sock_addr *ctx)                                        \
	{                                                                                     \
		struct sock_flow f = { .service = get(ctx), .service_port = ctx->user_port }; \
		int ret = sock_connect(ctx, &f);                                              \
                                                                                              \
		if (ret == SOCK_GO_ON && f.backend_port) {                                    \
			set(ctx, &f.backend);                                                 \
			ctx->user_port = f.backend_port;                                      \
		}                                                                             \
		return ret;                                                                   \
	}                                                                                     \
	SEC("cgroup/sendmsg" #family)                                                         \
	int sendmsg##family(struct bpf_sock_addr *ctx)                                        \
	{                                                                                     \
		struct sock_flow f = { .service = get(ctx), .service_port = ctx->user_port }; \
		int ret = sock_sendmsg(ctx, &f);                                              \
                                                                                              \
		if (ret == SOCK_GO_ON && f.backend_port) {                                    \
			set(ctx, &f.backend);                                                 \
			ctx->user_port = f.backend_port;                                      \
		}                                                                             \
		return ret;                                                                   \
	}                                                                                     \
	SEC("cgroup/recvmsg" #family)                                                         \
	int recvmsg##family(struct bpf_sock_addr *ctx)                                        \
	{                                                                                     \
		struct sock_flow f = { .backend = get(ctx), .backend_port = ctx->user_port }; \
                                                                                              \
		if (sock_recvmsg(ctx, &f)) {                                                  \
			set(ctx, &f.service);                                                 \
			ctx->user_port = f.service_port;                                      \
		}                                                                             \
		return SOCK_GO_ON;                                                            \
	}                                                                                     \
	SEC("cgroup/getpeername" #family)                                                     \
	int getpeername##family(struct bpf_sock_addr *ctx)                                    \
	{                                                                                     \
		struct sock_flow f = { .backend = get(ctx), .backend_port = ctx->user_port }; \
                                                                                              \
		if (sock_getpeername(ctx, &f)) {                                              \
			set(ctx, &f.service);                                                 \
			ctx->user_port = f.service_port;                                      \
		}                                                                             \
		return SOCK_GO_ON;                                                            \
	}

SOCKET_PROGRAMS(4, GET_V4, SET_V4)
SOCKET_PROGRAMS(6, GET_V6, SET_V6)
