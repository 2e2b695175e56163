// SPDX-License-Identifier: Apache-2.0

package debian

import (
	"archive/tar"
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// mustTree reads packages that are written as lines of "PACKAGE PATH", "PACKAGE PATH ->
// LINK" and "PACKAGE PATH = LINK" for another name of a file. Others hold their path.
func mustTree(t *testing.T, lines string) Tree {
	t.Helper()
	tree := newTree()
	for line := range strings.Lines(lines) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		h := &tar.Header{Name: "./" + f[1], Mode: 0o4755, Typeflag: tar.TypeReg, Size: int64(len(f[1]))}
		if len(f) == 4 {
			h.Size, h.Linkname, h.Typeflag = 0, f[3], tar.TypeSymlink
			if f[2] == "=" {
				h.Typeflag = tar.TypeLink
			}
		}
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte(f[1])); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := tree.readTar(f[0], &b); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

const packages = `
base   lib -> usr/lib
server usr/bin/server -> all-in-one
server bin/start -> /etc/alternatives/start
server usr/bin/loop -> loop
server usr/share/doc/server -> tools
tools  usr/bin/all-in-one
tools  usr/bin/other = ./usr/bin/all-in-one
tools  usr/share/doc/tools/copyright
tools  usr/share/doc/tools/changelog.gz
tools  usr/share/man/man1/server.1
libx   lib/x86_64-linux-gnu/libx.so.1 -> libx.so.1.2
libx   lib/x86_64-linux-gnu/libx.so.1.2
libx   usr/lib/x86_64-linux-gnu/libx.a
libx   usr/share/doc/libx/copyright
liby   usr/lib/liby.so.1
`

func TestPrograms(t *testing.T) {
	tree := mustTree(t, packages)
	for _, tt := range []struct {
		name                string
		programs, libraries []string
		want                []string
		err                 string
	}{
		{
			name: "a link to a file of another package, whose copyright is there, too", programs: []string{"usr/bin/server"},
			want: []string{
				"usr/bin/all-in-one", "usr/bin/server -> all-in-one",
				"usr/share/doc/server -> tools", "usr/share/doc/tools/copyright",
			},
		},
		{
			name: "another name of a file", programs: []string{"/bin/other"},
			want: []string{
				"bin -> usr/bin", "usr/bin/all-in-one", "usr/bin/other -> /usr/bin/all-in-one", "usr/share/doc/tools/copyright",
			},
		},
		{
			name: "a library where all is below /usr", libraries: []string{"libx.so.1"},
			want: []string{
				"usr/lib/x86_64-linux-gnu/libx.so.1 -> libx.so.1.2", "usr/lib/x86_64-linux-gnu/libx.so.1.2",
				"usr/share/doc/libx/copyright",
			},
		},
		{name: "no such library", libraries: []string{"libz.so.1"}, err: "take library libz.so.1: it is in none of the packages"},
		{name: "no such program", programs: []string{"usr/bin/none"}, err: "take usr/bin/none: it is in none"},
		{name: "left out", programs: []string{"usr/share/man/man1/server.1"}, err: "in none of the packages"},
		{name: "no licence", libraries: []string{"liby.so.1"}, err: "take usr/share/doc/liby/copyright"},
		{name: "a link to nowhere", programs: []string{"bin/start"}, err: "take bin/start: it is in none"},
		{name: "a link to itself", programs: []string{"usr/bin/loop"}, err: "follow usr/bin/loop: too many links"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files, err := tree.Programs(tt.libraries, tt.programs...)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("Programs() error = %v, want it to say %q", err, tt.err)
			}
			var got []string
			for _, f := range files {
				if f.Mode&^0o777 != 0 {
					t.Errorf("%s has mode %o: whoever runs it would be somebody else", f.Path, f.Mode)
				}
				if f.Link != "" {
					f.Path += " -> " + f.Link
				}
				got = append(got, f.Path)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("files: -want +got:\n%s", diff)
			}
		})
	}
}

// What an ELF file names is looked for in the packages, and nowhere else.
func TestProgramsSayWhatIsMissing(t *testing.T) {
	tree := mustTree(t, packages)
	content, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	f := tree.files["usr/bin/all-in-one"]
	f.Content = content
	tree.files["usr/bin/all-in-one"] = f
	_, err = tree.Programs(nil, "usr/bin/server")
	if err == nil || !strings.HasPrefix(err.Error(), "take what usr/bin/all-in-one needs: take /lib") {
		t.Errorf("Programs() error = %v, want it to name the loader", err)
	}
}
