// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/waggle-net/waggle/test/internal/program"
)

// DatapathModules are the modules that waggle's datapath and its tests may use
// on a stock kernel. A guest has no modprobe, so nothing is loaded on demand:
// a missing name here shows as "operation not supported" in a test.
var DatapathModules = []string{
	// Links.
	"veth", "dummy", "8021q", "bonding", "vrf", "vxlan", "geneve", "wireguard",
	"?netkit", // built in since 6.7, absent before
	// Traffic control before tcx.
	"sch_ingress", "cls_bpf",
	// nftables: masquerade, connection tracking, reject.
	"nf_tables", "nf_conntrack", "nf_nat", "nft_chain_nat", "nft_nat",
	"nft_masq", "nft_redir", "nft_ct", "nft_reject_inet", "nft_fib_inet",
	// Sockets: SCTP, and SOCK_DESTROY over netlink.
	"sctp", "inet_diag", "tcp_diag", "udp_diag",
}

// A module is a kernel module ready to be put into an initramfs.
type module struct {
	name string // canonical, without suffix
	data []byte // uncompressed ELF
}

// moduleTree answers questions about one lib/modules/<release> folder. Debian
// packages carry no modules.dep (their install script runs depmod), so the
// dependencies come from where depmod's own answer is written: the modules.
type moduleTree struct {
	paths   map[string]string // canonical name to file
	builtin map[string]bool
	// read returns a module's ELF bytes.
	read func(ctx context.Context, path string) ([]byte, error)
}

func openModuleTree(dir string) (*moduleTree, error) {
	t := &moduleTree{paths: map[string]string{}, read: readModule}
	err := filepath.WalkDir(filepath.Join(dir, "kernel"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name, ok := moduleName(path); ok && !d.IsDir() {
			t.paths[name] = path
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list modules: %w", err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, fmt.Errorf("read built-in modules: %w", err)
	}
	t.builtin = parseBuiltin(string(b))
	return t, nil
}

// parseBuiltin reads modules.builtin: one path a line.
func parseBuiltin(text string) map[string]bool {
	out := map[string]bool{}
	for line := range strings.Lines(text) {
		if name, ok := moduleName(strings.TrimSpace(line)); ok {
			out[name] = true
		}
	}
	return out
}

// moduleName returns the canonical name of a module file.
func moduleName(path string) (string, bool) {
	base := filepath.Base(path)
	for _, suffix := range []string{".ko", ".ko.xz"} {
		if name, ok := strings.CutSuffix(base, suffix); ok {
			return canonical(name), true
		}
	}
	return "", false
}

// canonical follows the kernel: names in files may have dashes, in use they
// have underscores.
func canonical(name string) string { return strings.ReplaceAll(name, "-", "_") }

// resolve returns the modules to load for the wanted names, dependencies
// first, each once. Built-in names need nothing. A name with a leading question
// mark may be absent from this kernel.
func (t *moduleTree) resolve(ctx context.Context, wanted []string) ([]module, error) {
	var out []module
	done := map[string]bool{}
	var visit func(name string) error
	visit = func(name string) error {
		name = canonical(name)
		if done[name] || t.builtin[name] {
			return nil
		}
		done[name] = true // before its dependencies: a cycle must end
		path, ok := t.paths[name]
		if !ok {
			return fmt.Errorf("find module %s: not in this kernel", name)
		}
		data, err := t.read(ctx, path)
		if err != nil {
			return fmt.Errorf("read module %s: %w", name, err)
		}
		deps, err := dependencies(data)
		if err != nil {
			return fmt.Errorf("parse module %s: %w", name, err)
		}
		for _, dep := range deps {
			if err := visit(dep); err != nil {
				return fmt.Errorf("%w (needed by %s)", err, name)
			}
		}
		out = append(out, module{name: name, data: data})
		return nil
	}
	for _, name := range wanted {
		if optional, ok := strings.CutPrefix(name, "?"); ok {
			if _, ok := t.paths[canonical(optional)]; !ok {
				continue
			}
			name = optional
		}
		if err := visit(name); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// dependencies reads a module's own list of the modules it needs.
func dependencies(data []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, errors.New("no .modinfo section")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	return parseDepends(string(info)), nil
}

// parseDepends reads the "depends" entry of a .modinfo section: strings that
// end in NUL, of which one is "depends=udp_tunnel,ip6_udp_tunnel".
func parseDepends(modinfo string) []string {
	for entry := range strings.SplitSeq(modinfo, "\x00") {
		if list, ok := strings.CutPrefix(entry, "depends="); ok && list != "" {
			return strings.Split(list, ",")
		}
	}
	return nil
}

// readModule returns a module's bytes. Debian's 6.12 has compressed modules;
// the host unpacks them, quicker than an emulated CPU.
func readModule(ctx context.Context, path string) ([]byte, error) {
	if !strings.HasSuffix(path, ".xz") {
		return os.ReadFile(path)
	}
	out, err := program.Output(ctx, "", "xz", "-dc", path)
	return []byte(out), err
}
