// SPDX-License-Identifier: MIT
//
// ZsmallocTest - the fixture of the unit tests of zsmalloc (backend_fixture.hpp), which can look at classes.
#pragma once

#include <mmkit/zpool/zsmalloc.hpp>

#include "support/backend_fixture.hpp"

namespace mmkit::testing {

class ZsmallocTest : public BackendTest<ZsmallocPool> {
 protected:
  ZsmallocClassStats class_of(std::size_t size_bytes) const {
    ZsmallocClassStats found;
    pool_->for_each_class([&](const ZsmallocClassStats& row) {
      if (row.number == pool_->size_classes().find(size_bytes)) found = row;
    });
    return found;
  }
};

}  // namespace mmkit::testing
