// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// onThread runs fn on an operating system thread of its own. The thread is
// thrown away afterwards: fn may move it into other namespaces and need not come
// back.
func onThread(fn func() error) error {
	type outcome struct {
		err      error
		panicked any
	}
	done := make(chan outcome, 1)
	go func() {
		// Never unlocked: the runtime ends the thread with the goroutine.
		runtime.LockOSThread()
		out := outcome{err: errors.New("function did not return: t.Fatal and runtime.Goexit are not possible inside Do")}
		defer func() {
			if r := recover(); r != nil {
				out.panicked = fmt.Sprintf("%v\n%s", r, debug.Stack())
			}
			done <- out
		}()
		if unix.Gettid() == os.Getpid() {
			// The main thread cannot be thrown away, and /proc/<pid>/ns shows its
			// namespaces. While this goroutine occupies it, another one cannot get it.
			out.err = onThread(fn)
			runtime.UnlockOSThread()
			return
		}
		out.err = fn()
	}()
	out := <-done
	if out.panicked != nil {
		panic(out.panicked)
	}
	return out.err
}

// nsFile is a namespace to enter: the file it is bound to, and its type.
type nsFile struct {
	path string
	kind int
}

// inNamespaces runs fn on a thread that has entered the given namespaces. Their
// files are opened before the first is entered, because afterwards the paths may
// lead elsewhere.
func inNamespaces(fn func() error, namespaces ...nsFile) error {
	return onThread(func() error {
		files := make([]*os.File, len(namespaces))
		for i, ns := range namespaces {
			f, err := os.Open(ns.path)
			if err != nil {
				return fmt.Errorf("open namespace: %w", err)
			}
			defer f.Close()
			files[i] = f
		}
		// Without its own root and working folder a thread may not change its
		// mount namespace.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("unshare fs: %w", err)
		}
		for i, ns := range namespaces {
			if err := unix.Setns(int(files[i].Fd()), ns.kind); err != nil {
				return fmt.Errorf("enter namespace %s: %w", ns.path, err)
			}
		}
		return fn()
	})
}

// Do runs fn on a thread inside the host's network, mount and UTS namespaces.
// Sockets that fn opens and programs that it starts are the host's; goroutines
// that it starts are not. The sockets do belong to the calling process's cgroup:
// socket programs on CgroupRoot do not see them. Use Command for that.
func (h *Host) Do(fn func() error) error {
	return inNamespaces(fn,
		nsFile{h.NetNSPath(), unix.CLONE_NEWNET},
		nsFile{h.utsPath(), unix.CLONE_NEWUTS},
		nsFile{h.mntPath(), unix.CLONE_NEWNS})
}

// DoNet is Do with the machine's mount namespace: paths mean what they mean
// outside.
func (h *Host) DoNet(fn func() error) error {
	return inNamespaces(fn, nsFile{h.NetNSPath(), unix.CLONE_NEWNET})
}
