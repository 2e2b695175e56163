// SPDX-License-Identifier: Apache-2.0

// Package plugin is waggle-cni: the program that a container runtime executes
// for every pod. It does next to nothing itself. It opens the pod's network
// namespace, hands it to waggled and prints what waggled answers.
//
// It runs thousands of times on a busy node, so it starts in milliseconds:
// nothing here may import eBPF, HTTP or Kubernetes packages.
package plugin

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/waggle-net/waggle/cni/protocol"
)

// supported are the versions of the specification that we answer in. Results of
// before 0.3.0 have no interfaces and at most one address per family.
var supported = version.PluginSupports("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")

// Main runs the verb in the environment and gives the exit code.
func Main(about string) int {
	err := skel.PluginMainFuncsWithError(skel.CNIFuncs{
		Add: add, Del: del, Check: check, GC: gc, Status: status,
	}, supported, about)
	if err == nil {
		return 0
	}
	if err := err.Print(); err != nil {
		fmt.Fprintln(os.Stderr, "waggle-cni: print error:", err)
	}
	return 1
}

func add(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData, true)
	if err != nil {
		return err
	}
	if c.RawPrevResult != nil {
		return types.NewError(types.ErrInvalidNetworkConfig,
			"network configuration: waggle-cni creates the interface and must be the first plugin",
			"move it to the top of \"plugins\" in the conflist")
	}
	pod, err := parseArgs(args.Args)
	if err != nil {
		return err
	}
	netns, err := openNetNS(args)
	if err != nil {
		return err
	}
	defer netns.Close()
	req := request(protocol.Add, c, args)
	req.Pod = pod
	result, err := call(c.Socket, req, netns)
	if err != nil {
		return tryAgain("add", err)
	}
	if result == nil {
		return types.NewError(types.ErrDecodingFailure, "waggled answered ADD without a result", "")
	}
	result.DNS = c.DNS
	return types.PrintResult(result, c.CNIVersion)
}

func check(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData, true)
	if err != nil {
		return err
	}
	netns, err := openNetNS(args)
	if err != nil {
		return err
	}
	defer netns.Close()
	req := request(protocol.Check, c, args)
	if req.PrevResult, err = c.prevResult(); err != nil {
		return err
	}
	if req.PrevResult == nil {
		return types.NewError(types.ErrInvalidNetworkConfig, "network configuration: CHECK without \"prevResult\"",
			"the runtime must pass the result of ADD")
	}
	_, err = call(c.Socket, req, netns)
	return tryAgain("check", err)
}

func del(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData, false)
	if err != nil {
		return err
	}
	req := request(protocol.Del, c, args)
	if _, err = call(c.Socket, req, nil); errors.Is(err, errDown) {
		return delOffline(c.Socket, req)
	}
	return err
}

func gc(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData, false)
	if err != nil {
		return err
	}
	req := request(protocol.GC, c, args)
	if req.Valid, err = c.valid(); err != nil {
		return err
	}
	_, err = call(c.Socket, req, nil)
	return tryAgain("collect garbage", err)
}

// restartTime is how long STATUS waits for a daemon that may be restarting, which takes
// a second or two: by an error, however short, the cluster takes all pods of the node out
// of their services. A kubelet asks every 5 seconds, and takes a runtime for dead that
// has not answered for 30.
const restartTime = 10 * time.Second

func status(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData, true)
	if err != nil {
		return err
	}
	enough, again := time.After(restartTime), time.NewTicker(restartTime/100)
	defer again.Stop()
	for {
		_, err = call(c.Socket, request(protocol.Status, c, args), nil)
		if !errors.Is(err, errDown) {
			return err
		}
		select {
		case <-enough:
			return types.NewError(types.ErrPluginNotAvailable, err.Error(), howToSee)
		case <-again.C:
		}
	}
}

func request(verb protocol.Verb, c *conf, args *skel.CmdArgs) *protocol.Request {
	return &protocol.Request{
		Version:    protocol.Version,
		Verb:       verb,
		Network:    c.Name,
		Attachment: protocol.Attachment{ContainerID: args.ContainerID, IfName: args.IfName},
		NetNS:      args.Netns,
	}
}

// tryAgain turns errDown into the error that makes the runtime come back.
func tryAgain(verb string, err error) error {
	if errors.Is(err, errDown) {
		return types.NewError(types.ErrTryAgainLater, verb+": "+err.Error(), howToSee)
	}
	return err
}
