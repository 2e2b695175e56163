// SPDX-License-Identifier: Apache-2.0

// Package bpf holds the eBPF programs and what Go needs to load them and to
// read and write their maps. All of it is generated from the C next to it: each
// type that both sides use is declared once, in C.
//
// The objects are committed, so that building needs no clang. After a change:
//
//	make generate
package bpf

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-16 -strip llvm-strip-16 -target bpfel -type addr -type endpoint -type frontend_key -type frontend -type backend -type backend_flag -type tuple -type ct_key -type ct_flag -type fragment_key -type fragment -type counter -type hook -type event -type drop_reason -type ep_mark Pod pod.bpf.c -- -O2 -g -Wall -Wextra -Wno-unused-parameter -Werror -mcpu=v3 -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu
//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-16 -strip llvm-strip-16 -target bpfel -no-global-types -type sock_flow Socket socket.bpf.c -- -O2 -g -Wall -Wextra -Wno-unused-parameter -Werror -mcpu=v3 -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu
//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-16 -strip llvm-strip-16 -target bpfel -no-global-types Uplink uplink.bpf.c -- -O2 -g -Wall -Wextra -Wno-unused-parameter -Werror -mcpu=v3 -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu
