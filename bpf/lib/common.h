/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What every program needs: kernel types, helpers and a few constants. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* Pass to the next program on the hook, then to the stack. The same number is
 * TC_ACT_UNSPEC, so one program serves tcx and clsact. (linux/bpf.h of Debian
 * 12 does not know tcx yet.) */
#define TCX_NEXT (-1)

/* From linux/if_packet.h, which clashes with other uapi headers. */
#define PACKET_HOST 0

#define NSEC_PER_SEC 1000000000ULL

/* Keeps the compiler from assuming what another CPU may change. */
#define READ_ONCE(x) (*(volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))
