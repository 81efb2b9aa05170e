package cmd

/*
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

// What the program takes at least, most of it never touched: address space (ulimit -v), and memory
// of its own (ulimit -d).
static const struct { int kind; unsigned long long least; const char *what, *flag; } needs[] = {
	{RLIMIT_AS, 5ULL << 29, "address space", "-v"},
	{RLIMIT_DATA, 1ULL << 29, "memory of a process", "-d"},
};

// Refuses a limit in which Go's runtime would abort, at its start or in the middle of the work,
// with a status that would be taken for a verdict. It runs before Go's runtime, which takes 600 MB
// of the address space at its start.
static void __attribute__((constructor)) enough_memory(void) {
	for (unsigned i = 0; i < sizeof needs / sizeof *needs; i++) {
		struct rlimit limit;
		if (getrlimit(needs[i].kind, &limit) == 0 && limit.rlim_cur < needs[i].least) {
			dprintf(2, "clip-inspector: the %s is limited to %llu MB, and the program takes %llu MB at least: raise the limit (ulimit %s)\n",
				needs[i].what, (unsigned long long)limit.rlim_cur >> 20, needs[i].least >> 20, needs[i].flag);
			_exit(3); // inspectFailed
		}
	}
}
*/
import "C"
