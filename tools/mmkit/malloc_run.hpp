// SPDX-License-Identifier: MIT
//
// MallocRun - the same objects in the process's own malloc: what a program without pools would do.
//
// Bytes held are what malloc took from the system while the objects were stored: the growth of the
// process's anonymous resident memory (the line "Anonymous" of /proc/self/smaps_rollup, which
// counts page by page), headers and gaps included, whichever malloc is linked or preloaded. Before,
// malloc gives back what it has free, and everything the trial itself uses has been touched. But it
// also fills gaps left in pages that stayed resident, so the growth can be too small by a little:
// the sum of malloc_usable_size and 8 bytes of header for each object is certainly held, and stands
// in where it is more, or where the file cannot be read. The row says which it was.
#pragma once

#include "store_row.hpp"

namespace mmkit::tool {

class Console;

StoreRow run_malloc(const Corpus& corpus, const TrialPlan& plan, Console& console);

}  // namespace mmkit::tool
