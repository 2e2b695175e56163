// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Cert is a certificate's file, for people.
type Cert struct {
	File      string    `json:"file"` // its name, without the folder
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	SANs      []string  `json:"sans"` // never null
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	CA        bool      `json:"ca"`
	Problem   string    `json:"problem,omitempty"` // why the rest could not be read
}

// Inspect reads the certificates of a folder, sorted by file name. One that cannot
// be read has a Problem.
func Inspect(dir string) ([]Cert, error) {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read certificates: there is no folder %s: has a server been started with this data folder?", dir)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("read certificates: %w: run this as root", err)
	case err != nil:
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	var certs []Cert
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext == ".crt" || ext == ".pem" {
			certs = append(certs, inspect(dir, e.Name()))
		}
	}
	return certs, nil
}

func inspect(dir, name string) Cert {
	c := Cert{File: name, SANs: []string{}}
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		c.Problem = err.Error()
		return c
	}
	x, err := parseCert(text)
	if err != nil {
		c.Problem = err.Error()
		return c
	}
	c.Subject, c.Issuer = x.Subject.String(), x.Issuer.String()
	c.SANs = append(c.SANs, sansOf(x).strings()...)
	c.NotBefore, c.NotAfter, c.CA = x.NotBefore, x.NotAfter, x.IsCA
	return c
}

// RenderCerts writes certificates as a table. Times are told relative to now.
func RenderCerts(w io.Writer, certs []Cert, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FILE\tENDS\tLEFT\tSUBJECT\tISSUER\tGOOD FOR")
	for _, c := range certs {
		if c.Problem != "" {
			fmt.Fprintf(t, "%s\t-\tUNREADABLE\t%s\t-\t-\n", ascii(c.File), ascii(c.Problem))
			continue
		}
		good := strings.Join(c.SANs, ",")
		if good == "" {
			good = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", ascii(c.File), c.NotAfter.UTC().Format(time.DateOnly),
			left(c, now), ascii(c.Subject), ascii(c.Issuer), ascii(good))
	}
	return t.Flush()
}

func left(c Cert, now time.Time) string {
	switch d := c.NotAfter.Sub(now); {
	case now.Before(c.NotBefore):
		return "NOT YET VALID"
	case d < 0:
		return "ENDED"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + "h"
	default:
		return strconv.Itoa(int(d/(24*time.Hour))) + "d"
	}
}

// ascii escapes what is not printable ASCII: a certificate from elsewhere must not
// move the cursor of whoever looks at it.
func ascii(s string) string {
	q := strconv.QuoteToASCII(s)
	q = q[1 : len(q)-1]
	return strings.ReplaceAll(q, `\"`, `"`)
}
