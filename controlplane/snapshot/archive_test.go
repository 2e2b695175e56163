// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// file is what a test puts into an archive.
type file struct {
	tar.Header
	text string
}

// members unpacks an archive, for a test to change.
func members(t testing.TB, archive []byte) (out []*file) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(archive))
	must(t, err)
	r := tar.NewReader(z)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		must(t, err)
		text, err := io.ReadAll(r)
		must(t, err)
		out = append(out, &file{*h, string(text)})
	}
}

func packTar(files []*file) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		f.Size = int64(len(f.text))
		w.WriteHeader(&f.Header)
		w.Write([]byte(f.text))
	}
	w.Close()
	return b.Bytes()
}

func pack(text []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(text)
	w.Close()
	return b.Bytes()
}

// read is what a reader of an archive gets.
func read(r io.Reader, from func(io.Reader, sink) (*Manifest, error)) (*Manifest, map[string]string, error) {
	got := make(map[string]string)
	m, err := from(r, sink{member: func(f Member, content io.Reader) error {
		text, err := io.ReadAll(content)
		got[f.Name] = string(text)
		return err
	}})
	return m, got, err
}

func TestArchive(t *testing.T) {
	m, got, err := read(bytes.NewReader(fake(t, nil)), readArchive)
	must(t, err)
	if m.Node != "one" || got[databaseName] != "database" || got["pki/etcd-ca.key"] != "text of pki/etcd-ca.key" || len(got) != 10 {
		t.Errorf("got %+v, %q", m, got)
	}
	// As a tool would write it that fills its last block.
	padded := packTar(members(t, fake(t, nil)))
	if _, again, err := read(bytes.NewReader(pack(append(padded, make([]byte, 10240)...))), readArchive); err != nil || !maps.Equal(got, again) {
		t.Errorf("padded: %v, %q", err, again)
	}
}

// What is not exactly as it was written is refused, and no name in it is followed.
func TestArchiveRefuses(t *testing.T) {
	type files = []*file
	manifest := func(change func(m *Manifest)) func(files) files {
		return func(f files) files {
			m := &Manifest{}
			json.Unmarshal([]byte(f[0].text), m)
			change(m)
			text, _ := json.Marshal(m)
			f[0].text = string(text)
			return f
		}
	}
	evil := func(name string) func(files) files {
		return func(f files) files {
			f = manifest(func(m *Manifest) { m.Members[3].Name = name })(f)
			f[4].Name = name
			return f
		}
	}
	link := func(kind byte) func(files) files {
		return func(f files) files {
			f[4].Typeflag, f[4].Linkname, f[4].text = kind, "/etc/shadow", ""
			return f
		}
	}
	for name, row := range map[string]struct {
		change func(files) files
		want   string
	}{
		"parent folder":      {evil("../../etc/cron.d/x"), `names "../../etc/cron.d/x", which is no part of a snapshot`},
		"absolute path":      {evil("/etc/passwd"), "is no part of a snapshot"},
		"unclean path":       {evil("pki/../pki/etcd-ca.key"), "is no part of a snapshot"},
		"leaf certificate":   {evil("pki/admin.pem"), "is no part of a snapshot"},
		"twice in manifest":  {evil("pki/etcd-ca.key"), "or names it twice"},
		"only in the tar":    {func(f files) files { f[4].Name = "../x"; return f }, `holds "../x" in the place of`},
		"symbolic link":      {link(tar.TypeSymlink), "is no regular file"},
		"hard link":          {link(tar.TypeLink), "is no regular file"},
		"device":             {link(tar.TypeChar), "is no regular file"},
		"one more":           {func(f files) files { return append(f, &file{tar.Header{Name: "x", Typeflag: tar.TypeReg}, "x"}) }, `holds "x", which its manifest does not name`},
		"one less":           {func(f files) files { return f[:len(f)-1] }, "ends before etcd.db"},
		"nothing":            {func(files) files { return nil }, "ends before manifest.json"},
		"manifest not first": {func(f files) files { slices.Reverse(f); return f }, `holds "etcd.db" in the place of manifest.json`},
		"other content":      {func(f files) files { f[4].text = strings.ToUpper(f[4].text); return f }, "has another content than its manifest says"},
		"other size":         {func(f files) files { f[4].text += "x"; return f }, "bytes in it, its manifest says"},
		"huge key":           {manifest(func(m *Manifest) { m.Members[3].Size = 1 << 40 }), "at most 1048576 are read"},
		"huge database":      {manifest(func(m *Manifest) { m.Members[9].Size = 1 << 40 }), "at most 9663676416 are read"},
		"negative size":      {manifest(func(m *Manifest) { m.Members[3].Size = -1 }), "at most"},
		"huge manifest":      {func(f files) files { f[0].text += strings.Repeat(" ", 2<<20); return f }, "manifest.json has more than 1048576 bytes"},
		"member not named":   {manifest(func(m *Manifest) { m.Members = m.Members[1:] }), `lacks ["version.json"]`},
		"no JSON":            {func(f files) files { f[0].text = "{"; return f }, "read manifest.json: "},
		"format of tomorrow": {manifest(func(m *Manifest) { m.Format, m.Waggle = 2, "v9.0.0" }), "its format is 2, this waggle-kube knows formats up to 1: use waggle-kube v9.0.0 or newer"},
		"no format":          {manifest(func(m *Manifest) { m.Format = 0 }), "has no format"},
	} {
		t.Run(name, func(t *testing.T) {
			archive := pack(packTar(row.change(members(t, fake(t, nil)))))
			_, got, err := read(bytes.NewReader(archive), readArchive)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
			for name := range got {
				if name != databaseName && !slices.Contains(smallFiles(), name) {
					t.Errorf("%q was handed out", name)
				}
			}
		})
	}
	follows := pack(append(packTar(members(t, fake(t, nil))), make([]byte, 1<<20)...))
	if _, _, err := read(bytes.NewReader(follows), readArchive); err == nil || !strings.Contains(err.Error(), "follow its last member") {
		t.Errorf("a megabyte of zeros behind it: %v", err)
	}
}

// An archive that was cut anywhere is refused; one with a changed byte is, or says
// the same.
func TestDamagedArchive(t *testing.T) {
	whole := fake(t, nil)
	m, content, err := read(bytes.NewReader(whole), readArchive)
	must(t, err)
	for n := range whole {
		if _, _, err := read(bytes.NewReader(whole[:n]), readArchive); err == nil {
			t.Errorf("cut to %d of %d bytes it is accepted", n, len(whole))
		}
		changed := bytes.Clone(whole)
		changed[n] ^= 0x10
		gotM, got, err := read(bytes.NewReader(changed), readArchive)
		if err == nil && (!cmp.Equal(m, gotM) || !maps.Equal(content, got)) {
			t.Errorf("with byte %d changed it says\n%+v\n%q", n, gotM, got)
		}
	}
	if _, _, err := read(bytes.NewReader(append(whole, 'x')), readArchive); err == nil {
		t.Error("with a byte more it is accepted")
	}
}

func TestList(t *testing.T) {
	dir := t.TempDir()
	whole := fake(t, nil)
	later := fake(t, func(m *Manifest, _ map[string][]byte) { m.Time, m.Revision = m.Time.Add(time.Hour), 9 })
	broken := bytes.Clone(whole)
	for name, text := range map[string][]byte{"a.tar.gz": later, "b.tar.gz": whole, "c.tar.gz": broken[:len(broken)-1], "d.tar.gz": []byte("no gzip"), "e.txt": whole, ".waggle-kube-1.part": whole} {
		must(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	must(t, os.Mkdir(filepath.Join(dir, "f.tar.gz"), 0o700))
	when := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	must(t, os.Chtimes(filepath.Join(dir, "d.tar.gz"), when, when))
	entries, err := List(dir)
	must(t, err)
	for i := range entries {
		entries[i].Size = 2500 // gzip's business
	}
	var b strings.Builder
	must(t, Render(&b, entries))
	const want = `NAME      SAVED                 SIZE     REVISION  KEYS  WAGGLE  KUBERNETES  ETCD   STATE
d.tar.gz  2020-01-01T00:00:00Z  2.4 KiB  0         0     -       -           -      DAMAGED: it is damaged or no snapshot of a cluster (unexpected EOF): use another one
b.tar.gz  2026-05-01T10:00:00Z  2.4 KiB  7         3     v0.5.0  v1.36.4     3.6.8  good
c.tar.gz  2026-05-01T10:00:00Z  2.4 KiB  7         3     v0.5.0  v1.36.4     3.6.8  DAMAGED: it is damaged or no snapshot of a cluster (unexpected EOF): use another one
a.tar.gz  2026-05-01T11:00:00Z  2.4 KiB  9         3     v0.5.0  v1.36.4     3.6.8  good
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("list differs (-want +got):\n%s", diff)
	}
	if none, err := List(filepath.Join(dir, "missing")); err != nil || none == nil || len(none) != 0 {
		t.Errorf("a folder that is missing has %v, %v: want an empty list", none, err)
	}
}

func TestRenderForeignText(t *testing.T) {
	var b strings.Builder
	must(t, Render(&b, []Entry{{Name: "a\x1b[2J\nb", Waggle: "v1\tv2"}}))
	if got := b.String(); strings.Contains(got, "\x1b") || strings.Count(got, "\n") != 2 {
		t.Errorf("got %q", got)
	}
}

func TestSize(t *testing.T) {
	for bytes, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 5 << 20: "5.0 MiB", 3 << 29: "1.5 GiB", 1 << 53: "8192.0 TiB"} {
		if got := size(bytes); got != want {
			t.Errorf("size(%d) = %q, want %q", bytes, got, want)
		}
	}
}

// Whatever is read, what is accepted are the members that a snapshot has, each as
// its manifest says.
func FuzzReadTar(f *testing.F) {
	f.Add(packTar(members(f, fake(f, nil))))
	f.Add(packTar(members(f, fake(f, nil))[:1]))
	f.Add(packTar([]*file{{tar.Header{Name: "../x", Typeflag: tar.TypeSymlink, Linkname: "/"}, ""}}))
	f.Add(fake(f, nil))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, from := range []func(io.Reader, sink) (*Manifest, error){readTar, readArchive} {
			m, got, err := read(bytes.NewReader(text), from)
			for name := range got {
				if name != databaseName && !slices.Contains(smallFiles(), name) {
					t.Errorf("%q was handed out", name)
				}
			}
			if err != nil {
				continue
			}
			if len(got) != len(smallFiles())+1 {
				t.Errorf("accepted with %d members", len(got))
			}
			for _, member := range m.Members {
				sum := sha256.Sum256([]byte(got[member.Name]))
				if hex.EncodeToString(sum[:]) != member.SHA256 || int64(len(got[member.Name])) != member.Size {
					t.Errorf("%s is not what the manifest says", member.Name)
				}
			}
		}
	})
}
