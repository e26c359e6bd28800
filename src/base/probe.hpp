// SPDX-License-Identifier: MIT
//
// Probe - named places in slow paths where a tracer of the system may look in (USDT).
//
// With MMKIT_USDT each is one `nop` and a note in the object file that says where it is and where
// its arguments are: bpftrace, perf, SystemTap and gdb know them as `mmkit:<name>`. Without it there
// is no code, and the arguments are not evaluated. docs/debugging.md lists them.
#pragma once

#ifdef MMKIT_USDT
#define SDT_USE_VARIADIC 1
#include <sys/sdt.h>
// Variadic, since the names and up to twelve arguments stand side by side.
#define MMKIT_PROBE(...) STAP_PROBEV(mmkit, __VA_ARGS__)
#else
#define MMKIT_PROBE(...) static_cast<void>(0)
#endif
