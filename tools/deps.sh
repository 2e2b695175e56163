#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: deps.sh PURPOSE...     purposes: run test generate lint
#
# Installs, with apt, the packages that are missing for these purposes. Each is
# looked for by a file or command of its own, so that a second run costs nothing
# and a machine without apt is only told what it lacks.
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin

# purpose   package           what it must bring
TABLE='
run         iproute2          ip
run         util-linux        nsenter
run         nftables          nft
run         iputils-ping      ping
run         runc              runc
test        busybox-static    /bin/busybox
test        containernetworking-plugins  /usr/lib/cni/bridge
test        e2fsprogs         mke2fs
test        kmod              depmod
test        mmdebstrap        mmdebstrap
test        procps            pgrep
test        qemu-system-x86   qemu-system-x86_64
test        xz-utils          xz
generate    clang-16          clang-16
generate    llvm-16           llvm-strip-16
generate    lld-16            /usr/lib/llvm-16/bin/ld.lld
generate    libbpf-dev        /usr/include/bpf/bpf_helpers.h
generate    linux-libc-dev    /usr/include/linux/bpf.h
lint        clang-format-16   clang-format-16
lint        shellcheck        shellcheck
'

if ! command -v go >/dev/null && [[ ! -x /usr/local/go/bin/go ]]; then
	echo 'deps: Go is missing (1.26 or newer, see https://go.dev/dl)' >&2
	exit 1
fi

missing=()
for purpose in "$@"; do
	known=
	while read -r for_purpose package brings; do
		[[ $for_purpose == "$purpose" ]] || continue
		known=yes
		if [[ $brings == /* ]]; then
			[[ -e $brings ]] || missing+=("$package")
		else
			command -v "$brings" >/dev/null || missing+=("$package")
		fi
	done <<<"$TABLE"
	if [[ -z $known ]]; then
		echo "deps: unknown purpose: $purpose" >&2
		exit 2
	fi
done

# The tests that boot distribution kernels ask apt which there are.
no_lists=
if [[ " $* " == *' test '* ]] && command -v apt-get >/dev/null &&
	! compgen -G '/var/lib/apt/lists/*Packages*' >/dev/null; then
	no_lists=yes
fi

if ((${#missing[@]} == 0)) && [[ -z $no_lists ]]; then
	exit 0
fi

if ! command -v apt-get >/dev/null; then
	echo 'deps: install what brings these (names are those of Debian):' >&2
	printf '  %s\n' "${missing[@]}" >&2
	exit 1
fi

sudo=()
if [[ $(id -u) != 0 ]]; then
	if ! command -v sudo >/dev/null; then
		echo "deps: as root, run: apt-get update && apt-get install ${missing[*]}" >&2
		exit 1
	fi
	sudo=(sudo)
fi

"${sudo[@]}" apt-get -qq update
((${#missing[@]} > 0)) || exit 0
echo "deps: installing ${missing[*]}"
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
	apt-get -qq install --yes --no-install-recommends "${missing[@]}" >/dev/null
