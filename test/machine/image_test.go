// SPDX-License-Identifier: Apache-2.0

package machine

import "testing"

// TestSourcesList: the release, its updates and its security archive, from
// where this machine has them, and nothing else.
func TestSourcesList(t *testing.T) {
	const targets = `http://mirror.example.org/debian bookworm main bookworm
http://mirror.example.org/debian bookworm-updates main bookworm-updates
http://mirror.example.org/debian stable-backports main bookworm-backports
http://mirror.example.org/debian sid main sid
http://security.example.org/debian-security oldstable-security main bookworm-security

http://mirror.example.org/debian trixie
`
	const want = `deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example.org/debian bookworm main
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example.org/debian bookworm-updates main
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://security.example.org/debian-security oldstable-security main
`
	if got := sourcesList(targets); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := sourcesList(""); got != "" {
		t.Errorf("nothing has the sources %q", got)
	}
}
