// SPDX-License-Identifier: MIT
//
// A mapping that nobody keeps ends at once, and a pool's answers may not be ignored.
// flags: -Werror=unused-result
#include <mmkit/zpool.hpp>
#include <utility>

void uses(mmkit::Zpool& pool, mmkit::Handle handle) {
  const mmkit::Mapping mapping = pool.map(handle);
  static_cast<void>(mapping.const_bytes());
  static_cast<void>(pool.try_free(handle));
#if WRONG == 1
  // expect: ignoring return(ed)? value
  pool.map(handle);
#endif
#if WRONG == 2
  // expect: ignoring return(ed)? value
  pool.try_map(handle);
#endif
#if WRONG == 3
  // expect: ignoring return(ed)? value
  pool.allocate(100);
#endif
#if WRONG == 4
  // expect: ignoring return(ed)? value
  pool.try_free(handle);
#endif
#if WRONG == 5
  // expect: ignoring return(ed)? value
  mmkit::Zpool::create("zbud");
#endif
#if WRONG == 6
  // expect: deleted
  const mmkit::Mapping second = mapping;
#endif
#if WRONG == 7
  // expect: deleted
  mmkit::Zpool moved(std::move(pool));
#endif
#if WRONG == 8
  // expect: (cannot convert|cannot initialize)
  pool.free(7);
#endif
}
