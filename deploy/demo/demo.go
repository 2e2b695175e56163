// SPDX-License-Identifier: Apache-2.0

// Package demo is a guestbook to try a cluster with: a page served by several replicas
// of a small program (deploy/demo/guestbook), and Redis from Debian's package. Its
// images are built without Docker, and no registry is asked for them.
package demo

import (
	"context"
	_ "embed" // for the manifests
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// What the manifests make.
const (
	// Namespace has all of it.
	Namespace = "demo"
	// Guestbook is the Deployment of the page, and the Service before it.
	Guestbook = "guestbook"
	// Redis is the Deployment of the database, and the Service before it.
	Redis = "redis"
	// NodePort is where each node answers with the page.
	NodePort = 30080
)

// The names of the images.
const (
	GuestbookImage = "waggle.dev/demo/guestbook:1"
	RedisImage     = "waggle.dev/demo/redis:1"
)

//go:embed demo.yaml
var manifests []byte

// Manifests is the YAML of all objects, to be applied as they are. The images have to
// be on the nodes before.
func Manifests() []byte { return slices.Clone(manifests) }

// BuildImages writes the archives guestbook.tar and redis.tar into a folder, which it
// makes, and returns their paths. It tells say of what takes long. The program is
// compiled, and so this runs inside of our module. What Redis is made of is asked of
// apt each time, and fetched only if it has changed.
func BuildImages(ctx context.Context, dir string, say io.Writer) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("write images: %w", err)
	}
	guestbook, redis := filepath.Join(dir, "guestbook.tar"), filepath.Join(dir, "redis.tar")
	// The compiler does not wait for the network.
	var both sync.WaitGroup
	var guestbookErr, redisErr error
	both.Go(func() { guestbookErr = buildGuestbook(ctx, guestbook) })
	both.Go(func() { redisErr = buildRedis(ctx, redis, say) })
	both.Wait()
	if err := errors.Join(guestbookErr, redisErr); err != nil {
		return nil, err
	}
	return []string{guestbook, redis}, nil
}
