// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"slices"
	"strings"
)

// What systemd tells the process that it started, and no other (systemd.exec(5),
// sd_notify(3), sd_listen_fds(3)). The kubelet and the apiserver say READY=1 to a
// NOTIFY_SOCKET, and the kubelet serves a WATCHDOG_USEC.
var systemd = []string{
	"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "FDSTORE",
	"LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "LISTEN_PIDFDID",
	"MAINPID", "MANAGERPID", "MANAGERPIDFDID", "SYSTEMD_EXEC_PID",
	"INVOCATION_ID", "JOURNAL_STREAM", "MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE",
}

// What belongs to the shell that somebody started the supervisor from. It would
// make the children look changed when it is started from another one.
var shells = []string{
	"_", "SHLVL", "PWD", "OLDPWD", "SHELL", "PS1", "TERM", "TERMCAP", "COLORTERM", "COLUMNS", "LINES",
	"LS_COLORS", "LESSOPEN", "LESSCLOSE", "PAGER", "EDITOR", "VISUAL", "USER", "LOGNAME", "MAIL",
	"DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS", "TMUX", "TMUX_PANE", "STY", "WINDOW",
}

var shellPrefixes = []string{"SSH_", "SUDO_", "XDG_", "HIST", "BASH_"}

// Environment is what children inherit of an environment: not what is about the
// process that has it, so that the same settings give the same environment
// wherever the supervisor is started from. A child whose environment differs from
// its running process's is restarted.
func Environment(from []string) []string {
	out := []string{}
	for _, entry := range from {
		name, _, _ := strings.Cut(entry, "=")
		if slices.Contains(systemd, name) || slices.Contains(shells, name) ||
			slices.ContainsFunc(shellPrefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			continue
		}
		out = append(out, entry)
	}
	return out
}
