/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The process that holds a pod's namespaces while its containers come and go.
 *
 * It waits for SIGINT and SIGTERM, which end it, and for SIGCHLD: where the pod's
 * containers share its process namespace it is their process 1, and collects the
 * orphans that are handed to it.
 *
 * All three stay blocked and are taken one at a time. The kernel never drops a
 * blocked signal, not even process 1's, so that none is lost between two looks.
 * Without a C library: four system calls are all it needs, and a page of memory.
 */

#if defined(__x86_64__)

enum { SYS_rt_sigprocmask = 14, SYS_rt_sigtimedwait = 128, SYS_wait4 = 61, SYS_exit_group = 231 };

static long syscall4(long nr, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return ret;
}

#elif defined(__aarch64__)

enum { SYS_rt_sigprocmask = 135, SYS_rt_sigtimedwait = 137, SYS_wait4 = 260, SYS_exit_group = 94 };

static long syscall4(long nr, long a, long b, long c, long d)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;

	__asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
}

#else
#error "no system calls for this architecture"
#endif

/* From the kernel's asm/signal.h and linux/wait.h. */
enum { SIGINT = 2, SIGTERM = 15, SIGCHLD = 17, SIG_BLOCK = 0, WNOHANG = 1 };

/* The kernel's sigset_t: bit n-1 stands for signal n. */
typedef unsigned long sigset;

#define BIT(sig) (1UL << ((sig)-1))

__attribute__((noreturn)) static void pause_exit(int status)
{
	for (;;)
		syscall4(SYS_exit_group, status, 0, 0, 0);
}

/* The stack's alignment at entry does not matter: nothing here is wider than a long. */
__attribute__((noreturn)) void _start(void)
{
	const sigset set = BIT(SIGINT) | BIT(SIGTERM) | BIT(SIGCHLD);
	long sig;

	if (syscall4(SYS_rt_sigprocmask, SIG_BLOCK, (long)&set, 0, sizeof(set)) < 0)
		pause_exit(1);
	for (;;) {
		/* Negative when another signal interrupted it, such as SIGCONT. */
		sig = syscall4(SYS_rt_sigtimedwait, (long)&set, 0, 0, sizeof(set));
		if (sig == SIGINT || sig == SIGTERM)
			pause_exit(0);
		while (syscall4(SYS_wait4, -1, 0, WNOHANG, 0) > 0)
			;
	}
}
