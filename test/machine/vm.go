// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"time"

	"github.com/waggle-net/waggle/test/internal/program"
	"github.com/waggle-net/waggle/test/internal/qemu"
	"github.com/waggle-net/waggle/test/machine/internal/wire"
)

// commandLine is the guest kernel's. A kernel that has stumbled proves nothing,
// and SYSTEMD_COLORS is systemd's own, in the environment of process 1.
const commandLine = "root=" + rootDevice + " rw console=ttyS0 loglevel=5 net.ifnames=0 panic=-1 oops=panic SYSTEMD_COLORS=0"

// A vm is one run of QEMU, which is one boot.
type vm struct {
	console *console
	agent   *client
	cancel  context.CancelFunc
	ended   chan struct{} // closed when QEMU is gone
	err     error         // why, set before
}

// startVM starts QEMU, which lives until kill, or this process ends.
func startVM(ctx context.Context, m *Machine) (*vm, error) {
	path, err := program.Find(qemu.Program)
	if err != nil {
		return nil, err
	}
	conn, port, err := qemu.SocketPair()
	if err != nil {
		return nil, err
	}
	defer port.Close() // QEMU has its own
	accel := qemu.Accelerator(ctx, path)
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	v := &vm{
		console: &console{out: m.opts.Log},
		cancel:  cancel,
		ended:   make(chan struct{}),
	}
	cmd := qemu.Command(ctx, path, qemuArgs(m.opts, m.kernel.Image, accel, time.Now().Add(m.offset)))
	cmd.ExtraFiles = []*os.File{port, m.disk}
	if err := v.start(cmd); err != nil {
		cancel()
		conn.Close()
		return nil, err
	}
	v.agent = newClient(conn)
	return v, nil
}

// start starts QEMU and waits for its end in the background.
func (v *vm) start(cmd *exec.Cmd) error {
	lines := &qemu.Lines{Each: v.console.line}
	// QEMU's own complaints belong between the kernel's lines.
	cmd.Stdout, cmd.Stderr = lines, lines
	started := make(chan error)
	go func() {
		// Pdeathsig follows the thread that starts the child, so keep the thread.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		v.err = cmd.Wait()
		lines.Close()
		close(v.ended)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start qemu: %w", err)
	}
	return nil
}

func (v *vm) kill() {
	v.cancel()
	<-v.ended
	v.agent.close()
}

// awaitAgent returns when the agent has said hello.
func (v *vm) awaitAgent(ctx context.Context) error {
	select {
	case <-v.agent.ready:
		return nil
	case <-v.ended:
		return v.failure()
	case <-ctx.Done():
		return fmt.Errorf("wait for the agent: %w%s", context.Cause(ctx), v.console.text())
	}
}

func (v *vm) hasEnded() bool {
	select {
	case <-v.ended:
		return true
	default:
		return false
	}
}

// awaitEnd returns when the guest has shut itself down.
func (v *vm) awaitEnd(ctx context.Context) error {
	select {
	case <-v.ended:
	case <-ctx.Done():
		return fmt.Errorf("wait for the shutdown: %w%s", context.Cause(ctx), v.console.text())
	}
	if v.err != nil || v.console.panicLine() != "" {
		return v.failure()
	}
	return nil
}

// call asks the agent for one thing.
func (v *vm) call(ctx context.Context, req *wire.Request) (*wire.Answer, error) {
	answer, err := v.agent.call(ctx, req)
	if errors.Is(err, errPortClosed) {
		<-v.ended // the port closes because QEMU ends
		return nil, v.failure()
	}
	return answer, err
}

// failure says why QEMU has ended, which it does with the guest.
func (v *vm) failure() error {
	if line := v.console.panicLine(); line != "" {
		return fmt.Errorf("kernel panicked: %s%s", line, v.console.text())
	}
	if v.err != nil {
		return fmt.Errorf("run qemu: %w%s", v.err, v.console.text())
	}
	return fmt.Errorf("machine has shut itself down (to reboot it, call Reboot)%s", v.console.text())
}

// qemuArgs describes the machine. The agent's port is file descriptor 3, the
// disk is 4.
func qemuArgs(o Options, image, accel string, clock time.Time) []string {
	nic := "none"
	if o.Network {
		nic = "user,model=virtio-net-pci,restrict=on,ipv4=on,ipv6=on," +
			"net=192.0.2.0/24,host=" + gateway4 + ",ipv6-net=2001:db8::/64,ipv6-host=" + gateway6
	}
	return []string{
		// What a cloud's machine has: neither disks of old nor USB to look for.
		"-machine", "q35,sata=off,smbus=off,usb=off", "-accel", accel, "-cpu", "max",
		"-smp", strconv.Itoa(o.CPUs), "-m", strconv.Itoa(o.MemoryMiB),
		"-nodefaults", "-no-user-config", "-display", "none", "-nic", nic,
		// A QEMU for each boot: in the second one of the same QEMU (7.2),
		// emulation takes half a minute to clear a page where the firmware was.
		"-no-reboot",
		"-rtc", "clock=host,base=" + clock.UTC().Format("2006-01-02T15:04:05"),
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-device", "virtio-serial-pci", "-chardev", "socket,id=agent,fd=3",
		"-device", "virtserialport,chardev=agent,name=" + wire.PortName,
		// A power cut takes the guest's memory, not this machine's: the guest's
		// flushes need not reach our disk.
		"-drive", "if=none,id=root,format=raw,cache=unsafe,file=/proc/self/fd/4",
		"-device", "nvme,serial=root,drive=root",
		"-kernel", image, "-append", commandLine,
	}
}
