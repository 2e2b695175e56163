// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/ecdsa"
	"strings"
	"testing"
)

// Whatever is taken for a pair is one, and is so again when written and read.
func FuzzParsePair(f *testing.F) {
	spec := testSpec(f)
	mustEnsure(f, spec, start)
	leaf := mustRead(f, spec.Layout.PKI(APIServer))
	cert, key, _ := strings.Cut(leaf, "-----BEGIN EC")
	key = "-----BEGIN EC" + key
	for _, seed := range []string{
		leaf, cert, key, key + cert, cert + leaf, "text\n" + leaf + "text", strings.ReplaceAll(leaf, "\n", "\r\n"),
		cert + mustRead(f, spec.Layout.PKI(ServiceAccountKey)),
		mustRead(f, spec.Layout.PKI(ClusterCACert)) + mustRead(f, spec.Layout.PKI(ClusterCAKey)),
		strings.Replace(leaf, "EC PRIVATE", "PRIVATE", 1),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if c, err := parseCert(text); err == nil {
			sansOf(c).strings()
		}
		_, _ = parseKey(text)
		p, err := parsePair(text, text)
		if err != nil {
			return
		}
		if _, err := parseKey(text); err != nil {
			t.Errorf("a pair without key: %v", err)
		}
		key, err := p.keyPEM()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parsePair(p.certPEM(), key)
		if err != nil {
			t.Fatalf("not a pair when written: %v", err)
		}
		if len(again.chain) != len(p.chain) || !again.cert().Equal(p.cert()) {
			t.Error("another certificate when written")
		}
		if have, ok := p.key.(*ecdsa.PrivateKey); ok && !have.Equal(again.key) {
			t.Error("another key when written")
		}
	})
}
