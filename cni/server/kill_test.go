// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waggle-net/waggle/cni/protocol"
	"github.com/waggle-net/waggle/datapath/endpoint"
)

var fuzzCIDRs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/25"), netip.MustParsePrefix("2001:db8::/64")}

// killDir, in the environment, makes the test binary a daemon in that directory.
const killDir = "WAGGLE_TEST_KILL_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDir); dir != "" {
		if err := daemon(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func killConfig(dir string) Config {
	return Config{
		Socket: filepath.Join(dir, "cni.sock"), PodCIDRs: fuzzCIDRs,
		RestTime: time.Millisecond, MTU: func() int { return 1500 },
	}
}

func daemon(dir string) error {
	s, err := Open(killConfig(dir))
	if err != nil {
		return err
	}
	dp := fileDatapath(filepath.Join(dir, "devices"))
	if err := s.Recover(context.Background(), dp); err != nil {
		return err
	}
	return s.Serve(context.Background(), dp)
}

// fileDatapath keeps a file for each device, which outlives the process as a
// kernel's device does.
type fileDatapath string

func (d fileDatapath) path(s *endpoint.Spec) string { return filepath.Join(string(d), s.HostIfName) }

func (d fileDatapath) Add(_ context.Context, s *endpoint.Spec, _ *os.File) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(d.path(s), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(b)
	return err
}

func (d fileDatapath) Delete(_ context.Context, s *endpoint.Spec) error {
	if err := os.Remove(d.path(s)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (d fileDatapath) Check(context.Context, *endpoint.Spec, *os.File) error { return nil }

// load adds and deletes attachments until ctx ends, and tells in live what the
// runtime believes: acknowledged and not deleted.
func load(ctx context.Context, n *node, worker int, live *sync.Map, done *atomic.Int64) {
	netns := openFile(n.t, "/proc/self/ns/net")
	for i := 0; ctx.Err() == nil; i++ {
		id := fmt.Sprintf("w%dn%d", worker, i%8)
		verb := protocol.Add
		if _, ok := live.Load(id); ok {
			verb = protocol.Del
		}
		line, _ := protocol.EncodeRequest(request(verb, id))
		if verb == protocol.Del {
			live.Store(id, "deleting") // killed in the middle, either is right
		}
		resp, err := n.raw(line, netns)
		switch {
		case err != nil, resp.Error != nil && resp.Error.Code == protocol.CodeExists:
			// As a runtime does after a failed ADD or DEL.
			live.Store(id, "deleting")
		case resp.Error != nil:
			n.t.Errorf("%s %s: %v", verb, id, resp.Error)
		case verb == protocol.Add:
			live.Store(id, resp.Result.IPs[0].Address.IP.String())
			done.Add(1)
		default:
			live.Delete(id)
			done.Add(1)
		}
	}
}

// TestKillNine kills a daemon under load again and again. No address is ever
// doubled, none is lost, and what was acknowledged stays.
func TestKillNine(t *testing.T) {
	dir := filepath.Dir(config(t).Socket)
	if err := os.Mkdir(filepath.Join(dir, "devices"), 0o700); err != nil {
		t.Fatal(err)
	}
	n := &node{Server: &Server{cfg: killConfig(dir)}, t: t}
	var live sync.Map
	var done atomic.Int64
	for round := range 15 {
		var stderr strings.Builder
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killDir+"="+dir)
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		n.waitListening()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for w := range 6 {
			wg.Go(func() { load(ctx, n, w, &live, &done) })
		}
		<-time.After(time.Duration(10+rand.IntN(60)) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		cancel()
		wg.Wait()
		if stderr.Len() > 0 {
			t.Fatalf("round %d: daemon said %s", round, stderr.String())
		}
	}
	t.Logf("%d operations were acknowledged", done.Load())

	s, err := Open(n.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	dp := fileDatapath(filepath.Join(dir, "devices"))
	if err := s.Recover(t.Context(), dp); err != nil {
		t.Fatal(err)
	}
	// What was cut off may be there or not, or by half: the runtime, having got
	// no answer, deletes it.
	live.Range(func(id, believed any) bool {
		if believed == "deleting" {
			if err := s.del(t.Context(), dp, attachment(id.(string))); err != nil {
				t.Errorf("del %s: %v", id, err)
			}
			live.Delete(id)
		}
		return true
	})
	checkSurvivors(t, s, dp, &live)
}

func checkSurvivors(t *testing.T, s *Server, dp fileDatapath, live *sync.Map) {
	specs := s.Endpoints()
	var names []string
	for _, e := range specs {
		names = append(names, e.HostIfName)
		believed, ok := live.Load(e.ContainerID)
		if !ok {
			t.Errorf("%s was deleted and is there", e.ContainerID)
		} else if believed != e.Addresses[0].String() {
			t.Errorf("%s has %s and was told %s", e.ContainerID, e.Addresses[0], believed)
		}
	}
	live.Range(func(id, believed any) bool {
		there := slices.ContainsFunc(specs, func(e endpoint.Spec) bool { return e.ContainerID == id })
		if !there {
			t.Errorf("%s was acknowledged with %s and is gone", id, believed)
		}
		return true
	})
	entries, err := os.ReadDir(string(dp))
	if err != nil {
		t.Fatal(err)
	}
	var devices []string
	for _, e := range entries {
		devices = append(devices, e.Name())
	}
	slices.Sort(names)
	if !slices.Equal(names, devices) {
		t.Errorf("records of %v and devices %v", names, devices)
	}
	// The store itself refuses records that share an address; here, none is lost:
	// everything that is not in use can be given out.
	now := sinceBoot() + time.Hour
	for i, p := range s.state.pools {
		if p.Used() != len(specs) {
			t.Errorf("%s: %d in use by %d endpoints", p.Prefix(), p.Used(), len(specs))
		}
		for n := 0; i == 0; n++ {
			a, err := p.Next(now, nil)
			if err != nil {
				if n+len(specs) != 128-3 {
					t.Errorf("%d addresses could be given out beside %d in use, want 125 in all", n, len(specs))
				}
				break
			}
			p.Take(a)
		}
	}
}
