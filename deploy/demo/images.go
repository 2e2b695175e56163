// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"crypto/sha256"
	_ "embed" // for the source below
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waggle-net/waggle/controlplane/image"
	"github.com/waggle-net/waggle/deploy/demo/archive"
	"github.com/waggle-net/waggle/deploy/demo/debian"
)

// guestbookPackage is what the guestbook is built from.
const guestbookPackage = "github.com/waggle-net/waggle/deploy/demo/guestbook"

// buildGuestbook writes an image of one file.
func buildGuestbook(ctx context.Context, path string) error {
	program, err := archive.Compile(ctx, guestbookPackage)
	if err == nil {
		err = archive.Save(path, image.Image{
			Name:         GuestbookImage,
			Architecture: runtime.GOARCH,
			Config: ocispec.ImageConfig{
				User:         "65532:65532",
				Entrypoint:   []string{"/guestbook"},
				WorkingDir:   "/",
				ExposedPorts: map[string]struct{}{"8080/tcp": {}},
			},
			Files: []image.File{{Path: "guestbook", Mode: 0o755, Content: program}},
		})
	}
	if err != nil {
		return fmt.Errorf("build image %s: %w", GuestbookImage, err)
	}
	return nil
}

// What Redis' image has: the server, the client for people, and what the C
// library loads by itself when a thread ends.
var (
	redisPackages  = []string{"redis-server", "redis-tools"}
	redisPrograms  = []string{"usr/bin/redis-server", "usr/bin/redis-cli"}
	redisLibraries = []string{"libgcc_s.so.1"}
)

// redisConfig is how it runs. Without an address to bind to, it listens on all, of both
// families; protected mode would then refuse whoever has no password. What it is told it
// keeps in /data, in a log that it writes anew long before a small volume is full.
var redisConfig = ocispec.ImageConfig{
	User:       "999:999",
	Env:        []string{"PATH=/usr/bin"},
	Entrypoint: []string{"/usr/bin/redis-server"},
	Cmd: []string{
		"--protected-mode", "no", "--dir", "/data", "--save", "",
		"--appendonly", "yes", "--auto-aof-rewrite-min-size", "1mb", "--maxmemory", "64mb",
	},
	WorkingDir:   "/data",
	ExposedPorts: map[string]struct{}{"6379/tcp": {}},
}

//go:embed images.go
var imagesSource string

// buildRedis writes an image of the package that the machine's sources have now. The
// file beside it says what it was made of.
func buildRedis(ctx context.Context, path string, say io.Writer) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("build image %s: %w", RedisImage, err)
		}
	}()
	set, err := debian.Resolve(ctx, say, redisPackages...)
	if err != nil {
		if _, statErr := os.Stat(path); statErr == nil && ctx.Err() == nil {
			// Without a network, or without apt, the one that is there will do.
			fmt.Fprintf(say, "%s stays as it is: %v\n", path, err)
			return nil
		}
		return fmt.Errorf("%w: see whether apt-get update succeeds, or bring %s from a machine that has built it", err, path)
	}
	defer func() { err = errors.Join(err, set.Close()) }()
	stamp := path + ".packages"
	if unchanged(path, stamp, made(set)) {
		return nil
	}
	fmt.Fprintf(say, "building %s from Debian's package, once\n", RedisImage)
	packages, err := set.Fetch(ctx)
	if err != nil {
		return err
	}
	if err := saveRedis(ctx, path, packages); err != nil {
		return err
	}
	return archive.Replace(stamp, []byte(made(set)))
}

func saveRedis(ctx context.Context, path string, packages []string) error {
	tree, err := debian.Read(ctx, packages)
	if err != nil {
		return err
	}
	files, err := tree.Programs(redisLibraries, redisPrograms...)
	if err != nil {
		return err
	}
	return archive.Save(path, image.Image{
		Name:         RedisImage,
		Architecture: runtime.GOARCH,
		Config:       redisConfig,
		Files:        append(files, image.File{Path: "data", Mode: 0o777, Folder: true}),
	})
}

// made says what decides the content of Redis' image: our code, and the packages.
func made(set *debian.Set) string {
	recipe := sha256.Sum256([]byte(imagesSource + debian.Recipe))
	return fmt.Sprintf("recipe %x\n%s\n", recipe[:8], strings.Join(set.Archives, "\n"))
}

// unchanged is said of an archive that is there, and was made of this.
func unchanged(path, stamp, made string) bool {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	old, err := os.ReadFile(stamp)
	return err == nil && string(old) == made
}
