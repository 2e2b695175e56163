// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/waggle-net/waggle/controlplane/config"
	"github.com/waggle-net/waggle/controlplane/health"
	"github.com/waggle-net/waggle/controlplane/image"
	"github.com/waggle-net/waggle/controlplane/runtime"
	"github.com/waggle-net/waggle/controlplane/supervise"
	"github.com/waggle-net/waggle/internal/status"
)

// The processes of a server, as status and logs call them.
const (
	containerdName   = "containerd"
	controlPlaneName = "control-plane"
	nodeName         = "node"
	waggledName      = "waggled"
)

// configSum is the environment variable that carries the sum of a process's
// configuration: who takes over a running process sees by it whether that was
// started with what is configured now.
const configSum = "WAGGLE_KUBE_CONFIG_SUM"

// children writes what the processes read, and returns them. containerd and the
// control plane do not need each other; the node needs containerd at once, and waits
// by itself for an API server, which may be another machine's.
func (s *Server) children(host runtime.Host) ([]supervise.Child, error) {
	l := s.Config.Layout()
	for _, dir := range []string{l.GeneratedDir(), l.LogDir(), l.ImagesDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make folder: %w", err)
		}
	}
	file := l.Generated("config.json")
	if err := s.Config.Write(file); err != nil {
		return nil, err
	}
	sum, err := fileSum(file)
	if err != nil {
		return nil, err
	}
	containerd, err := s.containerd(host)
	if err != nil {
		return nil, err
	}
	program := filepath.Join(s.BinDir, "waggle-kubernetes")
	env := append(thrifty(supervise.Environment(os.Environ())), configSum+"="+sum)
	children := []supervise.Child{
		containerd,
		{
			Name: controlPlaneName, Path: program,
			Args:      []string{"control-plane", "--config", file},
			Env:       env,
			LogFile:   l.Log(controlPlaneName),
			Ready:     health.Await(l.Socket(controlPlaneName)),
			StopGrace: 20 * time.Second, // requests under way, and etcd's last writes

			ReadyTimeout: readyTimeout,
			OpenFiles:    openFiles,
			TimerSlack:   timerSlack,
		},
		{
			Name: nodeName, Path: program,
			Args:      []string{"node", "--config", file, "--cgroup-driver", host.CgroupDriver},
			Env:       env,
			LogFile:   l.Log(nodeName),
			After:     []string{containerdName},
			Ready:     health.Await(l.Socket(nodeName)),
			OpenFiles: openFiles,

			ReadyTimeout: readyTimeout,
		},
	}
	if !s.Config.Dataplane.Enabled {
		return children, nil
	}
	waggled, err := s.waggled()
	if err != nil {
		return nil, err
	}
	return append(children, waggled), nil
}

// waggled is the datapath's daemon. It finds the API server and its node by itself,
// and is left running with the pods that it serves.
func (s *Server) waggled() (supervise.Child, error) {
	l := s.Config.Layout()
	c, errs := s.Config.DaemonConfig()
	if err := errs.ToAggregate(); err != nil { // validated already
		return supervise.Child{}, err
	}
	file := l.DaemonConfig()
	if err := c.Write(file); err != nil {
		return supervise.Child{}, err
	}
	sum, err := fileSum(file)
	if err != nil {
		return supervise.Child{}, err
	}
	client := &status.Client{Socket: c.APISocket()}
	return supervise.Child{
		Name: waggledName, Path: filepath.Join(s.BinDir, "waggled"),
		Args:         []string{"run", "--config", file},
		Env:          append(thrifty(supervise.Environment(os.Environ())), configSum+"="+sum),
		LogFile:      l.Log(waggledName),
		Ready:        client.Ready,
		ReadyTimeout: readyTimeout,
		Keep:         true,
	}, nil
}

// thrifty has the garbage collector run when the heap has grown by half, and not when
// it has doubled: it saves a tenth of the memory for little work, as most of a small
// cluster's heap is caches that stay. Who sets GOGC has chosen.
func thrifty(env []string) []string {
	if slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, "GOGC=") }) {
		return env
	}
	return append(env, "GOGC=50")
}

// timerSlack is how late timers of the control plane may be while nothing happens: it
// has more than a hundred that look at something each tenth of a second to second, each
// of which would wake a processor up. It more than halves what the control plane costs
// when idle. Not the node's: a pod's start waits for some of the kubelet's, one after the
// other; and not containerd's, for containers would inherit it.
const timerSlack = 50 * time.Millisecond

// readyTimeout is how long Kubernetes may take to start: seconds on a machine of today,
// minutes on an SD card or under emulation.
const readyTimeout = 10 * time.Minute

// openFiles is the limit of open files of each process: watches are connections.
const openFiles = 1 << 20

func (s *Server) containerd(host runtime.Host) (supervise.Child, error) {
	c := s.Config
	registries, err := registries(c)
	if err != nil {
		return supervise.Child{}, err
	}
	rc := runtime.Config{
		Layout: c.Layout(), BinDir: s.BinDir, Host: host,
		PauseImage: image.PauseName,
		CNIBinDirs: []string{c.ContainerRuntime.CNIBinDir},
		CNIConfDir: c.ContainerRuntime.CNIConfDir,
		Registries: registries,
		LogLevel:   string(c.LogLevel),
	}
	if err := rc.Write(); err != nil {
		return supervise.Child{}, err
	}
	sum, err := fileSum(rc.Path())
	if err != nil {
		return supervise.Child{}, err
	}
	process := rc.Command(os.Environ())
	imports := imports{importer: runtime.Importer{Layout: c.Layout(), BinDir: s.BinDir, Snapshotter: host.Snapshotter, Pin: true}, log: s.Log}
	return supervise.Child{
		Name: containerdName, Path: process.Path, Args: process.Args,
		Env:       append(thrifty(process.Env), configSum+"="+sum),
		LogFile:   c.Layout().Log(containerdName),
		OpenFiles: openFiles,
		Ready: func(ctx context.Context) error {
			if err := runtime.Ready(ctx, c.Layout()); err != nil {
				return err
			}
			return imports.once(ctx)
		},
	}, nil
}

// registries are those of the configuration, with passwords that are in files.
func registries(c *config.Config) ([]runtime.Registry, error) {
	var all []runtime.Registry
	for i := range c.ContainerRuntime.Registries {
		r := &c.ContainerRuntime.Registries[i]
		password, err := r.ReadPassword()
		if err != nil {
			return nil, err
		}
		one := runtime.Registry{
			Name:   r.Host,
			Server: runtime.Endpoint{CAFile: r.CAFile, SkipVerify: r.SkipVerify, Username: r.Username, Password: password.Reveal()},
		}
		if r.Host == config.AnyRegistry {
			one.Name = runtime.AllRegistries
		}
		for _, m := range r.Mirrors {
			one.Mirrors = append(one.Mirrors, runtime.Endpoint{URL: m.URL, Capabilities: m.Capabilities, CAFile: m.CAFile, SkipVerify: m.SkipVerify})
		}
		all = append(all, one)
	}
	return all, nil
}

func fileSum(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", errors.Join(errors.New("sum configuration"), err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8]), nil
}
