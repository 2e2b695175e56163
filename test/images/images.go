// SPDX-License-Identifier: Apache-2.0

// Package images builds the container images that tests run, without a registry
// and without Docker: busybox from the system's package, and an agent of our own.
// The same programs give the same archives, byte for byte.
//
//	go run ./test/images/cmd/images -o bin/images
package images

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waggle-net/waggle/controlplane/image"
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
		writeArchive(filepath.Join(dir, "busybox.tar"), busybox),
		writeArchive(filepath.Join(dir, "agent.tar"), agent),
	)
}

func writeArchive(path string, img image.Image) error {
	var b bytes.Buffer
	if err := image.Write(&b, img); err != nil {
		return err
	}
	// By rename, since a test may be reading the one that is there.
	if err := os.WriteFile(path+".new", b.Bytes(), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// busyboxImage has a link for each applet.
func busyboxImage(ctx context.Context, program string) (image.Image, error) {
	content, err := staticProgram(program)
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

func agentImage(ctx context.Context) (_ image.Image, err error) {
	dir, err := os.MkdirTemp("", "waggle-images-")
	if err != nil {
		return image.Image{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	program := filepath.Join(dir, "agent")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", program, agentPackage)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return image.Image{}, fmt.Errorf("compile: %w\n%s", err, out)
	}
	content, err := staticProgram(program)
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

// staticProgram reads a program that needs no other file.
func staticProgram(path string) ([]byte, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return nil, fmt.Errorf("read %s: it is not linked statically", path)
	}
	return content, nil
}
