// SPDX-License-Identifier: Apache-2.0

// Package images builds the container images that tests run, without a registry
// and without Docker: busybox from the system's package, and an agent of our own.
// The same programs give the same archives, byte for byte.
//
//	go run ./test/images/cmd/images -o bin/images
package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waggle-net/waggle/controlplane/image"
	"github.com/waggle-net/waggle/deploy/demo/archive"
)

// The names of the images.
const (
	// Busybox has a shell and what belongs to it. Without a command, it sleeps.
	Busybox = "waggle.dev/test/busybox:1"
	// Agent answers over HTTP, TCP and UDP who it is (test/images/agent).
	Agent = "waggle.dev/test/agent:1"
)

// DefaultBusybox is where Debian's busybox-static puts it.
const DefaultBusybox = "/bin/busybox"

// agentPackage is what the agent is built from.
const agentPackage = "github.com/waggle-net/waggle/test/images/agent"

// Build writes the archives busybox.tar and agent.tar into a folder, which it
// makes. The agent is compiled, and so this runs inside of our module.
func Build(ctx context.Context, dir, busyboxPath string) error {
	busybox, err := busyboxImage(ctx, busyboxPath)
	if err != nil {
		return fmt.Errorf("build image %s: %w", Busybox, err)
	}
	agent, err := agentImage(ctx)
	if err != nil {
		return fmt.Errorf("build image %s: %w", Agent, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write images: %w", err)
	}
	return errors.Join(
		archive.Save(filepath.Join(dir, "busybox.tar"), busybox),
		archive.Save(filepath.Join(dir, "agent.tar"), agent),
	)
}

// busyboxImage has a link for each applet.
func busyboxImage(ctx context.Context, program string) (image.Image, error) {
	content, err := archive.Static(program)
	if err != nil {
		return image.Image{}, fmt.Errorf("%w: install busybox-static", err)
	}
	list, err := exec.CommandContext(ctx, program, "--list").Output()
	if err != nil {
		return image.Image{}, fmt.Errorf("list applets: %w", err)
	}
	files := append(base(), image.File{Path: "bin/busybox", Mode: 0o755, Content: content})
	for applet := range strings.FieldsSeq(string(list)) {
		if applet != "busybox" {
			files = append(files, image.File{Path: path.Join("bin", applet), Mode: 0o777, Link: "busybox"})
		}
	}
	return image.Image{
		Name:         Busybox,
		Architecture: runtime.GOARCH,
		Config:       ocispec.ImageConfig{Env: []string{"PATH=/bin"}, Cmd: []string{"sh"}},
		Files:        files,
	}, nil
}

func agentImage(ctx context.Context) (image.Image, error) {
	content, err := archive.Compile(ctx, agentPackage)
	if err != nil {
		return image.Image{}, err
	}
	return image.Image{
		Name:         Agent,
		Architecture: runtime.GOARCH,
		Config: ocispec.ImageConfig{
			User:       "65534:65534",
			Entrypoint: []string{"/agent"},
			ExposedPorts: map[string]struct{}{
				"8080/tcp": {}, "9000/tcp": {}, "9000/udp": {},
			},
		},
		Files: append(base(), image.File{Path: "agent", Mode: 0o755, Content: content}),
	}, nil
}

// base is what programs expect of any system.
func base() []image.File {
	return []image.File{
		{Path: "tmp", Mode: 0o1777, Folder: true},
		{Path: "root", Mode: 0o700, Folder: true},
		{Path: "etc/passwd", Mode: 0o644, Content: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")},
		{Path: "etc/group", Mode: 0o644, Content: []byte("root:x:0:\nnobody:x:65534:\n")},
	}
}
