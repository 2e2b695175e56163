// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// writeArchive writes a manifest and what it names: the small files' content by
// name, and the database.
func writeArchive(w io.Writer, m *Manifest, small map[string][]byte, database io.Reader) error {
	// The control plane has better things to do than to pack a little tighter.
	packed, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	t := tar.NewWriter(packed)
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := writeMember(t, m, manifestName, int64(len(text)), bytes.NewReader(text)); err != nil {
		return err
	}
	for _, f := range m.Members {
		content := database
		if f.Name != databaseName {
			content = bytes.NewReader(small[f.Name])
		}
		if err := writeMember(t, m, f.Name, f.Size, content); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), packed.Close())
}

func writeMember(t *tar.Writer, m *Manifest, name string, size int64, content io.Reader) error {
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: int64(mode(name)), ModTime: m.Time}); err != nil {
		return err
	}
	_, err := io.CopyN(t, content, size)
	return err
}

// sink takes what an archive holds. Nil functions take nothing.
type sink struct {
	// start is called first. An error ends the reading.
	start func(*Manifest) error
	// member gets each member other than the manifest. What it has got is as the
	// manifest says only if readArchive returns no error.
	member func(f Member, content io.Reader) error
}

// readFile reads an archive and checks all of it.
func readFile(path string, s sink) (*Manifest, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open snapshot: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, fmt.Errorf("open snapshot: %w", err)
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open snapshot: %s is no file", path)
	}
	m, err := readArchive(f, s)
	if err != nil {
		return m, fmt.Errorf("read snapshot %s: %w", path, err)
	}
	return m, nil
}

// damagedError says that an archive is not as it was written.
type damagedError struct{ cause error }

func (e *damagedError) Error() string {
	return fmt.Sprintf("it is damaged or no snapshot of a cluster (%v): use another one", e.cause)
}

func (e *damagedError) Unwrap() error { return e.cause }

// readArchive reads an archive. Its manifest is returned beside an error, too, if it
// could be read.
func readArchive(r io.Reader, s sink) (*Manifest, error) {
	unpacked, err := gzip.NewReader(bufio.NewReader(r))
	if err != nil {
		return nil, &damagedError{err}
	}
	m, err := readTar(unpacked, s)
	if err != nil {
		return m, err
	}
	// Only at its end does gzip compare its own checksum.
	if n, err := io.CopyN(io.Discard, unpacked, maxPadding+1); !errors.Is(err, io.EOF) {
		if err == nil {
			err = fmt.Errorf("%d bytes or more follow its last member", n)
		}
		return m, &damagedError{err}
	}
	return m, nil
}

// maxPadding is how many bytes may follow the last member: programs write blocks.
const maxPadding = 64 << 10

func readTar(r io.Reader, s sink) (*Manifest, error) {
	t := tar.NewReader(r)
	m, err := readManifest(t)
	if _, newer := errors.AsType[*newerError](err); newer {
		return nil, err
	}
	if err != nil {
		return nil, &damagedError{err}
	}
	if s.start != nil {
		if err := s.start(m); err != nil {
			return m, err
		}
	}
	for _, f := range m.Members {
		if err := next(t, f.Name, f.Size); err != nil {
			return m, &damagedError{err}
		}
		if err := readMember(t, f, s); err != nil {
			return m, err
		}
	}
	if h, err := t.Next(); err == nil {
		return m, &damagedError{fmt.Errorf("it holds %q, which its manifest does not name", h.Name)}
	} else if !errors.Is(err, io.EOF) {
		return m, &damagedError{err}
	}
	return m, nil
}

func readManifest(t *tar.Reader) (*Manifest, error) {
	if err := next(t, manifestName, -1); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(t, maxManifest+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxManifest {
		return nil, fmt.Errorf("%s has more than %d bytes", manifestName, maxManifest)
	}
	return parseManifest(text)
}

// next goes on to the next member, which must be a file of that name and size, if
// one is given. No other name can therefore ever become a path.
func next(t *tar.Reader, name string, size int64) error {
	h, err := t.Next()
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("it ends before %s", name)
	}
	if err != nil {
		return err
	}
	switch {
	case h.Name != name:
		return fmt.Errorf("it holds %q in the place of %s", h.Name, name)
	case h.Typeflag != tar.TypeReg:
		return fmt.Errorf("%s is no regular file in it", name)
	case size >= 0 && h.Size != size:
		return fmt.Errorf("%s has %d bytes in it, its manifest says %d", name, h.Size, size)
	}
	return nil
}

func readMember(t io.Reader, f Member, s sink) error {
	sum := sha256.New()
	content := &source{r: io.TeeReader(t, sum)}
	if s.member != nil {
		if err := s.member(f, content); err != nil {
			if content.err != nil {
				return &damagedError{content.err}
			}
			return err
		}
	}
	if _, err := io.Copy(io.Discard, content); err != nil {
		return &damagedError{err}
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != f.SHA256 {
		return &damagedError{fmt.Errorf("%s has another content than its manifest says", f.Name)}
	}
	return nil
}

// source remembers an error of reading, to tell it from one of writing.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// interruptible is a reader that fails when its context has ended.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i *interruptible) Read(p []byte) (int, error) {
	if err := context.Cause(i.ctx); err != nil {
		return 0, err
	}
	return i.r.Read(p)
}
