// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/gomodule/redigo/redis"
)

// store keeps entries in Redis: a list, the newest first, that grows to maxEntries.
type store struct {
	pool *redis.Pool
}

const (
	key        = "guestbook"
	maxEntries = 100

	// redisPatience is how long one answer may take, with a connection made for it.
	redisPatience = 3 * time.Second
	// maxConns is more than a page for people needs. Others wait their turn.
	maxConns = 16
)

func newStore(address string) *store {
	return &store{pool: &redis.Pool{
		DialContext: func(ctx context.Context) (redis.Conn, error) {
			return redis.DialContext(ctx, "tcp", address, redis.DialReadTimeout(redisPatience), redis.DialWriteTimeout(redisPatience))
		},
		// One that Redis ended in the meantime would lose the entry that it is to carry.
		TestOnBorrowContext: func(ctx context.Context, c redis.Conn, _ time.Time) error {
			_, err := redis.DoContext(c, ctx, "PING")
			return err
		},
		MaxIdle:     4,
		MaxActive:   maxConns,
		IdleTimeout: time.Minute,
		Wait:        true,
	}}
}

// Close ends idle connections.
func (s *store) Close() error { return s.pool.Close() }

// Add puts an entry first.
func (s *store) Add(ctx context.Context, e entry) error {
	content, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return s.do(ctx, func(ctx context.Context, c redis.Conn) error {
		if _, err := redis.DoContext(c, ctx, "LPUSH", key, content); err != nil {
			return err
		}
		_, err := redis.DoContext(c, ctx, "LTRIM", key, 0, maxEntries-1)
		return err
	})
}

// List returns all, the newest first.
func (s *store) List(ctx context.Context) ([]entry, error) {
	entries := []entry{} // which is [] in JSON, and not null
	err := s.do(ctx, func(ctx context.Context, c redis.Conn) error {
		list, err := redis.ByteSlices(redis.DoContext(c, ctx, "LRANGE", key, 0, maxEntries-1))
		if err != nil {
			return err
		}
		for _, content := range list {
			var e entry
			if json.Unmarshal(content, &e) != nil {
				// Somebody tried redis-cli.
				e = entry{Text: strings.ToValidUTF8(string(content), "\uFFFD")}
			}
			entries = append(entries, e)
		}
		return nil
	})
	return entries, err
}

// do lends a connection.
func (s *store) do(ctx context.Context, use func(context.Context, redis.Conn) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("ask redis: %w", err)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, redisPatience)
	defer cancel()
	c, err := s.pool.GetContext(ctx)
	if err == nil {
		err = errors.Join(use(ctx, c), c.Close())
	}
	// The context's time ends at that of the connection, and either may be first.
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return fmt.Errorf("no answer within %s", redisPatience)
	}
	return err
}
