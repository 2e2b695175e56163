// SPDX-License-Identifier: Apache-2.0

package image

import (
	"runtime"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The program of each architecture is committed, so that building needs no
// compiler of C: a freestanding ELF of less than a kilobyte, without what differs
// from one build of the compiler to the next. After a change:
//
//	make generate
//
//go:generate clang-16 --target=x86_64-linux-gnu -std=c11 -Os -Wall -Wextra -Werror -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables -nostdlib -static -fuse-ld=lld -Wl,--build-id=none,--no-rosegment,-z,noexecstack,-z,norelro -o pause/pause_amd64 pause/pause.c
//go:generate llvm-strip-16 --strip-sections pause/pause_amd64
//go:generate clang-16 --target=aarch64-linux-gnu -std=c11 -Os -Wall -Wextra -Werror -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables -nostdlib -static -fuse-ld=lld -Wl,--build-id=none,--no-rosegment,-z,noexecstack,-z,norelro -o pause/pause_arm64 pause/pause.c
//go:generate llvm-strip-16 --strip-sections pause/pause_arm64

// PauseName is the image that holds a pod's namespaces. Its tag counts up when the
// program changes: it is part of containerd's configuration, and a pod that runs
// keeps the one it has.
const PauseName = "waggle.dev/pause:1"

// nobody is whom the program runs as: it needs no rights.
const nobody = "65535:65535"

// Pause is the image PauseName for this architecture.
func Pause() Image {
	return Image{
		Name:         PauseName,
		Architecture: runtime.GOARCH,
		Config: ocispec.ImageConfig{
			User:       nobody,
			Entrypoint: []string{"/pause"},
			WorkingDir: "/",
		},
		Files: []File{{Path: "pause", Mode: 0o755, Content: pauseELF}},
	}
}
