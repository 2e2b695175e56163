// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"debug/elf"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cavaliergopher/cpio"

	"github.com/waggle-net/waggle/test/kernels/internal/wire"
)

// An entry is one regular file of an initramfs.
type entry struct {
	mode os.FileMode
	// data is the content when host is empty.
	data []byte
	// host is a file on this machine to copy.
	host string
}

// contents lists the files of a guest's initramfs by absolute guest path.
func (g *Guest) contents(init string, modules []module) (map[string]entry, error) {
	if err := checkStatic(g.Payload); err != nil {
		return nil, err
	}
	spec := wire.Spec{Name: filepath.Base(g.Payload), Args: g.Args, Env: g.Env}
	files := map[string]entry{
		"/init":          {mode: 0o755, host: init},
		wire.PayloadPath: {mode: 0o755, host: g.Payload},
	}
	for _, m := range modules {
		name := m.name + ".ko"
		spec.Modules = append(spec.Modules, name)
		files[path.Join(wire.ModuleDir, name)] = entry{mode: 0o644, data: m.data}
	}
	b, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("encode spec: %w", err)
	}
	files[wire.SpecPath] = entry{mode: 0o644, data: b}
	for guest, host := range g.Files {
		if !path.IsAbs(guest) || path.Clean(guest) != guest {
			return nil, fmt.Errorf("add file %s: not a clean absolute path", guest)
		}
		if _, ok := files[guest]; ok {
			return nil, fmt.Errorf("add file %s: reserved", guest)
		}
		info, err := os.Stat(host)
		if err != nil {
			return nil, fmt.Errorf("add file %s: %w", guest, err)
		}
		files[guest] = entry{mode: info.Mode().Perm(), host: host}
	}
	return files, nil
}

// checkStatic refuses a payload that needs a dynamic linker: the guest has
// none, and its kernel would only say "no such file or directory".
func checkStatic(payload string) error {
	f, err := elf.Open(payload)
	if err != nil {
		return fmt.Errorf("open payload: %w", err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("open payload %s: dynamically linked (build with CGO_ENABLED=0)", payload)
		}
	}
	return nil
}

// writeInitramfs writes files as a cpio archive in the "newc" format, the only
// one that the kernel reads. It is not compressed: QEMU copies it into memory
// at full speed, while the emulated CPU would decompress it slowly.
func writeInitramfs(w io.Writer, files map[string]entry) error {
	cw := cpio.NewWriter(w)
	// A sorted archive is the same each time, and has folders before files.
	for _, dir := range parents(maps.Keys(files)) {
		hdr := &cpio.Header{Name: strings.TrimPrefix(dir, "/"), Mode: cpio.TypeDir | 0o755, Links: 2}
		if err := cw.WriteHeader(hdr); err != nil {
			return fmt.Errorf("add folder %s: %w", dir, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := writeEntry(cw, strings.TrimPrefix(name, "/"), files[name]); err != nil {
			return fmt.Errorf("add file %s: %w", name, err)
		}
	}
	return cw.Close()
}

func writeEntry(cw *cpio.Writer, name string, e entry) error {
	size := int64(len(e.data))
	var content io.Reader = strings.NewReader(string(e.data))
	if e.host != "" {
		f, err := os.Open(e.host)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		size, content = info.Size(), f
	}
	hdr := &cpio.Header{Name: name, Mode: cpio.TypeReg | cpio.FileMode(e.mode.Perm()), Size: size, Links: 1}
	if err := cw.WriteHeader(hdr); err != nil {
		return err
	}
	_, err := io.CopyN(cw, content, size)
	return err
}

// parents returns the folders above the files, outermost first.
func parents(files func(yield func(string) bool)) []string {
	seen := map[string]bool{}
	for name := range files {
		for dir := path.Dir(name); dir != "/" && !seen[dir]; dir = path.Dir(dir) {
			seen[dir] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}
