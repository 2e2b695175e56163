// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/waggle-net/waggle/cni/protocol"
	"github.com/waggle-net/waggle/cni/store"
	"github.com/waggle-net/waggle/datapath/endpoint"
)

// do carries a request out. Its errors are *types.Error.
func (s *Server) do(ctx context.Context, dp Datapath, req *protocol.Request, netns *os.File) (*types100.Result, error) {
	switch req.Verb {
	case protocol.Status:
		return nil, s.status()
	case protocol.GC:
		return nil, s.gc(ctx, dp, req)
	}
	unlock, err := s.locks.lock(ctx, req.Key())
	if err != nil {
		return nil, fail(types.ErrTryAgainLater, "see waggled's log for what it is doing",
			"%s %s: another operation on it is under way", req.Verb, req.Key())
	}
	defer unlock()
	switch req.Verb {
	case protocol.Add:
		return s.add(ctx, dp, req, netns)
	case protocol.Del:
		return nil, s.del(ctx, dp, req.Attachment)
	default:
		return nil, s.check(ctx, dp, req, netns)
	}
}

// status answers STATUS; see Config.Ready. Once there are pods, it is no error that
// another cannot be added for a while: by it the kubelet takes the node for not ready,
// and then the cluster takes all of its pods out of their services. They have what they
// need from before the restart, and ADD says itself what it waits for.
func (s *Server) status() error {
	err := s.cfg.Ready()
	var e *types.Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	if len(s.Endpoints()) > 0 {
		return nil
	}
	return fail(types.ErrPluginNotAvailable, "see waggled's log", "waggled is not ready: %v", err)
}

func (s *Server) add(ctx context.Context, dp Datapath, req *protocol.Request, netns *os.File) (*types100.Result, error) {
	a := req.Attachment
	if err := s.cfg.Ready(); err != nil {
		return nil, fail(types.ErrTryAgainLater, "see waggled's log", "add %s: waggled is not ready: %v", a.Key(), err)
	}
	r, err := s.state.create(req, s.cfg.MTU())
	if err != nil {
		return nil, allocationError(a, err)
	}
	// A delete of an earlier attachment of this name was for that one.
	if err := s.queue.Remove(a); err != nil {
		s.undo(ctx, dp, r)
		return nil, stateError("add", a, err)
	}
	if err := dp.Add(ctx, &r.Spec, netns); err != nil {
		s.undo(ctx, dp, r)
		return nil, datapathError("add", a, err)
	}
	if err := s.state.ready(a); err != nil {
		s.undo(ctx, dp, r)
		return nil, stateError("add", a, err)
	}
	return result(&r.Spec), nil
}

// undo takes back a failed add, even if its time is up. If that fails too, the
// record stays: the runtime's DEL, the next sweep or the next start remove it.
func (s *Server) undo(ctx context.Context, dp Datapath, r store.Record) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if err := s.remove(ctx, dp, r); err != nil {
		s.log.Error("failed add could not be undone; trying again later", "endpoint", r.Attachment().Key(), "err", err)
	}
}

func (s *Server) del(ctx context.Context, dp Datapath, a protocol.Attachment) error {
	r, ok := s.state.get(a)
	if ok {
		return s.remove(ctx, dp, r)
	}
	if err := s.queue.Remove(a); err != nil {
		return stateError("delete", a, err)
	}
	return nil
}

func (s *Server) check(ctx context.Context, dp Datapath, req *protocol.Request, netns *os.File) error {
	r, ok := s.state.get(req.Attachment)
	if !ok {
		return fail(types.ErrUnknownContainer, "", "check %s: waggled has no such attachment", req.Key())
	}
	if r.State != store.Ready {
		return fail(protocol.CodeMismatch, "run DEL for it", "check %s: it was never completed", req.Key())
	}
	if diffs := compare(req.PrevResult, &r.Spec); len(diffs) > 0 {
		return fail(protocol.CodeMismatch, "run DEL and ADD for it", "check %s: prevResult differs from what was built: %v",
			req.Key(), errors.Join(diffs...))
	}
	if err := dp.Check(ctx, &r.Spec, netns); err != nil {
		e := datapathError("check", req.Attachment, err)
		if e.Code == protocol.CodeDatapath {
			e.Code = protocol.CodeMismatch
		}
		return e
	}
	return nil
}

// gc removes what the runtime no longer knows. What is being added right now
// is not in the runtime's list and is left alone.
func (s *Server) gc(ctx context.Context, dp Datapath, req *protocol.Request) error {
	valid := map[string]bool{}
	for _, a := range req.Valid {
		valid[a.Key()] = true
	}
	var errs []error
	for _, r := range s.state.list() {
		a := r.Attachment()
		if r.Network != req.Network || valid[a.Key()] {
			continue
		}
		unlock, ok := s.locks.try(a.Key())
		if !ok {
			continue
		}
		if now, ok := s.state.get(a); ok && now.Spec.ID == r.Spec.ID && now.Created.Equal(r.Created) {
			s.log.Info("removing endpoint that the runtime no longer knows", "endpoint", a.Key())
			if err := s.remove(ctx, dp, now); err != nil {
				errs = append(errs, err)
			}
		}
		unlock()
	}
	if len(errs) == 0 {
		return nil
	}
	return fail(protocol.CodeDatapath, "see waggled's log; the next GC tries again",
		"collect garbage: %d attachments are left: %v", len(errs), errors.Join(errs...))
}

// compare names everything that prevResult does not say as spec has it. Results
// of later plugins in a chain may add to ours.
func compare(prev *types100.Result, spec *endpoint.Spec) (diffs []error) {
	if prev == nil {
		return []error{errors.New("there is none")}
	}
	has := map[string]bool{}
	for _, ip := range prev.IPs {
		has[ip.Address.IP.String()] = true
	}
	for _, a := range spec.Addresses {
		if !has[a.String()] {
			diffs = append(diffs, fmt.Errorf("address %s is not in it", a))
		}
	}
	inside := false
	for _, i := range prev.Interfaces {
		switch {
		case i.Sandbox != "" && i.Name == spec.IfName:
			inside = true
			diffs = append(diffs, compareMAC(i, spec.PodMAC)...)
		case i.Sandbox == "" && i.Name == spec.HostIfName:
			diffs = append(diffs, compareMAC(i, spec.HostMAC)...)
		}
	}
	if !inside {
		diffs = append(diffs, fmt.Errorf("interface %s is not in it", spec.IfName))
	}
	return diffs
}

func compareMAC(i *types100.Interface, want endpoint.MAC) []error {
	if i.Mac == "" || i.Mac == want.String() {
		return nil
	}
	return []error{fmt.Errorf("interface %s has the address %s in it and was given %s", i.Name, i.Mac, want)}
}
